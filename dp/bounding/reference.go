package bounding

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Reference is the specification of what a plan computes over rows, written to be read: it holds everything
// in memory and sorts where others would be clever. Every engine returns exactly its numbers. The result is
// sorted by key bytes.
//
// The bounding lemma (dp/PRIVACY.md) is about this function: without one (customer, block), at most
// Partitions of the result change, each column of them by at most 1 (CountCustomers), Rows (CountRows,
// CountMeasured), max(|Lower|, |Upper|) (Total), Rows*(Upper-Lower) (Centred) or Rows*(Upper-Lower)^2 (Squared), and
// the bins of a Histogram by at most Rows together, Upper (CountDays, CountSessions), each with 1 for Rows where Last is
// set or Of is not rows, as long as no column reaches the ends of 64 bits.
func Reference(p *plan.Plan, salt []byte, all []rows.Row) ([]Partition, error) {
	e, err := Compile(p)
	if err != nil {
		return nil, fmt.Errorf("bounding rows: %w", err)
	}
	return e.Reference(salt, all)
}

// Reference is the function of that name, of the plan that was compiled.
func (e *Evaluator) Reference(salt []byte, all []rows.Row) ([]Partition, error) {
	tree := plan.Aggregate{Input: e.bound, Columns: e.columns}

	// The rows that count, by (customer, block) and partition.
	type unit struct {
		customer uint64
		block    string
	}
	units := make(map[unit]map[string][]rows.Row)
	for _, row := range all {
		block := e.block(&row)
		if !slices.Contains(e.scan.Blocks, block) {
			continue
		}
		key, counts := e.Key(nil, &row)
		if !counts {
			continue
		}
		of := unit{row.Customer, block}
		if units[of] == nil {
			units[of] = make(map[string][]rows.Row)
		}
		units[of][string(key)] = append(units[of][string(key)], row)
	}

	// What bounding keeps of each, added up.
	sums := make(map[string][]Total)
	type counted struct {
		key    string
		column int
	}
	customers := make(map[counted]map[uint64]bool)
	for of, partitions := range units {
		for _, key := range keptKeys(sortedKeys(partitions), e.bound.Partitions, salt, of.customer, of.block) {
			if sums[key] == nil {
				sums[key] = make([]Total, tree.Width())
			}
			at := 0
			for i, c := range e.columns {
				if all := e.passing(i, partitions[key]); len(all) > 0 {
					if in := (counted{key, i}); customers[in] == nil {
						customers[in] = make(map[uint64]bool)
					}
					customers[counted{key, i}][of.customer] = true
					kept := keptRows(all, e.bound.Rows, e.policy, salt, of.customer, of.block)
					e.contribute(sums[key][at:at+c.Width()], i, all, kept)
				}
				at += c.Width()
			}
		}
	}

	for key := range sums {
		for i, c := range e.columns {
			if c.Count == plan.CountCustomers { // once, in however many blocks
				sums[key][tree.At(i)].Add(int64(len(customers[counted{key, i}])))
			}
		}
	}
	return partitionsOf(sums)
}

// partitionsOf are sums by the bytes of their partition's key.
func partitionsOf(sums map[string][]Total) ([]Partition, error) {
	result := make([]Partition, 0, len(sums))
	for _, key := range sortedKeys(sums) {
		parts, err := rows.ParseKey([]byte(key))
		if err != nil {
			return nil, fmt.Errorf("reading a partition's key: %w", err)
		}
		partition := Partition{Key: parts, Totals: make([]int64, len(sums[key]))}
		for i := range sums[key] {
			partition.Totals[i] = sums[key][i].Int64()
		}
		result = append(result, partition)
	}
	return result, nil
}

// keptKeys are the L0 keys with the smallest hashes, of keys that are sorted.
func keptKeys(keys []string, most int64, salt []byte, customer uint64, block string) []string {
	if int64(len(keys)) <= most {
		return keys
	}
	slices.SortFunc(keys, func(a, b string) int {
		return compareRank(Hash(salt, customer, block, []byte(a)), Hash(salt, customer, block, []byte(b)), []byte(a), []byte(b))
	})
	return keys[:min(int64(len(keys)), most)]
}

// passing are the rows of a (customer, block, partition) that a column reads: those that pass its own tests.
func (e *Evaluator) passing(column int, all []rows.Row) []rows.Row {
	return slices.DeleteFunc(slices.Clone(all), func(r rows.Row) bool { return !e.Passes(column, &r) })
}

