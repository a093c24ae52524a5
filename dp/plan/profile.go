package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Profile is what a question asks about customers rather than about rows. It is worked out of all rows of the scans,
// whatever their block, so that a (customer, block) may change what other blocks of the customer add (dp/PRIVACY.md,
// "Several blocks of one customer").
type Profile struct {
	// Consent leaves out every (customer, block), of each dataset, of which no row carries consent.
	Consent bool
	// Cohorts leave the customers who are in all of them.
	Cohorts []Cohort
	// First finds the customer's first appearance; nil: nothing asks for it. Rows before it count nowhere, nor do customers
	// without.
	First *First
	// Funnel places a customer in the partitions of all steps that were reached; nil: rows have partitions of their own.
	Funnel *Funnel
	// Tests are those of the question that read the first appearance.
	Tests []Test
}

// Cohort is the customers with at least Least and at most Most rows that pass the tests. The rows may be another dataset's.
type Cohort struct {
	Policy      dp.VersionedPolicy // of the dataset that is scanned; its fields are those of Tests
	Input       Filter
	Least, Most int64 // Most below 0: any number
	from, to    rows.Date
	ranged      bool // from and to apply
}

// First says which row is a customer's first appearance: of those in the scan that pass the tests the earliest, of
// several at one time the one with the smallest canonical bytes (rows.AppendRow).
type First struct {
	Tests []Test
	Own   bool // Tests are those of the question's filter
}

// Funnel is steps that a customer takes in the order of time, by a row each. Of rows at one time, those that can be
// an earlier step come first.
type Funnel struct {
	Steps  [][]Test
	Within int64 // milliseconds from the first step to the last; 0: any time
}

// Moment says of which row of a customer a field is read.
type Moment int

// The moments.
const (
	OfRow        Moment = iota // the row at hand
	AtFirst                    // the customer's first appearance
	PeriodsSince               // of a calendar unit, how many periods the row comes after that of the first appearance: 0, 1, ...
)

// NeedsProfile tells whether a field cannot be read of a row alone.
func (f Field) NeedsProfile() bool { return f.Moment != OfRow || f.Kind == StepField }

// isNumber tells whether the labels of a field are numbers that count something.
func (f Field) isNumber() bool { return f.Kind == StepField || f.Moment == PeriodsSince }

// countingFrom is so many labels that count.
func countingFrom(first, count int) []string {
	labels := make([]string, count)
	for i := range labels {
		labels[i] = strconv.Itoa(first + i)
	}
	return labels
}

// Sizes of what is asked about customers.
const (
	mostCohorts = 5
	mostSteps   = 10
	// mostAppearanceDays bounds a range with first appearances: its groups are found day by day, for every first day.
	mostAppearanceDays = 400
	mostCohortRows     = 1 << 31
)

// Names of fields that need a profile.
const (
	firstPrefix = "first."
	sincePrefix = "since."
	stepField   = "funnel.step"
)

// profileField finds what such a name means; known is false where it is none.
func (r *reader) profileField(path, name string) (f Field, known, ok bool) {
	first, isFirst := strings.CutPrefix(name, firstPrefix)
	since, isSince := strings.CutPrefix(name, sincePrefix)
	switch {
	case name == stepField:
		if r.query.Funnel == nil {
			r.refuse(path, "is a step of a funnel: give the funnel's steps")
			return f, true, false
		}
		return Field{Kind: StepField}, true, true
	case isFirst && strings.Contains(first, "."):
		r.refuse(path, "is not a field: use the first.* of a dimension, or first.day, first.week, first.month, first.quarter, first.year")
		return f, true, false
	case isFirst:
		if _, isTime := rows.ParseTimeUnit("time." + first); isTime {
			first = "time." + first
		}
	case isSince:
		first = "time." + since
		if unit, isTime := rows.ParseTimeUnit(first); !isTime || unit == rows.Hour {
			r.refuse(path, "is not a field: use since.day, since.week, since.month, since.quarter or since.year")
			return f, true, false
		}
	default:
		return f, false, false
	}
	if r.policy.Unit.Row {
		r.refuse(path, "is about customers with several rows, and every row of this dataset is a customer of its own: leave it out")
		return f, true, false
	}
	if r.policy.Time == nil || r.query.From == "" {
		r.refuse(path, "needs rows with a time, and from and to: nothing comes first otherwise")
		return f, true, false
	}
	if f, ok = r.field(path, first); !ok {
		return f, true, false
	}
	if f.Kind == MeasureField || f.Kind == TimeField && f.Unit == rows.Hour {
		r.refuse(path, "has no groups: use the first.* of a dimension, or first.day, first.week, first.month, first.quarter, first.year")
		return f, true, false
	}
	if f.Moment = AtFirst; isSince {
		f.Moment = PeriodsSince
	}
	return f, true, true
}

