package plan

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// price chooses mechanism and parameters of every metric and of selection, and adds up what they cost. Every
// touched block is charged the whole sum: one (customer, block) can change every part.
func (p *Plan) price(q question, ceilings []dp.Budget) error {
	pure := q.delta == 0
	most := dp.Epsilon(mechanism.MaxEpsilon)
	for _, c := range ceilings {
		pure = pure || c.Delta == 0
		most = min(most, c.Epsilon)
	}
	if p.GroupsMayBeHidden && pure {
		return refuseAt("by", "has a private key, which needs a delta above 0 in the query, the policy's default and every budget: leave the key out, ask with a delta, or ask an officer for a budget with one")
	}

	if len(p.Levels) > 0 {
		return p.priceLevels(q, pure)
	}
	parts := p.parts()
	epsilons, deltas := p.shares(q, parts)
	for i, part := range parts {
		if err := p.priceOne(part, q, epsilons[i], deltas[i], pure, most); err != nil {
			return err
		}
	}
	for i := range p.Metrics {
		m := &p.Metrics[i]
		if m.Drawn < 0 {
			m.SD, m.Within = -1, -1 // it depends on the metrics that it is read from
			continue
		}
		if m.Drawn != i {
			m.Vector = p.Metrics[m.Drawn].Vector
			m.SD, m.Within = p.expect(*m, m.Vector)
			continue
		}
		if err := m.Vector.Validate(); err != nil {
			return priceRefused(m.Name, err)
		}
		m.SD, m.Within = p.expect(*m, m.Vector)
	}
	if p.Selection != nil {
		if err := p.Selection.Validate(); err != nil {
			return priceRefused("selection", err)
		}
	}
	p.priceReaches()
	return nil
}

// part is something that is priced: the metric at index, or selection where index is -1. Where customers is
// asked without conditions of its own, its draw and selection's are one.
type part struct {
	index    int
	selector bool
}

func (p *Plan) parts() []part {
	var parts []part
	shared := false
	for i, m := range p.Metrics {
		if m.Drawn != i {
			continue
		}
		selects := p.GroupsMayBeHidden && m.Aggregate == dp.Customers && len(m.Tests) == 0 && !shared
		shared = shared || selects
		parts = append(parts, part{index: i, selector: selects})
	}
	if p.GroupsMayBeHidden && !shared {
		parts = append(parts, part{index: -1, selector: true})
	}
	return parts
}

// shares splits epsilon and delta equally; the last part takes what division leaves, so that the parts add
// up to what was asked. Where accuracy is asked for, a part without one gets the policy's default.
func (p *Plan) shares(q question, parts []part) ([]dp.Epsilon, []dp.Delta) {
	n := int64(len(parts))
	epsilons, deltas := make([]dp.Epsilon, n), make([]dp.Delta, n)
	for i := range parts {
		epsilons[i] = q.epsilon / dp.Epsilon(n)
		deltas[i] = q.delta / dp.Delta(n)
	}
	epsilons[n-1] += q.epsilon % dp.Epsilon(n)
	deltas[n-1] += q.delta % dp.Delta(n)
	if len(q.within) > 0 {
		for i := range epsilons {
			epsilons[i] = p.Policy.Default.Epsilon
		}
	}
	return epsilons, deltas
}

// priceOne chooses the mechanism of one part.
func (p *Plan) priceOne(part part, q question, e dp.Epsilon, d dp.Delta, pure bool, most dp.Epsilon) error {
	partitions := p.counted(p.mostTimes())
	if part.index < 0 {
		s, err := mechanism.ForSelection(partitions, e, d, pure)
		if err != nil {
			return priceRefused("selection", err)
		}
		p.Selection = &s
		return nil
	}
	m := &p.Metrics[part.index]
	asked := p.targets(part.index, q)
	switch {
	case part.selector:
		s, err := p.selector(m, asked, e, d, pure, most)
		if err != nil {
			return err
		}
		p.Selection, p.SelectedBy = &s, part.index
		noise := s.Draw()
		m.Vector = mechanism.Vector{Kind: s.Kind, Partitions: partitions, Bounds: []int64{1}, Epsilon: noise.Epsilon, Delta: noise.Delta}
	case len(asked) > 0:
		v, err := p.accurate(m, asked, d, pure, most)
		if err != nil {
			return err
		}
		m.Vector = v
	default:
		// At one confidence for all: another one, asked later, must not lead to another draw.
		v, err := mechanism.ForLoss(p.bounds(*m), e, d, pure, mechanism.DefaultConfidence)
		if err != nil {
			return priceRefused(m.Name, err)
		}
		m.Vector = v
	}
	return nil
}