// keptRows are the Linf rows with the smallest hashes.
func keptRows(all []rows.Row, most int64, p *dp.Policy, salt []byte, customer uint64, block string) []rows.Row {
	if int64(len(all)) <= most {
		return all
	}
	type ranked struct {
		hash  uint64
		bytes []byte
		row   rows.Row
	}
	ranks := make([]ranked, len(all))
	for i := range all {
		bytes := rows.AppendRow(nil, p, &all[i])
		ranks[i] = ranked{Hash(salt, customer, block, bytes), bytes, all[i]}
	}
	slices.SortFunc(ranks, func(a, b ranked) int { return compareRank(a.hash, b.hash, a.bytes, b.bytes) })
	kept := make([]rows.Row, most)
	for i := range kept {
		kept[i] = ranks[i].row
	}
	return kept
}

// contribute adds what one (customer, block) adds to a column of one partition: all are its rows there that pass the
// column's tests, kept those that row-level columns read.
func (e *Evaluator) contribute(into []Total, column int, all, kept []rows.Row) {
	c := e.columns[column]
	if c.Last {
		all = last(all, c.Measure, e.policy)
		kept = all
	}
	switch {
	case c.Count == plan.CountRows:
		into[0].Add(int64(len(kept)))
	case c.Count == plan.Total:
		var sum Total
		measured := false
		for _, row := range all {
			if x := row.Measures[c.Measure]; x.Valid {
				sum.Add(x.Value)
				measured = true
			}
		}
		if measured {
			into[0].Add(sum.Clamped(c.Lower, c.Upper))
		}
	case c.Count.ReadsTimes():
		times := make([]int64, len(all))
		for i, row := range all {
			times[i] = row.Time
		}
		into[0].Add(e.CountTimes(c, times))
	case c.Of == plan.ValueTotal:
		var sum Total
		measured := false
		for _, row := range all {
			if x := row.Measures[c.Measure]; x.Valid {
				sum.Add(x.Value)
				measured = true
			}
		}
		if measured {
			AddRow(into, c, sum.Clamped(c.Lower, c.Upper))
		}
	case c.Of == plan.ValueRows:
		AddRow(into, c, int64(len(all)))
	case c.Of == plan.ValueDistinct:
		labels := make(map[string]bool)
		for _, row := range all {
			if text, ok := e.Distinct(nil, column, &row); ok {
				labels[string(text)] = true
			}
		}
		AddRow(into, c, int64(len(labels)))
	case c.ReadsRows() || c.Last:
		for _, row := range kept {
			if x := row.Measures[c.Measure]; x.Valid {
				AddRow(into, c, x.Value)
			}
		}
	}
}

// last is the row with the latest time of those that have a measure, of several the one with the largest bytes; none
// where none has it.
func last(all []rows.Row, measure int, p *dp.Policy) []rows.Row {
	measured := slices.DeleteFunc(slices.Clone(all), func(r rows.Row) bool { return !r.Measures[measure].Valid })
	if len(measured) == 0 {
		return nil
	}
	return []rows.Row{slices.MaxFunc(measured, func(a, b rows.Row) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), bytes.Compare(rows.AppendRow(nil, p, &a), rows.AppendRow(nil, p, &b)))
	})}
}

// CountTimes is what the times of all rows of a (customer, block, partition) add to a column that reads them. It sorts
// times.
func (e *Evaluator) CountTimes(c plan.Column, times []int64) int64 {
	slices.Sort(times)
	count := int64(0)
	for i, ms := range times {
		next := i == 0
		switch {
		case next:
		case c.Count == plan.CountSessions:
			next = ms-times[i-1] > plan.SessionGap
		case ms != times[i-1]:
			next = rows.DateOf(ms, e.zone) != rows.DateOf(times[i-1], e.zone)
		}
		if next {
			count++
		}
	}
	return min(count, c.Upper)
}

// AddRow adds a value to a column that reads values: of a kept row, or of a (customer, block, partition).
func AddRow(into []Total, c plan.Column, value int64) {
	switch c.Count {
	case plan.Centred:
		into[0].AddCentred(value, c.Lower, c.Upper)
	case plan.CountMeasured:
		into[0].Add(1)
	case plan.Squared:
		w, r := 2*clamp(value, c.Lower, c.Upper)-c.Lower-c.Upper, c.Upper-c.Lower
		into[0].Add(2*w*w - r*r)
	case plan.Histogram:
		into[c.Bin(value)].Add(1)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}
