package rows_test

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp/rows"
)

func TestDecimalsAreReadAsFixedPointHalfToEven(t *testing.T) {
	tests := []struct {
		text  string
		scale int
		want  int64
	}{
		{"0", 0, 0}, {"-0", 2, 0}, {"+0.000", 2, 0}, {"000", 9, 0},
		{"12", 0, 12}, {"+12", 2, 1200}, {"-12.5", 2, -1250}, {"007", 0, 7},
		{".5", 1, 5}, {"5.", 1, 50}, {"-.25", 2, -25},
		{"1e3", 0, 1000}, {"1E3", 2, 100000}, {"1.5e+2", 0, 150}, {"25e-1", 1, 25}, {"0e99999999999999999999", 0, 0},
		{"0.5", 0, 0}, {"1.5", 0, 2}, {"2.5", 0, 2}, {"-0.5", 0, 0}, {"-1.5", 0, -2}, {"-2.5", 0, -2},
		{"2.5000000000000000000000001", 0, 3}, {"2.4999999999999999999999999", 0, 2},
		{"3.8600000001", 2, 386}, {"0.005", 2, 0}, {"0.015", 2, 2}, {"0.0150", 2, 2}, {"0.05", 0, 0}, {"0.9", 0, 1},
		{"0.0000000005", 9, 0}, {"0.0000000015", 9, 2}, {"9e-10", 9, 1}, {"9e-11", 9, 0}, {"1e-400", 9, 0},
		{"9223372036854775807", 0, math.MaxInt64}, {"-9223372036854775808", 0, math.MinInt64},
		{"9223372036854775807.4", 0, math.MaxInt64}, {"-9223372036854775808.5", 0, math.MinInt64},
		{"92233720368547758.07", 2, math.MaxInt64}, {"9.223372036854775807e18", 0, math.MaxInt64},
		{"1" + strings.Repeat("0", 300) + "e-300", 0, 1}, {"0." + strings.Repeat("0", 300) + "1e301", 0, 1},
	}
	for _, test := range tests {
		got, err := rows.ParseDecimal(test.text, test.scale)
		if err != nil || got != test.want {
			t.Errorf("ParseDecimal(%q, %d) = %d, %v; want %d", test.text, test.scale, got, err, test.want)
		}
	}
}

func TestWhatIsNoDecimalIsRefusedWithoutEcho(t *testing.T) {
	for _, text := range []string{
		"", "-", "+", ".", "e5", "1e", "1e+", "--1", "+-1", "1-", "1.2.3", "1e2.5", "1e5e5", "1_000", "1,5", " 1", "1 ", "1\n",
		"0x1F", "1p3", "NaN", "nan", "inf", "-Inf", "Infinity", "١٢", "½", "1\x00",
		"9223372036854775808", "-9223372036854775809", "9223372036854775807.5", "-9223372036854775808.6", "1e19", "1e9999999999999999999999",
		"18446744073709551616", "99999999999999999999", strings.Repeat("0", 401),
	} {
		_, err := rows.ParseDecimal(text, 0)
		if err == nil {
			t.Errorf("ParseDecimal(%q) was accepted", text)
		} else if len(text) > 3 && strings.Contains(err.Error(), text) {
			t.Errorf("the error echoes the value: %v", err)
		}
	}
	for _, scale := range []int{-1, 10} {
		if _, err := rows.ParseDecimal("1", scale); err == nil {
			t.Errorf("scale %d was accepted", scale)
		}
	}
	if _, err := rows.ParseDecimal("9223372036854775807", 1); err == nil {
		t.Error("a number that overflows at its scale was accepted")
	}
}

func TestDeclaredNumbersAreNotRounded(t *testing.T) {
	if got, err := rows.ParseExact("1.50", 1); err != nil || got != 15 {
		t.Errorf("got %d, %v", got, err)
	}
	if _, err := rows.ParseExact("1.55", 1); err == nil || !strings.Contains(err.Error(), "1 decimal place") {
		t.Errorf("got %v", err)
	}
	if _, err := rows.ParseExact("1", 10); err == nil {
		t.Error("scale 10 was accepted")
	}
}

func TestIntsAreWholeNumbersInOneForm(t *testing.T) {
	for text, want := range map[string]string{
		"26": "26", "026": "26", "+26": "26", "-3": "-3", "-0": "0", "26.0": "26", "26.": "26", "2.6e1": "26", "-9223372036854775808": "-9223372036854775808",
	} {
		if got, err := rows.CanonicalInt(text); err != nil || got != want {
			t.Errorf("CanonicalInt(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "26.5", "1e-1", "x", "0x1A", "9223372036854775808"} {
		if _, err := rows.CanonicalInt(text); err == nil {
			t.Errorf("CanonicalInt(%q) was accepted", text)
		}
	}
}

func TestFormattedDecimalsTrimTheFraction(t *testing.T) {
	tests := []struct {
		v     int64
		scale int
		want  string
	}{
		{0, 0, "0"}, {0, 9, "0"}, {150, 2, "1.5"}, {100, 2, "1"}, {1000, 0, "1000"}, {-5, 2, "-0.05"}, {-105, 2, "-1.05"},
		{math.MaxInt64, 9, "9223372036.854775807"}, {math.MinInt64, 0, "-9223372036854775808"}, {math.MinInt64, 9, "-9223372036.854775808"},
	}
	for _, test := range tests {
		if got := rows.FormatDecimal(test.v, test.scale); got != test.want {
			t.Errorf("FormatDecimal(%d, %d) = %q, want %q", test.v, test.scale, got, test.want)
		}
	}
}

// FuzzParseDecimal holds ParseDecimal against exact rationals.
func FuzzParseDecimal(f *testing.F) {
	for _, text := range []string{"1.5", "-2.5e0", "1e-9", "0.0000000005", "92233720368547758.07", "1_0", "0x1p-2", "1e400", ".", "-", "1e", "9223372036854775807.5"} {
		f.Add(text, 2)
	}
	f.Fuzz(func(t *testing.T, text string, scale int) {
		got, err := rows.ParseDecimal(text, scale)
		if err != nil {
			if len(text) > 8 && strings.Contains(err.Error(), text) {
				t.Errorf("the error echoes the value: %v", err)
			}
			return
		}
		if again, err := rows.ParseDecimal(rows.FormatDecimal(got, scale), scale); err != nil || again != got {
			t.Fatalf("formatted and read again: %d, %v; want %d", again, err, got)
		}
		if i := strings.IndexAny(text, "eE"); i >= 0 && len(strings.TrimLeft(text[i+1:], "+-0")) > 3 {
			return // too large for the rational below
		}
		want, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("accepted %q, which is no number", text)
		}
		want.Mul(want, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
		distance := new(big.Rat).Sub(want, new(big.Rat).SetInt64(got))
		half := distance.Abs(distance).Cmp(big.NewRat(1, 2))
		if half > 0 || (half == 0 && got%2 != 0) {
			t.Fatalf("ParseDecimal(%q, %d) = %d, which is not the nearest", text, scale, got)
		}
	})
}
