package load

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// columns says where in a record the parts of a row stand. Several parts may read the same column.
type columns struct {
	names      []string // distinct headers that the policy names
	customer   int      // position in names; -1: every row is its own customer
	time       int      // -1: rows have no time
	consent    int      // -1: rows carry none
	dimensions []dimensionColumn
	measures   []measureColumn
}

func newColumns(p *dp.Policy) columns {
	c := columns{customer: -1, time: -1, consent: -1}
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
	if p.Link != nil {
		c.consent = c.position(p.Link.Consent)
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
	reasonColumns = "another number of columns than the header"
	reasonQuote   = "a quote in the wrong place: write a value with quotes in quotes, and each quote in it twice"
	reasonBlock   = "outside of the blocks that the load covers"
	reasonRetired = "in a block that is retired, of which no row is kept"
	reasonAbsent  = "missing"
)

// dimensionColumn says what a raw value of a dimension is. What it counts as is decided when a query runs,
// under the policy of then; a value that counts as nothing under the policy of now is rejected.
type dimensionColumn struct {
	position int
	name     string
	whole    bool // an int
	labels   *rows.Labeler
	missing  bool // an absent value has a label
}

func (d *dimensionColumn) read(c cell, most int) (t rows.Text, reason string) {
	switch {
	case c.kind == nested:
		return rows.Text{}, reasonNested
	case c.text == "" && d.missing:
		return rows.Text{}, ""
	case c.text == "":
		return rows.Text{}, reasonMissing
	}
	if reason := checkText(c.text, most); reason != "" {
		return rows.Text{}, reason
	}
	text := strings.Clone(c.text)
	if d.whole {
		var err error
		if text, err = rows.CanonicalInt(text); err != nil {
			return rows.Text{}, err.Error()
		}
	}
	t = rows.Text{Value: text, Valid: true}
	if _, ok := d.labels.Label(t); !ok {
		return rows.Text{}, reasonOutside
	}
	return t, ""
}

// readConsent tells whether a value says that the customer agrees: when they agreed, or a word. What tables write for no
// or for nothing says that they do not, in doubt too: nobody's rows are joined because of a word that was not understood.
func readConsent(c cell) (consents bool, reason string) {
	const longestNo = 8
	switch c.kind {
	case nested:
		return false, reasonNested
	case instant, local:
		return true, ""
	}
	text := c.text
	if len(text) <= longestNo || isSpace(text[0]) || isSpace(text[len(text)-1]) {
		text = strings.ToLower(strings.TrimSpace(text))
	}
	switch text {
	case "", "false", "f", "no", "n", "off", "none", "null", "nil", "nan", "nat", "n/a", "na", `\n`, "-":
		return false, ""
	}
	return strings.Trim(text, "0.+-") != "", "" // which a zero is, however it is written
}

// isSpace tells whether a byte may begin or end a white space.
func isSpace(b byte) bool { return b <= ' ' || b >= utf8.RuneSelf }

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
	if c.kind == nested {
		return rows.Number{}, errors.New(reasonNested)
	}
	if c.text == "" {
		return rows.Number{}, nil
	}
	if v, ok := shortDecimal(c.text, m.scale); ok {
		return rows.Number{Value: v, Valid: true}, nil
	}
	parse := rows.ParseDecimal
	if c.kind == floating {
		parse = rows.ParseExact
	}
	v, err := parse(c.text, m.scale)
	if err != nil {
		return rows.Number{}, err
	}
	return rows.Number{Value: v, Valid: true}, nil
}

// shortDecimal is rows.ParseDecimal for what most files hold: an optional minus, up to 18 digits, and no more
// decimals than the scale.
func shortDecimal(text string, scale int) (v int64, ok bool) {
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	const most = 18 // digits that fit, with those that the scale adds
	if len(text) == 0 || len(text)+scale > most {
		return 0, false
	}
	decimals := -1 // before the point
	for i := range len(text) {
		switch digit := text[i] - '0'; {
		case digit <= 9:
			v = v*10 + int64(digit)
			if decimals >= 0 {
				decimals++
			}
		case text[i] == '.' && decimals < 0 && len(text) > 1:
			decimals = 0
		default:
			return 0, false
		}
	}
	decimals = max(decimals, 0)
	if decimals > scale {
		return 0, false
	}
	for range scale - decimals {
		v *= 10
	}
	if negative {
		v = -v
	}
	return v, true
}
