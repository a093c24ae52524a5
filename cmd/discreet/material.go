package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// tlsFiles are what a server proves who it is with, and whose certificates it takes of clients.
type tlsFiles struct{ cert, key, clientCA string }

// check refuses what is there by half.
func (f tlsFiles) check() error {
	if (f.cert == "") != (f.key == "") {
		return usagef("give --tls-cert and --tls-key together")
	}
	if f.clientCA != "" && f.cert == "" {
		return usagef("--tls-client-ca asks clients for certificates, which takes TLS: give --tls-cert and --tls-key, too")
	}
	return nil
}

// read reads them into a configuration. Who asks for client certificates speaks TLS 1.3 alone, which sends them encrypted
// (RFC 8446, section 2), and resumes no session, so that every connection's certificate is looked at under the authority
// of now.
func (f tlsFiles) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate and its key: %w", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if f.clientCA != "" {
		if c.ClientCAs, err = readCertificates("--tls-client-ca", f.clientCA); err != nil {
			return nil, err
		}
		c.ClientAuth, c.MinVersion, c.SessionTicketsDisabled = tls.RequireAndVerifyClientCert, tls.VersionTLS13, true
	}
	return c, nil
}

// stamp is what tells that a file was replaced: of each, its size and when it was last changed.
type stamp [3]struct {
	size int64
	at   time.Time
}

func (f tlsFiles) stamp() (s stamp) {
	for i, path := range []string{f.cert, f.key, f.clientCA} {
		if info, err := os.Stat(path); err == nil {
			s[i].size, s[i].at = info.Size(), info.ModTime()
		}
	}
	return s
}

// material keeps the TLS configuration of a server up to its files, so that certificates are rotated without a restart.
type material struct {
	files tlsFiles
	log   *slog.Logger

	mu     sync.Mutex
	config *tls.Config
	read   stamp     // that was read last, or that could not be
	looked time.Time // when the files were last looked at
}

// lookAtFiles is how often a new connection has the files looked at.
const lookAtFiles = time.Second

func newMaterial(files tlsFiles, log *slog.Logger) (*material, error) {
	m := &material{files: files, log: log, read: files.stamp(), looked: time.Now()}
	var err error
	m.config, err = files.read()
	return m, err
}

// listener speaks TLS on another.
func (m *material) listener(l net.Listener) net.Listener {
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return m.current(), nil
	}})
}

// current is the configuration for a new connection.
func (m *material) current() *tls.Config {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.looked) >= lookAtFiles {
		m.looked = now
		if s := m.files.stamp(); s != m.read {
			m.reload(s)
		}
	}
	return m.config
}

// reload reads the files, with m.mu held. While they cannot be read, because one is replaced and another not yet, what was
// read before goes on.
func (m *material) reload(s stamp) {
	m.read = s
	config, err := m.files.read()
	if err != nil {
		m.log.Error("the TLS files were changed and cannot be used: new connections go on with the former ones", "error", err)
		return
	}
	m.config = config
	m.log.Info("the TLS files were read anew")
}

// onHangup reads the files whenever the process gets SIGHUP, until ctx ends.
func (m *material) onHangup(ctx context.Context) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			m.mu.Lock()
			m.reload(m.files.stamp())
			m.mu.Unlock()
		}
	}
}
