// Package durable makes names durable. To sync a file makes its bytes outlive a power cut, but not the name under
// which they are found: that is a directory's content, and has to be synced there (fsync(2); Pillai et al., "All
// File Systems Are Not Created Equal", OSDI 2014). It also holds files against other processes. It never looks into a file.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// ErrHeld says that another process holds a file.
var ErrHeld = errors.New("another process holds it")

// MakeDir makes a directory where there is none, and the directories that it lies in, for this user alone
// (0700). It returns once their names are durable.
func MakeDir(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	var missing []string // from path upwards
	for at := path; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil || !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		missing = append(missing, at)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	if len(missing) == 0 {
		// It may have been made just before a crash. Whoever may not look above it did not make it.
		if err := SyncDir(filepath.Dir(path)); !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	}
	for _, made := range missing {
		if err := SyncDir(filepath.Dir(made)); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir returns once the names in a directory are durable.
func SyncDir(path string) error {
	if runtime.GOOS == "windows" { // where directories cannot be synced
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing a directory: %w", err)
	}
	return nil
}
