package deployments

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/internal/serving"
)

func TestSetTraffic(t *testing.T) {
	revisions := []serving.Revision{{Name: "iris-00004", Version: "4"}, {Name: "iris-00003", Version: "3"}, {Name: "iris-00002", Version: "3"}}
	canary := serving.Split{Newest: "iris-00004", Shares: []Share{{Revision: "iris-00003", Percent: 90}, {Revision: "iris-00004", Percent: 10}}}
	whole := serving.Split{Newest: "iris-00004", Shares: []Share{{Revision: "iris-00004", Percent: 100}}, Previous: []Share{{Revision: "iris-00002", Percent: 100}}}
	for name, c := range map[string]struct {
		now    serving.Split
		split  map[string]int64
		want   string
		reason string
	}{
		"new":            {canary, map[string]int64{"new": 20}, "[{iris-00003 80} {iris-00004 20}]", ""},
		"all":            {canary, map[string]int64{"new": 100}, "[{iris-00004 100}]", ""},
		"old":            {canary, map[string]int64{"old": 100}, "[{iris-00003 100}]", ""},
		"old, from then": {whole, map[string]int64{"old": 30}, "[{iris-00004 70} {iris-00002 30}]", ""},
		"version":        {whole, map[string]int64{"v3": 50}, "[{iris-00004 50} {iris-00003 50}]", ""},
		"name":           {whole, map[string]int64{"iris-00002": 1}, "[{iris-00004 99} {iris-00002 1}]", ""},
		"three":          {whole, map[string]int64{"iris-00002": 10, "3": 20, "new": 70}, "[{iris-00002 10} {iris-00003 20} {iris-00004 70}]", ""},
		"nobody's":       {whole, map[string]int64{"new": 50}, "", "SplitInvalid"},
		"too much":       {whole, map[string]int64{"new": 50, "old": 60}, "", "SplitInvalid"},
		"unknown":        {whole, map[string]int64{"9": 50}, "", "RevisionNotFound"},
		"no old":         {serving.Split{Newest: "iris-00004", Shares: whole.Shares}, map[string]int64{"old": 50}, "", "RevisionNotFound"},
		"one twice":      {whole, map[string]int64{"new": 50, "4": 50}, "", "RevisionTwice"},
		"percent":        {whole, map[string]int64{"new": 101}, "", "PercentInvalid"},
		"none":           {whole, nil, "", "SplitMissing"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage()
			s.split, s.revisions = c.now, revisions
			shares, err := s.client().SetTraffic(t.Context(), TrafficRequest{Name: "iris", Split: c.split})
			if c.reason != "" {
				refusedAs(t, err, failure.Invalid, c.reason)
				return
			}
			var got []struct {
				Revision string
				Percent  int64
			}
			for _, share := range shares {
				got = append(got, struct {
					Revision string
					Percent  int64
				}{share.Revision, share.Percent})
			}
			if err != nil || fmt.Sprint(got) != c.want || len(s.calls) != 1 || !strings.HasPrefix(s.calls[0], "wait ") {
				t.Errorf("%v, %v, calls %q; want %s", got, err, s.calls, c.want)
			}
		})
	}
}

func TestRollbackWaitsForTheGateway(t *testing.T) {
	s := newStage()
	if _, err := s.client().Rollback(t.Context(), TrafficRequest{Name: "iris"}); err != nil {
		t.Fatal(err)
	}
	if len(s.calls) != 2 || s.calls[0] != "rollback" || !strings.HasPrefix(s.calls[1], "wait ") {
		t.Errorf("calls were %q", s.calls)
	}
	if len(s.said) > 0 {
		t.Errorf("said %q", s.said)
	}
	s.withdrawn = true
	if _, err := s.client().Rollback(t.Context(), TrafficRequest{Name: "iris"}); err != nil || len(s.said) != 1 || !strings.Contains(s.said[0], "they stay where they are") {
		t.Errorf("%v, said %q", err, s.said)
	}
	_, err := s.client().Rollback(t.Context(), TrafficRequest{Name: "Iris"})
	refusedAs(t, err, failure.Invalid, "NameInvalid")
}
