package bounding

import (
	"math"
	"math/bits"
)

// Total is a sum of 64-bit integers in 128 bits, two's complement. No sum of fewer than 2^63 of them overflows.
type Total struct {
	high int64
	low  uint64
}

// Add adds an integer.
func (t *Total) Add(v int64) { t.AddTotal(Total{v >> 63, uint64(v)}) }

func (t *Total) subtract(v int64) {
	low, borrow := bits.Sub64(t.low, uint64(v), 0)
	t.low = low
	t.high -= v>>63 + int64(borrow)
}

// Words gives the total as two's complement, for engines that keep it on disk.
func (t *Total) Words() (high int64, low uint64) { return t.high, t.low }

// TotalOf is the total of such words.
func TotalOf(high int64, low uint64) Total { return Total{high, low} }

// AddTotal adds another total.
func (t *Total) AddTotal(o Total) {
	low, carry := bits.Add64(t.low, o.low, 0)
	t.low = low
	t.high += o.high + int64(carry)
}

// AddCentred adds 2x-lower-upper of the clamped x. The difference of the bounds may need 65 bits.
func (t *Total) AddCentred(x, lower, upper int64) {
	x = clamp(x, lower, upper)
	t.Add(x)
	t.subtract(lower)
	t.Add(x)
	t.subtract(upper)
}

// Clamped is the sum, or where it lies outside of lower..upper, the nearer end.
func (t *Total) Clamped(lower, upper int64) int64 {
	if fits := t.high == int64(t.low)>>63; fits {
		return clamp(int64(t.low), lower, upper)
	}
	if t.high < 0 {
		return lower
	}
	return upper
}

// Int64 is the total, or the nearer end of what 64 bits hold.
func (t *Total) Int64() int64 { return t.Clamped(math.MinInt64, math.MaxInt64) }

func clamp(v, lower, upper int64) int64 { return max(lower, min(v, upper)) }
