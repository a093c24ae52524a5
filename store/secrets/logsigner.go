package secrets

import (
	"crypto/ed25519"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// LogSigner signs what is said of one log: a golang.org/x/mod/sumdb/note.Signer with Ed25519.
type LogSigner struct {
	key      ed25519.PrivateKey
	verifier note.Verifier
	text     string
}

// LogSigner makes the signer of a log. Its key is the same wherever the master is, and its name is part of whatever
// is signed.
func (s *Secrets) LogSigner(name string) (*LogSigner, error) {
	key := ed25519.NewKeyFromSeed(s.derive("log-signing/1"))
	text, err := note.NewEd25519VerifierKey(name, key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("making the key of a log: %w", err)
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("reading the key of a log: %w", err)
	}
	return &LogSigner{key: key, verifier: verifier, text: text}, nil
}

// Name is the log's.
func (l *LogSigner) Name() string { return l.verifier.Name() }

// KeyHash tells the key from others of the name.
func (l *LogSigner) KeyHash() uint32 { return l.verifier.KeyHash() }

// Sign signs a text.
func (l *LogSigner) Sign(text []byte) ([]byte, error) { return ed25519.Sign(l.key, text), nil }

// Verifier is the text of the public key (note.NewVerifier).
func (l *LogSigner) Verifier() string { return l.text }

// Format writes a fixed word under every verb, so that no log line can hold the key.
func (LogSigner) Format(w fmt.State, _ rune) { _, _ = w.Write([]byte("log signer(withheld)")) }
