package main

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// size is a number of bytes, as flags give it: 512MiB, 2GiB, or a plain number of bytes.
type size int64

// UnmarshalText reads a size, which is at least a MiB.
func (s *size) UnmarshalText(text []byte) error {
	number, unit := string(text), int64(1)
	for suffix, bytes := range map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40} {
		if before, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = before, bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/unit || n*unit < 1<<20 {
		return errors.New("a size is a whole number with MiB, GiB or TiB, such as 512MiB, or of bytes, and at least 1MiB")
	}
	*s = size(n * unit)
	return nil
}
