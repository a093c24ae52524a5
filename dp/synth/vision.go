package synth

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// vision is how the columns of a policy's rows are made. It is never changed after it was prepared.
type vision struct {
	policy          *dp.Policy
	columns         []*seen // in the order of the header
	order           []*seen // parents before their children
	rowsPerCustomer float64
}

// seen is a column. Several parts of a policy may read the same one.
type seen struct {
	header                  string
	customer, time, consent bool
	dimensions              []*labels
	measures                []*dp.Measure
	lead                    *labels // the dimension that decides what is drawn; nil: another part does
	number                  uint64
	spare                   string // a value that all parts take
	parent                  *seen  // is drawn before; nil: none
}

// newVision lists the columns: unit, time, dimensions, measures, consent. Derived dimensions have none.
func newVision(p *dp.Policy, s Imagination) *vision {
	v := &vision{policy: p, rowsPerCustomer: max(1, s.RowsPerMonth)}
	if !p.Unit.Row {
		v.column(p.Unit.Column).customer = true
	}
	if p.Time != nil {
		v.column(p.Time.Column).time = true
	}
	for i := range p.Dimensions {
		d := &p.Dimensions[i]
		c := v.column(header(d.Column, d.Name))
		c.dimensions = append(c.dimensions, newLabels(p, d))
	}
	for i := range p.Measures {
		m := &p.Measures[i]
		c := v.column(header(m.Column, m.Name))
		c.measures = append(c.measures, m)
	}
	if p.Link != nil {
		v.column(p.Link.Consent).consent = true
	}
	for _, c := range v.columns {
		// A public domain leaves the least choice, a measure less than made-up texts.
		for _, l := range c.dimensions {
			if c.lead == nil || c.lead.dimension.Private && !l.dimension.Private {
				c.lead = l
			}
		}
		if c.customer || c.time || c.lead != nil && c.lead.dimension.Private && len(c.measures) > 0 {
			c.lead = nil
		}
	}
	return v
}

func header(column, name string) string {
	if column != "" {
		return column
	}
	return name
}

func (v *vision) column(name string) *seen {
	for _, c := range v.columns {
		if c.header == name {
			return c
		}
	}
	v.columns = append(v.columns, &seen{header: name, number: uint64(len(v.columns))})
	return v.columns[len(v.columns)-1]
}

// prepare orders the columns, and finds for each that is read in several ways a value that fits all of them.
func (v *vision) prepare(b *Bank) error {
	leads := make(map[string]*seen)
	for _, c := range v.columns {
		if c.lead != nil {
			leads[c.lead.dimension.Name] = c
		}
	}
	for _, c := range v.columns {
		if c.lead != nil {
			c.parent = leads[c.lead.dimension.Parent]
		}
	}
	var add func(c *seen)
	add = func(c *seen) {
		if slices.Contains(v.order, c) {
			return
		}
		if c.parent != nil && c.parent != c {
			add(c.parent)
		}
		v.order = append(v.order, c)
	}
	for _, c := range v.columns {
		add(c)
	}

	m := newMaker(b)
	painter := v.painter(m)
	someone := m.customer(0, b.size.Days)
	painter.meet(0, &someone)
	d := b.day(0)
	for _, c := range v.order {
		m.seed(m.key(habits), c.number)
		const tries = 2000
		fits := false
		for try := 0; try < tries && !fits; try++ {
			painter.draw(c, &d, 0, true)
			c.spare = painter.texts[c.number]
			fits = c.takes(c.spare)
		}
		if !fits || c.time && slices.ContainsFunc(c.dimensions, func(l *labels) bool { return !l.dimension.Private && l.dimension.Other == "" }) {
			return fmt.Errorf("the policy reads column %q in several ways, and no value was found that fits all of them", c.header)
		}
	}
	return nil
}

// takes tells whether every part that reads the column takes a value, as a load does.
func (c *seen) takes(text string) bool {
	for _, l := range c.dimensions {
		raw := rows.Text{Value: text, Valid: text != ""}
		if raw.Valid && l.dimension.Type == dp.IntDimension {
			canonical, err := rows.CanonicalInt(text)
			if err != nil {
				return false
			}
			raw.Value = canonical
		}
		if _, ok := l.labeler.Label(raw); !ok {
			return false
		}
	}
	for _, m := range c.measures {
		if _, err := rows.ParseDecimal(text, m.Scale); text != "" && err != nil {
			return false
		}
	}
	return true
}

// painter makes rows, for one maker.
type painter struct {
	*vision
	m *maker

	id      uint64
	who     *customer
	habits  []float64 // of the customer, by column: in [0, 1)
	volumes []float64 // of the customer, by column: normal

	ranks []int // of the row, by column: which of the labels was drawn, or -1
	texts []string
}

func (v *vision) painter(m *maker) *painter {
	n := len(v.columns)
	return &painter{vision: v, m: m, habits: make([]float64, n), volumes: make([]float64, n), ranks: make([]int, n), texts: make([]string, n)}
}

