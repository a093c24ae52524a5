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
		Privacy: dp.Privacy{Unit: "customer", Block: dp.Month, Loss: dp.Loss{Epsilon: dp.EpsilonOne / 2}}, Blocks: []dp.BlockVersion{{Block: "2026-01"}},
		Charge: dp.Charge{Loss: dp.Loss{Epsilon: dp.EpsilonOne / 2}, Also: []dp.Touched{{Dataset: "app", Blocks: []string{"2026-02", "2026-03"}, Loss: dp.Loss{Epsilon: dp.EpsilonOne}}}}, Notes: []string{"Clamped."}}
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
	return reportOf(levels, dots)
}

// reportOf is a report of releases, of which the last is stale.
func reportOf(releases ...dp.Release) Report {
	r := Report{Name: "Week & <b>", ID: "rep_1", State: "done", Created: time.Date(2026, 4, 1, 8, 0, 0, 0, time.UTC), Missing: []string{"q3 has no answer: spent."}}
	for i, release := range releases {
		r.Answers = append(r.Answers, Answer{Run: "1", Question: []string{"weeks", "shops"}[i%2], Release: release.ID, By: release.By, Stale: i == len(releases)-1})
	}
	r.Read = func(id string) (dp.Release, error) {
		for _, release := range releases {
			if release.ID == id {
				return release, nil
			}
		}
		return dp.Release{}, errors.New("no such release")
	}
	return r
}

