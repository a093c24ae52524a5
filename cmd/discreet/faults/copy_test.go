package faults

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// site is a ledger's directory and its witness, as files.
type site struct{ dir, witness string }

func newSite(home string) site {
	return site{filepath.Join(home, "ledger"), filepath.Join(home, "witness")}
}

// copyTo copies both to another home, as they are at a moment. The storage engine makes and removes files in the
// background; none of them may change in name meanwhile, or the copy begins again.
func (s site) copyTo(home string) (site, error) {
	to := newSite(home)
	for {
		if err := os.RemoveAll(home); err != nil {
			return site{}, err
		}
		if err := os.MkdirAll(to.dir, 0o700); err != nil {
			return site{}, err
		}
		before, err := namesIn(s.dir)
		if err != nil {
			return site{}, err
		}
		for _, name := range before {
			if err = copyFile(filepath.Join(s.dir, name), filepath.Join(to.dir, name)); err != nil {
				break
			}
		}
		after, listing := namesIn(s.dir)
		switch {
		case listing != nil:
			return site{}, listing
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return site{}, err
		case err == nil && slices.Equal(before, after):
			return to, copyFile(s.witness, to.witness)
		}
	}
}

func namesIn(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Where data and holes begin in a sparse file (lseek(2)). The files of the storage engine are mostly hole.
const (
	seekData = 3
	seekHole = 4
)

// copyFile copies what a file holds and leaves its holes.
func copyFile(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if err := target.Truncate(info.Size()); err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); {
		begin, err := source.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return nil // only hole is left
		}
		if err != nil {
			return err
		}
		end, err := source.Seek(begin, seekHole)
		if errors.Is(err, syscall.ENXIO) {
			return nil // a table that is being made became shorter meanwhile: a crash finds it either way
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(target, begin), io.NewSectionReader(source, begin, end-begin)); err != nil {
			return err
		}
		at = end
	}
	return nil
}
