package tracking

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
)

// Version is a URI made fast: an alias is a version number from here on.
type Version struct {
	Name, Version string // of a registered model, else ""
	ModelID       string // of a logged model (MLflow 3), else ""
	RunID         string // that logged it, or ""
	Source        string // where its artifacts are: "mlflow-artifacts:/1/models/m-…/artifacts"
}

// URI is the model URI that leads to this version for good.
func (v Version) URI() string {
	switch {
	case v.Name != "":
		return URI{Scheme: schemeModels, Name: v.Name, Version: v.Version}.String()
	case v.ModelID != "":
		return URI{Scheme: schemeModels, ModelID: v.ModelID}.String()
	}
	return v.Source
}

// modelVersion, loggedModel and run are MLflow's messages, as far as we read them.
type modelVersion struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Source  string `json:"source"`
	RunID   string `json:"run_id"`
	ModelID string `json:"model_id"`
	Status  string `json:"status"`
	Message string `json:"status_message"`
	Tags    []tag  `json:"tags"`
}

type tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type loggedModel struct {
	Info struct {
		ModelID     string `json:"model_id"`
		ArtifactURI string `json:"artifact_uri"`
		RunID       string `json:"source_run_id"`
		Status      string `json:"status"`
		Created     int64  `json:"creation_timestamp_ms"`
	} `json:"info"`
}

// Resolve makes u fast. failure.Invalid where it does not exist (with near names), failure.Forbidden on 401 and 403.
func (c *Client) Resolve(ctx context.Context, u URI) (Version, error) {
	switch {
	case u.Scheme == schemeArtifacts:
		return Version{Source: u.String()}, nil
	case u.Scheme == schemeRuns:
		return c.runModel(ctx, u)
	case u.ModelID != "":
		return c.loggedModel(ctx, u.ModelID)
	}
	mv, err := c.registered(ctx, u)
	if err != nil {
		if isAbsent(err) {
			return Version{}, c.absent(ctx, u, err)
		}
		return Version{}, err
	}
	if err := usable(mv); err != nil {
		return Version{}, err
	}
	return c.locate(ctx, mv)
}

// registered asks for the version that u means.
func (c *Client) registered(ctx context.Context, u URI) (modelVersion, error) {
	var one struct {
		ModelVersion modelVersion `json:"model_version"`
	}
	switch {
	case u.Version != "":
		query := url.Values{"name": {u.Name}, "version": {u.Version}}
		err := c.call(ctx, http.MethodGet, "api/2.0/mlflow/model-versions/get", query, &one)
		return one.ModelVersion, err
	case u.Alias != "":
		query := url.Values{"name": {u.Name}, "alias": {u.Alias}}
		err := c.call(ctx, http.MethodGet, "api/2.0/mlflow/registered-models/alias", query, &one)
		return one.ModelVersion, err
	}
	request := map[string]any{"name": u.Name}
	if u.Stage != "" {
		request["stages"] = []string{u.Stage}
	}
	// One per stage, so that the newest of all is among them.
	versions, err := c.versions(ctx, http.MethodPost, "api/2.0/mlflow/registered-models/get-latest-versions", request)
	if err != nil {
		return modelVersion{}, err
	}
	if len(versions) == 0 {
		return modelVersion{}, &apiError{Status: http.StatusNotFound, Code: "RESOURCE_DOES_NOT_EXIST", Message: "no such version"}
	}
	return versions[0], nil
}

// versions asks for model versions and sorts them, newest first.
func (c *Client) versions(ctx context.Context, method, path string, in any) ([]modelVersion, error) {
	var list struct {
		ModelVersions []modelVersion `json:"model_versions"`
	}
	if err := c.call(ctx, method, path, in, &list); err != nil {
		return nil, err
	}
	slices.SortStableFunc(list.ModelVersions, func(a, b modelVersion) int { return number(b.Version) - number(a.Version) })
	return list.ModelVersions, nil
}

// number is 0 for what is no number: it sorts last.
func number(version string) int {
	n, err := strconv.Atoi(version)
	if err != nil {
		return 0
	}
	return n
}

func usable(mv modelVersion) error {
	object := URI{Scheme: schemeModels, Name: mv.Name, Version: mv.Version}.String()
	if slices.Contains(mv.Tags, tag{Key: "mlflow.prompt.is_prompt", Value: "true"}) {
		return &failure.Error{Class: failure.Invalid, Reason: "NotAModel", Object: object, Message: "this is a prompt and no model"}
	}
	if mv.Status == "" || mv.Status == "READY" {
		return nil
	}
	return &failure.Error{
		Class:   failure.Diagnosed,
		Reason:  "ModelNotReady",
		Object:  object,
		Message: strings.TrimSpace(fmt.Sprintf("its registration is %s %s", mv.Status, mv.Message)),
		Hint:    "register the model again, or wait until its upload is complete",
	}
}

