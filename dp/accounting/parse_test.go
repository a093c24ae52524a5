package accounting

import (
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

func TestDecimalTextIsReadExactly(t *testing.T) {
	for _, c := range []struct {
		text     string
		up, down dp.Epsilon
	}{
		{"0", 0, 0},
		{"0.1", 100_000_000_000, 100_000_000_000},
		{"1", dp.EpsilonOne, dp.EpsilonOne},
		{"001.50", dp.EpsilonOne * 3 / 2, dp.EpsilonOne * 3 / 2},
		{".5", dp.EpsilonOne / 2, dp.EpsilonOne / 2},
		{"5.", dp.EpsilonOne * 5, dp.EpsilonOne * 5},
		{"2.5e-3", dp.EpsilonOne / 400, dp.EpsilonOne / 400},
		{"25E-4", dp.EpsilonOne / 400, dp.EpsilonOne / 400},
		{"1e+2", dp.EpsilonOne * 100, dp.EpsilonOne * 100},
		{"1e-12", 1, 1},
		{"1e-13", 1, 0},
		{"1e-400", 1, 0},
		{"0e-400", 0, 0},
		{"0.1000000000001", 100_000_000_001, 100_000_000_000},
		{"0.3000000000000000000000000000000000001", 300_000_000_001, 300_000_000_000},
		{"1000000", 1_000_000 * dp.EpsilonOne, 1_000_000 * dp.EpsilonOne},
	} {
		for r, want := range map[Rounding]dp.Epsilon{Up: c.up, Down: c.down} {
			if got, err := ParseEpsilon(c.text, r); err != nil || got != want {
				t.Errorf("%q rounded %d is %d, %v; want %d", c.text, r, got, err, want)
			}
		}
	}
	if d, err := ParseDelta("1", Up); err != nil || d != dp.DeltaOne {
		t.Errorf("a delta of 1 is %v, %v", d, err)
	}
	if d, err := ParseDelta("1e-18", Down); err != nil || d != 1 {
		t.Errorf("a delta of one unit is %v, %v", d, err)
	}
	if r, err := ParseRho("0.5", Up); err != nil || r != dp.RhoOne/2 {
		t.Errorf("a rho of a half is %v, %v", r, err)
	}
}

func TestParsedTextAgreesWithRationals(t *testing.T) {
	random := rand.New(rand.NewPCG(17, 18))
	for range 5000 {
		text := strconv.FormatInt(random.Int64N(1_000_000), 10) + "." + strconv.FormatUint(random.Uint64(), 10) +
			"e-" + strconv.Itoa(random.IntN(20))
		exact, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatal(text)
		}
		exact.Mul(exact, big.NewRat(int64(dp.EpsilonOne), 1))
		floor := new(big.Int).Quo(exact.Num(), exact.Denom()).Int64()
		ceiling := floor
		if !exact.IsInt() {
			ceiling++
		}
		up, errUp := ParseEpsilon(text, Up)
		down, errDown := ParseEpsilon(text, Down)
		if errUp != nil || errDown != nil || int64(up) != ceiling || int64(down) != floor {
			t.Fatalf("%s is %d up and %d down, want %d and %d", text, up, down, ceiling, floor)
		}
	}
}

func TestWhatIsNoDecimalNumberIsRefused(t *testing.T) {
	for _, text := range []string{
		"", ".", "e", "e5", "1e", "1e+", "-1", "+1", "-0", "NaN", "nan", "Inf", "infinity", "0x10", "0x1p-2", "1_000", "1,5",
		" 1", "1 ", "1.2.3", "1e1.5", "1e2e3", "1e401", "1e-401", "1e99999999999999999999", "١", "1.000001e6", "1e7", "9e400",
		strings.Repeat("0", 65),
	} {
		_, err := ParseEpsilon(text, Up)
		if err == nil {
			t.Errorf("%q was read", text)
			continue
		}
		if len(text) > 3 && strings.Contains(err.Error(), text) {
			t.Errorf("the error for %q echoes it: %v", text, err)
		}
	}
	for _, text := range []string{"1.000000000000000001", "1.0000000000000000001", "2"} {
		if _, err := ParseDelta(text, Up); err == nil {
			t.Errorf("delta %s was read", text)
		}
	}
}

func FuzzParseNeverPanics(f *testing.F) {
	for _, text := range []string{"0.1", "1e-400", "1e400", "..", "e", "999999.9999999999999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		up, errUp := ParseEpsilon(text, Up)
		down, errDown := ParseEpsilon(text, Down)
		if (errUp == nil) != (errDown == nil) && errDown != nil {
			t.Errorf("%q reads up but not down", text)
		}
		if errUp == nil && (up < down || up > down+1 || down < 0) {
			t.Errorf("%q is %d up and %d down", text, up, down)
		}
	})
}
