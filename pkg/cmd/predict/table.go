package predict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/cmd/internal/ui"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// table is the answer of MLflow or of the Open Inference Protocol in rows and columns.
func table(answer []byte) (string, error) {
	header, rows, err := tabulate(answer)
	if err != nil {
		return "", &failure.Error{
			Class: failure.Diagnosed, Reason: "NoTable", Message: "the model has answered, but not with a table", Err: err,
			Hint: "ask again for the answer as it comes: -o json",
		}
	}
	return ui.Table(header, rows), nil
}

func tabulate(answer []byte) (header []string, rows [][]string, err error) {
	var said struct {
		Predictions json.RawMessage `json:"predictions"`
		Outputs     []tensor        `json:"outputs"`
	}
	err = json.Unmarshal(answer, &said)
	switch {
	case err != nil:
		return nil, nil, err
	case bytes.HasPrefix(said.Predictions, []byte("[")):
		return tabulatePredictions(said.Predictions)
	case len(said.Outputs) > 0:
		return tabulateTensors(said.Outputs)
	}
	return nil, nil, errors.New(`it has neither a list of "predictions" nor "outputs"`)
}

// tabulatePredictions takes scalars, lists or records, of which all are alike.
func tabulatePredictions(list json.RawMessage) (header []string, rows [][]string, err error) {
	var predictions []json.RawMessage
	if err := json.Unmarshal(list, &predictions); err != nil {
		return nil, nil, err
	}
	records := make([]record, len(predictions))
	header = []string{"PREDICTION"}
	for i, prediction := range predictions {
		if err := records[i].UnmarshalJSON(prediction); err != nil {
			return nil, nil, fmt.Errorf("prediction %d: %w", i+1, err)
		}
		r, first := records[i], records[0]
		if len(r.names) == 0 {
			return nil, nil, fmt.Errorf("prediction %d is empty", i+1)
		}
		if r.kind != first.kind || r.kind == '[' && len(r.names) != len(first.names) {
			return nil, nil, fmt.Errorf("prediction %d has another form than the first", i+1)
		}
		if i == 0 {
			header = slices.Clone(r.names)
			continue
		}
		for _, name := range r.names {
			if !slices.Contains(header, name) {
				header = append(header, name)
			}
		}
	}
	for _, r := range records {
		row := make([]string, len(header))
		for i, name := range header {
			row[i] = r.cells[name]
		}
		rows = append(rows, row)
	}
	return header, rows, nil
}

// record is one prediction: named cells, in their order.
type record struct {
	kind  byte // '[' of a list, '{' of a record, 0 of a scalar
	names []string
	cells map[string]string
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *record) UnmarshalJSON(text []byte) error {
	r.cells = map[string]string{}
	add := func(name string, text json.RawMessage) error {
		if _, there := r.cells[name]; !there {
			r.names = append(r.names, name)
		}
		value, err := scalar(text)
		r.cells[name] = value
		return err
	}
	switch r.kind = text[0]; r.kind {
	case '[':
		var list []json.RawMessage
		if err := json.Unmarshal(text, &list); err != nil {
			return err
		}
		for i, element := range list {
			if err := add(strconv.Itoa(i), element); err != nil {
				return err
			}
		}
		return nil
	case '{':
		return fields(text, add)
	}
	r.kind = 0
	return add("PREDICTION", text)
}

// fields calls f for each field of an object, in their order.
func fields(text []byte, f func(name string, value json.RawMessage) error) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if _, err := decoder.Token(); err != nil { // the brace
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		if err := f(fmt.Sprint(name), value); err != nil {
			return err
		}
	}
	return nil
}

// scalar is a number, true, false or null as it is written, and a string without its quotes.
func scalar(text json.RawMessage) (string, error) {
	switch text[0] {
	case '[', '{':
		return "", errors.New("a list or an object is where a table has one value")
	case '"':
		var value string
		err := json.Unmarshal(text, &value)
		return value, err
	}
	return string(text), nil
}

// tensor is an output of the Open Inference Protocol.
type tensor struct {
	Name  string          `json:"name"`
	Shape []int           `json:"shape"`
	Data  json.RawMessage `json:"data"`
}

// tabulateTensors takes tensors of one or two dimensions, with as many rows each.
func tabulateTensors(outputs []tensor) (header []string, rows [][]string, err error) {
	for _, output := range outputs {
		cells, err := flat(output.Data, len(output.Shape))
		if err != nil {
			return nil, nil, fmt.Errorf("output %q: %w", output.Name, err)
		}
		width := 1
		if len(output.Shape) == 2 && len(cells) > 0 {
			width = output.Shape[1]
		}
		if len(output.Shape) == 0 || len(output.Shape) > 2 || width < 1 || len(cells)%width != 0 || len(cells)/width != output.Shape[0] {
			return nil, nil, fmt.Errorf("output %q is of shape %v", output.Name, output.Shape)
		}
		if rows == nil {
			rows = make([][]string, output.Shape[0])
		}
		if len(rows) != output.Shape[0] {
			return nil, nil, fmt.Errorf("output %q has %d rows, and %q has %d", output.Name, output.Shape[0], outputs[0].Name, len(rows))
		}
		header = append(header, columns(output.Name, width)...)
		for i := range rows {
			rows[i] = append(rows[i], cells[i*width:(i+1)*width]...)
		}
	}
	return header, rows, nil
}

func columns(name string, width int) []string {
	if width == 1 {
		return []string{name}
	}
	names := make([]string, width)
	for i := range names {
		names[i] = name + "." + strconv.Itoa(i)
	}
	return names
}

// flat is the data of a tensor of some dimensions in the order of rows: servers may nest it or not.
func flat(data json.RawMessage, dimensions int) ([]string, error) {
	if len(data) == 0 || data[0] != '[' {
		return nil, errors.New("its data is no list")
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(data, &elements); err != nil {
		return nil, err
	}
	var cells []string
	for _, element := range elements {
		if element[0] == '[' && dimensions > 1 {
			nested, err := flat(element, dimensions-1)
			if err != nil {
				return nil, err
			}
			cells = append(cells, nested...)
			continue
		}
		value, err := scalar(element)
		if err != nil {
			return nil, err
		}
		cells = append(cells, value)
	}
	return cells, nil
}