// locate finds the artifacts of a registered version.
func (c *Client) locate(ctx context.Context, mv modelVersion) (Version, error) {
	v := Version{Name: mv.Name, Version: mv.Version, ModelID: mv.ModelID, RunID: mv.RunID}
	var where struct {
		ArtifactURI string `json:"artifact_uri"`
	}
	query := url.Values{"name": {mv.Name}, "version": {mv.Version}}
	if err := c.call(ctx, http.MethodGet, "api/2.0/mlflow/model-versions/get-download-uri", query, &where); err != nil {
		return Version{}, err
	}
	v.Source = where.ArtifactURI
	if id, ok := strings.CutPrefix(mv.Source, "models:/m-"); ok && v.ModelID == "" {
		v.ModelID = "m-" + id
	}
	// Old servers answer with what was registered, and leave it to the client to follow.
	if strings.HasPrefix(v.Source, "models:/") || strings.HasPrefix(v.Source, "runs:/") {
		u, err := ParseURI(v.Source)
		if err != nil {
			return Version{}, err
		}
		if u.Name != "" {
			return Version{}, &failure.Error{Class: failure.Diagnosed, Reason: "ModelWithoutArtifacts", Object: v.URI(),
				Message: fmt.Sprintf("it is registered as %s, which leads nowhere", v.Source)}
		}
		followed, err := c.Resolve(ctx, u)
		if err != nil {
			return Version{}, err
		}
		v.Source = followed.Source
		if v.ModelID == "" {
			v.ModelID = followed.ModelID
		}
	}
	return v, nil
}

func (c *Client) loggedModel(ctx context.Context, id string) (Version, error) {
	var answer struct {
		Model loggedModel `json:"model"`
	}
	err := c.call(ctx, http.MethodGet, "api/2.0/mlflow/logged-models/"+url.PathEscape(id), nil, &answer)
	if isUnknownEndpoint(err) {
		return Version{}, &failure.Error{Class: failure.Invalid, Reason: "ModelNotFound", Object: "models:/" + id,
			Message: "this tracking server knows no models by id: MLflow 3 does", Hint: "use models:/NAME/VERSION"}
	}
	if err != nil {
		return Version{}, err
	}
	return answer.Model.version(""), nil
}

// version is the logged model, or what lies at path below it.
func (m loggedModel) version(path string) Version {
	v := Version{ModelID: m.Info.ModelID, RunID: m.Info.RunID, Source: m.Info.ArtifactURI}
	if path != "" {
		v.Source = strings.TrimSuffix(v.Source, "/") + "/" + path
	}
	return v
}

// runModel finds runs:/ID/PATH. MLflow 3 keeps a run's models beside the run, under their name; MLflow 2 keeps them in the run.
func (c *Client) runModel(ctx context.Context, u URI) (Version, error) {
	var answer struct {
		Run struct {
			Info struct {
				ArtifactURI  string `json:"artifact_uri"`
				ExperimentID string `json:"experiment_id"`
			} `json:"info"`
		} `json:"run"`
	}
	if err := c.call(ctx, http.MethodGet, "api/2.0/mlflow/runs/get", url.Values{"run_id": {u.RunID}}, &answer); err != nil {
		return Version{}, err
	}
	name, below, _ := strings.Cut(u.Path, "/")
	m, err := c.loggedInRun(ctx, u.RunID, answer.Run.Info.ExperimentID, name)
	if err != nil {
		return Version{}, err
	}
	if m != nil {
		return m.version(below), nil
	}
	return Version{RunID: u.RunID, Source: strings.TrimSuffix(answer.Run.Info.ArtifactURI, "/") + "/" + u.Path}, nil
}

// loggedInRun returns the newest model of that name that the run logged, or nil.
func (c *Client) loggedInRun(ctx context.Context, run, experiment, name string) (*loggedModel, error) {
	quoted, ok := quote(name)
	if !ok {
		return nil, nil
	}
	request := map[string]any{"experiment_ids": []string{experiment}, "filter": "name = " + quoted, "max_results": 1000}
	var newest *loggedModel
	for {
		var page struct {
			Models []loggedModel `json:"models"`
			Next   string        `json:"next_page_token"`
		}
		err := c.call(ctx, http.MethodPost, "api/2.0/mlflow/logged-models/search", request, &page)
		if isUnknownEndpoint(err) {
			return nil, nil // MLflow 2
		}
		if err != nil {
			return nil, err
		}
		for _, m := range page.Models {
			if m.Info.RunID == run && (newest == nil || m.Info.Created > newest.Info.Created) {
				newest = &m
			}
		}
		if page.Next == "" || page.Next == request["page_token"] {
			return newest, nil
		}
		request["page_token"] = page.Next
	}
}

// quote puts s in quotes of MLflow's filter language, which has no escapes.
func quote(s string) (string, bool) {
	switch {
	case !strings.Contains(s, `'`):
		return `'` + s + `'`, true
	case !strings.Contains(s, `"`):
		return `"` + s + `"`, true
	}
	return "", false
}
