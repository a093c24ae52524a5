package verify

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/store/archive"
)

// stated is the guarantee of a ledger as package archive writes it.
func (f *fixture) stated() string {
	f.t.Helper()
	s, err := f.Snapshot(f.t.Context())
	f.must(err)
	defer s.Close()
	g, err := archive.Guaranteed(s.Record(f.t.Context()))
	f.must(err)
	text, err := json.MarshalIndent(g, "", " ")
	f.must(err)
	return string(text) + "\n"
}

// same tells of the first line in which two texts differ.
func same(t testing.TB, what, got, want string) {
	t.Helper()
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("%s differs in line %d:\n%s\nand not\n%s", what, i+1, strings.Join(a[max(0, i-12):min(len(a), i+6)], "\n"), strings.Join(b[max(0, i-12):min(len(b), i+6)], "\n"))
		}
	}
	if len(a) != len(b) {
		t.Fatalf("%s has %d lines and not %d", what, len(a), len(b))
	}
}

func TestWorstCaseOfRandomLedgersIsThatOfTheServer(t *testing.T) {
	for seed := range uint64(max(1, 2/thin)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(t, 100+seed)
			for range 120 {
				h.step()
			}
			want := h.stated()
			h.close()
			g := fits(t, h.dir, Options{Witness: h.witness, WorstCase: true}).Guarantee
			got, err := g.JSON()
			h.must(err)
			same(t, "what the verifier works out", string(got), want)
		})
	}
}