// meet goes on to another customer. It leaves the maker as it was, so that rows do not depend on who was met before.
func (p *painter) meet(index uint64, c *customer) {
	p.id, p.who = p.m.customerID(index), c
	key := p.m.key(habits)
	for i := range p.habits {
		p.habits[i] = unit(lot(key, index, uint64(2*i)))
		p.volumes[i] = math.Sqrt2 * math.Erfinv(2*max(unit(lot(key, index, uint64(2*i+1))), 1e-12)-1)
	}
}

// row makes one row at a second of a day.
func (p *painter) row(d *day, second int) *record {
	const tries = 16
	for _, c := range p.order {
		p.draw(c, d, second, false)
		if len(c.dimensions)+len(c.measures) < 2 || c.customer || c.time {
			continue
		}
		for try := 0; !c.takes(p.texts[c.number]); try++ {
			if try == tries {
				p.texts[c.number], p.ranks[c.number] = c.spare, -1
				break
			}
			p.draw(c, d, second, true)
		}
	}
	r := &p.m.record
	r.begin()
	for i, text := range p.texts {
		if text == "" && len(p.texts) == 1 { // an empty line is no record
			r.line = append(r.line, `""`...)
		}
		r.quoted(p.texts[i])
	}
	return r.end()
}

// habitual is the share of rows in which customers keep to what they are used to.
const habitual = 0.5

// draw makes the value of a column. A value that is drawn again follows no habit.
func (p *painter) draw(c *seen, d *day, second int, again bool) {
	text := &p.texts[c.number]
	p.ranks[c.number] = -1
	switch {
	case c.customer:
		*text = fmt.Sprintf("c%016x", p.id)
	case c.time:
		*text = p.when(d, second)
	case c.lead != nil:
		u := p.m.uniform()
		// What happens is no habit of anybody.
		if !again && c.lead.dimension.Name != "event" && p.m.uniform() < habitual {
			u = p.habits[c.number]
		}
		under, of := -1, ""
		if c.parent != nil {
			under, of = p.ranks[c.parent.number], p.texts[c.parent.number]
		}
		*text, p.ranks[c.number] = c.lead.draw(p.m, u, c.parent, under, of)
	case len(c.measures) > 0:
		m := c.measures[0]
		scale := m.Scale
		value := p.flow(m)
		if m.Level {
			value = p.level(m, c, d)
		}
		if len(c.dimensions) > 0 || len(c.measures) > 1 { // whole numbers fit most
			unit := math.Pow10(scale)
			value, scale = math.Round(value/unit), 0
		}
		*text = rows.FormatDecimal(int64(value), scale)
	default:
		*text = p.m.linkedAt(p.who, d)
	}
}

// when writes a second of a day as the policy's times are written.
func (p *painter) when(d *day, second int) string {
	at := d.start.Add(time.Duration(second) * time.Second)
	switch format := p.policy.Time.Format; format {
	case rows.RFC3339Format:
		if _, offset := at.Zone(); offset%60 != 0 { // of before there were zones, which RFC 3339 cannot write
			at = at.UTC()
		}
		return at.Format(time.RFC3339)
	case rows.DateFormat:
		return d.date.String()
	case rows.UnixFormat:
		return strconv.FormatInt(at.Unix(), 10)
	case rows.UnixMsFormat:
		return strconv.FormatInt(at.UnixMilli(), 10)
	default:
		// The day is the calendar's, whatever the clocks show that were put back over midnight.
		date := d.date.String()
		return strings.NewReplacer("YYYY", date[:4], "MM", date[5:7], "DD", date[8:], "hh", at.Format("15"), "mm", at.Format("04"), "ss", at.Format("05")).Replace(format)
	}
}

// The laws of measures, in parts of the clamp's width.
const (
	flowMedian, flowSigma   = 0.15, 0.9
	levelMedian, levelSigma = 0.25, 0.9
)

// flow draws a lognormal amount, of which about two in a hundred lie beyond the clamp, in units of 10^-scale.
func (p *painter) flow(m *dp.Measure) float64 {
	lower, upper := float64(m.Lower), float64(m.Upper)
	amount := p.m.lognormal(flowMedian, flowSigma) * p.who.spending
	value := lower + amount*(upper-lower)
	switch {
	case lower < 0 && upper > 0: // what comes and what goes
		if p.m.uniform() < -lower/(upper-lower) {
			value = amount * lower
		} else {
			value = amount * upper
		}
	case upper <= 0:
		value = upper - amount*(upper-lower)
	}
	return stored(value)
}

// level is a balance: the customer's own, filled on a payday of their own and emptied until the next, slowly moving, and
// a little different every time one looks.
func (p *painter) level(m *dp.Measure, c *seen, d *day) float64 {
	size := levelMedian * math.Exp(levelSigma*p.volumes[c.number])
	phase := p.habits[c.number]
	_, sincePayday := math.Modf((float64(d.date.Day)-1)/31 + phase)
	slow := math.Sin(2 * math.Pi * (float64(d.number)/91 + phase))
	size *= 1.25 - 0.5*sincePayday + 0.15*slow + 0.03*p.m.NormFloat64()
	return stored(float64(m.Lower) + size*(float64(m.Upper)-float64(m.Lower)))
}

// stored keeps a number within what a row can hold.
func stored(value float64) float64 { return math.Round(max(-1<<62, min(value, 1<<62))) }
