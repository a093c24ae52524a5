// Package secrets owns the one secret of an installation: a 256-bit master in a file of its own, from which
// every key is derived that must not be guessed. It turns customers into pseudonyms, salts the choice of rows
// and keys the digests of files.
//
// It never prints or logs the master or a key derived from it, and returns neither but in a copy of its file that a
// backup keeps. It never keeps a customer.
package secrets

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/dchest/siphash"
)

// Secrets derives keys from an installation's master. It is safe for concurrent use.
type Secrets struct {
	master    [masterBytes]byte
	customers sipKey
	rows      sipKey
}

const (
	masterBytes = 32
	// SaltBytes is the length of a dataset's salt.
	SaltBytes = 16
)

// sipKey is the 128-bit key of SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012).
type sipKey struct{ k0, k1 uint64 }

// Pseudonym stands for a customer wherever rows are kept. It is the same in every dataset, so that rows which
// carry consent can be joined later, and it cannot be computed or reversed without the master.
//
// Two customers may share one: of n customers, a given one collides with another with probability at most
// n/2^64 beyond SipHash's distance from a random function. Such a pair is protected as one customer only, so
// n/2^64 adds to the delta of the guarantee; for 87 million customers it is 4.8e-12.
func (s *Secrets) Pseudonym(customer string) uint64 {
	return siphash.Hash(s.customers.k0, s.customers.k1, []byte(customer))
}

// RowPseudonym stands for a row of a dataset in which every row is its own customer. Load and ordinal name the
// row: the same row of the same load always gets the same pseudonym. Collisions are as likely as Pseudonym's,
// n counting rows.
func (s *Secrets) RowPseudonym(load, ordinal uint64, dataset string) uint64 {
	name := make([]byte, 16, 16+len(dataset))
	binary.BigEndian.PutUint64(name, load)
	binary.BigEndian.PutUint64(name[8:], ordinal)
	return siphash.Hash(s.rows.k0, s.rows.k1, append(name, dataset...))
}

// Salt makes the choice of rows that bounding keeps different in every dataset and installation: SaltBytes
// bytes. The guarantee does not need it to be secret.
func (s *Secrets) Salt(dataset string) []byte {
	return s.derive("salt/1/" + dataset)[:SaltBytes]
}

// ContentDigest digests the content of a load: HMAC-SHA-256, so that nobody without the master can test
// whether a file that they guess was loaded.
func (s *Secrets) ContentDigest() hash.Hash { return s.Digest("load content") }

// Digest is a keyed digest (HMAC-SHA-256, 32 bytes) for one purpose; digests for different purposes share
// nothing.
func (s *Secrets) Digest(purpose string) hash.Hash {
	return hmac.New(sha256.New, s.derive("digest/1/"+purpose))
}

// Fingerprint tells whether this is the master with which data was written, and reveals nothing of it. A
// ledger keeps it: under another master the same customer would count twice.
func (s *Secrets) Fingerprint() [32]byte { return [32]byte(s.derive("fingerprint/1")) }

// Format writes a fixed word under every verb, so that no log line can hold the master.
func (s *Secrets) Format(w fmt.State, _ rune) { _, _ = w.Write([]byte("secrets(withheld)")) }

// fromMaster derives the keys that are used once per row.
func fromMaster(master [masterBytes]byte) *Secrets {
	s := &Secrets{master: master}
	s.customers = newSipKey(s.derive("pseudonym/1"))
	s.rows = newSipKey(s.derive("row-pseudonym/1"))
	return s
}

func newSipKey(b []byte) sipKey {
	return sipKey{k0: binary.LittleEndian.Uint64(b), k1: binary.LittleEndian.Uint64(b[8:])}
}

// derive is the first block of HKDF-Expand with SHA-256 (RFC 5869, section 2.3). The master is uniform, so
// there is nothing to extract; unlike crypto/hkdf it cannot fail.
func (s *Secrets) derive(info string) []byte {
	mac := hmac.New(sha256.New, s.master[:])
	mac.Write([]byte("discreet/" + info))
	mac.Write([]byte{1})
	return mac.Sum(nil)
}
