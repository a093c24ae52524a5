package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/dp/office"
)

// remote is the server that a verb talks to, and as whom.
type remote struct {
	URL     string `help:"Address of the server; ${default} when absent." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Key     string `help:"Your key (dk_…), or a token of the issuer that the server trusts; better given as DISCREET_KEY, which other users of the machine do not see." placeholder:"KEY"`
	KeyFile string `help:"File that holds it instead, read anew for each call: tokens are renewed." placeholder:"FILE"`
	trust
}

// trust is whom a server may have its certificate from, and what it is shown.
type trust struct {
	CA         string `name:"ca" help:"Certificates (PEM) of who may have signed the server's; without it, those that this machine trusts." placeholder:"FILE"`
	ClientCert string `help:"Your certificate chain (PEM), for a server that wants one." placeholder:"FILE"`
	ClientKey  string `help:"Private key of your certificate (PEM)." placeholder:"FILE"`
}

// maxKeyFile bounds a file that holds a key or a token, in bytes.
const maxKeyFile = 16 << 10

func (r remote) client() (*client.Client, error) {
	switch {
	case r.Key == "" && r.KeyFile == "":
		return nil, usagef("give your key with --key, DISCREET_KEY or --key-file; an officer makes one with discreet key add")
	case r.Key != "" && r.KeyFile != "":
		return nil, usagef("give --key (DISCREET_KEY) or --key-file (DISCREET_KEY_FILE), not both")
	}
	transport, err := r.transport()
	if err != nil {
		return nil, err
	}
	c, err := client.NewWith(r.URL, r.credential, client.HTTP(transport))
	if err != nil {
		return nil, usagef("%v", err)
	}
	if _, err := r.credential(); err != nil {
		return nil, err
	}
	return c, nil
}

// credential is a key or a token: three parts, as the issuer's are.
func (r remote) credential() (string, error) {
	key, from := r.Key, "--key or DISCREET_KEY gives"
	if r.KeyFile != "" {
		file, err := os.Open(r.KeyFile)
		if err != nil {
			return "", fmt.Errorf("reading --key-file: %w", err)
		}
		text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
		if err = errors.Join(err, file.Close()); err != nil {
			return "", fmt.Errorf("reading --key-file: %w", err)
		}
		key, from = strings.TrimSpace(string(text)), "the file of --key-file holds"
	}
	if len(key) > maxKeyFile || !strings.HasPrefix(key, office.KeyPrefix) && strings.Count(key, ".") != 2 {
		return "", usagef("what %s is neither a key, which begins with %s, nor a token", from, office.KeyPrefix)
	}
	return key, nil
}

// transport is how the server is reached; nil: as the machine reaches others.
func (r trust) transport() (http.RoundTripper, error) {
	if r.CA == "" && r.ClientCert == "" && r.ClientKey == "" {
		return nil, nil
	}
	if (r.ClientCert == "") != (r.ClientKey == "") {
		return nil, usagef("give --client-cert and --client-key together")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if r.CA != "" {
		if config.RootCAs, err = readCertificates("--ca", r.CA); err != nil {
			return nil, err
		}
	}
	if r.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(r.ClientCert, r.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("reading --client-cert and --client-key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	return transport, nil
}

// readCertificates reads the certificates of a PEM file, which must be there.
func readCertificates(flag, path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", flag, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, usagef("the file of %s holds no certificate (PEM)", flag)
	}
	return pool, nil
}

// explainTLS says what to do about a server or a client that the other one does not trust; empty for other errors.
func explainTLS(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	text := err.Error()
	switch {
	case errors.As(err, &unknown):
		return "the server's certificate is signed by nobody that is trusted here: name who signed it with --ca"
	case errors.As(err, &name):
		return "the server's certificate is for another name than --url has: write the name that it is for"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate has expired, or this machine's clock is wrong: look at both"
	// Alerts of the other side have no type of their own (crypto/tls).
	case strings.Contains(text, "tls: certificate required"):
		return "the server wants a client certificate that its --tls-client-ca signed: give --client-cert and --client-key"
	case strings.Contains(text, "tls: bad certificate"), strings.Contains(text, "tls: unknown certificate"), strings.Contains(text, "tls: expired certificate"), strings.Contains(text, "tls: revoked certificate"):
		return "the server does not take the client certificate: give one, with --client-cert and --client-key, that its --tls-client-ca signed and that is in force"
	}
	return ""
}

// reason is given with changes that need one.
type reason struct {
	Reason string `help:"Why; kept with the change." placeholder:"TEXT"`
}

// every collects all pages of a list.
func every[T any](ctx context.Context, page func(context.Context, client.Page) (items []T, next string, err error)) ([]T, error) {
	all := []T{} // a list is never null in JSON
	for cursor := ""; ; {
		items, next, err := page(ctx, client.Page{Cursor: cursor})
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		cursor = next
	}
}
