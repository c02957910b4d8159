package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// probeTimeout bounds one look at a condition: everything looked at is on this machine.
const probeTimeout = 2 * time.Second

// Condition is something that can be seen from outside a process. Exactly one of Unix, TCP, File and URL is set.
type Condition struct {
	// Unix is a socket, TCP an address host:port, that accepts connections.
	Unix string `json:"unix,omitempty"`
	TCP  string `json:"tcp,omitempty"`
	// File is a path that exists.
	File string `json:"file,omitempty"`
	// URL answers 200. An https URL is verified against CA, and Cert and Key say who asks.
	URL  string `json:"url,omitempty"`
	CA   string `json:"ca,omitempty"`
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

// String names the condition as a person would.
func (c Condition) String() string {
	switch {
	case c.Unix != "":
		return "socket " + c.Unix
	case c.TCP != "":
		return "tcp " + c.TCP
	case c.File != "":
		return "file " + c.File
	}
	return c.URL
}

func (c Condition) validate() error {
	set := 0
	for _, v := range []string{c.Unix, c.TCP, c.File, c.URL} {
		if v != "" {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("a condition needs exactly one of unix, tcp, file and url, this one has %d", set)
	}
	return nil
}

// Check returns nil where the condition holds, else what was seen instead.
func (c Condition) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	switch {
	case c.Unix != "":
		return dial(ctx, "unix", c.Unix)
	case c.TCP != "":
		return dial(ctx, "tcp", c.TCP)
	case c.File != "":
		_, err := os.Stat(c.File)
		return err
	}
	return c.get(ctx)
}

func dial(ctx context.Context, network, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (c Condition) get(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", c.URL, resp.Status, firstFailure(string(body)))
	}
	return nil
}

// firstFailure picks from the answer of a Kubernetes health endpoint ("[+]ping ok", "[-]etcd failed: …") what is not well.
func firstFailure(body string) string {
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "[-]") {
			return strings.TrimSpace(line)
		}
	}
	line, _, _ := strings.Cut(body, "\n")
	return line
}

func (c Condition) client() (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.CA)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	// The lab's addresses are never behind a proxy.
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, Proxy: nil}}, nil
}

// await returns when all conditions hold, or with ctx's error. It calls pending with the first that does not, whenever that changes.
func await(ctx context.Context, conditions []Condition, every time.Duration, pending func(Condition, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for i := 0; i < len(conditions); {
		err := conditions[i].Check(ctx)
		if err == nil {
			i++
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pending(conditions[i], err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}
