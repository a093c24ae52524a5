package verify

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// drawnRecord is what the summary of a release says of how it was drawn.
type drawnRecord struct {
	Dataset           string
	PolicyVersion     uint64
	GroupsMayBeHidden bool
	CanonicalQuery    string
	Privacy           struct {
		Mechanism     map[string]string
		Noise         map[string]struct{ Epsilon, Delta int64 }
		MaxPartitions int64
	}
}

// questionRecord is the canonical question of a release, as far as it decides which blocks its noise is made for.
type questionRecord struct {
	Dataset string `json:"dataset"`
	Metrics []struct {
		Name      string          `json:"name"`
		Aggregate string          `json:"aggregate"`
		Measure   string          `json:"measure"`
		Lower     string          `json:"lower"`
		Upper     string          `json:"upper"`
		Per       string          `json:"per"`
		Distinct  []string        `json:"distinct"`
		Where     json.RawMessage `json:"where"`
	} `json:"metrics"`
	By        []string             `json:"by"`
	Where     []fieldRecord        `json:"where"`
	From      string               `json:"from"`
	To        string               `json:"to"`
	Reconcile []json.RawMessage    `json:"reconcile"`
	Cohorts   []cohortRecord       `json:"cohorts"`
	First     []json.RawMessage    `json:"first"`
	FirstAll  bool                 `json:"first_of_all"`
	Funnel    *struct{ Steps any } `json:"funnel"`
}

type fieldRecord struct {
	Field string `json:"field"`
}

type cohortRecord struct {
	Dataset string `json:"dataset"`
	From    string `json:"from"`
	To      string `json:"to"`
}

// drawing is how a release was drawn.
type drawing struct {
	question questionRecord
	block    string // of the dataset that was asked
	measured []string
	apart    bool // no partition has rows of two blocks, and no row decides about another block's
	first    bool // it reads first appearances
	draws    []draw
}

// draw is noise of one law.
type draw struct {
	gaussian       bool
	epsilon, delta int64
}

const selectionName = "selection"

// readDrawing reads how a release was drawn; nil where it does not say. block is that of its dataset under the version of the
// policy that it names.
func readDrawing(r drawnRecord, block string) *drawing {
	d := &drawing{block: block}
	if r.Privacy.Noise == nil || json.Unmarshal([]byte(r.CanonicalQuery), &d.question) != nil {
		return nil
	}
	q := &d.question
	if q.Dataset != r.Dataset || len(q.Reconcile) > 0 {
		return nil // figures of reconciled levels are no draws of their own
	}
	var ok bool
	if d.measured, ok = blocksOf(q.From, q.To, block); !ok {
		return nil
	}
	ofCustomer := func(field string) bool {
		return strings.HasPrefix(field, "first.") || strings.HasPrefix(field, "since.")
	}
	d.first = len(q.First) > 0 || q.FirstAll || slices.ContainsFunc(q.By, ofCustomer) ||
		slices.ContainsFunc(q.Where, func(f fieldRecord) bool { return ofCustomer(f.Field) })
	if !d.first && len(q.Cohorts) == 0 && q.Funnel == nil {
		d.apart = slices.ContainsFunc(q.By, func(field string) bool { return d.partedBy(field) })
	}
	if !d.readDraws(r) {
		return nil
	}
	return d
}

// partedBy tells whether a key is a period of the calendar that no two measured blocks share.
func (d *drawing) partedBy(field string) bool {
	unit, ok := strings.CutPrefix(field, "time.")
	if !ok || unit == "hour" {
		return false
	}
	for i := 1; i < len(d.measured); i++ {
		_, last := datesOf(d.measured[i-1])
		first, _ := datesOf(d.measured[i])
		if periodOf(last, unit) == periodOf(first, unit) {
			return false
		}
	}
	return true
}

// readDraws finds every draw. What is read from the same exact numbers is drawn once; where the number of customers is asked,
// the keys that are shown are selected by the same draw.
func (d *drawing) readDraws(r drawnRecord) bool {
	seen := map[string]bool{}
	var selection *draw
	for _, m := range d.question.Metrics {
		if m.Aggregate == "ratio" || m.Aggregate == "share" {
			continue
		}
		noise, ok := r.Privacy.Noise[m.Name]
		if !ok {
			return false
		}
		numbers := m.Aggregate
		switch m.Aggregate {
		case "stddev":
			numbers = "variance"
		case "min", "max":
			numbers = "quantile"
		}
		same, err := json.Marshal([]any{numbers, m.Measure, m.Lower, m.Upper, m.Per, m.Distinct, m.Where})
		if err != nil || seen[string(same)] {
			continue
		}
		seen[string(same)] = true
		one := draw{r.Privacy.Mechanism[m.Name] == "gaussian", noise.Epsilon, noise.Delta}
		if r.GroupsMayBeHidden && m.Aggregate == "customers" && len(m.Where) == 0 && selection == nil {
			selection = &one
			continue
		}
		d.draws = append(d.draws, one)
	}
	if !r.GroupsMayBeHidden {
		return true
	}
	noise, ok := r.Privacy.Noise[selectionName]
	if !ok {
		return false
	}
	if selection == nil {
		selection = &draw{gaussian: r.Privacy.Mechanism[selectionName] == "gaussian", epsilon: noise.Epsilon}
		if selection.gaussian { // half of what the cut leaves is the noise's
			selection.delta = (noise.Delta - min(deltaOne, times(cutUnits, d.partitions(r.Privacy.MaxPartitions)))) / 2
		}
	}
	selection.epsilon = noise.Epsilon
	d.draws = append(d.draws, *selection)
	return true
}

