//go:build unix

package verify

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock keeps others from opening the database in dir for writing until release is called. It is the lock that
// Badger takes: a flock on the directory.
func lock(dir string) (release func() error, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the ledger's directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrServed
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
