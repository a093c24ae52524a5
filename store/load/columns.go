package load

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// columns says where in a record the parts of a row stand. Several parts may read the same column.
type columns struct {
	names      []string // distinct headers that the policy names
	customer   int      // position in names; -1: every row is its own customer
	time       int      // -1: rows have no time
	dimensions []dimensionColumn
	measures   []measureColumn
}

func newColumns(p *dp.Policy) columns {
	c := columns{customer: -1, time: -1}
	if !p.Unit.Row {
		c.customer = c.position(p.Unit.Column)
	}
	if p.Time != nil {
		c.time = c.position(p.Time.Column)
	}
	for i := range p.Dimensions {
		d := &p.Dimensions[i]
		labels := rows.NewLabeler(d)
		_, missing := labels.Label(rows.Text{})
		c.dimensions = append(c.dimensions, dimensionColumn{
			position: c.position(header(d.Column, d.Name)), name: d.Name,
			whole: d.Type == dp.IntDimension, labels: labels, missing: missing,
		})
	}
	for _, m := range p.Measures {
		c.measures = append(c.measures, measureColumn{position: c.position(header(m.Column, m.Name)), name: m.Name, scale: m.Scale})
	}
	return c
}

func (c *columns) position(name string) int {
	for i, have := range c.names {
		if have == name {
			return i
		}
	}
	c.names = append(c.names, name)
	return len(c.names) - 1
}

func header(column, name string) string {
	if column != "" {
		return column
	}
	return name
}

// The reasons that are not those of dp/rows.
const (
	reasonNested  = "an object or array where a value was expected"
	reasonMissing = "missing, and the policy declares neither missing nor other"
	reasonOutside = "outside of the domain, and the policy declares no other"
	reasonUTF8    = "not valid UTF-8"
)

// dimensionColumn reads the raw value of a dimension. What it counts as is decided when a query runs, under
// the policy of then; a value that counts as nothing under the policy of now is rejected.
type dimensionColumn struct {
	position int
	name     string
	whole    bool // an int
	labels   *rows.Labeler
	missing  bool // an absent value has a label
}

func (d *dimensionColumn) read(c cell, most int) (t rows.Text, reason string) {
	switch {
	case c.nested:
		return rows.Text{}, reasonNested
	case c.text == "" && d.missing:
		return rows.Text{}, ""
	case c.text == "":
		return rows.Text{}, reasonMissing
	}
	text := c.text
	if reason := checkText(text, most); reason != "" {
		return rows.Text{}, reason
	}
	if d.whole {
		var err error
		if text, err = canonicalInt(text); err != nil {
			return rows.Text{}, err.Error()
		}
	}
	t = rows.Text{Value: text, Valid: true}
	if _, ok := d.labels.Label(t); !ok {
		return rows.Text{}, reasonOutside
	}
	return t, ""
}

// canonicalInt is rows.CanonicalInt without a new string for what is canonical already.
func canonicalInt(text string) (string, error) {
	v, err := rows.ParseInt(text)
	if err != nil {
		return "", err
	}
	var scratch [20]byte
	if canonical := strconv.AppendInt(scratch[:0], v, 10); string(canonical) != text {
		return string(canonical), nil
	}
	return text, nil
}

// checkText refuses what could not be told apart, or not be written, once it is stored.
func checkText(text string, most int) (reason string) {
	if len(text) > most {
		return fmt.Sprintf("longer than %d bytes", most)
	}
	if !utf8.ValidString(text) {
		return reasonUTF8
	}
	return ""
}

// measureColumn reads the number of a measure; absent is null.
type measureColumn struct {
	position int
	name     string
	scale    int
}

func (m *measureColumn) read(c cell) (rows.Number, error) {
	if c.nested {
		return rows.Number{}, errors.New(reasonNested)
	}
	if c.text == "" {
		return rows.Number{}, nil
	}
	v, err := rows.ParseDecimal(c.text, m.scale)
	if err != nil {
		return rows.Number{}, err
	}
	return rows.Number{Value: v, Valid: true}, nil
}
