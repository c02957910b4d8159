package cluster

import (
	"context"

	"k8s.io/apimachinery/pkg/util/version"
	apiversion "k8s.io/apimachinery/pkg/version"
)

// Version is the API server's, "v1.34.1": with what its vendor has added to it, "v1.34.1-gke.2037000".
func (c *Client) Version(ctx context.Context) (*version.Version, error) {
	var said apiversion.Info
	if err := c.discover(ctx, "/version", Ref{}, &said); err != nil {
		return nil, err
	}
	return version.ParseGeneric(said.GitVersion)
}
