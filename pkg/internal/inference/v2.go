package inference

import (
	"encoding/json"
	"slices"
)

const v2Models = "/v2/models/"

// IsV2 tells a request of the Open Inference Protocol from MLflow's: both have "inputs", but only there each of them is a tensor with a
// name, a shape, a datatype and data, and nothing of MLflow's is beside them.
func IsV2(body []byte) bool {
	var request map[string]json.RawMessage
	if json.Unmarshal(body, &request) != nil {
		return false
	}
	for key := range request {
		if !slices.Contains([]string{"id", "inputs", "outputs", "parameters"}, key) {
			return false
		}
	}
	var inputs []struct {
		Name     *string         `json:"name"`
		Shape    []uint64        `json:"shape"`
		Datatype string          `json:"datatype"`
		Data     json.RawMessage `json:"data"`
	}
	if json.Unmarshal(request["inputs"], &inputs) != nil {
		return false
	}
	for _, input := range inputs {
		if input.Name == nil || input.Shape == nil || !slices.Contains(v2Datatypes(), input.Datatype) || len(input.Data) == 0 || input.Data[0] != '[' {
			return false
		}
	}
	return len(inputs) > 0
}

func v2Datatypes() []string {
	return []string{
		"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES",
	}
}
