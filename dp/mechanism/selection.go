package mechanism

import (
	"errors"
	"math"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// Selection decides which partitions with private keys are shown: those whose noised number of customers
// is at least Tau. It only ever sees partitions in which bounding kept at least one customer.
type Selection struct {
	Kind       Kind
	Partitions int64 // how many partitions one (customer, block) can touch: the plan's L0
	Epsilon    dp.Epsilon
	Delta      dp.Delta // the whole: of the threshold, and for Gaussian of the noise and its cut
}

// ForSelection is the selection with the smaller threshold that costs at most (e, d): by Laplace noise, or by
// Gaussian unless pure is set. A delta of 0 is an error: no threshold hides a lone customer for sure.
func ForSelection(partitions int64, e dp.Epsilon, d dp.Delta, pure bool) (Selection, error) {
	laplace := Selection{Kind: Laplace, Partitions: partitions, Epsilon: e, Delta: d}
	gaussian := Selection{Kind: Gaussian, Partitions: partitions, Epsilon: e, Delta: d}
	err := laplace.Validate()
	if pure || gaussian.Validate() != nil {
		return laplace, err
	}
	if err != nil || gaussian.Tau() < laplace.Tau() {
		return gaussian, nil
	}
	return laplace, nil
}

// Draw is the parameters of the noise on each partition's number of customers.
func (s Selection) Draw() Draw {
	noiseDelta, _ := s.split()
	return Draw{Kind: s.Kind, L0: s.Partitions, Bound: 1, Epsilon: s.Epsilon, Delta: noiseDelta}
}

// split gives the noise's pair and the threshold their shares of Delta: all of it to the threshold for
// Laplace, half each for Gaussian after its cut is paid.
func (s Selection) split() (noiseDelta, threshold dp.Delta) {
	if s.Kind == Laplace {
		return 0, s.Delta
	}
	rest := s.Delta - cutCost(s.Partitions)
	return rest / 2, rest - rest/2
}

var errSelectionDelta = errors.New("private keys need a delta above 0 and below 1, because a threshold can fail")

// Validate refuses what Draw.Validate refuses, and a delta that leaves nothing for the threshold.
func (s Selection) Validate() error {
	if s.Delta <= 0 || s.Delta >= dp.DeltaOne {
		return errSelectionDelta
	}
	if _, threshold := s.split(); threshold <= 0 {
		return errSelectionDelta
	}
	return s.Draw().Validate()
}

// Tau is the least integer, at least 2, with Partitions * P(noise >= Tau - 3/2) <= the threshold's share of
// Delta, under the sampler's own law: a partition of one customer has 1 + round(noise) >= Tau exactly if
// noise >= Tau - 3/2. It is the largest number, which shows nothing, for an invalid selection.
func (s Selection) Tau() int64 {
	law, err := s.Draw().law()
	_, threshold := s.split()
	if err != nil || threshold <= 0 {
		return math.MaxInt64
	}
	limit := deltaFloat(threshold)
	partitions := float64(s.Partitions)
	safe := func(tau int64) bool { return partitions*law.atLeast(float64(tau)-1.5) <= limit }
	unsafe, safeAt := int64(1), int64(2)
	for !safe(safeAt) { // ends: tails reach 0 long before 2^52, up to which tau-3/2 is exact
		unsafe, safeAt = safeAt, safeAt*2
		if safeAt > 1<<52 {
			return math.MaxInt64
		}
	}
	for safeAt-unsafe > 1 {
		if middle := unsafe + (safeAt-unsafe)/2; safe(middle) {
			safeAt = middle
		} else {
			unsafe = middle
		}
	}
	return safeAt
}

// Loss is the price of showing the selected partitions together with their noised numbers of customers; an
// unbounded price for an invalid selection.
func (s Selection) Loss() dp.Loss {
	counts := Vector{Kind: s.Kind, Partitions: s.Partitions, Bounds: []int64{1}, Epsilon: s.Epsilon, Delta: s.Draw().Delta}
	if s.Validate() != nil {
		return Vector{}.Loss()
	}
	_, threshold := s.split()
	return accounting.Add(counts.Loss(), dp.Loss{Delta: threshold, DeltaZ: threshold})
}

// KeepProbability is the chance that a partition of so many customers is shown.
func (s Selection) KeepProbability(customers int64) float64 {
	law, err := s.Draw().law()
	if err != nil {
		return 0
	}
	v := float64(s.Tau()) - float64(customers) - 0.5
	if v > 0 {
		return law.atLeast(v)
	}
	return 1 - law.atLeast(-v) // samples are symmetric around 0
}
