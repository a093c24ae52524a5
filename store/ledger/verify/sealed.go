package verify

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// sealed opens what a ledger keeps encrypted (store/FORMAT.md, "Encryption"). Nil: the ledger is not encrypted.
type sealed struct {
	key []byte // of the installation
	id  []byte // of the ledger; nil while it is not known

	once sync.Once
	gcm  cipher.AEAD // of entries
	err  error
}

const (
	sealedVersion = 2 // of an entry that is encrypted
	nonceBytes    = 12
)

func (s *sealed) derive(purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, s.key, nil, "discreet/at-rest/"+purpose, 32)
}

// entry gives the plain value of an entry.
func (s *sealed) entry(k, value []byte) ([]byte, error) {
	if s == nil {
		if len(value) > 0 && value[0] == sealedVersion {
			return nil, misfitf("it is encrypted: give the key with --encryption-key-file")
		}
		return value, nil
	}
	if len(value) < 1+nonceBytes || value[0] != sealedVersion || len(k) != 1+numberBytes {
		return nil, misfitf("it is not encrypted as entries of this ledger are")
	}
	if s.once.Do(s.prepare); s.err != nil {
		return nil, s.err
	}
	place := binary.BigEndian.AppendUint64(bytes.Clone(s.id), number(k[1:]))
	plain, err := s.gcm.Open(nil, value[1:1+nonceBytes], value[1+nonceBytes:], place)
	if err != nil {
		return nil, misfitf("it was changed where it is stored, or is of another place")
	}
	return plain, nil
}

func (s *sealed) prepare() {
	derived, err := s.derive("entry/1")
	if err != nil {
		s.err = err
		return
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		s.err = err
		return
	}
	s.gcm, s.err = cipher.NewGCM(block)
}

// slot tells whether a slot of a witness has the code that it should have.
func (s *sealed) slot(slot []byte) (bool, error) {
	derived, err := s.derive("witness/1")
	if err != nil {
		return false, err
	}
	mac := hmac.New(sha256.New, derived)
	mac.Write(slot[:80])
	return hmac.Equal(mac.Sum(nil), slot[80:80+sha256.Size]), nil
}
