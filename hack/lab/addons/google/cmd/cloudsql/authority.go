package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"time"
)

// authority issues the certificates of an instance and of those who connect to it. It lives as long as the program.
type authority struct {
	certificate *x509.Certificate
	text        string
	key         *ecdsa.PrivateKey
	own         tls.Certificate
}

// newAuthority makes one for the instance whose certificates bear a name and a host.
func newAuthority(name, host string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key}
	root := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Google Cloud SQL Server CA"}, NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := a.sign(root, root, key.Public())
	if err != nil {
		return nil, err
	}
	if a.certificate, err = x509.ParseCertificate(raw); err != nil {
		return nil, err
	}
	a.text = encode(raw)
	server, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	raw, err = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{host}, NotAfter: root.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.certificate, server.Public())
	a.own = tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: server}
	return a, err
}

// sign fills in what all certificates have.
func (a *authority) sign(template, parent *x509.Certificate, key crypto.PublicKey) ([]byte, error) {
	var err error
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
}

func encode(raw []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

// issue makes the certificate of a client, for an hour, out of its public key. It says as what kind of database user it was asked for.
func (a *authority) issue(key, user string) (string, error) {
	block, _ := pem.Decode([]byte(key))
	if block == nil {
		return "", errors.New("public_key is not PEM")
	}
	// Whatever the block's type says: the proxy puts this encoding into one named RSA PUBLIC KEY.
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return "", err
	}
	subject := pkix.Name{CommonName: "client"}
	if user != "" {
		subject.OrganizationalUnit = []string{user}
	}
	raw, err := a.sign(&x509.Certificate{Subject: subject, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, a.certificate, public)
	return encode(raw), err
}

// server is the TLS of the instance: it talks to those alone who bring a certificate of its own.
func (a *authority) server() *tls.Config {
	clients := x509.NewCertPool()
	clients.AddCert(a.certificate)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
}
