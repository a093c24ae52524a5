package export

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/discreet-analytics/discreet/dp"
)

// sample is a report of two answers: one over time with levels, one by a key whose label means something to a browser.
func sample() Report {
	value := func(v float64) []dp.Value { return []dp.Value{{Value: v, Low: v - 20, High: v + 30, SD: 10}} }
	levels := dp.Release{ID: "rel_1", Dataset: "shop", Confidence: "0.95", By: []string{"region", "time.week"}, Metrics: []string{"spend"}, Levels: [][]string{{"time.week"}, {}},
		Privacy: dp.Privacy{Unit: "customer", Block: dp.Month, Loss: dp.Loss{Epsilon: dp.EpsilonOne / 2}}, Blocks: []dp.BlockVersion{{Block: "2026-01"}}, Notes: []string{"Clamped."}}
	for _, region := range []string{"north", "south"} {
		for week := range 4 {
			levels.Groups = append(levels.Groups, dp.Group{Key: []string{region, fmt.Sprintf("2026-W%02d", week+1)}, Values: value(float64(100 * week))})
		}
	}
	for week := range 4 {
		levels.Groups = append(levels.Groups, dp.Group{Level: 1, Key: []string{"", fmt.Sprintf("2026-W%02d", week+1)}, Values: value(float64(200 * week))})
	}
	levels.Groups = append(levels.Groups, dp.Group{Level: 2, Key: []string{"", ""}, Values: value(1200)})
	dots := dp.Release{ID: "rel_2", Dataset: "shop", Confidence: "0.9", By: []string{"shop"}, Metrics: []string{"rows"}, Privacy: dp.Privacy{Unit: "row"}, Blocks: []dp.BlockVersion{{Block: "2026-01"}, {Block: "2026-02"}},
		Groups: []dp.Group{{Key: []string{"<script>alert(1)</script>"}, Values: value(-6)}, {Key: []string{"b, \"c\"\xff"}, Values: value(1234567)}}}
	return Report{Name: "Week & <b>", ID: "rep_1", State: "done", Created: time.Date(2026, 4, 1, 8, 0, 0, 0, time.UTC),
		Answers: []Answer{{"1", "weeks", levels}, {"1", "shops", dots}}, Missing: []string{"q3 has no answer: spent."}}
}

