package tracking

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// shown is how many names a message lists.
const shown = 8

// absent says what is not there, and what is. err is the server's answer to the question for u.
func (c *Client) absent(ctx context.Context, u URI, err error) error {
	e := &failure.Error{Class: failure.Invalid, Reason: "ModelNotFound", Object: u.String(), Err: err}
	aliases, getErr := c.ListAliases(ctx, u.Name)
	if isAbsent(getErr) {
		e.Message, e.Err = fmt.Sprintf("the model %q does not exist", u.Name), nil
		e.Hint = c.hintNames(ctx, u.Name)
		return e
	}
	if getErr != nil {
		return e // the question for u has its answer; there is just no hint
	}
	e.Err = nil
	if u.Alias != "" {
		e.Message = fmt.Sprintf("the model %q has no alias %q", u.Name, u.Alias)
		e.Hint = there("alias", aliases)
		return e
	}
	e.Message = fmt.Sprintf("the model %q has no such version", u.Name)
	e.Hint = c.hintVersions(ctx, u.Name)
	return e
}

func (c *Client) hintVersions(ctx context.Context, name string) string {
	versions, err := c.ListVersions(ctx, name)
	if err != nil {
		return "" // a hint more is not worth an error more
	}
	return there("version", versions)
}

// ListVersions returns the numbers of a registered model's versions, of 100 at most, newest first.
func (c *Client) ListVersions(ctx context.Context, name string) ([]string, error) {
	quoted, ok := quote(name)
	if !ok {
		return nil, fmt.Errorf("MLflow's filters cannot name %q", name)
	}
	query := url.Values{"filter": {"name=" + quoted}, "order_by": {"version_number DESC"}, "max_results": {"100"}}
	versions, err := c.versions(ctx, http.MethodGet, "api/2.0/mlflow/model-versions/search", query)
	if err != nil {
		return nil, err
	}
	numbers := make([]string, 0, len(versions))
	for _, v := range versions {
		numbers = append(numbers, v.Version)
	}
	return numbers, nil
}

// ListAliases returns the aliases of a registered model, in the server's order.
func (c *Client) ListAliases(ctx context.Context, name string) ([]string, error) {
	var answer struct {
		Model struct {
			Aliases []struct {
				Alias string `json:"alias"`
			} `json:"aliases"`
		} `json:"registered_model"`
	}
	if err := c.call(ctx, http.MethodGet, "api/2.0/mlflow/registered-models/get", url.Values{"name": {name}}, &answer); err != nil {
		return nil, err
	}
	aliases := make([]string, 0, len(answer.Model.Aliases))
	for _, a := range answer.Model.Aliases {
		aliases = append(aliases, a.Alias)
	}
	return aliases, nil
}

func (c *Client) hintNames(ctx context.Context, wanted string) string {
	names, err := c.ListModels(ctx)
	if err != nil {
		return ""
	}
	if near := nearest(wanted, names); len(near) > 0 {
		return "did you mean " + strings.Join(near, " or ") + "?"
	}
	return there("registered model", names)
}

// ListModels returns the names of the registered models, of 5000 at most, in the server's order. Prompts are left out.
func (c *Client) ListModels(ctx context.Context) ([]string, error) {
	var names []string
	query := url.Values{"max_results": {"1000"}}
	for range 5 {
		var page struct {
			Models []struct {
				Name string `json:"name"`
				Tags []tag  `json:"tags"`
			} `json:"registered_models"`
			Next string `json:"next_page_token"`
		}
		if err := c.call(ctx, http.MethodGet, "api/2.0/mlflow/registered-models/search", query, &page); err != nil {
			return nil, err
		}
		for _, m := range page.Models {
			if !slices.Contains(m.Tags, tag{Key: "mlflow.prompt.is_prompt", Value: "true"}) {
				names = append(names, m.Name)
			}
		}
		if page.Next == "" {
			break
		}
		query.Set("page_token", page.Next)
	}
	return names, nil
}

// there lists what exists.
func there(what string, names []string) string {
	if len(names) == 0 {
		return "there is no " + what
	}
	more := ""
	if len(names) > shown {
		more = fmt.Sprintf(" and %d more", len(names)-shown)
		names = names[:shown]
	}
	return fmt.Sprintf("there is %s %s%s", what, strings.Join(names, ", "), more)
}

// nearest returns up to three names that are a few typing errors away from wanted, the nearest first.
func nearest(wanted string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var near []candidate
	limit := (len(wanted) + 2) / 3 // two letters in the wrong order are two errors: allowed from four letters on
	for _, name := range names {
		if d := distance(strings.ToLower(wanted), strings.ToLower(name)); d <= limit {
			near = append(near, candidate{name, d})
		}
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return a.distance - b.distance })
	var out []string
	for _, c := range near[:min(3, len(near))] {
		out = append(out, c.name)
	}
	return out
}

// distance is Levenshtein's, by runes.
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	for i, r := range from {
		diagonal := row[0]
		row[0] = i + 1
		for j, s := range to {
			cost := diagonal
			if r != s {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(to)]
}
