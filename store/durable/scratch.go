package durable

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Scratch is a file for what one call needs and nobody after it. Where the system allows, it loses its name before
// anything is written to it, so that nothing of it is left however the process ends; else when it is closed. What is
// written is encrypted with a key that the process alone has and that ends with the file (AES-256 in counter mode): it may
// be rows, and the disk's sectors outlive names. One goroutine writes; any may read what was written.
type Scratch struct {
	file *os.File
	name string // to remove; empty: it has none any more
	aes  cipher.Block
	end  int64 // where the next byte goes
	buf  []byte
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
	var key [32]byte
	_, _ = rand.Read(key[:]) // it never fails
	block, err := aes.NewCipher(key[:])
	if err != nil { // the key has a length that AES has
		panic(err)
	}
	s := &Scratch{file: file, aes: block}
	if os.Remove(file.Name()) != nil {
		s.name = file.Name() // some systems remove a file only once it is closed
	}
	return s, nil
}

// mostEncrypted is how much is encrypted at once.
const mostEncrypted = 64 << 10

// Write appends.
func (s *Scratch) Write(p []byte) (written int, err error) {
	if s.buf == nil {
		s.buf = make([]byte, mostEncrypted)
	}
	for len(p) > 0 && err == nil {
		n := min(len(p), len(s.buf))
		s.stream(s.end).XORKeyStream(s.buf[:n], p[:n])
		n, err = s.file.Write(s.buf[:n])
		written, s.end, p = written+n, s.end+int64(n), p[n:]
	}
	return written, err
}

// ReadAt reads what was written.
func (s *Scratch) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.file.ReadAt(p, off)
	if n > 0 {
		s.stream(off).XORKeyStream(p[:n], p[:n])
	}
	return n, err
}

// stream is the key stream from a byte of the file on. No two bytes of it have the same, and the key is of this file alone.
func (s *Scratch) stream(from int64) cipher.Stream {
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(from/aes.BlockSize))
	stream := cipher.NewCTR(s.aes, counter[:])
	var skipped [aes.BlockSize]byte
	stream.XORKeyStream(skipped[:from%aes.BlockSize], skipped[:from%aes.BlockSize])
	return stream
}

// Close gives the file's room back.
func (s *Scratch) Close() error {
	err := s.file.Close()
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
