package load

import (
	"encoding/hex"
	"io"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// parquetColumn is a column that the policy names, and where reading it has come.
type parquetColumn struct {
	index int // among the leaves of the schema
	form  form
	kind  parquet.Kind
	scale int           // of decimals
	unit  time.Duration // of timestamps

	pages  parquet.Pages
	values parquet.ValueReader // of the current page; nil: the next one
}

// form is how the values of a column can be understood.
type form int

const (
	textForm form = iota
	uuidForm
	boolForm
	intForm
	uintForm
	decimalForm
	floatForm
	dateForm
	instantForm // a timestamp in UTC
	localForm   // a timestamp on the clocks of somewhere: of the policy's zone
)

// newParquetColumn understands the type of a column, or says what to do about it.
func newParquetColumn(c *parquet.Column) (column *parquetColumn, problem string) {
	switch {
	case !c.Leaf():
		return nil, "is a group or list: write its value as a column of its own"
	case c.Repeated():
		return nil, "holds several values in a row: write one value per row"
	}
	t := c.Type()
	column = &parquetColumn{index: c.Index(), kind: t.Kind()}
	var logical any
	if l := t.LogicalType(); l != nil {
		logical = l.Value
	}
	switch l := logical.(type) {
	case nil:
		return column, column.plain()
	case *format.StringType, *format.EnumType, *format.JsonType, *format.NullType:
		column.form = textForm
	case *format.UUIDType:
		column.form = uuidForm
	case *format.IntType:
		column.form = uintForm
		if l.IsSigned {
			column.form = intForm
		}
	case *format.DecimalType:
		column.form, column.scale = decimalForm, int(l.Scale)
		if column.scale < 0 || column.scale > mostScale {
			return nil, "has a scale that is not understood: write a decimal with fewer places"
		}
	case *format.DateType:
		column.form = dateForm
	case *format.TimestampType:
		column.form = localForm
		if l.IsAdjustedToUTC {
			column.form = instantForm
		}
		switch l.Unit.Value.(type) {
		case *format.MilliSeconds:
			column.unit = time.Millisecond
		case *format.MicroSeconds:
			column.unit = time.Microsecond
		case *format.NanoSeconds:
			column.unit = time.Nanosecond
		default:
			return nil, "has a unit of time that is not understood: write milliseconds, microseconds or nanoseconds"
		}
	default:
		return nil, "has a type that is not understood: write a string, number, date or timestamp"
	}
	return column, ""
}

// mostScale is the largest scale of a decimal that is read; its text stays shorter than a number may be.
const mostScale = 76

// plain understands a column that has no logical type.
func (c *parquetColumn) plain() (problem string) {
	switch c.kind {
	case parquet.Boolean:
		c.form = boolForm
	case parquet.Int32, parquet.Int64:
		c.form = intForm
	case parquet.Float, parquet.Double:
		c.form = floatForm
	case parquet.ByteArray:
		c.form = textForm // as older writers mark strings; what is no UTF-8 is rejected
	case parquet.Int96:
		return "is an INT96 timestamp, which does not say in which zone: write TIMESTAMP"
	default:
		return "holds bytes of fixed length: write a string, number, date or timestamp"
	}
	return ""
}

// check says what to do where the column cannot be what the policy makes of it, at some position of the wanted
// names. What depends on the values is left to them.
func (c *parquetColumn) check(p *parts, position int, timeFormat string) (problem string) {
	is := func(forms ...form) bool {
		for _, f := range forms {
			if c.form == f {
				return true
			}
		}
		return false
	}
	if position == p.columns.customer && !is(textForm, uuidForm, intForm, uintForm) {
		return "identifies customers: write strings or integers"
	}
	if position == p.columns.time {
		seconds := timeFormat == rows.UnixFormat || timeFormat == rows.UnixMsFormat
		if !is(textForm, dateForm, instantForm, localForm) && !(seconds && is(intForm, uintForm, floatForm, decimalForm)) {
			return "is the time: write a TIMESTAMP, a DATE, or what the policy's time format says"
		}
	}
	if position == p.columns.consent && !is(textForm, boolForm, intForm, uintForm, dateForm, instantForm, localForm) {
		return "is the consent: write a timestamp or date of when the customer agreed, or a boolean, integer or string"
	}
	for _, d := range p.columns.dimensions {
		switch {
		case d.position != position:
		case d.whole && !is(textForm, intForm, uintForm, decimalForm, floatForm):
			return "is an int dimension: write integers"
		case !d.whole && !is(textForm, uuidForm, boolForm, intForm, uintForm, dateForm):
			return "is a dimension: write strings, integers, booleans or dates; other values have more than one text"
		}
	}
	for _, m := range p.columns.measures {
		if m.position == position && !is(textForm, intForm, uintForm, decimalForm, floatForm) {
			return "is a measure: write decimals or integers"
		}
	}
	return ""
}

// readValues appends n values, of as many pages as it takes. They share the pages' memory, which is theirs.
func (c *parquetColumn) readValues(into []parquet.Value, n int) ([]parquet.Value, error) {
	for end := len(into) + n; len(into) < end; {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return into, err
			}
			c.values = page.Values()
		}
		if cap(into) < end {
			into = append(make([]parquet.Value, 0, end), into...)
		}
		read, err := c.values.ReadValues(into[len(into):end])
		into = into[:len(into)+read]
		switch {
		case err == io.EOF:
			c.values = nil
		case err != nil:
			return into, err
		case read == 0:
			return into, io.ErrNoProgress
		}
	}
	return into, nil
}

