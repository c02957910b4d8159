package images

import (
	"embed"
	"fmt"
)

//go:embed scripts
var scripts embed.FS

// Script returns the text of scripts/<name>. Recipes are for bash and begin with lib.sh.
func Script(name string) (string, error) {
	text, err := scripts.ReadFile("scripts/" + name)
	if err != nil {
		return "", fmt.Errorf("recipe: %w", err)
	}
	return string(text), nil
}

// Recipe returns the text of a recipe with what recipes share.
func Recipe(name string) (string, error) {
	lib, err := Script("lib.sh")
	if err != nil {
		return "", err
	}
	own, err := Script(name)
	return "set -euo pipefail\n" + lib + "\n" + own, err
}
