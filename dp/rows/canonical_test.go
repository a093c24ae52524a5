package rows_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

func TestKeysHaveTheBytesOfNetstrings(t *testing.T) {
	tests := []struct {
		key  []string
		want string
	}{
		{nil, ""}, {[]string{""}, "0:"}, {[]string{"grocery", "2026-01"}, "7:grocery7:2026-01"}, {[]string{"1:a"}, "3:1:a"}, {[]string{"é", ""}, "2:é0:"},
	}
	for _, test := range tests {
		got := rows.AppendKey([]byte("x"), test.key)
		if string(got) != "x"+test.want {
			t.Errorf("%q: got %q, want %q", test.key, got[1:], test.want)
		}
		if back, err := rows.ParseKey(got[1:]); err != nil || !slices.Equal(back, test.key) {
			t.Errorf("%q came back as %q, %v", test.key, back, err)
		}
	}
}

func TestBytesThatAreNoKeyAreRefused(t *testing.T) {
	for _, bad := range []string{":", "1", "1:", "2:a", "01:a", "00:", "-1:a", "+1:a", " 1:a", "1:ab", "99999999999999999999:a", "1a", "0:x", "-"} {
		if key, err := rows.ParseKey([]byte(bad)); err == nil {
			t.Errorf("%q was read as %q", bad, key)
		}
	}
}

func FuzzKeysOfDifferentPartsNeverShareBytes(f *testing.F) {
	f.Add("a", "b", []byte("1:a1:b"))
	f.Add("1:a", "", []byte("01:a"))
	f.Add("", "0:", []byte("3:abc9"))
	f.Fuzz(func(t *testing.T, a, b string, raw []byte) {
		for _, key := range [][]string{{a, b}, {a}, {a + b}, {b, a}, {a, "", b}} {
			if back, err := rows.ParseKey(rows.AppendKey(nil, key)); err != nil || !slices.Equal(back, key) {
				t.Fatalf("%q came back as %q, %v", key, back, err)
			}
		}
		if key, err := rows.ParseKey(raw); err == nil && !bytes.Equal(rows.AppendKey(nil, key), raw) {
			t.Fatalf("%q was accepted though it is not what AppendKey writes", raw)
		}
	})
}

func TestRowsHaveCanonicalBytesInPolicyOrder(t *testing.T) {
	p := &dp.Policy{Dimensions: make([]dp.Dimension, 2), Measures: make([]dp.Measure, 2)}
	row := rows.Row{
		Customer:   42,
		Time:       -1500,
		Dimensions: []rows.Text{text("grocery"), {}},
		Measures:   []rows.Number{{Value: -1250, Valid: true}, {}},
	}
	if got, want := string(rows.AppendRow(nil, p, &row)), "7:grocery-5:-1250-5:-1500"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	other := row
	other.Customer = 43
	if !bytes.Equal(rows.AppendRow(nil, p, &row), rows.AppendRow(nil, p, &other)) {
		t.Error("the customer is part of the bytes")
	}
}

func TestDifferentRowsHaveDifferentBytes(t *testing.T) {
	p := &dp.Policy{Dimensions: make([]dp.Dimension, 2), Measures: make([]dp.Measure, 1)}
	texts := []rows.Text{{}, text(""), text("-"), text("0:"), text("1:-"), text("1")}
	numbers := []rows.Number{{}, {Valid: true}, {Value: -1, Valid: true}, {Value: 1, Valid: true}}
	seen := map[string]rows.Row{}
	for _, a := range texts {
		for _, b := range texts {
			for _, n := range numbers {
				for _, ms := range []int64{0, 1, -1} {
					row := rows.Row{Time: ms, Dimensions: []rows.Text{a, b}, Measures: []rows.Number{n}}
					key := string(rows.AppendRow(nil, p, &row))
					if before, found := seen[key]; found {
						t.Fatalf("%+v and %+v share %q", before, row, key)
					}
					seen[key] = row
				}
			}
		}
	}
}
