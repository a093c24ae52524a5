package accounting

import (
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
)

// Rounding says to which side a decimal text goes that has more places than a unit.
type Rounding int

// Charges round up and budgets down.
const (
	Up Rounding = iota
	Down
)

const (
	maxDigits   = 64  // of a decimal text, exponent included
	maxExponent = 400 // either way
	maxWhole    = 1_000_000
)

// ParseEpsilon reads an epsilon from decimal text such as 0.1 or 2.5e-3, exactly, and rounds it to units of
// 10^-12. The error says what is wrong in words that follow a field's name, and never echoes the text.
func ParseEpsilon(text string, r Rounding) (dp.Epsilon, error) {
	n, err := parse(text, 12, maxWhole, r)
	return dp.Epsilon(n), err
}

// ParseDelta reads a delta of at most 1, rounded to units of 10^-18. See ParseEpsilon.
func ParseDelta(text string, r Rounding) (dp.Delta, error) {
	n, err := parse(text, 18, 1, r)
	return dp.Delta(n), err
}

// ParseRho reads a rho, rounded to units of 10^-12. See ParseEpsilon.
func ParseRho(text string, r Rounding) (dp.Rho, error) {
	n, err := parse(text, 12, maxWhole, r)
	return dp.Rho(n), err
}

// parse gives text times 10^places as an integer. No float is involved: 0.1 is a tenth.
func parse(text string, places int, most int64, r Rounding) (int64, error) {
	digits, exponent, err := decimal(text)
	if err != nil {
		return 0, err
	}
	units, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return 0, errNotDecimal
	}
	shift := exponent + places
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(shift, -shift))), nil)
	if shift >= 0 {
		units.Mul(units, power)
	} else {
		rest := new(big.Int)
		units.QuoRem(units, power, rest)
		if r == Up && rest.Sign() > 0 {
			units.Add(units, big.NewInt(1))
		}
	}
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil)
	limit.Mul(limit, big.NewInt(most))
	if units.Cmp(limit) > 0 {
		return 0, fmt.Errorf("must be at most %d", most)
	}
	return units.Int64(), nil
}

var errNotDecimal = errors.New("must be a number in decimal digits that is not negative, such as 0.1 or 1e-9")

// decimal splits text into digits and the power of ten that they count.
func decimal(text string) (digits string, exponent int, err error) {
	if len(text) > maxDigits {
		return "", 0, fmt.Errorf("must have at most %d characters", maxDigits)
	}
	mantissa, power, scientific := strings.Cut(strings.ToLower(text), "e")
	if scientific {
		if exponent, err = parseExponent(power); err != nil {
			return "", 0, err
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits = whole + fraction
	if digits == "" || !onlyDigits(digits) {
		return "", 0, errNotDecimal
	}
	return digits, exponent - len(fraction), nil
}

func parseExponent(text string) (int, error) {
	sign := 1
	switch {
	case strings.HasPrefix(text, "-"):
		sign, text = -1, text[1:]
	case strings.HasPrefix(text, "+"):
		text = text[1:]
	}
	if text == "" || !onlyDigits(text) {
		return 0, errNotDecimal
	}
	n := 0
	for _, c := range text {
		if n = n*10 + int(c-'0'); n > maxExponent {
			return 0, fmt.Errorf("must have an exponent between -%d and %d", maxExponent, maxExponent)
		}
	}
	return sign * n, nil
}

func onlyDigits(text string) bool {
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
