package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/store/secrets"
)

// entrySeal encrypts and authenticates the entries of a ledger's chain where they lie. Badger's own encryption, which
// everything else has as well, authenticates nothing; but what the database holds besides follows from the entries, and is
// compared with them whenever the ledger is opened. Chain, tree and digests are over the plain entries. Nil: they lie in
// plain.
type entrySeal struct {
	sealer *secrets.Sealer
	id     ledgerID
}

// sealedEntry begins an entry that is encrypted, where a plain one has entryVersion.
const sealedEntry = 2

// sealFor is what keys are derived for.
const (
	sealEntries  = "entry/1"
	sealWitness  = "witness/1"
	sealRestored = "restored/1"
	sealDatabase = "ledger/1"
)

func newEntrySeal(key *secrets.Key, id ledgerID) *entrySeal {
	if key == nil {
		return nil
	}
	return &entrySeal{key.Sealer(sealEntries), id}
}

// sealEntries has entries sealed for the ledger's id, once that is known.
func (l *Ledger) sealEntries() {
	l.entries = newEntrySeal(l.key, l.id)
	l.exposed.entries = l.entries
}

// place is what an entry is sealed with: no entry passes for that of another number or ledger.
func (s *entrySeal) place(number uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{}, s.id[:]...), number)
}

// seal gives the value of an entry's key.
func (s *entrySeal) seal(number uint64, entry []byte) []byte {
	if s == nil {
		return entry
	}
	return append([]byte{sealedEntry}, s.sealer.Seal(entry, s.place(number))...)
}

// open gives the entry in the value of its key.
func (s *entrySeal) open(number uint64, value []byte) ([]byte, error) {
	if s == nil {
		return value, nil
	}
	if len(value) == 0 || value[0] != sealedEntry {
		return nil, fmt.Errorf("entry %d of the ledger is not encrypted: %w", number, errLost)
	}
	entry, err := s.sealer.Open(value[1:], s.place(number))
	if err != nil {
		return nil, fmt.Errorf("entry %d of the ledger: %w: %w", number, err, errLost)
	}
	return entry, nil
}

// explainKey says what to do where Badger finds another key than the one that is given, or none.
func explainKey(err error, key *secrets.Key) error {
	if !errors.Is(err, badger.ErrEncryptionKeyMismatch) {
		return err
	}
	if key == nil {
		return secrets.ErrEncrypted
	}
	return fmt.Errorf("the ledger's database is not encrypted, or with another key: %w", secrets.ErrOtherKey)
}
