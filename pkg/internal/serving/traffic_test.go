package serving

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"
	knative "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// holding is iris for a deployment that is tried before it serves.
func holdingIris(version string) Spec {
	s := iris(version)
	s.Hold = true
	return s
}

func (w *world) ready(revision string) {
	w.t.Helper()
	w.conclude(revision, apis.Condition{Status: corev1.ConditionTrue})
}

// targets are the Service's, in short: "iris-00001=90 latest=10#candidate".
func (w *world) targets() string {
	var all []string
	for _, target := range w.service().Spec.Traffic {
		name, tag := target.RevisionName, ""
		if isLatest(target) {
			name = "latest"
		}
		if target.Tag != "" {
			tag = "#" + target.Tag
		}
		percent, err := json.Marshal(target.Percent)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, name+"="+string(percent)+tag)
	}
	return strings.Join(all, " ")
}

func (w *world) expect(targets, version string) {
	w.t.Helper()
	if got := w.targets(); got != targets {
		w.t.Errorf("traffic is %q, want %q", got, targets)
	}
	if got := w.service().Annotations[VersionKey]; got != version {
		w.t.Errorf("the Service says that it serves version %q, want %q", got, version)
	}
}

func promote(t *testing.T, w *world, a Applied, percent int64) Applied {
	t.Helper()
	p, err := New(w).Promote(t.Context(), a, percent)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rollback(t *testing.T, w *world) Applied {
	t.Helper()
	a, err := New(w).Rollback(t.Context(), "models", "iris")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// tried is a world in which version 1 serves, and version 2 is ready and held.
func tried(t *testing.T) (w *world, second Applied) {
	t.Helper()
	w = newWorld(t)
	apply(t, w, holdingIris("1"))
	w.ready("iris-00001")
	second = apply(t, w, holdingIris("2"))
	w.ready("iris-00002")
	return w, second
}

func TestNewVersionIsHeldUntilItIsPromoted(t *testing.T) {
	w := newWorld(t)
	first := apply(t, w, holdingIris("1"))
	if first.Held {
		t.Error("the first version is held, and nothing else serves")
	}
	w.expect("latest=100", "1")
	w.ready("iris-00001")

	second := apply(t, w, holdingIris("2"))
	if !second.Held || second.Action != Configured || second.Revision.Name != "iris-00002" {
		t.Errorf("applied %+v", second)
	}
	w.expect("iris-00001=100 latest=0#candidate", "1")
	w.ready("iris-00002")

	writes := w.writes
	if again := apply(t, w, holdingIris("2")); !again.Held || again.Action != Unchanged || w.writes != writes {
		t.Errorf("a second run did %+v", again)
	}
	promoted := promote(t, w, second, 100)
	if want := []Share{{Revision: "iris-00002", Percent: 100}}; promoted.Action != Configured || !reflect.DeepEqual(promoted.Shares, want) {
		t.Errorf("promoted %+v", promoted)
	}
	w.expect("latest=100", "2")
	writes = w.writes
	if again := apply(t, w, holdingIris("2")); again.Held || again.Action != Unchanged || w.writes != writes {
		t.Errorf("a third run did %+v", again)
	}
}

func TestRollbackAndBack(t *testing.T) {
	w, second := tried(t)
	promote(t, w, second, 100)

	if a := rollback(t, w); a.Action != Configured || a.Shares[0].Revision != "iris-00001" {
		t.Errorf("rolled back to %+v", a)
	}
	w.expect("iris-00001=100", "1")
	rollback(t, w)
	w.expect("latest=100", "2")
	rollback(t, w)

	again := apply(t, w, holdingIris("2"))
	if !again.Held || again.Revision.Name != "iris-00002" {
		t.Errorf("what was rolled back is deployed again as %+v", again)
	}
	w.expect("iris-00001=100 latest=0#candidate", "1")
	promote(t, w, again, 100)
	rollback(t, w)
	w.expect("iris-00001=100", "1")
}

func TestRollbackOfACanaryGoesToItsBeginning(t *testing.T) {
	w, second := tried(t)
	promote(t, w, second, 10)
	w.expect("iris-00001=90 iris-00002=10#candidate", "1")
	if again := promote(t, w, apply(t, w, holdingIris("2")), 10); again.Action != Unchanged {
		t.Errorf("the same canary again: %+v", again)
	}
	promote(t, w, second, 60)
	w.expect("iris-00001=40 iris-00002=60#candidate", "2")
	rollback(t, w)
	w.expect("iris-00001=100", "1")
}

func TestRollbackOfWhatHasNoRequestsYetLeavesThem(t *testing.T) {
	w, second := tried(t)
	promote(t, w, second, 100)
	apply(t, w, holdingIris("3"))
	w.expect("iris-00002=100 latest=0#candidate", "2")
	a := rollback(t, w)
	if want := []Share{{Revision: "iris-00002", Percent: 100}}; a.Action != Configured || !a.Withdrawn || !reflect.DeepEqual(a.Shares, want) {
		t.Errorf("rolled back to %+v", a)
	}
	w.expect("iris-00002=100", "2")
	if a := rollback(t, w); a.Withdrawn {
		t.Errorf("withdrawn again: %+v", a)
	}
	w.expect("iris-00001=100", "1")
	rollback(t, w)
	w.expect("iris-00002=100", "2")
}

func TestRollbackOfAThirdVersionLeavesTheCanary(t *testing.T) {
	w, second := tried(t)
	promote(t, w, second, 10)
	apply(t, w, holdingIris("3"))
	w.ready("iris-00003")
	rollback(t, w)
	w.expect("iris-00001=90 iris-00002=10", "1")
}

// A first rollback may come before there is a record of anything.
func TestRollbackOfTheSecondVersionBeforeItServes(t *testing.T) {
	w, _ := tried(t)
	rollback(t, w)
	w.expect("iris-00001=100", "1")
}

func TestThirdVersionBesideACanary(t *testing.T) {
	w, second := tried(t)
	promote(t, w, second, 10)
	third := apply(t, w, holdingIris("3"))
	w.expect("iris-00001=90 iris-00002=10 latest=0#candidate", "1")
	w.ready("iris-00003")
	promote(t, w, third, 20)
	w.expect("iris-00001=72 iris-00002=8 iris-00003=20#candidate", "1")
	promote(t, w, third, 100)
	rollback(t, w)
	w.expect("iris-00001=90 iris-00002=10", "1")
}

func TestWithoutHoldTheNewestServesOnceItIsReady(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	w.ready("iris-00001")
	apply(t, w, iris("2"))
	w.expect("latest=100", "2")
	w.ready("iris-00002")
	rollback(t, w)
	w.expect("iris-00001=100", "1")
	if a := apply(t, w, iris("2")); a.Held || a.Action != Configured {
		t.Errorf("applied %+v", a)
	}
	w.expect("latest=100", "2")
	rollback(t, w)
	w.expect("iris-00001=100", "1")
}

// Knative's "latest" is version 2 after the rollback from it, until version 3 is ready.
func TestWithoutHoldWhatWasRolledBackStaysAway(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	w.ready("iris-00001")
	apply(t, w, iris("2"))
	w.ready("iris-00002")
	rollback(t, w)
	third := apply(t, w, iris("3"))
	w.expect("iris-00001=100 latest=0#candidate", "1")
	writes := w.writes
	again := apply(t, w, iris("3"))
	if !third.Held || !again.Held || again.Action != Unchanged || w.writes != writes {
		t.Errorf("applied %+v, and again %+v", third, again)
	}
	w.ready("iris-00003")
	promote(t, w, third, 100)
	w.expect("latest=100", "3")
	rollback(t, w)
	w.expect("iris-00001=100", "1")
}

func TestWithoutHoldACanaryKeepsItsShare(t *testing.T) {
	w, second := tried(t)
	promote(t, w, second, 10)
	if third := apply(t, w, iris("3")); !third.Held {
		t.Errorf("applied %+v", third)
	}
	w.expect("iris-00001=90 iris-00002=10 latest=0#candidate", "1")
}

func TestTagsOfOthersStay(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	w.ready("iris-00001")
	w.edit(func(s *knative.Service) {
		s.Spec.Traffic = []knative.TrafficTarget{
			{LatestRevision: new(true), Percent: new(int64(100)), Tag: "current"},
			{RevisionName: "iris-00001", LatestRevision: new(false), Percent: new(int64(0)), Tag: "stable"},
		}
	})
	second := apply(t, w, holdingIris("2"))
	w.expect("latest=0#current iris-00001=100 iris-00001=0#stable latest=0#candidate", "1")
	w.ready("iris-00002")
	promote(t, w, second, 100)
	w.expect("latest=100 latest=0#current iris-00001=0#stable", "2")
}

// Knative makes one of two targets of the same revision, and then waits for both.
func TestRevisionIsNamedOnceWhereAnotherToolHasNamedItTwice(t *testing.T) {
	w := newWorld(t)
	apply(t, w, iris("1"))
	w.ready("iris-00001")
	w.edit(func(s *knative.Service) {
		s.Spec.Traffic = []knative.TrafficTarget{
			{RevisionName: "iris-00001", LatestRevision: new(false), Percent: new(int64(80))},
			{LatestRevision: new(true), Percent: new(int64(15))},
			{RevisionName: "iris-00001", LatestRevision: new(false), Percent: new(int64(5)), Tag: "stable"},
		}
	})
	apply(t, w, holdingIris("2"))
	w.expect("iris-00001=95 iris-00001=5#stable latest=0#candidate", "1")
}

func TestPromotionOfWhatWasOvertakenIsRefused(t *testing.T) {
	w := newWorld(t)
	apply(t, w, holdingIris("1"))
	w.ready("iris-00001")
	second := apply(t, w, holdingIris("2"))
	apply(t, w, holdingIris("3"))
	_, err := New(w).Promote(t.Context(), second, 100)
	refused(t, err, failure.Refused, "Superseded")
	w.expect("iris-00001=100 latest=0#candidate", "1")
}

func TestRollbackThatCannotBe(t *testing.T) {
	w := newWorld(t)
	apply(t, w, holdingIris("1"))
	w.ready("iris-00001")
	_, err := New(w).Rollback(t.Context(), "models", "iris")
	refused(t, err, failure.Invalid, "NoPreviousVersion")
	second := apply(t, w, holdingIris("2"))
	w.ready("iris-00002")
	promote(t, w, second, 100)
	w.loseFirst()
	_, err = New(w).Rollback(t.Context(), "models", "iris")
	refused(t, err, failure.Invalid, "RevisionNotFound")
	w.expect("latest=100", "2")
}

// failed gives a revision the end that it does not come back from.
func (w *world) failed(revision string) {
	w.t.Helper()
	w.conclude(revision, apis.Condition{Status: corev1.ConditionFalse, Reason: "ContainerMissing", Message: "no such image"})
}

func share(t *testing.T, w *world, shares ...Share) error {
	t.Helper()
	_, err := New(w).SetTraffic(t.Context(), "models", "iris", func(now Split, _ []Revision) ([]Share, error) { return Give(now.Shares, shares...) })
	return err
}

func TestRevisionThatHasFailedGetsNoRequests(t *testing.T) {
	w := newWorld(t)
	apply(t, w, holdingIris("1"))
	w.ready("iris-00001")
	apply(t, w, holdingIris("2"))
	w.failed("iris-00002")
	writes := w.writes
	for _, percent := range []int64{50, 100} {
		err := share(t, w, Share{Revision: "iris-00002", Percent: percent})
		refused(t, err, failure.Diagnosed, "RevisionFailed")
		if !strings.Contains(err.Error(), "iris-00002") || !strings.Contains(err.Error(), "no such image") {
			t.Errorf("%d %%: %v", percent, err)
		}
	}
	if w.writes != writes {
		t.Errorf("%d writes", w.writes-writes)
	}
	w.expect("iris-00001=100 latest=0#candidate", "1")
}

func TestRevisionThatFailsWithRequestsLosesThem(t *testing.T) {
	w, second := tried(t)
	promote(t, w, second, 10)
	w.failed("iris-00002")
	if err := share(t, w, Share{Revision: "iris-00001", Percent: 100}); err != nil {
		t.Fatal(err)
	}
	w.expect("iris-00001=100", "1")
	_, err := New(w).Rollback(t.Context(), "models", "iris")
	refused(t, err, failure.Diagnosed, "RevisionFailed")
	w.expect("iris-00001=100", "1")
}

// Until it is ready, "the latest" would be version 2, which was rolled back.
func TestPromotionOfWhatStartsIsByNameAfterARollback(t *testing.T) {
	w, second := tried(t)
	promote(t, w, second, 100)
	rollback(t, w)
	apply(t, w, holdingIris("3"))
	if err := share(t, w, Share{Revision: "iris-00003", Percent: 100}); err != nil {
		t.Fatal(err)
	}
	w.expect("iris-00003=100", "3")
	w.ready("iris-00003")
	if err := share(t, w, Share{Revision: "iris-00003", Percent: 100}); err != nil {
		t.Fatal(err)
	}
	w.expect("latest=100", "3")
	rollback(t, w)
	w.expect("iris-00001=100", "1")
}

func TestPromotionOfWhatStartsBesideTheLatest(t *testing.T) {
	w := newWorld(t)
	apply(t, w, holdingIris("1"))
	w.ready("iris-00001")
	apply(t, w, holdingIris("2"))
	if err := share(t, w, Share{Revision: "iris-00002", Percent: 100}); err != nil {
		t.Fatal(err)
	}
	w.expect("latest=100", "2")
}

// gone is a world in which all requests are given, by name, to a revision that somebody has deleted.
func gone(t *testing.T) *world {
	t.Helper()
	w, second := tried(t)
	promote(t, w, second, 100)
	rollback(t, w)
	w.edit(func(s *knative.Service) {
		s.Status.Traffic = []knative.TrafficTarget{{RevisionName: "iris-00001", LatestRevision: new(false), Percent: new(int64(100))}}
	})
	w.loseFirst()
	return w
}

// loseFirst takes the first revision away, as kubectl or Knative's garbage collection does.
func (w *world) loseFirst() { delete(w.objects, revisionRef("models", "iris-00001")) }

func TestDeploymentWhoseRevisionIsGoneIsShown(t *testing.T) {
	d, err := New(gone(t)).Get(t.Context(), "models", "iris")
	if want := []Share{{Revision: "iris-00001", Percent: 100}}; err != nil || d.Image != "" || d.Version != "1" || !reflect.DeepEqual(d.Traffic, want) {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestDeploymentWhoseRevisionIsGoneServesAgain(t *testing.T) {
	for name, s := range map[string]Spec{"held": holdingIris("3"), "not held": iris("3")} {
		w := gone(t)
		if a := apply(t, w, s); a.Held || a.Revision.Name != "iris-00003" {
			t.Errorf("%s: applied %+v", name, a)
		}
		w.expect("latest=100", "3")
	}
	w := gone(t)
	if err := share(t, w, Share{Revision: "iris-00002", Percent: 100}); err != nil {
		t.Fatal(err)
	}
	w.expect("latest=100", "2")
}

func TestShareOfARevisionThatIsGoneIsTheOthers(t *testing.T) {
	canary := func() *world {
		w, second := tried(t)
		promote(t, w, second, 10)
		w.edit(func(s *knative.Service) {
			s.Spec.Traffic = append(s.Spec.Traffic,
				knative.TrafficTarget{RevisionName: "iris-00001", LatestRevision: new(false), Tag: "stable"},
				knative.TrafficTarget{LatestRevision: new(true), Tag: "current"})
		})
		w.loseFirst()
		return w
	}
	w := canary()
	apply(t, w, holdingIris("3"))
	w.expect("iris-00002=100 latest=0#current latest=0#candidate", "1")
	w = canary()
	if err := share(t, w, Share{Revision: "iris-00002", Percent: 100}); err != nil {
		t.Fatal(err)
	}
	w.expect("latest=100 latest=0#current", "2")
	w, second := tried(t)
	promote(t, w, second, 10)
	apply(t, w, holdingIris("3"))
	w.loseFirst()
	if err := share(t, w, Share{Revision: "iris-00002", Percent: 100}); err != nil {
		t.Fatal(err)
	}
	w.expect("iris-00002=100", "2")
}

func TestGive(t *testing.T) {
	three := []Share{{Revision: "a", Percent: 50}, {Revision: "b", Percent: 30}, {Revision: "c", Percent: 20}}
	for name, c := range map[string]struct {
		shares, to []Share
		want       string
	}{
		"new":           {three, []Share{{Revision: "d", Percent: 10}}, "a45 b27 c18 d10"},
		"rounded":       {[]Share{{Revision: "a", Percent: 33}, {Revision: "b", Percent: 33}, {Revision: "c", Percent: 34}}, []Share{{Revision: "d", Percent: 50}}, "a17 b16 c17 d50"},
		"grows":         {three, []Share{{Revision: "c", Percent: 60}}, "a25 b15 c60"},
		"all":           {three, []Share{{Revision: "a", Percent: 100}}, "a100"},
		"none":          {three, []Share{{Revision: "a"}}, "b60 c40"},
		"two":           {three, []Share{{Revision: "a", Percent: 10}, {Revision: "d", Percent: 40}}, "b30 c20 a10 d40"},
		"tag and share": {[]Share{{Revision: "a", Percent: 100}, {Revision: "a", Tag: "x"}}, []Share{{Revision: "b", Percent: 1}}, "a99 b1"},
	} {
		got, err := Give(c.shares, c.to...)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, s := range got {
			all = append(all, s.Revision+strconv.FormatInt(s.Percent, 10))
		}
		if split := strings.Join(all, " "); split != c.want {
			t.Errorf("%s: %s, want %s", name, split, c.want)
		}
	}
	_, err := Give([]Share{{Revision: "a", Percent: 100}}, Share{Revision: "a", Percent: 40})
	refused(t, err, failure.Invalid, "SplitInvalid")
	_, err = Give(three, Share{Revision: "a", Percent: 60}, Share{Revision: "b", Percent: 60})
	refused(t, err, failure.Invalid, "SplitInvalid")
}
