package durable

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func TestScratchLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scratch")
	s, err := NewScratch(dir, "one-*")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("text")); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 4)
	if _, err := s.ReadAt(text, 0); err != nil || string(text) != "text" {
		t.Errorf("read %q, %v", text, err)
	}
	named, err := os.CreateTemp(dir, "two-*") // as where an open file cannot be removed
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Scratch{s, {file: named, name: named.Name()}} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestEmptyRemovesWhatADeadProcessLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scratch")
	if err := Empty(dir); err != nil {
		t.Errorf("where there is none: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "folder", "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "spool-1"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Empty(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestScratchIsReadAsItWasWrittenAndLiesEncrypted(t *testing.T) {
	s, err := NewScratch(t.TempDir(), "one-*")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	random := rand.New(rand.NewPCG(1, 2))
	var whole []byte
	for len(whole) < 300_000 {
		part := bytes.Repeat([]byte("a customer's row;"), 9000)[:1+random.IntN(100_000)]
		if n, err := s.Write(part); err != nil || n != len(part) {
			t.Fatalf("%d, %v", n, err)
		}
		whole = append(whole, part...)
	}
	for range 500 {
		from := random.IntN(len(whole))
		part := make([]byte, 1+random.IntN(len(whole)-from))
		if _, err := s.ReadAt(part, int64(from)); err != nil || !bytes.Equal(part, whole[from:from+len(part)]) {
			t.Fatalf("%d bytes from %d on are others: %v", len(part), from, err)
		}
	}
	stored := make([]byte, len(whole))
	if _, err := s.file.ReadAt(stored, 0); err != nil || bytes.Contains(stored, []byte("customer")) {
		t.Errorf("it lies in plain: %v", err)
	}
	if n, err := s.ReadAt(make([]byte, 10), int64(len(whole))); n != 0 || err != io.EOF {
		t.Errorf("beyond the end: %d, %v", n, err)
	}
}
