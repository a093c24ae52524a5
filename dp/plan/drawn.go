package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// errNotDrawn says that a release does not tell of what it is a draw, as those of earlier versions do not, or that its
// levels were reconciled: their figures are no draws of their own.
var errNotDrawn = errors.New("the release does not say how it was drawn")

// Drawn is the plan that a release is the draw of, from what the release says of itself (its figures are not looked at)
// and the policy of the version that it was drawn under. The plan can be read, which is to say that its metrics, groups,
// bounds and laws of noise are those of the draw: its identity is the release's. It has no canonical text, purpose,
// accuracy or confidence, which are the asker's; of the metrics that it adds up or counts it has the SD. others are the
// policies of the other datasets that the release was drawn from, of the versions that it names.
func Drawn(r dp.Release, policy dp.VersionedPolicy, others ...dp.VersionedPolicy) (*Plan, error) {
	q, err := readDrawn(r, policy, others)
	if err != nil {
		return nil, err
	}
	location, err := rows.Location(&policy.Policy)
	if err != nil {
		return nil, fmt.Errorf("finding the time zone of dataset %s: %w", policy.Name, err)
	}
	shape := q.shape(policy.Policy)
	p := &Plan{Policy: policy, Blocks: q.blocks, SelectedBy: -1, GroupsMayBeHidden: q.private(), groups: shape, asked: q, Loss: r.Privacy.Loss, Also: r.Charge.Also}
	p.Tree = tree(q, shape, location)
	if err := p.reach(q, math.MaxInt); err != nil {
		return nil, err
	}
	p.addMetrics(q)
	if err := p.noise(r.Privacy); err != nil {
		return nil, err
	}
	p.Notes = notes(p)
	if err := p.identify(q); err != nil {
		return nil, err
	}
	p.Canonical = nil
	p.asked.folds = newFolds(&p.Policy.Policy) // plans of releases are kept, and large ones need not be
	if p.ID != r.Plan || string(p.Question) != r.CanonicalQuery {
		return nil, errNotDrawn
	}
	return p, nil
}

// readDrawn reads the canonical question of a release.
func readDrawn(r dp.Release, policy dp.VersionedPolicy, others []dp.VersionedPolicy) (question, error) {
	var text canonicalQuestion
	d := json.NewDecoder(strings.NewReader(r.CanonicalQuery))
	d.DisallowUnknownFields()
	if d.Decode(&text) != nil || text.Dataset != policy.Name || r.PolicyVersion != policy.Version || r.Privacy.Noise == nil || len(text.Reconcile) > 0 {
		return question{}, errNotDrawn
	}
	asked := dp.Query{Dataset: text.Dataset, By: text.By, From: text.From, To: text.To}
	for _, t := range text.Where {
		asked.Where = append(asked.Where, t.condition())
	}
	if err := text.addProfile(&asked, others); err != nil {
		return question{}, err
	}
	// What was drawn was within some limits, perhaps not today's.
	const any = math.MaxInt32
	reader := &reader{query: asked, policy: &policy.Policy, version: policy.Version, others: others, limits: Limits{Keys: any, Conditions: any, Values: any, Blocks: any}}
	q := question{folds: reader.folded(), dataset: text.Dataset, block: policy.Unit.Block, maxPartitions: r.Privacy.MaxPartitions, rows: r.Privacy.MaxRows}
	reader.readRange(&q)
	q.tests = reader.readTests()
	q.keys = reader.readKeys(q)
	for _, m := range text.Metrics {
		metric, err := reader.drawnMetric(m)
		if err != nil {
			return question{}, err
		}
		for _, part := range m.Of {
			if !slices.ContainsFunc(text.Metrics, func(other canonicalMetric) bool { return other.Name == part }) {
				return question{}, errNotDrawn
			}
		}
		q.metrics = append(q.metrics, metric)
	}
	reader.readProfile(&q)
	if reader.refusal() != nil || q.private() != r.GroupsMayBeHidden {
		return question{}, errNotDrawn
	}
	return q, nil
}

