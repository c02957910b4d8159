// Package pki makes the keys and certificates of one lab cluster: an authority of its own, an identity for every
// component, and the key that signs service accounts' tokens. They live as long as one run of the cluster.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// lifetime of all certificates; the slack before now allows for clocks that are set back.
const (
	lifetime = 365 * 24 * time.Hour
	slack    = time.Hour
)

// Identity is what a certificate says of its holder: in Kubernetes the common name is the user, organizations are groups.
type Identity struct {
	// File is the name of the files below the folder: File.crt and File.key.
	File   string
	User   string
	Groups []string
	// Hosts are the names and addresses that the holder serves on; none for a client.
	Hosts []string
}

// Authority signs certificates. Its own is ca.crt, its key is not kept.
type Authority struct {
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

// New makes an authority and writes its certificate to folder/ca.crt.
func New(folder string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key of the authority: %w", err)
	}
	template, err := certificate("kubectl-mlflow lab")
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certificate of the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate of the authority: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	return &Authority{folder: folder, cert: cert, key: key}, writePEM(filepath.Join(folder, "ca.crt"), "CERTIFICATE", der)
}

// Issue writes a key and a certificate for the identity.
func (a *Authority) Issue(id Identity) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("key of %s: %w", id.File, err)
	}
	template, err := certificate(id.User)
	if err != nil {
		return err
	}
	template.Subject.Organization = id.Groups
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(id.Hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, host := range id.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", id.File, err)
	}
	return errors.Join(
		writePEM(filepath.Join(a.folder, id.File+".crt"), "CERTIFICATE", der),
		writeKey(filepath.Join(a.folder, id.File+".key"), key),
	)
}

// ServiceAccountKey writes the pair that signs and verifies service accounts' tokens: sa.key and sa.pub.
func (a *Authority) ServiceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("key of service accounts: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("key of service accounts: %w", err)
	}
	return errors.Join(
		writeKey(filepath.Join(a.folder, "sa.key"), key),
		writePEM(filepath.Join(a.folder, "sa.pub"), "PUBLIC KEY", public),
	)
}

func certificate(user string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("serial number for %s: %w", user, err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: user},
		NotBefore:    now.Add(-slack),
		NotAfter:     now.Add(lifetime),
	}, nil
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return writePEM(file, "EC PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
