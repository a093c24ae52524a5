package rows

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// MaxScale is the largest number of decimal places of a measure.
const MaxScale = 9

// maxNumberLength bounds the text of a number, in bytes. It is far beyond what any writer of numbers
// makes (a float64 written out in full has 309 digits), and bounds the work per value.
const maxNumberLength = 400

// The ways in which the text of a number is refused. None of them repeats the text.
var (
	errNotDecimal  = errors.New("not a decimal number: write digits with an optional sign, point and exponent, such as -12.50 or 1e3")
	errNotInteger  = errors.New("not a whole number: write digits with an optional sign, such as 26")
	errNotExact    = errors.New("more decimal places than the scale")
	errOutOfRange  = errors.New("number out of range for 64-bit fixed point")
	errLongNumber  = errors.New("number longer than 400 characters")
	errScale       = errors.New("scale must be 0 to 9 decimal places")
	errEmptyNumber = errors.New("empty number")
)

// rounding says what becomes of digits beyond the scale.
type rounding int

const (
	halfEven rounding = iota // to the nearest, halves to even
	floor                    // towards minus infinity
	exact                    // refused
)

// ParseDecimal reads decimal text as an integer of 10^-scale units; scale is 0 to MaxScale. A sign and an
// exponent are optional; decimals beyond the scale are rounded half to even. What is not a decimal number
// (empty, hexadecimal, NaN, infinity, underscores, spaces) and what does not fit into 64 bits is refused,
// by errors that never hold the text.
func ParseDecimal(text string, scale int) (int64, error) {
	if scale < 0 || scale > MaxScale {
		return 0, errScale
	}
	return parseDecimal(text, scale, halfEven)
}

// ParseExact is ParseDecimal for numbers that a person declares, such as bounds: decimals beyond the scale
// are refused instead of rounded.
func ParseExact(text string, scale int) (int64, error) {
	if scale < 0 || scale > MaxScale {
		return 0, errScale
	}
	v, err := parseDecimal(text, scale, exact)
	if errors.Is(err, errNotExact) {
		return 0, fmt.Errorf("more than %d decimal places, which is the scale", scale)
	}
	return v, err
}

// ParseInt reads the value of an int dimension. Whole numbers written with decimals or exponent, as
// spreadsheets do ("26.0", "1e3"), are whole numbers; others are refused.
func ParseInt(text string) (int64, error) {
	v, err := parseDecimal(text, 0, exact)
	if errors.Is(err, errNotExact) || errors.Is(err, errNotDecimal) {
		return 0, errNotInteger
	}
	return v, err
}

// CanonicalInt is the text that an int dimension holds for text: "26" for "026.0", "0" for "-0".
func CanonicalInt(text string) (string, error) {
	v, err := ParseInt(text)
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(v, 10), nil
}

// FormatDecimal writes v units of 10^-scale as decimal text without trailing zeros of the fraction.
// ParseDecimal reads it back exactly.
func FormatDecimal(v int64, scale int) string {
	text := strconv.FormatInt(v, 10)
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	if missing := scale + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	whole, fraction := text[:len(text)-scale], strings.TrimRight(text[len(text)-scale:], "0")
	if fraction == "" {
		return sign + whole
	}
	return sign + whole + "." + fraction
}

// parseDecimal works on the digits themselves: no binary fraction is ever formed, so that what is
// written as .5 is a half.
func parseDecimal(text string, scale int, round rounding) (int64, error) {
	n, err := scanNumber(text)
	if err != nil {
		return 0, err
	}
	if n.digits == "" {
		return 0, nil
	}
	// The value is 0.digits * 10^point, hence the units are the first point+scale digits.
	kept := n.point + scale
	if kept > 19 { // digits starts with a non-zero digit, so this is at least 10^19
		return 0, errOutOfRange
	}
	whole, rest := "", n.digits
	switch {
	case kept >= len(n.digits):
		whole, rest = n.digits+strings.Repeat("0", kept-len(n.digits)), ""
	case kept > 0:
		whole, rest = n.digits[:kept], n.digits[kept:]
	}
	if rest != "" && round == exact {
		return 0, errNotExact
	}
	var units uint64 // 19 digits fit
	for i := range len(whole) {
		units = units*10 + uint64(whole[i]-'0')
	}
	if rest != "" && roundsAway(units, rest, kept, n.negative, round) {
		units++
	}
	switch {
	case n.negative && units <= 1<<63:
		return -int64(units), nil // -int64(1<<63) wraps to itself, which is right
	case !n.negative && units <= math.MaxInt64:
		return int64(units), nil
	}
	return 0, errOutOfRange
}

// roundsAway says whether dropping rest (digits without trailing zeros, so not nothing) adds a unit to
// the magnitude. Below kept 0 there are zeros between the point and rest.
func roundsAway(units uint64, rest string, kept int, negative bool, round rounding) bool {
	if round == floor {
		return negative
	}
	if kept < 0 || rest[0] < '5' {
		return false
	}
	if rest == "5" {
		return units%2 == 1
	}
	return true
}

// number is 0.digits * 10^point; digits neither starts nor ends with 0, and is empty for zero.
type number struct {
	negative bool
	digits   string
	point    int
}

func scanNumber(text string) (number, error) {
	var n number
	if text == "" {
		return n, errEmptyNumber
	}
	if len(text) > maxNumberLength {
		return n, errLongNumber
	}
	if text[0] == '+' || text[0] == '-' {
		n.negative = text[0] == '-'
		text = text[1:]
	}
	mantissa, exponent := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		var err error
		if exponent, err = scanExponent(text[i+1:]); err != nil {
			return n, err
		}
		mantissa = text[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	if digits == "" {
		return n, errNotDecimal
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return n, errNotDecimal
		}
	}
	significant := strings.TrimLeft(digits, "0")
	n.point = len(whole) + exponent - (len(digits) - len(significant))
	n.digits = strings.TrimRight(significant, "0")
	return n, nil
}

// scanExponent reads an optional sign and digits. Beyond what any number of maxNumberLength can make up
// for, it saturates: the number is zero or out of range either way.
func scanExponent(text string) (int, error) {
	negative := false
	if text != "" && (text[0] == '+' || text[0] == '-') {
		negative = text[0] == '-'
		text = text[1:]
	}
	if text == "" {
		return 0, errNotDecimal
	}
	const saturated = 100 * maxNumberLength
	exponent := 0
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, errNotDecimal
		}
		exponent = min(exponent*10+int(text[i]-'0'), saturated)
	}
	if negative {
		exponent = -exponent
	}
	return exponent, nil
}
