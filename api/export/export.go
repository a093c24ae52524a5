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
	"unicode/utf8"

	"github.com/discreet-analytics/discreet/dp"
)

// Report is a report with the answers that it has. They are read one at a time: all of them may be larger than memory.
type Report struct {
	Name    string
	ID      string
	State   string
	Created time.Time
	Answers []Answer
	Missing []string // questions without an answer, in words
	// Read reads the release of an answer.
	Read func(id string) (dp.Release, error)
}

// Answer is one question's release.
type Answer struct {
	Run      string // the block of a scheduled run, else its number
	Question string
	Release  string   // its id
	By       []string // the parts of its key, in any order
	Stale    bool     // rows were loaded since it was drawn
}

// keys are the names of all parts of keys, in the order in which answers bring them.
func (r Report) keys() (names []string) {
	for _, a := range r.Answers {
		for _, name := range slices.Sorted(slices.Values(a.By)) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// columns are those of a table of figures, with those of keys among them: a key that is named as another column is has key_
// before its name.
func columns(keys []string) (names, ofKeys []string) {
	first, last := []string{"run", "question", "dataset", "release", "level"}, []string{"metric", "value", "low", "high", "sd", "stale"}
	for _, key := range keys {
		for slices.Contains(first, key) || slices.Contains(last, key) || slices.Contains(ofKeys, key) {
			key = "key_" + key
		}
		ofKeys = append(ofKeys, key)
	}
	return slices.Concat(first, ofKeys, last), ofKeys
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
	Stale    bool              `json:"stale"` // rows were loaded since it was drawn
}

// each calls take with every figure, answer by answer.
func (r Report) each(take func(Figure) error) error {
	for _, a := range r.Answers {
		release, err := r.Read(a.Release)
		if err != nil {
			return fmt.Errorf("reading the answer to %s: %w", a.Question, err)
		}
		for _, g := range release.Groups {
			f := Figure{Run: a.Run, Question: a.Question, Dataset: release.Dataset, Release: release.ID, Level: g.Level, Key: map[string]string{}, Stale: a.Stale}
			for i, name := range release.By {
				if g.Level == 0 || slices.Contains(release.Levels[g.Level-1], name) {
					f.Key[name] = g.Key[i]
				}
			}
			for i, metric := range release.Metrics {
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
	names, _ := columns(keys)
	out := csv.NewWriter(w)
	if err := out.Write(cells(names)); err != nil {
		return err
	}
	err := r.each(func(f Figure) error {
		record := []string{f.Run, f.Question, f.Dataset, f.Release, strconv.Itoa(f.Level)}
		for _, name := range keys {
			record = append(record, Cell(f.Key[name]))
		}
		return out.Write(append(record, Cell(f.Metric), text(f.Value), text(f.Low), text(f.High), text(f.SD), strconv.FormatBool(f.Stale)))
	})
	out.Flush()
	if err == nil {
		err = out.Error()
	}
	return err
}

// ReleaseCSV writes a line for each group: a column for each part of the key and four for each metric. Where levels were
// reconciled, a column says which level a group is of, 0 the finest, and parts that it leaves out are empty.
func ReleaseCSV(w io.Writer, r dp.Release) error {
	out := csv.NewWriter(w)
	record := slices.Clone(r.By)
	if len(r.Levels) > 0 {
		record = append(record, levelName(r))
	}
	for _, m := range r.Metrics {
		record = append(record, m, m+"_low", m+"_high", m+"_sd")
	}
	if err := out.Write(cells(record)); err != nil {
		return err
	}
	for _, g := range r.Groups {
		record = append(record[:0], cells(g.Key)...)
		if len(r.Levels) > 0 {
			record = append(record, strconv.Itoa(g.Level))
		}
		for _, v := range g.Values {
			record = append(record, text(v.Value), text(v.Low), text(v.High), text(v.SD))
		}
		if err := out.Write(record); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// levelName is that of the column of levels, which no part of the key and no metric has.
func levelName(r dp.Release) string {
	name := "level"
	for slices.Contains(r.By, name) || slices.Contains(r.Metrics, name) {
		name += "_"
	}
	return name
}

// Cell is a text as CSV has it. Spreadsheets take some texts for formulas, which can send what stands beside them
// elsewhere (OWASP, "CSV Injection"), and a label can be what anybody had written on a receipt: an apostrophe is put before
// those, as spreadsheets themselves do. Numbers stay as they are.
func Cell(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 || !strings.ContainsRune("=+-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20", first) {
		return s
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil && strings.Trim(s, "+-.0123456789eE") == "" {
		return s
	}
	return "'" + s
}

func cells(texts []string) []string {
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = Cell(s)
	}
	return out
}

func text(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// NDJSON writes an object for each figure.
func NDJSON(w io.Writer, r Report) error {
	e := json.NewEncoder(w)
	return r.each(func(f Figure) error { return e.Encode(f) })
}
