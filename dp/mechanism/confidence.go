package mechanism

import (
	"errors"
	"strconv"
)

// Confidence is how often an interval covers the exact figure that was noised, from 0.5 to 0.999.
type Confidence float64

// DefaultConfidence is what a query gets that does not say.
const DefaultConfidence Confidence = 0.95

// ParseConfidence reads a confidence from decimal text; the error never echoes it.
func ParseConfidence(text string) (Confidence, error) {
	errRange := errors.New("must be a decimal number from 0.5 to 0.999, such as 0.95")
	for _, c := range text {
		if (c < '0' || c > '9') && c != '.' {
			return 0, errRange
		}
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || len(text) > 20 || !(value >= 0.5 && value <= 0.999) {
		return 0, errRange
	}
	return Confidence(value), nil
}

// String is the shortest decimal text, the same for every spelling of a number.
func (c Confidence) String() string { return strconv.FormatFloat(float64(c), 'g', -1, 64) }

// Miss is the chance that the interval does not cover.
func (c Confidence) Miss() float64 { return 1 - float64(c) }
