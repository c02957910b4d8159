package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
)

// ServeHTTP answers what the proxy asks of https://sqladmin.googleapis.com: projects.instances.connectSettings and generateEphemeralCert.
// It also gives tokens for keys.
func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		return
	}
	status, answer := i.answer(r)
	log := slog.With("method", r.Method, "path", r.URL.Path, "status", status)
	if status == http.StatusOK {
		log.Info("answered")
	} else {
		log.Warn("refused", "why", answer)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // to a client that has gone
}

func (i *instance) answer(r *http.Request) (int, any) {
	if r.URL.Path == "/token" {
		return token(r)
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !ok:
		return refusal(http.StatusUnauthorized, "required", "Login Required.")
	case token == "denied":
		return refusal(http.StatusForbidden, "notAuthorized", "The client is not authorized to make this request.")
	}
	const prefix = "/sql/v1beta4/projects/"
	path, ok := strings.CutPrefix(r.URL.Path, prefix)
	if !ok {
		return refusal(http.StatusNotFound, "notFound", "Not found: "+r.URL.Path)
	}
	switch path {
	case i.project + "/instances/" + i.name + "/connectSettings":
		return i.connectSettings(r)
	case i.project + "/instances/" + i.name + ":generateEphemeralCert":
		return i.certificate(r)
	}
	return refusal(http.StatusNotFound, "instanceDoesNotExist", "The Cloud SQL instance does not exist.")
}

// token is what https://oauth2.googleapis.com/token gives for the key of a service account (RFC 7523). Whose key it is, the
// double takes on trust; the account denied@… has no roles.
func token(r *http.Request) (int, any) {
	refused := func(why string) (int, any) {
		return http.StatusBadRequest, map[string]any{"error": "invalid_grant", "error_description": why}
	}
	if grant := r.PostFormValue("grant_type"); grant != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return refused("grant_type is " + grant)
	}
	parts := strings.Split(r.PostFormValue("assertion"), ".")
	if len(parts) != 3 {
		return refused("the assertion is no JWT")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return refused(err.Error())
	}
	var claims struct{ Iss string }
	if err := json.Unmarshal(text, &claims); err != nil || claims.Iss == "" {
		return refused("the assertion has no issuer")
	}
	account, _, _ := strings.Cut(claims.Iss, "@")
	return http.StatusOK, map[string]any{"access_token": account, "token_type": "Bearer", "expires_in": 3600}
}

// refusal is an error as Google's APIs answer it.
func refusal(status int, reason, message string) (int, any) {
	return status, map[string]any{"error": map[string]any{
		"code": status, "message": message,
		"errors": []any{map[string]any{"message": message, "domain": "global", "reason": reason}},
	}}
}

func (i *instance) connectSettings(r *http.Request) (int, any) {
	addresses, err := net.DefaultResolver.LookupHost(r.Context(), i.host)
	if err != nil {
		return refusal(http.StatusInternalServerError, "backendError", err.Error())
	}
	return http.StatusOK, map[string]any{
		"kind": "sql#connectSettings", "backendType": "SECOND_GEN", "databaseVersion": "POSTGRES_15", "region": i.region,
		"serverCaCert": map[string]any{"cert": i.authority.text},
		"ipAddresses": []any{
			map[string]any{"type": "PRIMARY", "ipAddress": addresses[0]},
			map[string]any{"type": "PRIVATE", "ipAddress": addresses[0]},
		},
		"pscEnabled": true,
		"dnsNames":   []any{map[string]any{"name": i.host, "connectionType": "PRIVATE_SERVICE_CONNECT", "dnsScope": "INSTANCE"}},
	}
}

func (i *instance) certificate(r *http.Request) (int, any) {
	// The API takes both spellings of its fields.
	var body struct {
		PublicKey      string `json:"public_key"`
		PublicKeyCamel string `json:"publicKey"`
		Token          string `json:"access_token"`
		TokenCamel     string `json:"accessToken"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return refusal(http.StatusBadRequest, "invalid", fmt.Sprintf("body: %v", err))
	}
	user := ""
	if body.Token+body.TokenCamel != "" {
		user = "iam"
	}
	text, err := i.authority.issue(body.PublicKey+body.PublicKeyCamel, user)
	if err != nil {
		return refusal(http.StatusBadRequest, "invalid", err.Error())
	}
	return http.StatusOK, map[string]any{"ephemeralCert": map[string]any{"kind": "sql#sslCert", "cert": text}}
}
