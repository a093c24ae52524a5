// Package export writes figures for other programs and for people: releases and reports as Arrow, reports as CSV, NDJSON
// and one HTML page that needs nothing else. It owns these shapes. It decides nothing: what may be read is decided
// before, and every figure keeps its interval.
package export

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/discreet-analytics/discreet/dp"
)

// Report is a report with the answers that it has.
type Report struct {
	Name    string
	ID      string
	State   string
	Created time.Time
	Answers []Answer
	Missing []string // questions without an answer, in words
}

// Answer is one question's release.
type Answer struct {
	Run      string // the block of a scheduled run, else its number
	Question string
	Release  dp.Release
}

// keys are the names of all parts of keys, in the order in which answers bring them.
func (r Report) keys() (names []string) {
	for _, a := range r.Answers {
		for _, name := range a.Release.By {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Figure is one figure of a report: a row of its exports.
type Figure struct {
	Run      string            `json:"run"`
	Question string            `json:"question"`
	Dataset  string            `json:"dataset"`
	Release  string            `json:"release"`
	Level    int               `json:"level"` // 0: the finest
	Key      map[string]string `json:"key"`
	Metric   string            `json:"metric"`
	Value    float64           `json:"value"`
	Low      float64           `json:"low"`
	High     float64           `json:"high"`
	SD       float64           `json:"sd"`
}

// each calls take with every figure, answer by answer.
func (r Report) each(take func(Figure) error) error {
	for _, a := range r.Answers {
		for _, g := range a.Release.Groups {
			f := Figure{Run: a.Run, Question: a.Question, Dataset: a.Release.Dataset, Release: a.Release.ID, Level: g.Level, Key: map[string]string{}}
			for i, name := range a.Release.By {
				if g.Level == 0 || slices.Contains(a.Release.Levels[g.Level-1], name) {
					f.Key[name] = g.Key[i]
				}
			}
			for i, metric := range a.Release.Metrics {
				v := g.Values[i]
				f.Metric, f.Value, f.Low, f.High, f.SD = metric, v.Value, v.Low, v.High, v.SD
				if err := take(f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// CSV writes a line for each figure: where it comes from, a column for every key that any question has, the figure and
// its interval. Parts that a figure's key does not have are empty.
func CSV(w io.Writer, r Report) error {
	keys := r.keys()
	out := csv.NewWriter(w)
	if err := out.Write(slices.Concat([]string{"run", "question", "dataset", "release", "level"}, keys, []string{"metric", "value", "low", "high", "sd"})); err != nil {
		return err
	}
	err := r.each(func(f Figure) error {
		record := []string{f.Run, f.Question, f.Dataset, f.Release, strconv.Itoa(f.Level)}
		for _, name := range keys {
			record = append(record, f.Key[name])
		}
		return out.Write(append(record, f.Metric, text(f.Value), text(f.Low), text(f.High), text(f.SD)))
	})
	out.Flush()
	if err == nil {
		err = out.Error()
	}
	return err
}

func text(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// NDJSON writes an object for each figure.
func NDJSON(w io.Writer, r Report) error {
	e := json.NewEncoder(w)
	return r.each(func(f Figure) error { return e.Encode(f) })
}

// batch is how many rows one Arrow record has.
const batch = 8192

// Arrow writes an IPC stream with the columns of CSV. A part that a figure's key does not have is null.
func Arrow(w io.Writer, r Report) error {
	keys := r.keys()
	t := newTable(slices.Concat(texts("run", "question", "dataset", "release"), []arrow.Field{{Name: "level", Type: arrow.PrimitiveTypes.Int32}},
		labels(keys), texts("metric"), floats("value", "low", "high", "sd")))
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
			return end()
		})
	})
}

// ReleaseArrow writes an IPC stream with a column for each part of the key and four for each metric, as its CSV has.
// Where levels were reconciled, a column says which level a group is of, and parts that it leaves out are null.
func ReleaseArrow(w io.Writer, r dp.Release) error {
	fields := labels(r.By)
	if len(r.Levels) > 0 {
		fields = append(fields, arrow.Field{Name: "level", Type: arrow.PrimitiveTypes.Int32})
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
func (r *row) float(f float64) { r.next().(*array.Float64Builder).Append(f) }