// parquetRecords makes cells of a chunk's columns.
type parquetRecords struct {
	columns []*parquetColumn
	chunk   *chunk
	at      int
	scratch []byte // of the texts of a row
}

func (r *parquetRecords) open(c *chunk) { r.chunk, r.at = c, 0 }

func (r *parquetRecords) next(cells []cell) (line int64, reason string, err error) {
	if r.at == len(r.chunk.columns[0]) {
		return 0, "", io.EOF
	}
	r.scratch = r.scratch[:0]
	for i, column := range r.columns {
		cells[i] = r.cell(column, r.chunk.columns[i][r.at])
	}
	r.at++
	return r.chunk.line + int64(r.at) - 1, "", nil
}

// cell writes a value as the text that a CSV file would hold, or gives a time as a number.
func (r *parquetRecords) cell(c *parquetColumn, v parquet.Value) cell {
	if v.IsNull() {
		return cell{}
	}
	start := len(r.scratch)
	text := func() string { return textOf(r.scratch[start:]) }
	switch c.form {
	case textForm:
		if v.Kind() != parquet.ByteArray && v.Kind() != parquet.FixedLenByteArray {
			return cell{kind: nested}
		}
		return cell{text: textOf(v.ByteArray())}
	case uuidForm:
		if v.Kind() != parquet.FixedLenByteArray || len(v.ByteArray()) != 16 {
			return cell{kind: nested}
		}
		r.scratch = appendUUID(r.scratch, v.ByteArray())
	case boolForm:
		r.scratch = strconv.AppendBool(r.scratch, v.Boolean())
	case intForm:
		r.scratch = strconv.AppendInt(r.scratch, wholeOf(v), 10)
	case uintForm:
		whole := v.Uint64()
		if v.Kind() == parquet.Int32 {
			whole = uint64(v.Uint32())
		}
		r.scratch = strconv.AppendUint(r.scratch, whole, 10)
	case decimalForm:
		r.scratch = appendDecimal(r.scratch, v, c.scale)
	case floatForm:
		if v.Kind() == parquet.Float {
			r.scratch = strconv.AppendFloat(r.scratch, float64(v.Float()), 'g', -1, 32)
		} else {
			r.scratch = strconv.AppendFloat(r.scratch, v.Double(), 'g', -1, 64)
		}
		return cell{text: text(), kind: floating}
	case dateForm:
		day := int64(v.Int32()) * millisPerDay
		r.scratch = time.UnixMilli(day).UTC().AppendFormat(r.scratch, time.DateOnly)
		return cell{text: text(), kind: local, ms: day}
	case instantForm, localForm:
		at := cell{text: "a timestamp", kind: local, ms: floorDiv(v.Int64(), int64(time.Millisecond/c.unit))}
		if c.form == instantForm {
			at.kind = instant
		}
		return at
	}
	return cell{text: text()}
}

const millisPerDay = 24 * 60 * 60 * 1000

// floorDiv is the greatest whole number not above a/b, for b above 0: fractions of a millisecond are cut off
// towards the past.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func wholeOf(v parquet.Value) int64 {
	if v.Kind() == parquet.Int32 {
		return int64(v.Int32())
	}
	return v.Int64()
}

// appendDecimal writes the unscaled number with a point where the scale has it, or with the scale as an exponent
// where it has fewer digits. Bytes are two's complement, the most
// significant first.
func appendDecimal(to []byte, v parquet.Value, scale int) []byte {
	start := len(to)
	switch v.Kind() {
	case parquet.Int32, parquet.Int64:
		to = strconv.AppendInt(to, wholeOf(v), 10)
	case parquet.ByteArray, parquet.FixedLenByteArray:
		b := v.ByteArray()
		if len(b) > mostDecimal {
			return append(to, "too long"...) // which is no number
		}
		n := new(big.Int).SetBytes(b)
		if len(b) > 0 && b[0] >= 0x80 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
		to = n.Append(to, 10)
	}
	switch point := len(to) - scale; {
	case scale == 0:
	case point > start && to[point-1] != '-':
		to = slices.Insert(to, point, '.')
	default:
		to = strconv.AppendInt(append(to, 'e'), int64(-scale), 10)
	}
	return to
}

// mostDecimal is the longest decimal, in bytes: 154 digits.
const mostDecimal = 64

func appendUUID(to, b []byte) []byte {
	for i, part := range [][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:16]} {
		if i > 0 {
			to = append(to, '-')
		}
		to = hex.AppendEncode(to, part)
	}
	return to
}
