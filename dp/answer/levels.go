package answer

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// levelSums add up what was bounded at the finest level, exactly, for the groups of one coarser level.
type levelSums map[string][]wide

// wide is an integer of 128 bits, two's complement: a sum that never wraps.
type wide struct{ high, low uint64 }

func (w *wide) add(v int64) {
	var carry uint64
	w.low, carry = bits.Add64(w.low, uint64(v), 0)
	w.high += uint64(v>>63) + carry
}

// clamped is the nearest number that gets noise. Clamping moves no two numbers further apart, so that no sensitivity
// grows.
func (w wide) clamped() int64 {
	v := new(big.Int).SetUint64(w.high)
	if int64(w.high) < 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), 64))
	}
	v.Add(v.Lsh(v, 64), new(big.Int).SetUint64(w.low))
	switch most := big.NewInt(largest); {
	case v.Cmp(most) > 0:
		return largest
	case v.Cmp(most.Neg(most)) < 0:
		return -largest
	}
	return v.Int64()
}

func (n *noising) newLevels() {
	for range n.plan.Levels {
		n.levels = append(n.levels, levelSums{})
	}
}

// addUp adds a finest group to the groups of all levels that it falls into.
func (n *noising) addUp(key []string, totals []int64) {
	for level, sums := range n.levels {
		name := strings.Join(n.plan.KeyAt(level, key), "\x00")
		if sums[name] == nil {
			sums[name] = make([]wide, len(totals))
		}
		for i, v := range totals {
			sums[name][i].add(v)
		}
	}
}

// endLevels draws the noise of the coarser levels' groups, in the order of answers.
func (n *noising) endLevels(ctx context.Context) error {
	if len(n.levels) == 0 {
		return nil
	}
	for level, keys := range n.plan.LevelGroups()[1:] {
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("adding noise: %w", err)
			}
			totals := make([]int64, n.plan.Tree.Width())
			for i, sum := range n.levels[level][strings.Join(key, "\x00")] {
				totals[i] = sum.clamped()
			}
			noised := noisedGroup{key: key}
			for i, m := range n.plan.Metrics {
				v, err := n.noise.Add(totals[n.at[m.Columns[0]]], n.plan.Levels[level].Vectors[i].Draw(0))
				if err != nil {
					return fmt.Errorf("noising %s: %w", m.Name, err)
				}
				noised.coordinates = append(noised.coordinates, v)
			}
			n.noised = append(n.noised, noised)
		}
		n.levels[level] = nil
	}
	return nil
}

// reconciled are the figures of all levels, made to add up, in the measure's own unit: the finest, then each level's.
func (f figures) reconciled(keys [][]string, noised [][]int64) []dp.Group {
	p := f.plan
	h := p.Hierarchy()
	sizes := []int{h.Finest}
	for _, l := range h.Levels {
		sizes = append(sizes, l.Cells)
	}
	groups := make([]dp.Group, len(keys))
	at := 0
	for level, size := range sizes {
		for range size {
			groups[at] = dp.Group{Key: keys[at], Level: level, Values: make([]dp.Value, len(p.Metrics))}
			at++
		}
	}
	for i, m := range p.Metrics {
		sds := []float64{m.Vector.Draw(0).SD()}
		for _, l := range p.Levels {
			sds = append(sds, l.Vectors[i].Draw(0).SD())
		}
		drawn, at := make([][]int64, len(sizes)), 0
		for level, size := range sizes {
			for range size {
				drawn[level] = append(drawn[level], noised[at][i])
				at++
			}
		}
		r := mechanism.NewReconciliation(h, sds)
		solved := r.Solve(drawn)
		values := solved.Values
		if p.NonNegative {
			values = r.NonNegative(solved)
		}
		at = 0
		for level, size := range sizes {
			for cell := range size {
				groups[at].Values[i] = f.interval(m, solved.Values[level][cell], values[level][cell], solved.SDs[level][cell])
				at++
			}
		}
	}
	return groups
}

// interval is a reconciled figure in the measure's own unit. Where figures are kept from being negative, the interval is
// that of before, cut at 0, and holds the figure.
func (f figures) interval(m plan.Metric, before, value, sd float64) dp.Value {
	unit := math.Pow10(m.Scale)
	half := mechanism.NormalHalfWidth(sd, f.plan.Confidence)
	low, high := before-half, before+half
	if f.plan.NonNegative {
		low, high = max(0, min(low, value)), max(0, high, value)
	}
	return dp.Value{Value: value / unit, Low: low / unit, High: high / unit, SD: sd / unit}
}
