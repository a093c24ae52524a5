package bounding

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Several bounds a plan with a profile: one that reads several blocks of a customer together, of other datasets too. It
// takes a customer at a time, so that an engine needs no more than the rows of one in memory. It remembers what it worked
// out of earlier rows, so each goroutine compiles its own.
//
// The lemma of several blocks (dp/PRIVACY.md) is about Customer: rows of other customers decide nothing, and what one
// (customer, block) adds is bounded by its own L0 and Linf, whatever the profile is.
type Several struct {
	plan    *plan.Plan
	rows    *Evaluator // of the question's rows, for the keys and tests that need no profile
	salt    []byte
	profile *plan.Profile
	cohorts []cohort
	first   []test
	steps   [][]test
	after   []test // on the first appearance
	keys    []key
	periods map[rows.TimeUnit]map[string]int // position of a label among those of the range

	// Of the customer at hand, with memory that is used again.
	partitions keyIndex
	adds       []Adds // by position in partitions
	groups     keyIndex
	members    [][]rows.Row // by position in groups: of one block
	counting   [][]rows.Row // by block
	zeros      []Total
	known      map[string]string // keys that were met, so that they need not be made again
	scratch    []byte
}

// Unit is all rows of a customer in one block of one dataset.
type Unit struct {
	Dataset, Block string
	Rows           []rows.Row
}

// Adds is what a customer adds to one partition.
type Adds struct {
	Key    string // its bytes
	Totals []Total
}

// cohort counts the rows of a customer that pass.
type cohort struct {
	dataset     string
	scan        plan.Scan
	tests       []test
	least, most int64
}

// NewSeveral compiles a plan with a profile.
func NewSeveral(p *plan.Plan, salt []byte) (*Several, error) {
	group := p.Tree.Input.Input
	s := &Several{plan: p, salt: salt, profile: group.Profile, periods: make(map[rows.TimeUnit]map[string]int)}
	if s.profile == nil {
		return nil, fmt.Errorf("bounding dataset %s: the plan reads each block of a customer by itself", p.Policy.Name)
	}
	ofRows := *p
	ofRows.Tree.Input.Input.Profile, ofRows.Tree.Input.Input.Keys = nil, nil
	var err error
	if s.rows, err = Compile(&ofRows); err != nil {
		return nil, err
	}
	policy, zone := s.rows.policy, s.rows.zone
	s.zeros, s.known = make([]Total, p.Tree.Width()), make(map[string]string)
	for _, c := range s.profile.Cohorts {
		of, err := newCohort(c)
		if err != nil {
			return nil, fmt.Errorf("cohort: %w", err)
		}
		s.cohorts = append(s.cohorts, of)
	}
	if s.profile.First != nil && !s.profile.First.Own { // rows that count have passed theirs
		if s.first, err = newTests(policy, s.profile.First.Tests, zone); err != nil {
			return nil, fmt.Errorf("first appearance: %w", err)
		}
	}
	if s.profile.Funnel != nil {
		for _, step := range s.profile.Funnel.Steps {
			tests, err := newTests(policy, step, zone)
			if err != nil {
				return nil, fmt.Errorf("funnel: %w", err)
			}
			s.steps = append(s.steps, tests)
		}
	}
	for i := range s.profile.Tests {
		t := &s.profile.Tests[i]
		f, err := s.newField(t.Field)
		if err != nil {
			return nil, fmt.Errorf("test on %s: %w", t.Name, err)
		}
		s.after = append(s.after, test{f, t})
	}
	for _, k := range group.Keys {
		f, err := s.newField(k.Field)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.Name, err)
		}
		s.keys = append(s.keys, key{f, set(k.Domain)})
	}
	return s, nil
}

func newCohort(c plan.Cohort) (cohort, error) {
	zone, err := rows.Location(&c.Policy.Policy)
	if err != nil {
		return cohort{}, fmt.Errorf("finding the time zone of dataset %s: %w", c.Policy.Name, err)
	}
	of := cohort{dataset: c.Policy.Name, scan: c.Input.Input, least: c.Least, most: c.Most}
	of.scan.Bounded = of.scan.Bounded && c.Policy.Time != nil
	of.tests, err = newTests(&c.Policy.Policy, c.Input.Tests, zone)
	return of, err
}

// newField compiles a field that may be the customer's.
func (s *Several) newField(of plan.Field) (field, error) {
	if of.Kind == plan.StepField {
		return field{field: of}, nil
	}
	if of.Moment == plan.PeriodsSince && s.periods[of.Unit] == nil {
		periods := make(map[string]int)
		from, to := rows.DateOf(s.rows.scan.From, s.rows.zone), rows.DateOf(s.rows.scan.To-1, s.rows.zone)
		for at, label := range rows.TimeKeys(from, to, of.Unit) {
			periods[label] = at
		}
		s.periods[of.Unit] = periods
	}
	return newField(s.rows.policy, of, s.rows.zone)
}

