package durable

import (
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
	if _, err := s.WriteString("text"); err != nil {
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
	for _, s := range []*Scratch{s, {File: named, name: named.Name()}} {
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