// readProfile reads what the question asks about customers. What others need of the question is read already.
func (r *reader) readProfile(q *question) {
	p := &Profile{}
	byFirst := false
	for _, k := range q.keys {
		byFirst = byFirst || k.Field.Moment != OfRow
	}
	own := []Test{}
	for _, t := range q.tests {
		if t.Field.NeedsProfile() {
			byFirst = true
			p.Tests = append(p.Tests, t)
		} else {
			own = append(own, t)
		}
	}
	if byFirst || r.query.First != nil {
		p.First = r.readFirst(*q, own, byFirst)
	}
	p.Cohorts = r.readCohorts(*q)
	p.Consent = slices.ContainsFunc(p.Cohorts, func(c Cohort) bool { return c.Policy.Name != r.policy.Name })
	if r.query.Funnel != nil {
		p.Funnel = r.readFunnel(*q)
	}
	if p.First == nil && len(p.Cohorts) == 0 && p.Funnel == nil {
		return
	}
	q.profile = p
	r.checkProfile(*q)
}

// readFirst reads which rows make a first appearance. Where fields of the first appearance are read, saying that those of the
// filter do is saying nothing.
func (r *reader) readFirst(q question, own []Test, read bool) *First {
	if !q.ranged {
		r.refuse("first", "needs from and to: nothing comes first otherwise")
		return nil
	}
	if q.from.DaysUntil(q.to) >= mostAppearanceDays {
		r.refuse("to", "makes a range of more than %d days, in which first appearances are not looked for: ask for a shorter one", mostAppearanceDays)
	}
	if r.query.First == nil {
		return &First{Tests: own, Own: true}
	}
	tests := r.testsOf("first", r.query.First)
	same := reflect.DeepEqual(tests, own)
	if same && !read {
		return nil // no row that counts comes before the first of them
	}
	return &First{Tests: tests, Own: same}
}

// testsOf reads conditions that stand elsewhere than in where, on fields of rows alone.
func (r *reader) testsOf(path string, conditions []dp.Condition) []Test {
	of := &reader{query: dp.Query{Where: conditions, From: r.query.From}, policy: r.policy, limits: r.limits, location: r.location}
	tests := of.readRowTests()
	r.takeProblems(path, of)
	return tests
}

// readRowTests reads conditions of which none may be on a field of the customer.
func (r *reader) readRowTests() []Test {
	tests := r.readTests()
	if slices.ContainsFunc(tests, func(t Test) bool { return t.Field.NeedsProfile() }) {
		r.refuse("where", "names a field of the customer: only fields of rows can be asked here")
	}
	return tests
}

// takeProblems adds what a reader of a part found.
func (r *reader) takeProblems(path string, of *reader) {
	for _, p := range of.problems {
		r.problems = append(r.problems, dp.Location{Path: path + "." + p.Path, Message: p.Message})
	}
}

