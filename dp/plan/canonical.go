package plan

import (
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// canonicalQuestion is a question as JSON: names and values sorted, decimals in one form, defaults filled in.
type canonicalQuestion struct {
	Dataset       string            `json:"dataset"`
	Metrics       []canonicalMetric `json:"metrics"`
	By            []string          `json:"by,omitempty"`
	Where         []canonicalTest   `json:"where,omitempty"`
	From          string            `json:"from,omitempty"`
	To            string            `json:"to,omitempty"`
	MaxPartitions int64             `json:"max_partitions,omitempty"`
	Epsilon       string            `json:"epsilon,omitempty"`
	Delta         string            `json:"delta,omitempty"`
	Within        map[string]string `json:"within,omitempty"`
	Confidence    string            `json:"confidence,omitempty"`
	Reconcile     [][]string        `json:"reconcile,omitempty"`
	NonNegative   bool              `json:"non_negative,omitempty"`
	Cohorts       []canonicalCohort `json:"cohorts,omitempty"`
	First         []canonicalTest   `json:"first,omitempty"`
	FirstOfAll    bool              `json:"first_of_all,omitempty"` // First has no conditions, but where does not apply
	Funnel        *canonicalFunnel  `json:"funnel,omitempty"`
}

type canonicalCohort struct {
	Dataset string          `json:"dataset"`
	Policy  uint64          `json:"policy_version,omitempty"` // of another dataset
	Where   []canonicalTest `json:"where,omitempty"`
	From    string          `json:"from,omitempty"`
	To      string          `json:"to,omitempty"`
	AtLeast int64           `json:"at_least"`
	AtMost  *int64          `json:"at_most,omitempty"`
}

type canonicalFunnel struct {
	Steps  [][]canonicalTest `json:"steps"`
	Within string            `json:"within,omitempty"`
}

type canonicalMetric struct {
	Name      string          `json:"name"`
	Aggregate dp.Aggregate    `json:"aggregate"`
	Measure   string          `json:"measure,omitempty"`
	Lower     string          `json:"lower,omitempty"`
	Upper     string          `json:"upper,omitempty"`
	Rank      string          `json:"rank,omitempty"`
	PerDay    bool            `json:"per_day,omitempty"`
	Per       dp.Per          `json:"per,omitempty"`
	Distinct  []string        `json:"distinct,omitempty"`
	Where     []canonicalTest `json:"where,omitempty"`
	Of        []string        `json:"of,omitempty"` // metrics: a ratio's numerator and denominator, what a share is of
}

type canonicalTest struct {
	Field string   `json:"field"`
	In    []string `json:"in,omitempty"`
	None  bool     `json:"matches_nothing,omitempty"` // an in-list that is empty
	NotIn []string `json:"not_in,omitempty"`
	Gte   string   `json:"gte,omitempty"`
	Lte   string   `json:"lte,omitempty"`
}

// canonical is the question without its purpose, which says something about the asker and not about the draw
// that others may be handed.
func (q question) canonical(p *dp.Policy) canonicalQuestion {
	c := q.drawn(p)
	c.MaxPartitions = q.maxPartitions
	c.Confidence = q.confidence.String()
	c.Delta = q.delta.String()
	if len(q.within) > 0 {
		c.Within = q.withinText
	} else {
		c.Epsilon = q.epsilon.String()
	}
	return c
}

// drawn is the part of the question that decides which integers are noised. How much noise they get stands
// beside it in the plan's identity, so that a price and an accuracy that lead to the same noise are one draw.
func (q question) drawn(p *dp.Policy) canonicalQuestion {
	c := canonicalQuestion{Dataset: q.dataset}
	for _, m := range q.metrics {
		metric := canonicalMetric{Name: m.name, Aggregate: m.aggregate, Rank: m.rank, Of: m.parts, PerDay: m.perDay, Distinct: m.distinctNames}
		for _, t := range m.tests {
			metric.Where = append(metric.Where, t.canonical(p))
		}
		if m.of != ValueRow {
			metric.Per = dp.PerCustomer
		}
		if m.measure >= 0 {
			metric.Measure = p.Measures[m.measure].Name
			metric.Lower, metric.Upper = rows.FormatDecimal(m.lower, m.scale), rows.FormatDecimal(m.upper, m.scale)
		} else if m.of != ValueRow {
			metric.Lower, metric.Upper = rows.FormatDecimal(m.lower, 0), rows.FormatDecimal(m.upper, 0)
		}
		c.Metrics = append(c.Metrics, metric)
	}
	for _, k := range q.keys {
		c.By = append(c.By, k.Name)
	}
	c.NonNegative = q.nonNegative // which is how the release is kept
	for _, level := range q.levels {
		names := []string{}
		for _, at := range level {
			names = append(names, q.keys[at].Name)
		}
		c.Reconcile = append(c.Reconcile, names)
	}
	for _, t := range q.tests {
		c.Where = append(c.Where, t.canonical(p))
	}
	if q.ranged {
		c.From, c.To = q.from.String(), q.to.String()
	}
	if q.profile != nil {
		q.profile.writeTo(&c, q.dataset, p)
	}
	return c
}

// writeTo writes a profile in its canonical form.
func (profile *Profile) writeTo(c *canonicalQuestion, dataset string, p *dp.Policy) {
	tests := func(all []Test) []canonicalTest {
		list := []canonicalTest{}
		for _, t := range all {
			list = append(list, t.canonical(p))
		}
		return list
	}
	for _, of := range profile.Cohorts {
		cohort := canonicalCohort{Dataset: of.Policy.Name, AtLeast: of.Least}
		for _, t := range of.Input.Tests {
			cohort.Where = append(cohort.Where, t.canonical(&of.Policy.Policy))
		}
		if of.Policy.Name != dataset {
			cohort.Policy = of.Policy.Version
		}
		if of.ranged {
			cohort.From, cohort.To = of.from.String(), of.to.String()
		}
		if of.Most >= 0 {
			cohort.AtMost = &of.Most
		}
		c.Cohorts = append(c.Cohorts, cohort)
	}
	if profile.First != nil && !profile.First.Own {
		c.First, c.FirstOfAll = tests(profile.First.Tests), len(profile.First.Tests) == 0
	}
	if profile.Funnel != nil {
		c.Funnel = &canonicalFunnel{}
		for _, step := range profile.Funnel.Steps {
			c.Funnel.Steps = append(c.Funnel.Steps, tests(step))
		}
		if profile.Funnel.Within > 0 {
			c.Funnel.Within = formatSpan(profile.Funnel.Within)
		}
	}
}

// canonical writes a test's values as text.
func (t Test) canonical(p *dp.Policy) canonicalTest {
	scale := 0
	if t.Field.Kind == MeasureField {
		scale = p.Measures[t.Field.Index].Scale
	}
	decimal := func(v int64) string { return rows.FormatDecimal(v, scale) }
	c := canonicalTest{Field: t.Name, In: t.In, NotIn: t.NotIn, Gte: t.From, Lte: t.To}
	for _, v := range t.InNumbers {
		c.In = append(c.In, decimal(v))
	}
	for _, v := range t.NotInNumbers {
		c.NotIn = append(c.NotIn, decimal(v))
	}
	if t.Least != nil {
		c.Gte = decimal(*t.Least)
	}
	if t.Most != nil {
		c.Lte = decimal(*t.Most)
	}
	c.None = len(c.In) == 0 && (t.In != nil || t.InNumbers != nil)
	return c
}