// cutUnits is what the sampler's cut costs each coordinate, in units of delta.
const cutUnits = 5000

// partitions is in how many groups the number of customers can change, of private keys.
func (d *drawing) partitions(one int64) int64 {
	if d.question.Funnel != nil && d.first {
		return 2 * one
	}
	return times(d.most(), one)
}

// most is how far a block reaches that reaches farthest: of one whose rows decide where others count, what several add.
func (d *drawing) most() int64 {
	own, cohort := d.own(), int64(0)
	if len(d.question.Cohorts) > 0 {
		cohort = d.cohort()
	}
	return max(1, own, cohort)
}

func (d *drawing) own() int64 {
	if d.question.Funnel == nil && d.first {
		return 2*int64(len(d.measured)) - 1
	}
	return 1
}

func (d *drawing) cohort() int64 {
	if d.question.Funnel != nil {
		return 1
	}
	return int64(len(d.measured))
}

// reach is how far a block that the release touches reaches.
func (d *drawing) reach(dataset, block string) int64 {
	if dataset != d.question.Dataset {
		return d.cohort()
	}
	far := int64(0)
	if slices.Contains(d.measured, block) {
		far = d.own()
	}
	for _, c := range d.question.Cohorts {
		if c.Dataset != dataset {
			continue
		}
		if blocks, ok := blocksOf(c.From, c.To, d.block); ok && slices.Contains(blocks, block) {
			far = max(far, d.cohort())
		}
	}
	return far
}

// over is what the draw costs, in basic composition, who differ in all rows of one customer in all of these blocks: touched
// is the price of each and how many there are, reached what they reach together, rest what a block that reaches farthest
// was charged in delta. It is false where nothing is known but what group privacy says.
func (d *drawing) over(f *figures, reached, charged int64) (sum budget, ok bool) {
	most := d.most()
	if reached == 0 || reached > 1<<20 {
		return sum, false
	}
	n := max(1, (reached+most-1)/most)
	largest := int64(0)
	rest := charged
	for _, one := range d.draws {
		at := times(one.epsilon, n)
		if one.gaussian {
			if at, ok = f.pair(pairKey{one.epsilon, one.delta, n, d.apart}); !ok {
				return sum, false
			}
			sum.Delta += one.delta
			rest -= one.delta
		}
		if at == unbounded || plus(sum.Epsilon, at) == unbounded {
			return sum, false
		}
		sum.Epsilon += at
		largest = max(largest, at)
	}
	if rest < 0 || rest > deltaOne {
		return sum, false
	}
	cuts := times(times(rest, n), f.cutFactor(largest))
	if cuts >= deltaOne/2 {
		return sum, false
	}
	sum.Delta += cuts
	return sum, true
}

// blocksOf names the blocks of the days from one to another, both included, in order; all where there are no days.
func blocksOf(from, to, period string) (list []string, ok bool) {
	if from == "" || period == "all" {
		return []string{"all"}, true
	}
	first, err := time.Parse(time.DateOnly, from)
	last, err2 := time.Parse(time.DateOnly, to)
	if err != nil || err2 != nil || last.Before(first) || last.Year()-first.Year() > 1000 {
		return nil, false
	}
	for day := first; !day.After(last); {
		block := blockOf(day, period)
		list = append(list, block)
		_, end := datesOf(block)
		day = end.AddDate(0, 0, 1)
	}
	return list, true
}

// datesOf are the first and the last day of a block that is not all.
func datesOf(block string) (first, last time.Time) {
	from, to := span(block)
	return time.Date(from/12, time.Month(1+from%12), 1, 0, 0, 0, 0, time.UTC), time.Date(to/12, time.Month(2+to%12), 0, 0, 0, 0, 0, time.UTC)
}

// periodOf names the period of the calendar that a day lies in.
func periodOf(day time.Time, unit string) string {
	switch unit {
	case "day":
		return day.Format(time.DateOnly)
	case "week":
		year, week := day.ISOWeek()
		return time.Date(year, 1, week, 0, 0, 0, 0, time.UTC).Format(time.DateOnly) // as a name
	}
	return blockOf(day, unit)
}
