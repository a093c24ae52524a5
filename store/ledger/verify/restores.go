package verify

import (
	"crypto/sha256"
	"time"
)

type restoreRecord struct {
	At      time.Time
	Backup  string
	Created time.Time
	Length  uint64
	Head    []byte
	Program string
}

// restore replays that the ledger was restored from a backup: the first entry since says so, whose mark is that of the
// entry before.
func (s *step) restore() (restored bool, err error) {
	for _, w := range s.of(kindRestore) {
		r, err := putOnce[restoreRecord](s, w, whole)
		if err != nil {
			return false, err
		}
		_, suffix, err := split(w.key)
		if err != nil {
			return false, err
		}
		s.count.Restores++
		switch {
		case number(suffix) != uint64(s.count.Restores):
			return false, misfitf("the numbers of restores do not count up by one")
		case r.Length != s.entry.number-1 || len(r.Head) != sha256.Size || string(r.Head) != string(s.entry.previous[:]):
			return false, misfitf("a restore names another mark than the ledger had before it")
		case r.Backup == "" || r.Program == "" || r.At.IsZero() || r.Created.IsZero():
			return false, misfitf("a restore does not say what was restored, when, or by which version")
		}
		restored = true
	}
	return restored, nil
}
