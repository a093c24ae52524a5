package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/archive"
)

// What an auditor exports is checked without the server, under a key that was got before, against a checkpoint of before;
// and its guarantee is what the server says.
func TestExportIsVerifiedWithoutTheServer(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	before := h.file("before", "")
	kept := mustCheckpoint(h)
	if err := os.WriteFile(before, []byte(kept.Note), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := []string{"query", "shop", "spend", "--by", "category", "--from", "2026-01-01", "--to", "2026-02-28", "--purpose", "product-analytics"}
	h.must(team, ask...)
	h.must(team, "query", "shop", "customers", "--by", "category", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--epsilon", "0.2")

	auditor := h.hire("eve", dp.Auditor)
	path := filepath.Join(t.TempDir(), "shop.tar")
	h.must(auditor, "audit", "export", path)
	if r := h.run(team, "audit", "export", filepath.Join(t.TempDir(), "none")); r.code == exitDone {
		t.Error("a team exports the log")
	}

	var got exportedView
	h.mustJSON(&got, "", "verify", "--export", path, "--log-key", kept.Key, "--checkpoint", before, "--worst-case")
	if !got.Fits || !got.Pinned || !got.Privacy || len(got.Extends) != 1 || got.Extends[0] != kept.Size || got.Charges != 2 || got.Releases != 2 || got.Policies != 1 {
		t.Errorf("verified %+v", got)
	}
	var served wire.WorstCase
	h.mustJSON(&served, h.officer, "budget", "worst-case", "shop")
	if want, have := servedFigures(served), statedFigures(t, got); !reflect.DeepEqual(want, have) {
		t.Errorf("the server states\n%v\nand the export\n%v", want, have)
	}
	text := h.must("", "verify", "--export", path)
	for _, says := range []string{"Everything fits.", "compare discreet/", "guarantee   recomputed"} {
		if !strings.Contains(text, says) {
			t.Errorf("verify says nothing of %q:\n%s", says, text)
		}
	}

	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)-1000] },
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
	} {
		bad := h.file(name, string(change([]byte(string(whole)))))
		if r := h.run("", "verify", "--export", bad); r.code != exitFailed || !strings.Contains(r.stderr, "does not fit") {
			t.Errorf("%s: exit %d, %s", name, r.code, r.stderr)
		}
	}
	for _, wrong := range [][]string{{"verify"}, {"verify", "--export", path, "--data", "x"}, {"verify", "--export", path, "--witness", "x"}, {"verify", "--export", path, "--checkpoint", "none"}} {
		if r := h.run("", wrong...); r.code != exitUsage {
			t.Errorf("%v: exit %d, %s", wrong, r.code, r.stderr)
		}
	}
	// Against another key, nothing is proved.
	if r := h.run("", "verify", "--export", path, "--log-key", strings.Replace(kept.Key, "+", "+0", 1)); r.code != exitFailed {
		t.Errorf("under another key: exit %d, %s", r.code, r.stderr)
	}
}

// figure is a number of a worst case, by what it is of.
type figure struct{ who, what, scope string }

func servedFigures(w wire.WorstCase) map[figure]string {
	out := map[figure]string{}
	for _, o := range w.Owners {
		for _, p := range o.Promises {
			out[figure{o.Consumer, "promise", p.Scope}] = strings.Join([]string{string(p.Epsilon), string(p.Delta)}, " ")
		}
		for _, s := range o.Spent {
			out[figure{o.Consumer, "spent", s.Scope}] = strings.Join([]string{s.Name, s.By, string(s.Epsilon), string(s.Basic.Epsilon), string(s.Basic.Delta), string(s.Zero.Rho), string(s.Zero.DeltaZ), string(s.Zero.Epsilon), string(s.Zero.Delta)}, " ")
		}
	}
	return out
}

func statedFigures(t *testing.T, v exportedView) map[figure]string {
	t.Helper()
	text, err := v.Worst.JSON()
	if err != nil {
		t.Fatal(err)
	}
	g, err := archive.ParseGuarantee(text)
	if err != nil {
		t.Fatal(err)
	}
	out := map[figure]string{}
	for _, o := range g.Datasets[0].Owners {
		for _, p := range o.Promises {
			out[figure{o.Consumer, "promise", p.Scope}] = p.Epsilon + " " + p.Delta
		}
		for _, s := range o.Spent {
			zero := archive.Amount{}
			if s.Zero != nil {
				zero = *s.Zero
			}
			out[figure{o.Consumer, "spent", s.Scope}] = strings.Join([]string{s.Name, s.By, s.Epsilon, s.Basic.Epsilon, s.Basic.Delta, s.Rho, s.DeltaZ, zero.Epsilon, zero.Delta}, " ")
		}
	}
	return out
}
