package main

import (
	"fmt"
	"strings"
	"testing"
)

// Of 10,000 customers one in a hundred has twelve rows of 20 in all three categories, the others one or two rows of up to 7
// in one: bounds that cover 90 % need no more than the others have.
func TestSuggestedBoundsCoverWhatTheyShould(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	var text strings.Builder
	text.WriteString("customer,at,category,city,amount\n")
	for i := range 9900 {
		for n := range 1 + i%2 {
			fmt.Fprintf(&text, "c%d,2026-01-%02d,grocery,Ulm,%d\n", i, 1+n, 1+i%7)
		}
	}
	for n := range 1200 {
		fmt.Fprintf(&text, "heavy%d,2026-01-%02d,%s,Ulm,20\n", n/12, 1+n%12, []string{"grocery", "travel", "pets"}[n%3])
	}
	h.must(custodian, "load", "shop", h.file("suggest.csv", text.String()), "--from", "2026-01-01", "--to", "2026-01-31")
	var got struct {
		Bounds []struct {
			Bound          string
			Now, Suggested float64
		}
		Noise []struct {
			Metric     string
			WithinNow  float64 `json:"within_now"`
			WithinThen float64 `json:"within_then"`
		}
	}
	arguments := []string{"dataset", "suggest", "shop", "--by", "category", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--epsilon", "1.4", "--cover", "0.9"}
	h.mustJSON(&got, team, arguments...)
	suggested := map[string]float64{}
	for _, b := range got.Bounds {
		suggested[b.Bound] = b.Suggested
	}
	// A tree's bin is what it can tell apart: 0.1 of an amount, 0.49 of a sum of five.
	for bound, want := range map[string][2]float64{"max_partitions": {1, 1}, "max_rows": {2, 2}, "amount upper": {6, 8}, "sum of amount upper": {10, 15}} {
		if v := suggested[bound]; v < want[0] || v > want[1] {
			t.Errorf("%s is suggested as %v, want %v", bound, v, want)
		}
	}
	if len(suggested) != 4 || len(got.Noise) != 1 || got.Noise[0].WithinThen >= got.Noise[0].WithinNow/2 {
		t.Errorf("got %+v", got)
	}
	if printed := h.must(team, arguments...); !strings.Contains(printed, "max_partitions") || !strings.Contains(printed, "nothing was changed") {
		t.Errorf("printed %s", printed)
	}
	for _, cover := range []string{"1", "0.3", "most"} {
		if r := h.run(team, append(arguments[:len(arguments)-1:len(arguments)-1], cover)...); r.code != 2 || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("--cover %s: %+v", cover, r)
		}
	}
}
