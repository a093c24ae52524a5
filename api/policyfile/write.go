package policyfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Document is a policy in the shape of its file, with every default written out. Numbers are decimal text in
// the measure's own unit, exact, and are numbers in JSON. Parse reads its JSON back as the same policy.
type Document struct {
	Name       string              `json:"name"`
	Kind       string              `json:"kind"`
	Population int64               `json:"population"`
	Unit       UnitDocument        `json:"unit"`
	Time       *TimeDocument       `json:"time,omitempty"`
	Dimensions []DimensionDocument `json:"dimensions,omitempty"`
	Measures   []MeasureDocument   `json:"measures,omitempty"`
	Metrics    []MetricDocument    `json:"metrics,omitempty"`
	Bounds     BoundsDocument      `json:"bounds"`
	Cap        BudgetDocument      `json:"cap"`
	Default    BudgetDocument      `json:"default"`
	Purposes   []string            `json:"purposes"`
	Audiences  []string            `json:"audiences"`
	Link       *LinkDocument       `json:"link,omitempty"`
	TwoPerson  bool                `json:"two_person,omitempty"`
	Retain     string              `json:"retain,omitempty"` // such as 24 months, after a block has ended
}

// UnitDocument says whose rows are protected together: Column or Row.
type UnitDocument struct {
	Column string `json:"column,omitempty"`
	Row    bool   `json:"row,omitempty"`
	Block  string `json:"block"`
}

// TimeDocument says where a row's time stands.
type TimeDocument struct {
	Column   string `json:"column"`
	Timezone string `json:"timezone"`
	Format   string `json:"format"`
}

// DimensionDocument declares a dimension: Values or Selection.
type DimensionDocument struct {
	Name   string       `json:"name"`
	Column string       `json:"column,omitempty"` // where it differs from Name
	Type   string       `json:"type,omitempty"`   // where it is not string
	Bin    *BinDocument `json:"bin,omitempty"`
	// Values is a RangeDocument, or a list of texts and (for an int dimension) numbers.
	Values    any    `json:"values,omitempty"`
	Selection string `json:"selection,omitempty"`
	Parent    string `json:"parent,omitempty"`
	Other     string `json:"other,omitempty"`
	Missing   string `json:"missing,omitempty"`
	// Of and Groups are those of a dimension that is made of another: it has none of the above but Name and Other. Groups is a
	// GroupsDocument.
	Of     string `json:"of,omitempty"`
	Groups any    `json:"groups,omitempty"`
}

// GroupsDocument is an object of labels with their values, in declared order.
type GroupsDocument []dp.LabelGroup

