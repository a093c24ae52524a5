package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Scratch is a file for what one call needs and nobody after it. Where the system allows, it loses its name before
// anything is written to it, so that nothing of it is left however the process ends; else when it is closed.
type Scratch struct {
	*os.File
	name string // to remove; empty: it has none any more
}

// NewScratch makes a file in dir, which it makes where it is missing, readable by the owner alone; empty: the system's.
// The pattern is that of os.CreateTemp.
func NewScratch(dir, pattern string) (*Scratch, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	file, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	s := &Scratch{File: file}
	if os.Remove(file.Name()) != nil {
		s.name = file.Name() // some systems remove a file only once it is closed
	}
	return s, nil
}

// Close gives the file's room back.
func (s *Scratch) Close() error {
	err := s.File.Close()
	if s.name != "" {
		err = errors.Join(err, os.Remove(s.name))
	}
	return err
}

// Empty removes what is in a directory of scratch files, as a process left it that died where they keep their names.
func Empty(dir string) error {
	left, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for scratch files: %w", err)
	}
	for _, file := range left {
		if err := os.RemoveAll(filepath.Join(dir, file.Name())); err != nil {
			return fmt.Errorf("removing a scratch file: %w", err)
		}
	}
	return nil
}