// noise gives every metric, and selection, the noise that a release says it was drawn with.
func (p *Plan) noise(drawn dp.Privacy) error {
	if selection, ok := drawn.Noise[SelectionName]; ok && p.GroupsMayBeHidden {
		p.Selection = &mechanism.Selection{
			Kind: mechanism.Kind(drawn.Mechanism[SelectionName]), Partitions: p.counted(p.mostTimes()), Epsilon: selection.Epsilon, Delta: selection.Delta,
		}
	}
	for i := range p.Metrics {
		m := &p.Metrics[i]
		if m.Drawn < 0 {
			continue
		}
		noise, ok := drawn.Noise[m.Name]
		if !ok {
			return errNotDrawn
		}
		m.Vector = p.bounds(p.Metrics[m.Drawn])
		m.Vector.Kind, m.Vector.Epsilon, m.Vector.Delta = mechanism.Kind(drawn.Mechanism[m.Name]), noise.Epsilon, noise.Delta
		if m.Aggregate == dp.Customers && len(m.Tests) == 0 && p.Selection != nil && p.SelectedBy < 0 {
			p.SelectedBy = i
		}
		if err := m.Vector.Validate(); err != nil {
			return fmt.Errorf("reading how a release was drawn: %w", err)
		}
		m.SD = m.Vector.Draw(0).SD() / math.Pow10(m.Scale)
	}
	return nil
}

// condition is a test as a query writes it.
func (t canonicalTest) condition() dp.Condition {
	c := dp.Condition{Field: t.Field, In: t.In, NotIn: t.NotIn}
	if t.None {
		c.In = []string{}
	}
	if t.Gte != "" {
		c.Gte = &t.Gte
	}
	if t.Lte != "" {
		c.Lte = &t.Lte
	}
	return c
}

// drawnMetric resolves a metric as it was drawn, by whatever name the policy or a query had for it.
func (r *reader) drawnMetric(m canonicalMetric) (askedMetric, error) {
	a := askedMetric{name: m.Name, aggregate: m.Aggregate, measure: -1, rank: m.Rank, parts: m.Of, perDay: m.PerDay}
	if m.Measure != "" {
		a.measure = slices.IndexFunc(r.policy.Measures, func(have dp.Measure) bool { return have.Name == m.Measure })
		if a.measure < 0 {
			return a, errNotDrawn
		}
		a.scale, a.last = r.policy.Measures[a.measure].Scale, r.policy.Measures[a.measure].Level
	}
	switch {
	case m.Per == dp.PerRow:
	case m.Measure != "":
		a.of = ValueTotal
	case len(m.Distinct) == 0:
		a.of = ValueRows
	default:
		a.of, a.distinctNames = ValueDistinct, m.Distinct
		for _, name := range m.Distinct {
			f, ok := r.field("metrics", name)
			if !ok {
				return a, errNotDrawn
			}
			a.distinct = append(a.distinct, f)
		}
	}
	var conditions []dp.Condition
	for _, t := range m.Where {
		conditions = append(conditions, t.condition())
	}
	if tests := r.testsOf("metrics", conditions); len(tests) > 0 {
		a.tests = tests
	}
	if m.Lower == "" && m.Upper == "" {
		return a, nil
	}
	var errLower, errUpper error
	a.lower, errLower = rows.ParseDecimal(m.Lower, a.scale)
	a.upper, errUpper = rows.ParseDecimal(m.Upper, a.scale)
	return a, errors.Join(errLower, errUpper)
}

// Bytes is about how much memory a plan takes, from above: what its question says, the labels of its keys, and each moment
// that they name.
func (p *Plan) Bytes() int {
	const label, moment = 40, 80 // with its string's header; with its place in a map
	size := 4096 + 16*len(p.Question)
	for _, k := range p.keys() {
		size += label * len(k.Domain)
	}
	return size + len(p.groups.times)*(moment+2*label*len(p.groups.calendar)) + label*len(p.Blocks)
}

// addProfile gives the question what was asked about customers.
func (c canonicalQuestion) addProfile(q *dp.Query, others []dp.VersionedPolicy) error {
	conditions := func(tests []canonicalTest) []dp.Condition {
		list := []dp.Condition{}
		for _, t := range tests {
			list = append(list, t.condition())
		}
		return list
	}
	for _, cohort := range c.Cohorts {
		known := cohort.Dataset == c.Dataset || slices.ContainsFunc(others, func(p dp.VersionedPolicy) bool {
			return p.Name == cohort.Dataset && p.Version == cohort.Policy
		})
		if !known {
			return errNotDrawn
		}
		q.Cohorts = append(q.Cohorts, dp.Cohort{
			Dataset: cohort.Dataset, Where: conditions(cohort.Where), From: cohort.From, To: cohort.To, AtLeast: cohort.AtLeast, AtMost: cohort.AtMost,
		})
	}
	if len(c.First) > 0 || c.FirstOfAll {
		q.First = conditions(c.First)
	}
	if c.Funnel != nil {
		q.Funnel = &dp.Funnel{Within: c.Funnel.Within}
		for _, step := range c.Funnel.Steps {
			q.Funnel.Steps = append(q.Funnel.Steps, conditions(step))
		}
	}
	return nil
}
