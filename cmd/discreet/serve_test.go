package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestServeSpeaksTLSWithACertificate(t *testing.T) {
	certificate, certFile, keyFile := selfSigned(t)
	var stdout, stderr safeBuffer
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--data", filepath.Join(t.TempDir(), "data"), "--witness", filepath.Join(t.TempDir(), "witness"), "--listen", "127.0.0.1:0", "--tls-cert", certFile, "--tls-key", keyFile},
			terminal{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, lookup: noEnvironment}, production())
	}()
	defer func() {
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("serve ended with %d: %s", code, stderr.String())
		}
	}()
	url := ""
	for deadline := time.Now().Add(30 * time.Second); url == "" && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		url = regexp.MustCompile(`https://[0-9.:]+`).FindString(stdout.String())
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	secure := &http.Client{Timeout: 10 * time.Second, Transport: transport}
	response, err := secure.Get(url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("over TLS it answers %s", response.Status)
	}
}

func TestServeListensBeyondTheMachineOnlyWhenToldTo(t *testing.T) {
	for _, c := range []struct {
		listen    string
		encrypted bool
		insecure  bool
		allowed   bool
	}{
		{"127.0.0.1:8080", false, false, true},
		{"localhost:8080", false, false, true},
		{"[::1]:8080", false, false, true},
		{":8080", false, false, false},
		{"0.0.0.0:8080", false, false, false},
		{"192.0.2.1:8080", false, false, false},
		{"discreet.example:8080", false, false, false},
		{"localhost.example:8080", false, false, false},
		{"0.0.0.0:8080", true, false, true},
		{"0.0.0.0:8080", false, true, true},
	} {
		err := (&serveCommand{Listen: c.listen, Insecure: c.insecure}).checkExposure(c.encrypted)
		if (err == nil) != c.allowed {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// selfSigned makes a certificate for 127.0.0.1 and gives the files of it and of its key.
func selfSigned(t *testing.T) (certificate *x509.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeFile(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return certificate, certFile, keyFile
}