func mustRead(t *testing.T, r Report, answer int) dp.Release {
	t.Helper()
	release, err := r.Read(r.Answers[answer].Release)
	if err != nil {
		t.Fatal(err)
	}
	return release
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
	if got := strings.Join(lines[0], " "); got != "run question dataset release level region time.week shop metric value low high sd stale" || len(lines) != 1+13+2 {
		t.Fatalf("%d lines, the first %q", len(lines), got)
	}
	for i, want := range map[int]string{1: "1|weeks|shop|rel_1|0|north|2026-W01||spend|0|-20|30|10|false", 9: "1|weeks|shop|rel_1|1||2026-W01||spend|0|-20|30|10|false", 13: "1|weeks|shop|rel_1|2||||spend|1200|1180|1230|10|false", 15: "1|shops|shop|rel_2|0|||b, \"c\"\xff|rows|1234567|1234547|1234597|10|true"} {
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
	levels, dots := mustRead(t, sample(), 0), mustRead(t, sample(), 1)
	for range 3000 { // more than one record
		dots.Groups = append(dots.Groups, dots.Groups[0], dots.Groups[0], dots.Groups[1])
	}
	r := reportOf(levels, dots)
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
		if stale := record.Column(13).(*array.Boolean); record.ColumnName(13) != "stale" || stale.Value(0) != (batches == 1) {
			t.Errorf("in record %d, stale reads back as %v", batches, stale.Value(0))
		}
		rows, batches = rows+int(record.NumRows()), batches+1
	}
	if in.Err() != nil || rows != 13+2+9000 || batches != 2 {
		t.Errorf("read %d rows in %d records, %v", rows, batches, in.Err())
	}

	b.Reset()
	if err := ReleaseArrow(&b, levels); err != nil {
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
	for _, part := range []string{"&lt;script&gt;", "Week &amp; &lt;b&gt;", "q3 has no answer", "spend by time.week", "rows by shop", "epsilon 0.5 on 2026-01; and epsilon 1 on each of 2 blocks of app", "intervals hold with 90 %", "Clamped.", "1234567", "Rows were loaded"} {
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
	c := chartOf(mustRead(t, sample(), 1), 0, 0)
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

// TestNoTextIsAFormula: labels are what customers, shops and terminals wrote, and spreadsheets run what begins so.
func TestNoTextIsAFormula(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "grocery": "grocery", "-5": "-5", "+1.5e3": "+1.5e3", "=1+1": "'=1+1", "@SUM(A1)": "'@SUM(A1)", "-2+3+cmd|' /C calc'!A0": "'-2+3+cmd|' /C calc'!A0",
		"+cmd": "'+cmd", "\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1", "\uFF1D1": "'\uFF1D1", "-": "'-", "-Inf": "'-Inf", "a=b": "a=b", "\xff=": "\xff=", "Überall": "Überall",
	} {
		if got := Cell(text); got != want {
			t.Errorf("%q is written as %q, not %q", text, got, want)
		}
	}
	r := dp.Release{ID: "rel_1", Dataset: "shop", By: []string{"city"}, Metrics: []string{"=m"}, Groups: []dp.Group{{Key: []string{`=HYPERLINK("http://x")`}, Values: []dp.Value{{Value: -6, Low: -8, High: -4, SD: 1}}}}}
	var one, all bytes.Buffer
	if err := ReleaseCSV(&one, r); err != nil || one.String() != "city,'=m,'=m_low,'=m_high,'=m_sd\n\"'=HYPERLINK(\"\"http://x\"\")\",-6,-8,-4,1\n" {
		t.Errorf("a release is %q, %v", one.String(), err)
	}
	if err := CSV(&all, reportOf(r)); err != nil || strings.Contains(all.String(), ",=") || strings.Contains(all.String(), `,"=`) || !strings.Contains(all.String(), ",-6,-8,-4,1,") {
		t.Errorf("a report is %q, %v", all.String(), err)
	}
}

func TestReleaseOfLevelsSaysWhichAGroupIsOf(t *testing.T) {
	var b bytes.Buffer
	if err := ReleaseCSV(&b, mustRead(t, sample(), 0)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if lines[0] != "region,time.week,level,spend,spend_low,spend_high,spend_sd" || lines[1] != "north,2026-W01,0,0,-20,30,10" || lines[9] != ",2026-W01,1,0,-20,30,10" || lines[13] != ",,2,1200,1180,1230,10" {
		t.Errorf("it is\n%s", b.String())
	}
}

// TestColumnsHaveNamesOfTheirOwn: a dimension may be called as a column is.
func TestColumnsHaveNamesOfTheirOwn(t *testing.T) {
	by := []string{"dataset", "key_value", "value"}
	r := dp.Release{ID: "rel_1", By: by, Metrics: []string{"rows"}, Groups: []dp.Group{{Key: []string{"d", "kv", "v"}, Values: []dp.Value{{Value: 1}}}}}
	var b bytes.Buffer
	if err := CSV(&b, reportOf(r)); err != nil || b.String() != "run,question,dataset,release,level,key_dataset,key_value,key_key_value,metric,value,low,high,sd,stale\n1,weeks,,rel_1,0,d,kv,v,rows,1,0,0,0,true\n" {
		t.Errorf("it is %q, %v", b.String(), err)
	}
	b.Reset()
	if err := Arrow(&b, reportOf(r)); err != nil {
		t.Fatal(err)
	}
	in, err := ipc.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range in.Schema().Fields() {
		if seen[f.Name] {
			t.Errorf("two columns are named %s", f.Name)
		}
		seen[f.Name] = true
	}
	if got := levelName(dp.Release{By: []string{"level"}, Metrics: []string{"level_"}}); got != "level__" {
		t.Errorf("the column of levels is %s", got)
	}
}

// TestAnswersAreReadOneByOne: all of a report may be larger than memory, and a page ends somewhere.
func TestAnswersAreReadOneByOne(t *testing.T) {
	r := sample()
	read := r.Read
	for len(r.Answers) < maxSections+7 {
		r.Answers = append(r.Answers, r.Answers[1])
	}
	for name, write := range map[string]func(io.Writer, Report) error{"csv": CSV, "ndjson": NDJSON, "arrow": Arrow, "html": Page} {
		var b bytes.Buffer
		reads := 0
		r.Read = func(id string) (dp.Release, error) {
			if reads++; name != "arrow" && reads == 100 && b.Len() < 4096 { // what was read before is written
				t.Errorf("%s: after %d answers only %d bytes are written", name, reads, b.Len())
			}
			return read(id)
		}
		want := len(r.Answers)
		if name == "html" {
			want = maxSections
		}
		if err := write(&b, r); err != nil || reads != want {
			t.Errorf("%s: %d answers were read of %d, %v", name, reads, want, err)
		}
		if name == "html" && (!strings.Contains(b.String(), "The 7 earliest answers") || strings.Count(b.String(), "<h2>") != maxSections || !strings.HasSuffix(strings.TrimSpace(b.String()), "</html>")) {
			t.Error("the page does not end as it should")
		}
		r.Read = func(string) (dp.Release, error) { return dp.Release{}, errors.New("gone") }
		if err := write(io.Discard, r); err == nil {
			t.Errorf("%s: an answer that cannot be read is left out", name)
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
