package trackingserver

import (
	"encoding/json"
)

// kustomizationKey is where the record keeps the user's kustomization: JSON, an object of texts by path.
const kustomizationKey = "KUSTOMIZATION"

func encodeKustomization(files map[string]string) string {
	text, err := json.Marshal(files)
	if err != nil { // a map of strings always can be
		return ""
	}
	return string(text)
}

// decodeKustomization gives nil for what is no kustomization.
func decodeKustomization(recorded string) map[string]string {
	var files map[string]string
	if json.Unmarshal([]byte(recorded), &files) != nil {
		return nil
	}
	return files
}
