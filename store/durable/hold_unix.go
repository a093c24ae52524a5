//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"
)

// Hold holds a file or a directory against other processes until it is closed, however the process ends. Where
// another one holds it, the error is ErrHeld; where the system has no such lock, errors.ErrUnsupported.
func Hold(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrHeld
	}
	return err
}