func (r *reader) readCohorts(q question) (cohorts []Cohort) {
	if len(r.query.Cohorts) > mostCohorts {
		r.refuse("cohorts", "has more than %d cohorts: use fewer", mostCohorts)
		return nil
	}
	for i, asked := range r.query.Cohorts {
		path := fmt.Sprintf("cohorts[%d]", i)
		policy, ok := r.cohortPolicy(path, asked.Dataset)
		if !ok {
			continue
		}
		location, err := rows.Location(&policy.Policy)
		if err != nil {
			r.refuse(path+".dataset", "has a time zone that this server does not know: tell its operator")
			continue
		}
		from, to := asked.From, asked.To
		if from == "" && to == "" && policy.Time != nil {
			from, to = r.query.From, r.query.To
		}
		of := &reader{query: dp.Query{Where: asked.Where, From: from, To: to}, policy: &policy.Policy, limits: r.limits, location: location}
		scanned := question{dataset: policy.Name, block: policy.Unit.Block}
		of.readRange(&scanned)
		c := Cohort{Policy: policy, Least: asked.AtLeast, Most: -1, from: scanned.from, to: scanned.to, ranged: scanned.ranged}
		c.Input = Filter{Input: scanOf(scanned, location), Tests: of.readRowTests()}
		if asked.AtMost != nil {
			c.Most = *asked.AtMost
		} else {
			c.Least = max(c.Least, 1)
		}
		if asked.AtLeast < 0 || asked.AtLeast > mostCohortRows || asked.AtMost != nil && (*asked.AtMost < asked.AtLeast || *asked.AtMost > mostCohortRows) {
			of.refuse("at_least", "and at_most are numbers of rows, at most 2^31, the first not above the second")
		}
		r.takeProblems(path, of)
		cohorts = append(cohorts, c)
	}
	// Their order says nothing.
	slices.SortStableFunc(cohorts, func(a, b Cohort) int { return cmp.Compare(a.text(), b.text()) })
	return slices.CompactFunc(cohorts, func(a, b Cohort) bool { return a.text() == b.text() })
}

// text is the same for the same cohort.
func (c Cohort) text() string {
	var q canonicalQuestion
	(&Profile{Cohorts: []Cohort{c}}).writeTo(&q, "", &c.Policy.Policy)
	text, err := json.Marshal(q.Cohorts)
	if err != nil { // it holds texts and numbers
		return ""
	}
	return string(text)
}

// cohortPolicy finds the policy of a cohort's dataset, and whether it may be joined.
func (r *reader) cohortPolicy(path, dataset string) (dp.VersionedPolicy, bool) {
	if dataset == "" || dataset == r.policy.Name {
		if r.policy.Unit.Row {
			r.refuse(path, "is of customers with several rows, and every row of this dataset is a customer of its own: use where")
		}
		return dp.VersionedPolicy{Policy: *r.policy, Version: r.version}, !r.policy.Unit.Row
	}
	at := slices.IndexFunc(r.others, func(p dp.VersionedPolicy) bool { return p.Name == dataset })
	switch {
	case at < 0:
		r.refuse(path+".dataset", "is not a dataset that you may ask: list the datasets")
	case r.policy.Link == nil || r.others[at].Link == nil:
		r.refuse(path+".dataset", "cannot be joined with this dataset: both policies have to name the column of consent (link.consent), which is an officer's to decide")
	default:
		return r.others[at], true
	}
	return dp.VersionedPolicy{}, false
}

func (r *reader) readFunnel(q question) *Funnel {
	asked := r.query.Funnel
	f := &Funnel{}
	if r.policy.Unit.Row {
		r.refuse("funnel", "is about customers with several rows, and every row of this dataset is a customer of its own: leave it out")
		return f
	}
	if r.policy.Time == nil {
		r.refuse("funnel", "needs rows with a time: nothing comes before something else otherwise")
		return f
	}
	if len(asked.Steps) < 2 || len(asked.Steps) > mostSteps || int64(len(asked.Steps)) > q.maxPartitions {
		r.refuse("funnel.steps", "must be from 2 to %d, and no more than the %d groups that a customer may add to", mostSteps, q.maxPartitions)
		return f
	}
	for i, step := range asked.Steps {
		f.Steps = append(f.Steps, r.testsOf(fmt.Sprintf("funnel.steps[%d]", i), step))
	}
	if asked.Within != "" {
		within, ok := parseSpan(asked.Within)
		if !ok {
			r.refuse("funnel.within", "must be a time such as 30m, 24h or 7d, of at most 3660 days")
		}
		f.Within = within
	}
	return f
}

