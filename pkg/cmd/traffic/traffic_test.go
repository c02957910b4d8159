package traffic

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/deployments"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

type client struct {
	asked  []deployments.TrafficRequest
	rolled int
	err    error
}

func (c *client) Revisions(context.Context, string, string) ([]deployments.Revision, error) {
	return []deployments.Revision{
		{Name: "iris-00003", ModelURI: "models:/iris/3", Newest: true, Percent: 10, Tags: []string{"candidate"}, Ready: true, Created: time.Now().Add(-time.Minute)},
		{Name: "iris-00002", ModelURI: "models:/iris/2", Percent: 90, Reason: "it was\x1b[2J removed"},
	}, nil
}

func (c *client) SetTraffic(_ context.Context, r deployments.TrafficRequest) ([]deployments.Share, error) {
	c.asked = append(c.asked, r)
	return nil, c.err
}

func (c *client) Rollback(context.Context, deployments.TrafficRequest) ([]deployments.Share, error) {
	c.rolled++
	return nil, c.err
}

const shown = `REVISION           MODEL            TRAFFIC   TAGS        READY                         AGE
iris-00003 (new)   models:/iris/3   10%       candidate   True                          60s
iris-00002         models:/iris/2   90%       <none>      False it was\x1b[2J removed   <none>
`

func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		typed    []string
		promote  bool
		rollback bool
		want     map[string]int64
	}{
		"shows":     {[]string{"iris"}, false, false, nil},
		"gives":     {[]string{"iris", "new=20", "2=80%"}, false, false, map[string]int64{"new": 20, "2": 80}},
		"promotes":  {[]string{"iris"}, true, false, map[string]int64{"new": 100}},
		"goes back": {[]string{"iris"}, false, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			on := &client{}
			o := Options{Client: on, Out: &out, Rollback: c.rollback, Timeout: time.Minute}
			if err := o.complete(c.typed, c.promote); err != nil {
				t.Fatal(err)
			}
			if err := o.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			var asked []deployments.TrafficRequest
			if c.want != nil {
				asked = []deployments.TrafficRequest{{Name: "iris", Split: c.want, Timeout: time.Minute}}
			}
			if !reflect.DeepEqual(on.asked, asked) || (on.rolled == 1) != c.rollback || out.String() != shown {
				t.Errorf("asked %+v, rolled back %d times, printed\n%s", on.asked, on.rolled, out.String())
			}
		})
	}
}

func TestFailureShowsNothing(t *testing.T) {
	var out strings.Builder
	o := Options{Client: &client{err: errors.New("no")}, Out: &out, Name: "iris", Rollback: true}
	if err := o.Run(t.Context()); err == nil || out.Len() > 0 {
		t.Errorf("%v, printed %q", err, out.String())
	}
}

func TestWordsThatAreNoShares(t *testing.T) {
	for _, c := range []struct {
		typed   string
		promote bool
		output  string
	}{{"iris new", false, ""}, {"iris new=x", false, ""}, {"iris =5", false, ""}, {"iris new=1 new=2", false, ""}, {"iris new=1", true, ""}, {"iris", false, "xml"}} {
		o := Options{Timeout: time.Minute, Output: c.output}
		if err := o.complete(strings.Fields(c.typed), c.promote); failure.ClassOf(err) != failure.Invalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
