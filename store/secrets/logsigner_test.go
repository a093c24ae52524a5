package secrets

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func TestNotesOfTheLogSignerAreVerifiedUnderItsKeyAlone(t *testing.T) {
	dir := t.TempDir()
	signer := func(s *Secrets, name string) *LogSigner {
		t.Helper()
		l, err := s.LogSigner(name)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	mine := signer(open(t, dir), "discreet/1f")
	signed, err := note.Sign(&note.Note{Text: "discreet/1f\n1\nroot\n"}, mine)
	if err != nil {
		t.Fatal(err)
	}
	opened := func(l *LogSigner, signed []byte) error {
		v, err := note.NewVerifier(l.Verifier())
		if err != nil {
			t.Fatal(err)
		}
		_, err = note.Open(signed, note.VerifierList(v))
		return err
	}
	if err := opened(signer(open(t, dir), "discreet/1f"), signed); err != nil {
		t.Fatalf("after reopening: %v", err)
	}
	for why, other := range map[string]*LogSigner{
		"another log's": signer(open(t, dir), "discreet/20"), "another installation's": signer(open(t, t.TempDir()), "discreet/1f"),
	} {
		if opened(other, signed) == nil {
			t.Errorf("the note is verified under %s key", why)
		}
	}
	if opened(mine, []byte(strings.Replace(string(signed), "\n1\n", "\n2\n", 1))) == nil {
		t.Error("a changed note is verified")
	}
	if _, err := open(t, dir).LogSigner("a name"); err == nil {
		t.Error("a name that no key can have is taken")
	}
	for _, printed := range []string{fmt.Sprint(mine), fmt.Sprintf("%+v", mine), fmt.Sprintf("%#v", *mine)} {
		if strings.Contains(printed, "key") || len(printed) > 100 && !strings.Contains(printed, "withheld") {
			t.Errorf("printed as %s", printed)
		}
	}
}