// MarshalJSON writes the object.
func (g GroupsDocument) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, group := range g {
		label, err := json.Marshal(group.Label)
		if err != nil {
			return nil, fmt.Errorf("encoding a label: %w", err)
		}
		values, err := json.Marshal(group.Values)
		if err != nil {
			return nil, fmt.Errorf("encoding the values of a label: %w", err)
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(label)
		out.WriteByte(':')
		out.Write(values)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// BinDocument maps ints to multiples of Step.
type BinDocument struct {
	Step  int64  `json:"step"`
	Round string `json:"round"`
}

// RangeDocument stands for the ints from From to To, both included, in steps.
type RangeDocument struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
	Step int64 `json:"step"`
}

// MeasureDocument declares a measure.
type MeasureDocument struct {
	Name   string      `json:"name"`
	Column string      `json:"column,omitempty"` // where it differs from Name
	Scale  int         `json:"scale"`
	Lower  json.Number `json:"lower"`
	Upper  json.Number `json:"upper"`
	Kind   string      `json:"kind"`
}

// MetricDocument declares a metric.
type MetricDocument struct {
	Name      string      `json:"name"`
	Aggregate string      `json:"aggregate"`
	Measure   string      `json:"measure,omitempty"`
	Lower     json.Number `json:"lower,omitempty"`
	Upper     json.Number `json:"upper,omitempty"`
	Rank      json.Number `json:"rank,omitempty"` // of a quantile
	// Numerator and Denominator of a ratio, and Of of a share, are names of metrics.
	Numerator   string `json:"numerator,omitempty"`
	Denominator string `json:"denominator,omitempty"`
	PerDay      bool   `json:"per_day,omitempty"` // divides a ratio by the days of its group
	Of          string `json:"of,omitempty"`
	// Per customer reads one number of each customer in place of rows, without a measure how many rows or combinations of
	// Distinct.
	Per      string              `json:"per,omitempty"`
	Distinct []string            `json:"distinct,omitempty"`
	Where    []ConditionDocument `json:"where,omitempty"` // other rows do not count for the metric
}

// ConditionDocument is a condition of a metric.
type ConditionDocument struct {
	Field string    `json:"field"`
	Eq    *string   `json:"eq,omitempty"`
	In    *[]string `json:"in,omitempty"`
	NotIn *[]string `json:"not_in,omitempty"`
	Gte   *string   `json:"gte,omitempty"`
	Lte   *string   `json:"lte,omitempty"`
}

// BoundsDocument limits what one customer adds within one block.
type BoundsDocument struct {
	MaxPartitions int64 `json:"max_partitions"`
	MaxRows       int64 `json:"max_rows"`
}

// BudgetDocument is a ceiling on loss, or a price.
type BudgetDocument struct {
	Epsilon json.Number `json:"epsilon"`
	Delta   json.Number `json:"delta"`
}

// LinkDocument names the column that holds a row's consent.
type LinkDocument struct {
	Consent string `json:"consent"`
}

// JSON gives a policy in the shape of its file.
func JSON(p dp.Policy) Document {
	d := Document{
		Name:       p.Name,
		Kind:       string(p.Kind),
		Population: p.Population,
		Unit:       UnitDocument{Column: p.Unit.Column, Row: p.Unit.Row, Block: string(p.Unit.Block)},
		Bounds:     BoundsDocument(p.Bounds),
		Cap:        budgetDocument(p.Cap),
		Default:    budgetDocument(p.Default),
		Purposes:   p.Purposes,
		TwoPerson:  p.TwoPerson,
		Retain:     retainText(p),
	}
	if p.Time != nil {
		d.Time = (*TimeDocument)(p.Time)
	}
	scales := map[string]int{}
	for _, m := range p.Measures {
		scales[m.Name] = m.Scale
		d.Measures = append(d.Measures, measureDocument(m))
	}
	for _, dimension := range p.Dimensions {
		d.Dimensions = append(d.Dimensions, dimensionDocument(dimension))
	}
	for _, derived := range p.Derived {
		d.Dimensions = append(d.Dimensions, DimensionDocument{Name: derived.Name, Of: derived.Of, Groups: GroupsDocument(derived.Groups), Other: derived.Other})
	}
	for _, m := range p.Metrics {
		d.Metrics = append(d.Metrics, metricDocument(m, scales[m.Measure]))
	}
	for _, a := range p.Audiences {
		d.Audiences = append(d.Audiences, string(a))
	}
	if p.Link != nil {
		d.Link = (*LinkDocument)(p.Link)
	}
	return d
}

// Format writes a policy as a file that Parse reads back as the same policy.
func Format(p dp.Policy) ([]byte, error) {
	encoded, err := json.Marshal(JSON(p))
	if err != nil {
		return nil, fmt.Errorf("encoding policy: %w", err)
	}
	// The fields stand in the document's order, which a decoder of tokens keeps.
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.UseNumber()
	tree, err := decodeOrdered(decoder)
	if err != nil {
		return nil, fmt.Errorf("decoding policy: %w", err)
	}
	var out bytes.Buffer
	for _, f := range tree.(fields) {
		if items, ok := f.value.([]any); ok && len(items) > 0 && isMapping(items[0]) {
			fmt.Fprintf(&out, "%s:\n", f.key)
			for _, item := range items {
				fmt.Fprintf(&out, "  - %s\n", flow(item))
			}
			continue
		}
		fmt.Fprintf(&out, "%s: %s\n", f.key, flow(f.value))
	}
	return out.Bytes(), nil
}

func budgetDocument(b dp.Budget) BudgetDocument {
	return BudgetDocument{Epsilon: json.Number(b.Epsilon.String()), Delta: json.Number(b.Delta.String())}
}

func dimensionDocument(d dp.Dimension) DimensionDocument {
	out := DimensionDocument{Name: d.Name, Parent: d.Parent, Other: d.Other, Missing: d.Missing}
	if d.Column != d.Name {
		out.Column = d.Column
	}
	if d.Type == dp.IntDimension {
		out.Type = string(dp.IntDimension)
	}
	if d.Bin != nil {
		out.Bin = &BinDocument{Step: d.Bin.Step, Round: "down"}
		if d.Bin.Up {
			out.Bin.Round = "up"
		}
	}
	if d.Private {
		out.Selection = "private"
		return out
	}
	if r, ok := asRange(d); ok {
		out.Values = r
		return out
	}
	values := make([]any, len(d.Values))
	for i, value := range d.Values {
		values[i] = value
		if d.Type == dp.IntDimension && value != d.Other && value != d.Missing {
			values[i] = json.Number(value)
		}
	}
	out.Values = values
	return out
}

// asRange gives the range that Parse expands to the domain of d: three ints or more in equal steps upwards,
// followed by the labels of other and missing.
func asRange(d dp.Dimension) (RangeDocument, bool) {
	if d.Type != dp.IntDimension {
		return RangeDocument{}, false
	}
	var ints []int64
	for _, value := range d.Values {
		v, err := strconv.ParseInt(value, 10, 64)
		if err != nil || strconv.FormatInt(v, 10) != value {
			break
		}
		ints = append(ints, v)
	}
	if len(ints) < 3 {
		return RangeDocument{}, false
	}
	step := ints[1] - ints[0]
	for i := 1; i < len(ints); i++ {
		if step <= 0 || ints[i] <= ints[i-1] || ints[i]-ints[i-1] != step {
			return RangeDocument{}, false
		}
	}
	if d.Bin != nil && (ints[0]%d.Bin.Step != 0 || step%d.Bin.Step != 0) {
		return RangeDocument{}, false // a label among the numbers
	}
	rest := d.Values[len(ints):]
	for _, label := range []string{d.Other, d.Missing} {
		if len(rest) > 0 && label == rest[0] {
			rest = rest[1:]
		}
	}
	if len(rest) > 0 {
		return RangeDocument{}, false
	}
	return RangeDocument{From: ints[0], To: ints[len(ints)-1], Step: step}, true
}

func measureDocument(m dp.Measure) MeasureDocument {
	out := MeasureDocument{Name: m.Name, Scale: m.Scale, Lower: decimal(m.Lower, m.Scale), Upper: decimal(m.Upper, m.Scale), Kind: "flow"}
	if m.Column != m.Name {
		out.Column = m.Column
	}
	if m.Level {
		out.Kind = "level"
	}
	return out
}

func metricDocument(m dp.Metric, scale int) MetricDocument {
	out := MetricDocument{
		Name: m.Name, Aggregate: string(m.Aggregate), Measure: m.Measure, Rank: json.Number(m.Rank),
		Numerator: m.Numerator, Denominator: m.Denominator, PerDay: m.PerDay, Of: m.Of, Per: string(m.Per), Distinct: m.Distinct,
	}
	for _, c := range m.Where {
		condition := ConditionDocument{Field: c.Field, Eq: c.Eq, Gte: c.Gte, Lte: c.Lte}
		if c.In != nil {
			condition.In = &c.In
		}
		if c.NotIn != nil {
			condition.NotIn = &c.NotIn
		}
		out.Where = append(out.Where, condition)
	}
	if m.Lower != nil {
		out.Lower = decimal(*m.Lower, scale)
	}
	if m.Upper != nil {
		out.Upper = decimal(*m.Upper, scale)
	}
	return out
}

func decimal(v int64, scale int) json.Number { return json.Number(rows.FormatDecimal(v, scale)) }

// fields is a JSON object in its own order.
type fields []field

type field struct {
	key   string
	value any
}

func isMapping(v any) bool {
	_, ok := v.(fields)
	return ok
}

// decodeOrdered reads one JSON value; numbers keep their text.
func decodeOrdered(decoder *json.Decoder) (any, error) {
	t, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		var object fields
		for decoder.More() {
			key, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			value, err := decodeOrdered(decoder)
			if err != nil {
				return nil, err
			}
			object = append(object, field{key.(string), value})
		}
		_, err := decoder.Token()
		return object, err
	case json.Delim('['):
		items := []any{}
		for decoder.More() {
			item, err := decodeOrdered(decoder)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		_, err := decoder.Token()
		return items, err
	}
	return t, nil
}

// flow writes a value in one line of YAML.
func flow(v any) string {
	var parts []string
	switch v := v.(type) {
	case fields:
		for _, f := range v {
			parts = append(parts, quote(f.key)+": "+flow(f.value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		for _, item := range v {
			parts = append(parts, flow(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case string:
		return quote(v)
	}
	return fmt.Sprint(v) // numbers and booleans
}

// plainText needs no quotes in any YAML; what YAML 1.1 reads as a boolean or null gets them all the same.
var (
	plainText    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
	reservedText = regexp.MustCompile(`^(?i:true|false|yes|no|on|off|y|n|null|nan|inf)$`)
)

// quote writes text as a YAML scalar. JSON's escapes are YAML's.
func quote(text string) string {
	if plainText.MatchString(text) && !reservedText.MatchString(text) {
		return text
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		return strconv.Quote(text)
	}
	return strings.TrimSuffix(out.String(), "\n")
}
