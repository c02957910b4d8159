//go:build api

package cluster

import (
	"context"
	"net"
	"sync"

	"k8s.io/client-go/rest"
)

// cutter is a Getter whose connections a test can cut, as a network does.
type cutter struct {
	kubeconfig
	mu    sync.Mutex
	conns []net.Conn
	cuts  int
}

func (c *cutter) ToRESTConfig() (*rest.Config, error) {
	config, err := c.kubeconfig.ToRESTConfig()
	if err == nil {
		config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil {
				c.mu.Lock()
				c.conns = append(c.conns, conn)
				c.mu.Unlock()
			}
			return conn, err
		}
	}
	return config, err
}

// close cuts all connections there are.
func (c *cutter) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
		c.cuts++
	}
	c.conns = nil
}

func (c *cutter) closed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cuts
}
