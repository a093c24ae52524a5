package export

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/discreet-analytics/discreet/dp"
)

// batch is how many rows one Arrow record has.
const batch = 8192

// Arrow writes an IPC stream with the columns of CSV. A part that a figure's key does not have is null.
func Arrow(w io.Writer, r Report) error {
	keys := r.keys()
	_, ofKeys := columns(keys)
	t := newTable(slices.Concat(texts("run", "question", "dataset", "release"), []arrow.Field{{Name: "level", Type: arrow.PrimitiveTypes.Int32}},
		labels(ofKeys), texts("metric"), floats("value", "low", "high", "sd"), []arrow.Field{{Name: "stale", Type: arrow.FixedWidthTypes.Boolean}}))
	return t.write(w, func(end func() error) error {
		return r.each(func(f Figure) error {
			row := t.row()
			for _, s := range []string{f.Run, f.Question, f.Dataset, f.Release} {
				row.text(s)
			}
			row.int(f.Level)
			for _, name := range keys {
				value, has := f.Key[name]
				row.label(value, has)
			}
			row.text(f.Metric)
			for _, v := range []float64{f.Value, f.Low, f.High, f.SD} {
				row.float(v)
			}
			row.bool(f.Stale)
			return end()
		})
	})
}

// ReleaseArrow writes an IPC stream with a column for each part of the key and four for each metric, as its CSV has.
// Where levels were reconciled, a column says which level a group is of, and parts that it leaves out are null.
func ReleaseArrow(w io.Writer, r dp.Release) error {
	fields := labels(r.By)
	if len(r.Levels) > 0 {
		fields = append(fields, arrow.Field{Name: levelName(r), Type: arrow.PrimitiveTypes.Int32})
	}
	for _, m := range r.Metrics {
		fields = append(fields, floats(m, m+"_low", m+"_high", m+"_sd")...)
	}
	t := newTable(fields)
	return t.write(w, func(end func() error) error {
		for _, g := range r.Groups {
			row := t.row()
			for i, name := range r.By {
				row.label(g.Key[i], g.Level == 0 || slices.Contains(r.Levels[g.Level-1], name))
			}
			if len(r.Levels) > 0 {
				row.int(g.Level)
			}
			for _, v := range g.Values {
				for _, f := range []float64{v.Value, v.Low, v.High, v.SD} {
					row.float(f)
				}
			}
			if err := end(); err != nil {
				return err
			}
		}
		return nil
	})
}

func texts(names ...string) []arrow.Field { return fields(arrow.BinaryTypes.String, false, names) }
func labels(names []string) []arrow.Field { return fields(arrow.BinaryTypes.String, true, names) }
func floats(names ...string) []arrow.Field {
	return fields(arrow.PrimitiveTypes.Float64, false, names)
}

func fields(t arrow.DataType, nullable bool, names []string) (list []arrow.Field) {
	for _, name := range names {
		list = append(list, arrow.Field{Name: name, Type: t, Nullable: nullable})
	}
	return list
}

// table builds Arrow records row by row.
type table struct {
	schema  *arrow.Schema
	builder *array.RecordBuilder
	rows    int
}

func newTable(fields []arrow.Field) *table {
	schema := arrow.NewSchema(fields, nil)
	return &table{schema: schema, builder: array.NewRecordBuilder(memory.DefaultAllocator, schema)}
}

// write writes what rows adds, calling end after each row.
func (t *table) write(w io.Writer, rows func(end func() error) error) error {
	out := ipc.NewWriter(w, ipc.WithSchema(t.schema))
	defer t.builder.Release()
	flush := func() error {
		record := t.builder.NewRecordBatch()
		defer record.Release()
		t.rows = 0
		if err := out.Write(record); err != nil {
			return fmt.Errorf("writing Arrow: %w", err)
		}
		return nil
	}
	err := rows(func() error {
		if t.rows++; t.rows < batch {
			return nil
		}
		return flush()
	})
	if err == nil && t.rows > 0 {
		err = flush()
	}
	if closed := out.Close(); err == nil && closed != nil {
		err = fmt.Errorf("writing Arrow: %w", closed)
	}
	return err
}

// row fills one row from left to right.
type row struct {
	t  *table
	at int
}

func (t *table) row() *row { return &row{t: t} }

func (r *row) next() array.Builder {
	r.at++
	return r.t.builder.Field(r.at - 1)
}

func (r *row) text(s string) { r.label(s, true) }

// label cuts texts that are not UTF-8, which a row's bytes can be: Arrow has no others.
func (r *row) label(s string, has bool) {
	b := r.next().(*array.StringBuilder)
	if !has {
		b.AppendNull()
		return
	}
	b.Append(strings.ToValidUTF8(s, "\uFFFD"))
}

func (r *row) int(n int)       { r.next().(*array.Int32Builder).Append(int32(n)) }
func (r *row) bool(b bool)     { r.next().(*array.BooleanBuilder).Append(b) }
func (r *row) float(f float64) { r.next().(*array.Float64Builder).Append(f) }