// parseSpan reads a time such as 30m, 24h or 7d, in milliseconds.
func parseSpan(text string) (ms int64, ok bool) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	if len(text) < 2 || len(text) > 10 {
		return 0, false
	}
	unit, known := units[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	if !known || err != nil || n < 1 || text[0] == '+' || text[0] == '0' || int64(n) > int64(3660*24*time.Hour/unit) {
		return 0, false
	}
	return int64(n) * unit.Milliseconds(), true
}

// formatSpan writes a time in the largest unit that it is whole in.
func formatSpan(ms int64) string {
	for _, unit := range []struct {
		name string
		of   time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}} {
		if ms%unit.of.Milliseconds() == 0 {
			return strconv.FormatInt(ms/unit.of.Milliseconds(), 10) + unit.name
		}
	}
	return strconv.FormatInt(ms/1000, 10) + "s"
}

// checkProfile refuses what has no bound that is proved, or no meaning, over several blocks of a customer.
func (r *reader) checkProfile(q question) {
	if len(q.levels) > 0 {
		r.refuse("reconcile", "does not go with cohorts, first appearances and funnels: ask for one level")
	}
	for _, m := range q.metrics {
		if m.perDay {
			r.refuse("metrics", "%s is of the days of a group, which first appearances, cohorts and funnels do not have: leave it out", m.name)
		}
	}
	if q.profile.Funnel == nil {
		return
	}
	for _, m := range q.metrics {
		if m.aggregate != dp.Customers {
			r.refuse("metrics", "of a funnel are customers alone: leave the others out")
			break
		}
	}
	if slices.ContainsFunc(q.keys, func(k Key) bool { return k.Field.Kind != StepField && k.Field.Moment != AtFirst }) {
		r.refuse("by", "of a funnel is funnel.step, and keys that a customer has one of, such as first.month: leave the others out")
	}
	if !slices.ContainsFunc(q.keys, func(k Key) bool { return k.Field.Kind == StepField }) {
		r.refuse("by", "lacks funnel.step: group a funnel by it")
	}
	if slices.ContainsFunc(q.tests, func(t Test) bool { return t.Field.Moment == PeriodsSince || t.Field.Kind == StepField }) {
		r.refuse("where", "of a funnel takes fields of rows and of the first appearance: leave the others out")
	}
}

// profileNotes says in words what a profile does to the figures and to the price.
func (p *Plan) profileNotes() (lines []string) {
	profile := p.Tree.Input.Input.Profile
	if profile == nil {
		return nil
	}
	if len(profile.Cohorts) > 0 {
		lines = append(lines, "Only customers count who are in every cohort.")
	}
	if profile.Consent {
		lines = append(lines, "Of all joined datasets, only rows count of a customer's period (block) of which some row carries consent to be joined.")
	}
	if profile.First != nil {
		lines = append(lines, "A customer's first appearance is the first one within the range: who was there before it looks new. Rows before it count nowhere.")
	}
	if profile.Funnel != nil {
		lines = append(lines, "A step is counted with all customers who reached it, by a row for each step in the order of time; of rows at one time, what can be an earlier step is taken to have come first.")
	}
	if most := p.mostTimes(); most > 1 {
		lines = append(lines, fmt.Sprintf("What a customer did in one %s can change what it adds in others: noise and price are those of %d times as much as one adds, and the charge names what each block pays.", p.Policy.Unit.Block, most))
	}
	return lines
}