func TestCSVHasALineForEachFigure(t *testing.T) {
	var b bytes.Buffer
	if err := CSV(&b, sample()); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(lines[0], " "); got != "run question dataset release level region time.week shop metric value low high sd" || len(lines) != 1+13+2 {
		t.Fatalf("%d lines, the first %q", len(lines), got)
	}
	for i, want := range map[int]string{1: "1|weeks|shop|rel_1|0|north|2026-W01||spend|0|-20|30|10", 9: "1|weeks|shop|rel_1|1||2026-W01||spend|0|-20|30|10", 13: "1|weeks|shop|rel_1|2||||spend|1200|1180|1230|10", 15: "1|shops|shop|rel_2|0|||b, \"c\"\xff|rows|1234567|1234547|1234597|10"} {
		if got := strings.Join(lines[i], "|"); got != want {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
}

func TestNDJSONHasAnObjectForEachFigure(t *testing.T) {
	var b bytes.Buffer
	if err := NDJSON(&b, sample()); err != nil {
		t.Fatal(err)
	}
	var all []Figure
	for d := json.NewDecoder(&b); ; {
		var f Figure
		if err := d.Decode(&f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	if len(all) != 15 || all[0].Key["region"] != "north" || len(all[12].Key) != 0 || all[12].Level != 2 || all[8].Key["time.week"] != "2026-W01" || len(all[8].Key) != 1 {
		t.Errorf("read %+v", all)
	}
}

func TestArrowReadsBackAsItWasWritten(t *testing.T) {
	r := sample()
	for range 3000 { // more than one record
		r.Answers[1].Release.Groups = append(r.Answers[1].Release.Groups, r.Answers[1].Release.Groups[0], r.Answers[0].Release.Groups[0], r.Answers[1].Release.Groups[0])
	}
	r.Answers[1].Release.By = []string{"shop"}
	for i, g := range r.Answers[1].Release.Groups {
		r.Answers[1].Release.Groups[i].Key = g.Key[:1]
	}
	var b bytes.Buffer
	if err := Arrow(&b, r); err != nil {
		t.Fatal(err)
	}
	in, err := ipc.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Release()
	rows, batches := 0, 0
	for in.Next() {
		record := in.RecordBatch()
		region, value := record.Column(5).(*array.String), record.Column(9).(*array.Float64)
		if batches == 0 && (record.ColumnName(5) != "region" || region.Value(0) != "north" || !region.IsNull(8) || value.Value(12) != 1200) {
			t.Errorf("read %v", record)
		}
		rows, batches = rows+int(record.NumRows()), batches+1
	}
	if in.Err() != nil || rows != 13+2+9000 || batches != 2 {
		t.Errorf("read %d rows in %d records, %v", rows, batches, in.Err())
	}

	b.Reset()
	if err := ReleaseArrow(&b, sample().Answers[0].Release); err != nil {
		t.Fatal(err)
	}
	if in, err = ipc.NewReader(&b); err != nil || !in.Next() {
		t.Fatal(err)
	}
	record := in.RecordBatch()
	if record.NumRows() != 13 || record.ColumnName(2) != "level" || record.ColumnName(4) != "spend_low" || record.Column(2).(*array.Int32).Value(12) != 2 || !record.Column(1).IsNull(12) {
		t.Errorf("a release reads back as %v", record)
	}
}

func TestEmptyReportCanBeWritten(t *testing.T) {
	for name, write := range map[string]func(io.Writer, Report) error{"csv": CSV, "ndjson": NDJSON, "arrow": Arrow, "html": Page} {
		var b bytes.Buffer
		if err := write(&b, Report{Name: "nothing"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "arrow" {
			if _, err := ipc.NewReader(&b); err != nil {
				t.Error(err)
			}
		}
	}
	var none dp.Release
	none.Metrics, none.Groups = []string{"m"}, nil
	if err := ReleaseArrow(io.Discard, none); err != nil {
		t.Error(err)
	}
}

func TestPageNeedsNothingElseAndRunsNothing(t *testing.T) {
	var b bytes.Buffer
	if err := Page(&b, sample()); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, forbidden := range []string{"<script", "src=", "href=", "url(", "@import", "onload", "javascript:", "<b>"} {
		if strings.Contains(strings.ToLower(page), forbidden) {
			t.Errorf("the page holds %q", forbidden)
		}
	}
	for _, part := range []string{"&lt;script&gt;", "Week &amp; &lt;b&gt;", "q3 has no answer", "spend by time.week", "rows by shop", "epsilon 0.5 on 2026-01", "intervals hold with 90 %", "Clamped.", "1234567"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page does not hold %q", part)
		}
	}
	// Two panels and one of all over time, each with three ribbons; two rows and the total with three bands each.
	for pattern, want := range map[string]int{"<polygon ": 9, "<polyline ": 3, "<rect ": 9, "<svg ": 4} {
		if got := strings.Count(page, pattern); got != want {
			t.Errorf("the page has %d of %q, want %d", got, pattern, want)
		}
	}
	for _, svg := range regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(page, -1) {
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("a chart is not well-formed: %v", err)
			}
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("a chart has a coordinate that is no number:\n%s", svg)
		}
	}
}

func TestBandsLieWithinEachOther(t *testing.T) {
	c := chartOf(sample().Answers[1].Release, 0, 0)
	for _, r := range c.Rows {
		if len(r.Bands) != 3 {
			t.Fatalf("a row has %d bands", len(r.Bands))
		}
		for i, b := range r.Bands {
			if r.Dot < b.From-1e-9 || r.Dot > b.From+b.Width+1e-9 || i > 0 && (b.From < r.Bands[i-1].From || b.From+b.Width > r.Bands[i-1].From+r.Bands[i-1].Width) {
				t.Errorf("bands %+v around %g", r.Bands, r.Dot)
			}
		}
	}
}

func TestTicksAreRound(t *testing.T) {
	for _, s := range []scale{{0, 1, 0, 100}, {-30, 1234567, 0, 100}, {-0.002, 0.01, 0, 100}, {0, 1e12, 100, 0}} {
		ticks := s.ticks(6)
		if len(ticks) < 2 || len(ticks) > 8 {
			t.Errorf("from %g to %g there are %d ticks", s.low, s.high, len(ticks))
		}
		zero := false
		for _, k := range ticks {
			zero = zero || k.Zero && k.Label == "0"
			if len(k.Label) > 7 {
				t.Errorf("a tick says %q", k.Label)
			}
		}
		if !zero {
			t.Errorf("from %g to %g no tick is 0", s.low, s.high)
		}
	}
}