// Needs says what of a dataset's rows is read beside block, time and consent.
func (s *Several) Needs(p *dp.Policy) Needs {
	n := needsNothing(p)
	own := p.Name == s.plan.Policy.Name
	if own {
		n = s.rows.Needs()
	}
	// Rows at one time are ordered by all that they have.
	if own && (s.profile.First != nil || s.profile.Funnel != nil) {
		n.addAll()
		return n
	}
	for _, c := range s.profile.Cohorts {
		for _, t := range c.Input.Tests {
			if c.Policy.Name == p.Name {
				n.add(t.Field)
			}
		}
	}
	if own {
		for i := range s.keys {
			n.add(s.keys[i].field.field)
		}
	}
	return n
}

// Customer gives what a customer adds to each partition, valid until the next call: units are all of its blocks that the
// plan touches, each once.
//
// Between units it looks whether ctx has ended, whose cause is the only error.
func (s *Several) Customer(ctx context.Context, customer uint64, units []Unit) ([]Adds, error) {
	s.partitions.reset()
	if err := s.take(ctx, customer, units); err != nil {
		return nil, err
	}
	return s.adds[:len(s.partitions.keys)], nil
}

// take works out what the customer adds.
func (s *Several) take(ctx context.Context, customer uint64, units []Unit) error {
	own := s.plan.Policy.Name
	if s.profile.Consent {
		units = slices.DeleteFunc(slices.Clone(units), func(u Unit) bool {
			return !slices.ContainsFunc(u.Rows, func(r rows.Row) bool { return r.Consented })
		})
	}
	for i := range s.cohorts {
		if in, err := s.cohorts[i].has(ctx, units); !in || err != nil {
			return err
		}
	}
	counting := make([]Unit, 0, len(units)) // the question's own rows that pass
	for at, u := range units {
		if u.Dataset != own || !slices.Contains(s.rows.scan.Blocks, u.Block) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.counting = grown(s.counting, at)
		kept := s.counting[at][:0]
		for i := range u.Rows {
			if r := &u.Rows[i]; inRange(s.rows.scan, r) && passAll(s.rows.tests, r) {
				kept = append(kept, *r)
			}
		}
		s.counting[at] = kept
		counting = append(counting, Unit{u.Dataset, u.Block, kept})
	}
	var first *rows.Row
	if s.profile.First != nil {
		if first = s.firstAppearance(units, counting); first == nil {
			return nil
		}
		for i := range counting {
			counting[i].Rows = slices.DeleteFunc(counting[i].Rows, func(r rows.Row) bool { return r.Time < first.Time })
		}
	}
	if s.profile.Funnel != nil {
		return s.reached(ctx, counting, first)
	}
	return s.bound(ctx, customer, counting, first)
}

