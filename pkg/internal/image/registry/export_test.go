package registry

import (
	"github.com/google/go-containerregistry/pkg/authn"
)

// Stored is the keychain of those who name none.
func Stored(getenv func(string) string) authn.Keychain {
	return &stored{getenv: getenv, say: func(string, ...any) {}}
}
