package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
)

// echo answers every connection with a word and hangs up.
func echo(t *testing.T, network, address, word string) net.Addr {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, word)
			_ = c.Close()
		}
	}()
	return listener.Addr()
}

func double(t *testing.T) (api string, address net.Addr) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "socket")
	echo(t, "unix", socket, "trusted")
	i, err := newInstance(settings{
		instance: "example.com:project:region:name", host: "localhost",
		database: echo(t, "tcp", "127.0.0.1:0", "database").String(), socket: socket,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", i.authority.server())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() { _ = i.serve(listener) }()
	return server.URL, listener.Addr()
}

func ask(t *testing.T, method, url, token string, body, answer any) int {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

const instances = "/sql/v1beta4/projects/example.com:project/instances/"

func TestRefusals(t *testing.T) {
	api, _ := double(t)
	for _, c := range []struct {
		name, path, token string
		status            int
	}{
		{"no token", instances + "name/connectSettings", "", 401},
		{"not allowed", instances + "name/connectSettings", "denied", 403},
		{"another instance", instances + "other/connectSettings", "x", 404},
		{"another API", "/sql/v1beta4/flags", "x", 404},
	} {
		var answer struct {
			Error struct {
				Code    int
				Message string
			}
		}
		if status := ask(t, http.MethodGet, api+c.path, c.token, nil, &answer); status != c.status || answer.Error.Code != c.status || answer.Error.Message == "" {
			t.Errorf("%s: %d %+v, want %d", c.name, status, answer, c.status)
		}
	}
}

func TestKeysGetTokens(t *testing.T) {
	api, _ := double(t)
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"iss": "denied@project.iam.gserviceaccount.com"}`))
	for _, c := range []struct{ name, grant, assertion, want string }{
		{"key", "urn:ietf:params:oauth:grant-type:jwt-bearer", "header." + claims + ".signature", "denied"},
		{"another grant", "refresh_token", "header." + claims + ".signature", ""},
		{"no JWT", "urn:ietf:params:oauth:grant-type:jwt-bearer", "x", ""},
		{"no issuer", "urn:ietf:params:oauth:grant-type:jwt-bearer", "header.e30.signature", ""},
	} {
		response, err := http.PostForm(api+"/token", url.Values{"grant_type": {c.grant}, "assertion": {c.assertion}})
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Token string `json:"access_token"`
			Error string
		}
		err = errors.Join(json.NewDecoder(response.Body).Decode(&answer), response.Body.Close())
		if err != nil || answer.Token != c.want || (response.StatusCode == http.StatusOK) != (c.want != "") || (answer.Error == "") != (c.want != "") {
			t.Errorf("%s: %s %+v, %v", c.name, response.Status, answer, err)
		}
	}
}

func TestWhoBringsACertificateReachesTheDatabase(t *testing.T) {
	api, address := double(t)
	var settings struct {
		Region       string
		ServerCaCert struct{ Cert string }
		IPAddresses  []struct{ Type, IPAddress string }
	}
	if status := ask(t, http.MethodGet, api+instances+"name/connectSettings", "x", nil, &settings); status != http.StatusOK || settings.Region != "region" || len(settings.IPAddresses) != 2 {
		t.Fatalf("connectSettings: %d %+v", status, settings)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(settings.ServerCaCert.Cert)) {
		t.Fatalf("%q is no certificate", settings.ServerCaCert.Cert)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: public}))
	for _, c := range []struct{ name, token, want string }{{"password", "", "database"}, {"token of a database user", "x", "trusted"}} {
		t.Run(c.name, func(t *testing.T) {
			var answer struct{ EphemeralCert struct{ Cert string } }
			body := map[string]string{"public_key": text, "access_token": c.token}
			if status := ask(t, http.MethodPost, api+instances+"name:generateEphemeralCert", "x", body, &answer); status != http.StatusOK {
				t.Fatalf("generateEphemeralCert: %d", status)
			}
			block, _ := pem.Decode([]byte(answer.EphemeralCert.Cert))
			if block == nil {
				t.Fatalf("%q is no certificate", answer.EphemeralCert.Cert)
			}
			connection, err := tls.Dial("tcp", address.String(), &tls.Config{
				RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if name := connection.ConnectionState().PeerCertificates[0].Subject.CommonName; name != "example.com:project:name" {
				t.Errorf("the instance is named %q", name)
			}
			word, err := io.ReadAll(connection)
			if err != nil || string(word) != c.want {
				t.Errorf("%q, %v; want %q", word, err, c.want)
			}
		})
	}
	t.Run("no certificate", func(t *testing.T) {
		connection, err := tls.Dial("tcp", address.String(), &tls.Config{RootCAs: roots, ServerName: "localhost"})
		if err == nil {
			_, err = io.ReadAll(connection)
		}
		if err == nil {
			t.Error("let in")
		}
	})
}
