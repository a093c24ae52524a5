package secrets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dchest/siphash"
)

func TestReopenedSecretsAreTheSame(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	first := open(t, dir)
	second := open(t, dir)
	if first.Pseudonym("a customer") != second.Pseudonym("a customer") ||
		first.RowPseudonym(1, 2, "d") != second.RowPseudonym(1, 2, "d") ||
		!bytes.Equal(first.Salt("d"), second.Salt("d")) || first.Fingerprint() != second.Fingerprint() {
		t.Fatal("reopening changed what is derived")
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || info.Size() != int64(fileBytes) {
		t.Fatalf("file has mode %v and %d bytes", info.Mode(), info.Size())
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Fatalf("directory holds %d files, %v", len(left), err)
	}
}

func TestEveryInstallationHasItsOwnMaster(t *testing.T) {
	a, b := open(t, t.TempDir()), open(t, t.TempDir())
	if a.Pseudonym("x") == b.Pseudonym("x") || bytes.Equal(a.Salt("d"), b.Salt("d")) || a.Fingerprint() == b.Fingerprint() {
		t.Fatal("two installations share keys")
	}
}

func TestDerivedKeysAreSeparate(t *testing.T) {
	s := open(t, t.TempDir())
	if bytes.Equal(s.Salt("a"), s.Salt("b")) || len(s.Salt("a")) != SaltBytes {
		t.Fatal("salts of two datasets are equal, or of the wrong length")
	}
	// A row's pseudonym must differ from the customer's of the same bytes, and in each of its parts.
	seen := map[uint64]string{}
	for name, p := range map[string]uint64{
		"row 1 1 d": s.RowPseudonym(1, 1, "d"), "row 1 2 d": s.RowPseudonym(1, 2, "d"),
		"row 2 1 d": s.RowPseudonym(2, 1, "d"), "row 1 1 e": s.RowPseudonym(1, 1, "e"),
		"customer with the row's bytes": s.Pseudonym("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01d"),
		"no customer":                   s.Pseudonym(""),
	} {
		if other, ok := seen[p]; ok {
			t.Fatalf("%s and %s share a pseudonym", name, other)
		}
		seen[p] = name
	}
	content, other := s.ContentDigest(), s.Digest("another purpose")
	content.Write([]byte("rows"))
	other.Write([]byte("rows"))
	if bytes.Equal(content.Sum(nil), other.Sum(nil)) {
		t.Fatal("digests of two purposes are equal")
	}
	again := s.ContentDigest()
	again.Write([]byte("ro"))
	again.Write([]byte("ws"))
	if !bytes.Equal(content.Sum(nil), again.Sum(nil)) {
		t.Fatal("a digest depends on how its content was split")
	}
}

// The vector is that of the SipHash paper, appendix A: key 00..0f, message 00..0e.
func TestPseudonymIsSipHash24(t *testing.T) {
	key := make([]byte, 16)
	message := make([]byte, 15)
	for i := range key {
		key[i] = byte(i)
	}
	for i := range message {
		message[i] = byte(i)
	}
	s := &Secrets{customers: newSipKey(key)}
	if got := s.Pseudonym(string(message)); got != 0xa129ca6149be45e5 {
		t.Fatalf("got %016x", got)
	}
	if siphash.Hash(0, 0, message) == s.Pseudonym(string(message)) {
		t.Fatal("the key has no influence")
	}
}

func TestSpoiltFileIsRefusedWithAdvice(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, path string)
		says  string
	}{
		"readable by others": {func(t *testing.T, p string) { check(t, os.Chmod(p, 0o640)) }, "chmod 600"},
		"cut":                {func(t *testing.T, p string) { check(t, os.Truncate(p, 40)) }, "backup"},
		"empty":              {func(t *testing.T, p string) { check(t, os.Truncate(p, 0)) }, "backup"},
		"one bit flipped":    {func(t *testing.T, p string) { flip(t, p, len(magic)+3) }, "checksum"},
		"another version":    {func(t *testing.T, p string) { flip(t, p, len(magic)-1) }, "version"},
		"a directory": {func(t *testing.T, p string) {
			check(t, os.Remove(p))
			check(t, os.Mkdir(p, 0o700))
		}, "regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			open(t, dir)
			path := filepath.Join(dir, FileName)
			c.spoil(t, path)
			before, _ := os.ReadFile(path)
			_, err := Open(dir)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want %q", err, c.says)
			}
			after, _ := os.ReadFile(path)
			if !bytes.Equal(before, after) {
				t.Fatal("the refused file was changed")
			}
		})
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	s := open(t, t.TempDir())
	encoded, err := json.Marshal(map[string]any{"secrets": s})
	check(t, err)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %s %d %x", s, s, s, s, s), string(encoded),
		fmt.Sprintf("%+v", struct{ S *Secrets }{s})} {
		for _, form := range []string{fmt.Sprintf("%x", s.master[:4]), fmt.Sprint(s.customers.k0), fmt.Sprint(s.master[:2])[1:5]} {
			if strings.Contains(text, form) {
				t.Fatalf("printed a key: %d characters", len(text))
			}
		}
	}
}

func TestTwoThatCreateAtOnceShareOneMaster(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	prints := make([][32]byte, 16)
	failures := make([]error, len(prints))
	for i := range prints {
		group.Go(func() {
			s, err := Open(dir)
			if err != nil {
				failures[i] = err
				return
			}
			prints[i] = s.Fingerprint()
		})
	}
	group.Wait()
	check(t, errors.Join(failures...))
	for _, p := range prints {
		if p != prints[0] {
			t.Fatal("two masters came into being")
		}
	}
}

func open(t *testing.T, dir string) *Secrets {
	t.Helper()
	s, err := Open(dir)
	check(t, err)
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	data[at] ^= 1
	check(t, os.WriteFile(path, data, 0o600))
}
