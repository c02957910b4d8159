package gcp

import (
	"strings"
	"testing"
)

func TestAnInstanceIsWrittenWithColons(t *testing.T) {
	for text, want := range map[string]Instance{
		"my-project:europe-west1:mlops":                {"my-project", "europe-west1", "mlops"},
		"mlops-platform-v2:northamerica-northeast1:a":  {"mlops-platform-v2", "northamerica-northeast1", "a"},
		"example.com:my-project:us-central1:db-1":      {"example.com:my-project", "us-central1", "db-1"},
		"ml.example.co.uk:my-project:asia-east2:mlops": {"ml.example.co.uk:my-project", "asia-east2", "mlops"},
	} {
		got, err := ParseInstance(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("ParseInstance(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestDotsAreAnsweredWithTheRightName(t *testing.T) {
	for text, right := range map[string]string{
		"my-project.europe-west1.mlops":             "my-project:europe-west1:mlops",
		"my-project.europe-west1:mlops":             "my-project:europe-west1:mlops",
		"example.com:my-project.europe-west1.mlops": "example.com:my-project:europe-west1:mlops",
		"example.com.my-project.europe-west1.mlops": "example.com:my-project:europe-west1:mlops",
	} {
		if _, err := ParseInstance(text); err == nil || !strings.HasSuffix(err.Error(), "write "+right) {
			t.Errorf("ParseInstance(%q): %v; want it to end in %q", text, err, right)
		}
	}
}

func TestWhatIsNoInstanceIsToldTheForm(t *testing.T) {
	for _, text := range []string{
		"", "mlops", "my-project:mlops", "my-project:europe-west1", "My-Project:europe-west1:mlops", "my-project:europe-west1:ml ops",
		"my-project:europe-west1:mlops:x", "my-project:zone:mlops", "p:europe-west1:$(id)", "my-project:europe-west1:mlops\n",
	} {
		if got, err := ParseInstance(text); err == nil || !strings.Contains(err.Error(), "PROJECT:REGION:INSTANCE") {
			t.Errorf("ParseInstance(%q) = %+v, %v", text, got, err)
		}
	}
}
