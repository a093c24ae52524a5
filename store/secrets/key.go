package secrets

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Key encrypts what an installation keeps on its disk. It is kept elsewhere, and everything that is encrypted or
// authenticated there is so under keys that are derived from it, one for each purpose. A nil Key stands for an installation
// that is not encrypted.
type Key struct{ bytes [keyBytes]byte }

const (
	keyBytes = 32
	// maxKeyFile bounds a file that should hold a key.
	maxKeyFile = 4096
	// SealedBytes is how much longer what is sealed is than what was given: nonce and tag of AES-GCM.
	SealedBytes = 12 + 16
)

// ReadKey reads a key from a file: 32 random bytes on one line, in base64 or hexadecimal.
func ReadKey(path string) (*Key, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the encryption key: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading the encryption key: %w", err)
	}
	line := strings.TrimSpace(string(text))
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString, base64.URLEncoding.DecodeString} {
		if raw, err := decode(line); err == nil && len(raw) == keyBytes {
			return &Key{[keyBytes]byte(raw)}, nil
		}
	}
	return nil, fmt.Errorf("%s holds no encryption key: it is %d random bytes on one line, in base64 or hexadecimal (head -c%d /dev/urandom | base64)", path, keyBytes, keyBytes)
}

// Raw is the key itself, for the ledger's verifier, which shares no code and derives for itself; nil where k is.
func (k *Key) Raw() []byte {
	if k == nil {
		return nil
	}
	return bytes.Clone(k.bytes[:])
}

// Format writes a fixed word under every verb, so that no log line can hold the key.
func (k *Key) Format(w fmt.State, _ rune) { _, _ = w.Write([]byte("key(withheld)")) }

// Derive is the key of 32 bytes for one purpose: HKDF with SHA-256 (RFC 5869), without salt. It is nil where k is.
func (k *Key) Derive(purpose string) []byte {
	if k == nil {
		return nil
	}
	derived, err := hkdf.Key(sha256.New, k.bytes[:], nil, "discreet/at-rest/"+purpose, keyBytes)
	if err != nil { // it asks for no more than HKDF gives
		panic(err)
	}
	return derived
}

// Sealer encrypts and authenticates for one purpose: AES-256-GCM (NIST SP 800-38D) with a random nonce, which comes first. A
// nil Sealer gives back what it is given.
type Sealer struct{ aead cipher.AEAD }

// Sealer is nil where k is.
func (k *Key) Sealer(purpose string) *Sealer {
	if k == nil {
		return nil
	}
	block, err := aes.NewCipher(k.Derive(purpose))
	if err != nil { // the key has a length that AES has
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil { // AES has blocks of 16 bytes
		panic(err)
	}
	return &Sealer{aead}
}

// Seal encrypts; with is authenticated with it, and needed to open it.
func (s *Sealer) Seal(plain, with []byte) []byte {
	if s == nil {
		return plain
	}
	return s.aead.Seal(make([]byte, 0, len(plain)+SealedBytes), nil, plain, with)
}

// Open decrypts what Seal made, with the same with.
func (s *Sealer) Open(sealed, with []byte) ([]byte, error) {
	if s == nil {
		return sealed, nil
	}
	plain, err := s.aead.Open(nil, nil, sealed, with)
	if err != nil {
		return nil, ErrNotSealed
	}
	return plain, nil
}

// ErrNotSealed says that bytes are not what was sealed under this key, for this purpose and place.
var ErrNotSealed = errors.New("it was changed, or encrypted with another key")

// Why a data directory does not open with the key that is given, or without one.
var (
	ErrEncrypted = errors.New("the data directory is encrypted: give its key with --encryption-key-file")
	ErrPlain     = errors.New("the data directory is not encrypted: leave --encryption-key-file out; to encrypt it, make a backup and restore that with the key (discreet restore FILE --data DIR --encryption-key-file KEY)")
	ErrOtherKey  = errors.New("the key in --encryption-key-file is not the one that the data directory is encrypted with: give that one")
)