// selector prices the customers metric whose draw also selects the groups that are shown.
func (p *Plan) selector(m *Metric, asked []target, e dp.Epsilon, d dp.Delta, pure bool, most dp.Epsilon) (mechanism.Selection, error) {
	partitions := p.counted(p.mostTimes())
	if len(asked) > 0 {
		// The noise gets half of the part's delta, as selection splits it.
		v, err := p.accurate(m, asked, d/2, pure, most)
		if err != nil {
			return mechanism.Selection{}, err
		}
		s := mechanism.Selection{Kind: v.Kind, Partitions: partitions, Epsilon: v.Epsilon, Delta: d}
		return s, nil
	}
	s, err := mechanism.ForSelection(partitions, e, d, pure)
	if err != nil {
		return mechanism.Selection{}, priceRefused(m.Name, err)
	}
	return s, nil
}

// target is how exact a metric was asked to be.
type target struct {
	metric Metric
	within float64 // half-width in its own unit
}

// targets are those of the metrics that are read from the draw of one.
func (p *Plan) targets(drawn int, q question) (all []target) {
	for _, m := range p.Metrics {
		if within, ok := q.within[m.Name]; ok && m.Drawn == drawn {
			all = append(all, target{m, within})
		}
	}
	return all
}

// accurate finds the least loss at which every target is met.
func (p *Plan) accurate(m *Metric, asked []target, d dp.Delta, pure bool, most dp.Epsilon) (mechanism.Vector, error) {
	// How many times as wide as asked the widest interval is.
	widest := func(v mechanism.Vector) (times float64) {
		for _, t := range asked {
			_, within := p.expect(t.metric, v)
			times = max(times, within/t.within)
		}
		return times
	}
	v, best, err := mechanism.ForHalfWidth(p.bounds(*m), widest, 1, d, pure, most)
	if errors.Is(err, mechanism.ErrUnattainable) {
		unattainable := &dp.Error{Code: dp.CodeAccuracyUnattainable, Best: make(map[string]float64)}
		names := make([]string, len(asked))
		for i, t := range asked {
			names[i], unattainable.Best[t.metric.Name] = t.metric.Name, best*t.within
		}
		unattainable.Message = fmt.Sprintf("%s cannot be answered that exactly within the budgets in force: ask for a wider interval, fewer groups or a smaller max_partitions", strings.Join(names, " and "))
		return v, unattainable
	}
	if err != nil {
		return v, priceRefused(m.Name, err)
	}
	return v, nil
}

// expect states the noise of a metric in its own unit, were it drawn with v.
func (p *Plan) expect(m Metric, v mechanism.Vector) (sd, within float64) {
	unit := math.Pow10(m.Scale)
	n := max(1, float64(p.Policy.Population)/float64(max(1, p.groups.groups)))
	switch m.Aggregate {
	case dp.Mean:
		return mechanism.ExpectedMeanSD(v, m.Lower, m.Upper, n) / unit, mechanism.ExpectedMeanHalfWidth(v, m.Lower, m.Upper, n, p.Confidence) / unit
	case dp.Variance:
		return mechanism.ExpectedVarianceSD(v, m.Lower, m.Upper, n) / unit / unit, mechanism.ExpectedVarianceHalfWidth(v, m.Lower, m.Upper, n, p.Confidence) / unit / unit
	case dp.StdDev:
		// To first order, of values spread evenly over the clamp.
		twice := 2 * float64(difference(m.Upper, m.Lower)) / math.Sqrt(12)
		return mechanism.ExpectedVarianceSD(v, m.Lower, m.Upper, n) / twice / unit, mechanism.ExpectedVarianceHalfWidth(v, m.Lower, m.Upper, n, p.Confidence) / twice / unit
	case dp.Quantile, dp.Min, dp.Max:
		q, err := mechanism.NewQuantile(m.Tree, v, m.Lower, m.Upper, p.Tree.Columns[m.Columns[0]].BinWidth, m.Rank, p.Confidence)
		if err != nil {
			return 0, math.Inf(1) // Validate says why
		}
		return q.ExpectedSD(n) / unit, q.ExpectedHalfWidth(n) / unit
	}
	draw := v.Draw(0)
	return draw.SD() / unit, float64(draw.HalfWidth(p.Confidence)) / unit
}

// checkPrice keeps the asker's own ceiling.
func (p *Plan) checkPrice(q question) error {
	loss := p.MostLoss()
	if q.spendAtMost == nil || loss.Epsilon <= *q.spendAtMost {
		return nil
	}
	return &dp.Error{
		Code:     dp.CodeConflict,
		Message:  fmt.Sprintf("this costs epsilon %s, more than spend_at_most allows: raise it or ask for less", loss.Epsilon),
		Required: &loss,
	}
}

// priceRefused wraps what dp/mechanism said of parameters that follow from the query.
func priceRefused(what string, err error) error {
	return &dp.Error{
		Code:      dp.CodeInvalidQuery,
		Message:   "the query cannot be priced: change what its locations name",
		Locations: []dp.Location{{Path: what, Message: err.Error()}},
		Err:       err,
	}
}

// refuseAt is a refusal with one location.
func refuseAt(path, message string) error {
	return &dp.Error{Code: dp.CodeInvalidQuery, Message: "the query is not valid: change what its locations name", Locations: []dp.Location{{Path: path, Message: message}}}
}