// has tells whether the customer of these units is in the cohort.
func (c *cohort) has(ctx context.Context, units []Unit) (bool, error) {
	count := int64(0)
	for _, u := range units {
		if u.Dataset != c.dataset || !slices.Contains(c.scan.Blocks, u.Block) {
			continue
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		for i := range u.Rows {
			if inRange(c.scan, &u.Rows[i]) && passAll(c.tests, &u.Rows[i]) {
				count++
			}
		}
	}
	return count >= c.least && (c.most < 0 || count <= c.most), nil
}

// firstAppearance finds the row that makes it; nil where none does.
func (s *Several) firstAppearance(units, counting []Unit) (first *rows.Row) {
	if s.profile.First.Own {
		units = counting
	}
	for _, u := range units {
		if u.Dataset != s.plan.Policy.Name || !slices.Contains(s.rows.scan.Blocks, u.Block) {
			continue
		}
		for i := range u.Rows {
			r := &u.Rows[i]
			if inRange(s.rows.scan, r) && passAll(s.first, r) && (first == nil || s.compare(r, first) < 0) {
				first = r
			}
		}
	}
	return first
}

// compare orders rows by time, then by canonical bytes.
func (s *Several) compare(a, b *rows.Row) int {
	if c := cmp.Compare(a.Time, b.Time); c != 0 {
		return c
	}
	return bytes.Compare(rows.AppendRow(nil, s.rows.policy, a), rows.AppendRow(nil, s.rows.policy, b))
}

// bound keeps of each block what bounding keeps, with the keys that the customer's rows have.
func (s *Several) bound(ctx context.Context, customer uint64, counting []Unit, first *rows.Row) error {
	for _, u := range counting {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.groups.reset()
		for i := range u.Rows {
			if key, ok := s.key(&u.Rows[i], first, 0); ok {
				group := s.groups.of(key)
				s.members = grown(s.members, group)
				if s.groups.isNew {
					s.members[group] = s.members[group][:0]
				}
				s.members[group] = append(s.members[group], u.Rows[i])
			}
		}
		for _, key := range keptKeys(s.groups.sorted(), s.rows.bound.Partitions, s.salt, customer, u.Block) {
			all, sums, at := s.members[s.groups.of(key)], s.partition(key), 0
			for i, c := range s.rows.columns {
				if all := s.rows.passing(i, all); len(all) > 0 {
					if c.Count == plan.CountCustomers { // once in however many blocks
						sums[at] = Total{}
						sums[at].Add(1)
					}
					kept := all[:min(int64(len(all)), s.rows.bound.Rows)]
					if c.ReadsRows() { // others count them at most
						kept = keptRows(all, s.rows.bound.Rows, s.rows.policy, s.salt, customer, u.Block)
					}
					s.rows.contribute(sums[at:at+c.Width()], i, all, kept)
				}
				at += c.Width()
			}
		}
	}
	return nil
}

// partition gives the sums of the customer in a partition, zeros where it is new.
func (s *Several) partition(key string) []Total {
	at := s.partitions.of(key)
	if s.adds = grown(s.adds, at); s.partitions.isNew {
		s.adds[at].Key = key
		s.adds[at].Totals = append(s.adds[at].Totals[:0], s.zeros...)
	}
	return s.adds[at].Totals
}

// reached places the customer in the partitions of all steps that were taken.
func (s *Several) reached(ctx context.Context, counting []Unit, first *rows.Row) error {
	taken, err := s.stepsTaken(ctx, counting)
	if err != nil {
		return err
	}
	for step := 1; step <= min(taken, int(s.rows.bound.Partitions)); step++ {
		key, ok := s.key(first, first, step)
		if !ok {
			continue
		}
		sums := s.partition(key)
		for i := range s.rows.columns { // of a funnel all count customers
			sums[s.plan.Tree.At(i)].Add(1)
		}
	}
	return nil
}

// key is that of a row's partition; ok is false where it counts in none.
func (s *Several) key(r, first *rows.Row, step int) (key string, ok bool) {
	for i := range s.after {
		label, ok := s.label(&s.after[i].field, r, first, step)
		if !ok || !s.after[i].test.PassesLabel(label) {
			return "", false
		}
	}
	buf := s.scratch[:0]
	for i := range s.keys {
		k := &s.keys[i]
		label, ok := s.label(&k.field, r, first, step)
		if !ok {
			return "", false
		}
		if k.domain != nil {
			if _, ok := k.domain[label]; !ok {
				return "", false
			}
		}
		buf = appendNetstring(buf, label)
	}
	s.scratch = buf
	return s.intern(buf), true
}

// mostKnown is how many keys are remembered.
const mostKnown = 1 << 14

// intern gives the same text for the same bytes, as long as they are remembered.
func (s *Several) intern(key []byte) string {
	if known, ok := s.known[string(key)]; ok {
		return known
	}
	if len(s.known) >= mostKnown {
		clear(s.known)
	}
	text := string(key)
	s.known[text] = text
	return text
}

// label reads a field of a row, or of its customer.
func (s *Several) label(f *field, r, first *rows.Row, step int) (label string, ok bool) {
	switch {
	case f.field.Kind == plan.StepField:
		return strconv.Itoa(step), true
	case f.field.Moment == plan.AtFirst:
		return f.label(first)
	case f.field.Moment == plan.PeriodsSince:
		at, ok := f.label(first)
		if !ok {
			return "", false
		}
		now, ok := f.label(r)
		if !ok {
			return "", false
		}
		periods := s.periods[f.field.Unit]
		return strconv.Itoa(periods[now] - periods[at]), true
	}
	return f.label(r)
}

// ReferenceSeveral is Reference for a plan with a profile: rows are those of each dataset that it reads.
func ReferenceSeveral(p *plan.Plan, salt []byte, all map[string][]rows.Row) ([]Partition, error) {
	s, err := NewSeveral(p, salt)
	if err != nil {
		return nil, fmt.Errorf("bounding rows: %w", err)
	}
	policies := map[string]*dp.Policy{p.Policy.Name: &p.Policy.Policy}
	for i := range s.profile.Cohorts {
		of := &s.profile.Cohorts[i].Policy
		policies[of.Name] = &of.Policy
	}
	units := make(map[uint64][]Unit)
	for dataset, policy := range policies {
		zone, err := rows.Location(policy)
		if err != nil {
			return nil, fmt.Errorf("finding the time zone of dataset %s: %w", dataset, err)
		}
		for _, r := range all[dataset] {
			block := rows.AllBlock
			if policy.Time != nil {
				block = rows.BlockOf(r.Time, policy.Unit.Block, zone)
			}
			of := units[r.Customer]
			at := slices.IndexFunc(of, func(u Unit) bool { return u.Dataset == dataset && u.Block == block })
			if at < 0 {
				at = len(of)
				of = append(of, Unit{Dataset: dataset, Block: block})
			}
			of[at].Rows = append(of[at].Rows, r)
			units[r.Customer] = of
		}
	}

	sums := make(map[string][]Total)
	for customer, of := range units {
		added, err := s.Customer(context.Background(), customer, of)
		if err != nil {
			return nil, err
		}
		for _, adds := range added {
			if sums[adds.Key] == nil {
				sums[adds.Key] = make([]Total, len(adds.Totals))
			}
			for i := range adds.Totals {
				sums[adds.Key][i].AddTotal(adds.Totals[i])
			}
		}
	}
	return partitionsOf(sums)
}
