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

func TestSuggestedBoundsAreOfTheMeasuresSize(t *testing.T) {
	for _, c := range []struct {
		value, unit float64
		lowest      bool
		want        float64
	}{
		{0.0123, 0.0001, false, 0.013}, {0.0123, 0.01, false, 0.02}, {0.7, 0.01, false, 0.7}, {0, 0.01, false, 0}, {7, 0.01, false, 7}, {7.01, 0.01, false, 7.1},
		{471, 1, false, 480}, {470, 1, false, 470}, {3, 1, false, 3}, {2.2, 1, false, 3}, {-3.14, 0.01, false, -3.1}, {-3.14, 0.01, true, -3.2}, {3.14, 0.01, true, 3.1},
	} {
		if got := roundedUp(c.value, c.unit, c.lowest); got != c.want {
			t.Errorf("%v in units of %v, lowest %v: %v, want %v", c.value, c.unit, c.lowest, got, c.want)
		}
	}
}

// A fee is far below 1, and customers pay more of it in all than the clamp in force lets count; what a discount is at most,
// the clamp hides.
func TestSuggestionsSayWhatTheClampHidesAndWhatWiderOnesCost(t *testing.T) {
	h := newHarness(t, exact{})
	h.apply(strings.Replace(shopPolicy, "  - {name: amount, scale: 2, lower: 0, upper: 100, kind: flow}\n",
		"  - {name: fee, scale: 4, lower: 0, upper: 0.5, kind: flow}\n  - {name: discount, scale: 2, lower: 0, upper: 1, kind: flow}\nmetrics:\n  - {name: fees, aggregate: sum, measure: fee, lower: 0, upper: 0.02}\n", 1))
	team, custodian := h.hire("team", "product", "product-analytics"), h.hire("warehouse", "custodian")
	h.allot("team", "shop", "3", "5e-10")
	var text strings.Builder
	text.WriteString("customer,at,category,city,fee,discount\n")
	for i := range 5000 {
		for n := range 4 {
			fmt.Fprintf(&text, "c%d,2026-01-%02d,grocery,Ulm,0.01%02d,7\n", i, 1+n, i%40)
		}
	}
	h.must(custodian, "load", "shop", h.file("fees.csv", text.String()), "--from", "2026-01-01", "--to", "2026-01-31")
	var got struct {
		Bounds []struct {
			Bound     string
			Suggested float64
			Clear     bool
		}
		Noise []struct {
			Metric     string
			WithinNow  float64 `json:"within_now"`
			WithinThen float64 `json:"within_then"`
		}
	}
	arguments := []string{"dataset", "suggest", "shop", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--epsilon", "1", "--cover", "0.9"}
	h.mustJSON(&got, team, arguments...)
	for _, b := range got.Bounds {
		want := map[string][2]float64{"max_rows": {4, 4}, "fee upper": {0.0135, 0.015}, "sum of fee upper": {0.05, 0.07}, "discount upper": {0.99, 1}, "sum of discount upper": {5, 5}}[b.Bound]
		if !b.Clear || b.Suggested < want[0] || b.Suggested > want[1] {
			t.Errorf("%s is suggested as %v (clear: %v), want %v", b.Bound, b.Suggested, b.Clear, want)
		}
	}
	// The sum of fees is clamped at 0.02: what covers it makes the noise as many times as large.
	if len(got.Bounds) != 5 || len(got.Noise) != 1 || got.Noise[0].WithinThen < 2.4*got.Noise[0].WithinNow || got.Noise[0].WithinThen > 3.6*got.Noise[0].WithinNow {
		t.Errorf("got %+v", got)
	}
	printed := h.must(team, arguments...)
	if !strings.Contains(printed, "clamped     discount upper, sum of discount upper:") {
		t.Errorf("printed %s", printed)
	}
}
