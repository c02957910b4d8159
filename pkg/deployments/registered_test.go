package deployments

import (
	"slices"
	"testing"
)

func TestWhatIsRegistered(t *testing.T) {
	s := newStage()
	client := s.client()
	names, err := client.Models(t.Context(), Request{})
	if err != nil || !slices.Equal(names, []string{"iris", "wine"}) {
		t.Errorf("models %v, %v", names, err)
	}
	numbers, aliases, err := client.Versions(t.Context(), Request{}, "iris")
	if err != nil || !slices.Equal(numbers, []string{"3", "2"}) || !slices.Equal(aliases, []string{"champion"}) {
		t.Errorf("versions %v, aliases %v, %v", numbers, aliases, err)
	}
	if _, err := client.Models(t.Context(), Request{TrackingURI: "not a URL"}); err == nil {
		t.Error("a tracking URI that is none was taken")
	}
}
