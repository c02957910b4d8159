package trackingserver

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

func TestValidate(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct {
		p    Parameters
		flag string // that is at fault, "" for none
	}{
		{Parameters{}, ""},
		{Parameters{Namespace: "ml-prod"}, ""},
		{Parameters{Namespace: "ML"}, "--namespace"},
		{Parameters{Namespace: "a/b"}, "--namespace"},
		{Parameters{Image: "mlflow"}, ""},
		{Parameters{Image: "localhost:5001/ghcr.io/mlflow/mlflow:v3.17.2-full"}, ""},
		{Parameters{Image: "10.0.0.1:5001/mlflow" + digest}, ""},
		{Parameters{Image: "registry.example.com/team/mlflow:v3" + digest}, ""},
		{Parameters{Image: "https://registry.example.com/mlflow"}, "--image"},
		{Parameters{Image: "registry.example.com/MLflow:v3"}, "--image"},
		{Parameters{Image: "mlflow:"}, "--image"},
		{Parameters{Image: "mlflow@sha256:12"}, "--image"},
		{Parameters{Image: "mlflow:v3\nimage: other"}, "--image"},
		{Parameters{StorageClass: "premium-rwo"}, ""},
		{Parameters{StorageClass: "Premium RWO"}, "--storage-class"},
		{Parameters{DatabaseStorage: "512Mi"}, ""},
		{Parameters{DatabaseStorage: "0"}, "--database-storage"},
		{Parameters{DatabaseStorage: "-1Gi"}, "--database-storage"},
		{Parameters{DatabaseStorage: "10GB"}, "--database-storage"},
		{Parameters{ArtifactsStorage: "1.5Ti"}, ""},
		{Parameters{ArtifactsStorage: "lots"}, "--artifacts-storage"},
	} {
		err := c.p.Validate()
		if c.flag == "" {
			if err != nil {
				t.Errorf("%+v: %v", c.p, err)
			}
			continue
		}
		var failed *failure.Error
		if !errors.As(err, &failed) {
			t.Errorf("%+v: got %v, want %s to be at fault", c.p, err, c.flag)
			continue
		}
		if failed.Class != failure.Invalid || !strings.Contains(failed.Message, c.flag) || failed.Hint == "" {
			t.Errorf("%+v: got %+v, want Invalid, %s, and a hint", c.p, failed, c.flag)
		}
	}
}

// Every field but the two that say where is in the table, under a flag and a key of its own, and comes back from the record.
func TestTableHoldsEveryField(t *testing.T) {
	var p Parameters
	fields := reflect.ValueOf(&p).Elem()
	for i := range fields.NumField() {
		if name := fields.Type().Field(i).Name; name != "Overlay" && name != "Namespace" {
			fields.Field(i).SetString("value of " + name)
		}
	}
	recorded := p.record()
	if len(recorded) != fields.NumField()-2 {
		t.Errorf("%d fields, %d in the record: %v", fields.NumField()-2, len(recorded), recorded)
	}
	if diff := cmp.Diff(p, Parameters{}.over(recorded)); diff != "" {
		t.Error(diff)
	}
	flags := map[string]bool{}
	for _, row := range p.table() {
		flags[row.flag] = true
	}
	if len(flags) != len(p.table()) {
		t.Errorf("flags are %v", flags)
	}
}

func TestOverKeepsWhatIsSaid(t *testing.T) {
	got := Parameters{DatabaseStorage: "20Gi"}.over(map[string]string{"POSTGRES_STORAGE_SIZE": "10Gi", "STORAGE_CLASS": "fast"})
	if diff := cmp.Diff(Parameters{DatabaseStorage: "20Gi", StorageClass: "fast"}, got); diff != "" {
		t.Error(diff)
	}
}
