package trackingserver

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestPasswordsNeedNoEscapeAndAreSpreadEvenly(t *testing.T) {
	const passwords = 2000
	shape := regexp.MustCompile(`^[A-Za-z0-9]{32}$`)
	seen, letters := map[string]bool{}, map[rune]int{}
	for range passwords {
		password, err := newPassword()
		if err != nil {
			t.Fatal(err)
		}
		if !shape.MatchString(password) || url.QueryEscape(password) != password {
			t.Fatalf("a password does not have the shape %s", shape)
		}
		seen[password] = true
		for _, letter := range password {
			letters[letter]++
		}
	}
	if len(seen) != passwords {
		t.Errorf("%d of %d passwords differ", len(seen), passwords)
	}
	// 64000 letters over 62: about 1032 of each, with a standard deviation of 32. 8 of those is no accident.
	for _, letter := range alphabet {
		if n := letters[letter]; n < 1032-8*32 || n > 1032+8*32 {
			t.Errorf("%q occurs %d times, want about 1032", letter, n)
		}
	}
}

// ownSecret is the first Secret that p wants.
func ownSecret(p Parameters) wantedSecret { return p.wantedSecrets(GivenSecrets{}, install)[0] }

func TestSecretHoldsEveryKeyAndOutlivesAnUninstall(t *testing.T) {
	secret, err := ownSecret(Parameters{}).make("ml")
	if err != nil {
		t.Fatal(err)
	}
	values, _, err := unstructured.NestedStringMap(secret.Object, "stringData")
	if err != nil {
		t.Fatal(err)
	}
	if len(values) != 2 || values["DB_PASSWORD"] == "" || values["MLFLOW_CRYPTO_KEK_PASSPHRASE"] == "" || values["DB_PASSWORD"] == values["MLFLOW_CRYPTO_KEK_PASSPHRASE"] {
		t.Errorf("the Secret has the keys %v, or equal values", slices.Collect(maps.Keys(values)))
	}
	if secret.GetLabels()["mlflow.kubectl/keep"] != "true" || secret.GetNamespace() != "ml" || secret.GetName() != "mlflow-secret" {
		t.Errorf("labels %v, %s/%s", secret.GetLabels(), secret.GetNamespace(), secret.GetName())
	}
}
