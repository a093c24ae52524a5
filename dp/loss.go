package dp

import (
	"math"
	"strconv"
	"strings"
)

// Loss is what one release costs, in both certificates under which accounts are kept.
// Every part is an integer that was rounded up, so that a sum of losses is never understated.
type Loss struct {
	// Epsilon and Delta are the price in basic composition.
	Epsilon Epsilon
	Delta   Delta
	// Rho and DeltaZ are the price in approximate zero-concentrated differential privacy;
	// Rho is RhoUnknown where no finite bound is proved.
	Rho    Rho
	DeltaZ Delta
}

// Budget is a ceiling on loss: (Epsilon, Delta) as an officer signs it, rounded down.
type Budget struct {
	Epsilon Epsilon
	Delta   Delta
}

// Epsilon is a pure privacy loss in units of 10^-12.
type Epsilon int64

// Delta is a failure probability in units of 10^-18.
type Delta int64

// Rho is a loss of zero-concentrated differential privacy in units of 10^-12.
type Rho int64

// The number of units in one whole epsilon, delta and rho.
const (
	EpsilonOne Epsilon = 1_000_000_000_000
	DeltaOne   Delta   = 1_000_000_000_000_000_000
	RhoOne     Rho     = 1_000_000_000_000
)

// RhoUnknown is the rho of a loss that has no proved bound in zero-concentrated differential privacy.
// Sums that reach it stay there.
const RhoUnknown Rho = math.MaxInt64

// String gives the exact decimal text, without exponent.
func (e Epsilon) String() string { return fixedText(int64(e), 12) }

// String gives the exact decimal text, without exponent.
func (d Delta) String() string { return fixedText(int64(d), 18) }

// String gives the exact decimal text, without exponent, or "unknown".
func (r Rho) String() string {
	if r == RhoUnknown {
		return "unknown"
	}
	return fixedText(int64(r), 12)
}

// fixedText writes units of 10^-places as a decimal number without trailing zeros.
func fixedText(units int64, places int) string {
	text := strconv.FormatInt(units, 10)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	if missing := places + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	whole, fraction := text[:len(text)-places], strings.TrimRight(text[len(text)-places:], "0")
	if fraction == "" {
		return sign + whole
	}
	return sign + whole + "." + fraction
}
