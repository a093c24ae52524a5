package load

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

func TestCSVBecomesTypedRows(t *testing.T) {
	records := mustRead(t, spend(), CSV, "\xef\xbb\xbfid,when,notes,shop,visits,Amount (EUR)\r\n"+
		"ann,2026-01-31T23:30:00Z,x,grocery,026.0,1.005\r\n"+
		"\r\n"+
		"\"bob\",2026-02-01T00:30:00+01:00,\"two\r\nlines\",,7,\r\n"+
		"ann,2026-03-29T01:30:00Z,x,kiosk,-0,1e2\r\n")
	want := []Record{
		{Line: 2, Block: "2026-02", Row: rows.Row{Customer: ids("ann"), Time: 1769902200000,
			Dimensions: []rows.Text{{Value: "grocery", Valid: true}, {Value: "26", Valid: true}}, Measures: []rows.Number{{Value: 100, Valid: true}}}},
		{Line: 4, Block: "2026-02", Row: rows.Row{Customer: ids("bob"), Time: 1769902200000,
			Dimensions: []rows.Text{{}, {Value: "7", Valid: true}}, Measures: []rows.Number{{}}}},
		{Line: 6, Block: "2026-03", Row: rows.Row{Customer: ids("ann"), Time: 1774747800000,
			Dimensions: []rows.Text{{Value: "kiosk", Valid: true}, {Value: "0", Valid: true}}, Measures: []rows.Number{{Value: 10000, Valid: true}}}},
	}
	if !reflect.DeepEqual(records, want) {
		t.Fatalf("got  %+v\nwant %+v", records, want)
	}
}

func TestRejectsNameTheLineAndTheReason(t *testing.T) {
	const header = "id,when,shop,visits,Amount (EUR)\n"
	const good = "ann,2026-01-05T10:00:00Z,grocery,1,1\n"
	long := strings.Repeat("SECRET77", 1000)
	for name, c := range map[string]struct{ csv, reason string }{
		"customer missing":        {",2026-01-05T10:00:00Z,grocery,1,1", "customer: missing"},
		"customer not UTF-8":      {"SECRET77\xff,2026-01-05T10:00:00Z,grocery,1,1", "customer: not valid UTF-8"},
		"customer too long":       {long + ",2026-01-05T10:00:00Z,grocery,1,1", "customer: longer than 4096 bytes"},
		"time missing":            {"ann,,grocery,1,1", "time: missing"},
		"time malformed":          {"ann,SECRET77,grocery,1,1", "time: not a time in the policy's format"},
		"time outside":            {"ann,2027-01-05T10:00:00Z,grocery,1,1", "time: outside of the blocks that the load covers"},
		"dimension too long":      {"ann,2026-01-05T10:00:00Z," + long + ",1,1", "shop: longer than 4096 bytes"},
		"dimension not UTF-8":     {"ann,2026-01-05T10:00:00Z,SECRET77\xff,1,1", "shop: not valid UTF-8"},
		"int missing":             {"ann,2026-01-05T10:00:00Z,grocery,,1", "visits: missing, and the policy declares neither missing nor other"},
		"int outside":             {"ann,2026-01-05T10:00:00Z,grocery,778899,1", "visits: outside of the domain, and the policy declares no other"},
		"int not whole":           {"ann,2026-01-05T10:00:00Z,grocery,SECRET77,1", "visits: not a whole number: write digits with an optional sign, such as 26"},
		"measure not a number":    {"ann,2026-01-05T10:00:00Z,grocery,1,SECRET77", "amount: not a decimal number: write digits with an optional sign, point and exponent, such as -12.50 or 1e3"},
		"measure out of range":    {"ann,2026-01-05T10:00:00Z,grocery,1,778899e30", "amount: number out of range for 64-bit fixed point"},
		"too few columns":         {"ann,2026-01-05T10:00:00Z,SECRET77", "another number of columns than the header"},
		"too many columns":        {"ann,2026-01-05T10:00:00Z,grocery,1,1,SECRET77", "another number of columns than the header"},
		"quote in a bare value":   {`ann,2026-01-05T10:00:00Z,SECRET77"x,1,1`, "a quote in the wrong place: write a value with quotes in quotes, and each quote in it twice"},
		"text after a quote ends": {`"SECRET77"x,2026-01-05T10:00:00Z,grocery,1,1`, "a quote in the wrong place: write a value with quotes in quotes, and each quote in it twice"},
	} {
		t.Run(name, func(t *testing.T) {
			records := mustRead(t, spend(), CSV, header+good+c.csv+"\n"+good)
			if len(records) != 3 {
				t.Fatalf("got %d records, want the bad one between two good ones", len(records))
			}
			if records[0].Reason != "" || records[2].Reason != "" || records[2].Line != 4 {
				t.Errorf("neighbours: %+v, %+v", records[0], records[2])
			}
			if r := records[1]; r.Reason != c.reason || r.Line != 3 {
				t.Errorf("line %d: %q, want line 3: %q", r.Line, r.Reason, c.reason)
			}
			if strings.Contains(records[1].Reason, "SECRET77") || strings.Contains(records[1].Reason, "778899") {
				t.Error("the reason echoes the value")
			}
		})
	}
}

func TestUnusableInputIsRefusedWithAdvice(t *testing.T) {
	const row = "ann,2026-01-05T10:00:00Z,grocery,1,1\n"
	for name, c := range map[string]struct {
		format Format
		text   string
		code   dp.Code
		says   string
	}{
		"empty":             {CSV, "", dp.CodeInvalidInput, "no header"},
		"missing columns":   {CSV, "id,when,SECRET77\n" + row, dp.CodeInvalidInput, "Amount (EUR): is not in the header"},
		"column twice":      {CSV, "id,when,shop,visits,Amount (EUR),shop\n", dp.CodeInvalidInput, "shop: is in the header more than once"},
		"semicolons":        {CSV, "id;when;shop;visits;Amount (EUR)\n", dp.CodeInvalidInput, "separate columns by commas"},
		"broken header":     {CSV, "id,when,sh\"op\n", dp.CodeInvalidInput, "header: a quote"},
		"too many columns":  {CSV, strings.Repeat("x,", 2000) + "id,when,shop,visits,Amount (EUR)\n", dp.CodeTooLarge, "more than 1000 columns"},
		"utf-16":            {CSV, "\xff\xfei\x00d\x00", dp.CodeInvalidInput, "UTF-16"},
		"gzip undeclared":   {CSV, "\x1f\x8b\x08\x00", dp.CodeInvalidInput, "Content-Encoding: gzip"},
		"field never there": {NDJSON, `{"id":"ann","when":"2026-01-05T10:00:00Z","shop":"grocery","visits":1}`, dp.CodeInvalidInput, "Amount (EUR): is in no record"},
		"format not spelt":  {"tsv", "", dp.CodeInvalidInput, "CSV (text/csv"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(spend(), strings.NewReader(c.text), Source{Format: c.format})
			checkRefusal(t, err, c.code, c.says)
		})
	}
}

func TestLimitsEndReadingInConstantMemory(t *testing.T) {
	endless := func(text string) io.Reader {
		return io.MultiReader(strings.NewReader("id,when,shop,visits,Amount (EUR)\n"), forever(text))
	}
	_, err := read(spend(), endless(`"never closed,`), Source{Format: CSV})
	checkRefusal(t, err, dp.CodeTooLarge, "a quote that is never closed")

	_, err = read(spend(), endless("ann,2026-01-05T10:00:00Z,grocery,1,1\n"), Source{Format: CSV, Limits: Limits{Bytes: 1 << 20}})
	checkRefusal(t, err, dp.CodeTooLarge, "more than 1048576 bytes")

	_, err = read(spend(), forever("no newline "), Source{Format: CSV})
	checkRefusal(t, err, dp.CodeTooLarge, "header is longer")

	_, err = read(spend(), forever("no newline "), Source{Format: NDJSON, Limits: Limits{Bytes: 4 << 20}})
	checkRefusal(t, err, dp.CodeTooLarge, "more than 4194304 bytes")

	bomb := packed(t, bytes.Repeat([]byte("ann,2026-01-05T10:00:00Z,grocery,1,1\n"), 100_000))
	_, err = read(spend(), bytes.NewReader(bomb), Source{Format: CSV, Gzip: true, Limits: Limits{Bytes: 1 << 20}})
	if err == nil || len(bomb) > 1<<20 {
		t.Errorf("%d compressed bytes of 3.7 MB were read under a limit of 1 MiB: %v", len(bomb), err)
	}
}

func TestInputOfExactlyTheLimitIsRead(t *testing.T) {
	text := "id,when,shop,visits,Amount (EUR)\nann,2026-01-05T10:00:00Z,grocery,1,1\n"
	for _, most := range []int{len(text), len(text) - 1} {
		_, err := read(spend(), iotest.DataErrReader(strings.NewReader(text)), Source{Format: CSV, Limits: Limits{Bytes: int64(most)}})
		if (err == nil) != (most == len(text)) {
			t.Errorf("%d bytes under a limit of %d: %v", len(text), most, err)
		}
	}
}

func TestGzipIsDecodedAndDamageIsRefused(t *testing.T) {
	text := "id,when,shop,visits,Amount (EUR)\n" + strings.Repeat("ann,2026-01-05T10:00:00Z,grocery,1,1\n", 1000)
	whole := packed(t, []byte(text))
	got, err := read(spend(), bytes.NewReader(whole), Source{Format: CSV, Gzip: true})
	if err != nil || len(got) != 1000 {
		t.Fatalf("got %d records, %v", len(got), err)
	}
	_, err = read(spend(), bytes.NewReader(whole[:len(whole)-9]), Source{Format: CSV, Gzip: true})
	checkRefusal(t, err, dp.CodeInvalidInput, "ends too early")
	damaged := slices.Clone(whole)
	damaged[len(damaged)-6] ^= 1
	_, err = read(spend(), bytes.NewReader(damaged), Source{Format: CSV, Gzip: true})
	checkRefusal(t, err, dp.CodeInvalidInput, "not what gzip wrote")
	_, err = read(spend(), strings.NewReader(text), Source{Format: CSV, Gzip: true})
	checkRefusal(t, err, dp.CodeInvalidInput, "not what gzip wrote")
}

func TestErrorsOfTheReaderBelowAreKept(t *testing.T) {
	cut := errors.New("connection lost")
	body := io.MultiReader(strings.NewReader("id,when,shop,visits,Amount (EUR)\nann,"), iotest.ErrReader(cut))
	if _, err := read(spend(), body, Source{Format: CSV}); !errors.Is(err, cut) {
		t.Errorf("got %v", err)
	}
	body = io.MultiReader(strings.NewReader(`{"id":`), iotest.ErrReader(cut))
	if _, err := read(spend(), body, Source{Format: NDJSON}); !errors.Is(err, cut) {
		t.Errorf("got %v", err)
	}
}

func TestNDJSONBecomesTypedRows(t *testing.T) {
	records := mustRead(t, spend(), NDJSON, `{"id":17,"when":"2026-01-05T10:00:00Z","extra":{"a":["}",{"\"":1}]},"shop":"gro\u0063ery","visits":26.0,"Amount (EUR)":"1.5"}`+"\r\n\n"+
		` { "Amount (EUR)" : -2.5e-1 , "visits" : "3", "shop":null,"id":"1\"7","when":"2026-01-05T10:00:00Z" } `)
	want := []Record{
		{Line: 1, Block: "2026-01", Row: rows.Row{Customer: ids("17"), Time: 1767607200000,
			Dimensions: []rows.Text{{Value: "grocery", Valid: true}, {Value: "26", Valid: true}}, Measures: []rows.Number{{Value: 150, Valid: true}}}},
		{Line: 3, Block: "2026-01", Row: rows.Row{Customer: ids(`1"7`), Time: 1767607200000,
			Dimensions: []rows.Text{{}, {Value: "3", Valid: true}}, Measures: []rows.Number{{Value: -25, Valid: true}}}},
	}
	if !reflect.DeepEqual(records, want) {
		t.Fatalf("got  %+v\nwant %+v", records, want)
	}
}

func TestNDJSONRejects(t *testing.T) {
	const good = `{"id":"a","when":"2026-01-05T10:00:00Z","shop":"grocery","visits":1,"Amount (EUR)":1}` + "\n"
	for name, c := range map[string]struct{ line, reason string }{
		"not json":       {`{"id":"SECRET77",}`, "not JSON: write one object per line"},
		"not an object":  {`["SECRET77"]`, "not a JSON object"},
		"twice":          {`{"id":"a","id":"SECRET77"}`, "a field that the policy names is there twice"},
		"not UTF-8":      {"{\"id\":\"SECRET77\xff\"}", "not valid UTF-8"},
		"null customer":  {`{"id":null,"when":"2026-01-05T10:00:00Z"}`, "customer: missing"},
		"absent time":    {`{"id":"a"}`, "time: missing"},
		"nested id":      {`{"id":{"SECRET77":1}}`, "customer: an object or array where a value was expected"},
		"nested time":    {`{"id":"a","when":[]}`, "time: an object or array where a value was expected"},
		"nested shop":    {`{"id":"a","when":"2026-01-05T10:00:00Z","shop":[1]}`, "shop: an object or array where a value was expected"},
		"nested measure": {`{"id":"a","when":"2026-01-05T10:00:00Z","visits":1,"Amount (EUR)":{}}`, "amount: an object or array where a value was expected"},
		"too long":       {`{"id":"` + strings.Repeat("x", 1<<20) + `"}`, "longer than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			records := mustRead(t, spend(), NDJSON, good+c.line+"\n"+good)
			if len(records) != 3 || records[1].Line != 2 || records[1].Reason != c.reason || records[2].Line != 3 || records[2].Reason != "" {
				t.Fatalf("got %+v, want %q", records, c.reason)
			}
		})
	}
}

func TestColumnMayServeSeveralParts(t *testing.T) {
	p := spend()
	p.Measures = append(p.Measures, dp.Measure{Name: "visits_sum", Column: "visits", Lower: 0, Upper: 9})
	records := mustRead(t, p, CSV, "id,when,shop,visits,Amount (EUR)\nann,2026-01-05T10:00:00Z,grocery,7,1\n")
	if r := records[0].Row; r.Dimensions[1].Value != "7" || r.Measures[1].Value != 7 {
		t.Errorf("got %+v", r)
	}
}

func linked() *dp.Policy {
	return &dp.Policy{Name: "linked", Unit: dp.Unit{Column: "id", Block: dp.All}, Link: &dp.Link{Consent: "linked_at"}}
}

func TestConsentIsWhatSaysSo(t *testing.T) {
	for text, want := range map[string]bool{
		"2026-02-13": true, "2026-02-13T10:00:00Z": true, "true": true, "TRUE": true, "yes": true, "1": true, "1770974400": true, " x ": true, "0x1": true, "0.5": true, "ünited": true,
		"": false, "  ": false, "\u00a0\u00a0\u00a0\u00a0\u00a0": false, "0": false, "0.0": false, "-0": false, "false": false, "FALSE": false, " No ": false, "no": false, "n": false, "f": false, "off": false,
		"null": false, "NULL": false, "None": false, "NaN": false, "NaT": false, "N/A": false, `\N`: false, "-": false, "                                  no": false,
	} {
		quoted := `"` + text + `"`
		for format, line := range map[Format]string{CSV: "id,linked_at\nann," + quoted + "\n", NDJSON: `{"id":"ann","linked_at":` + jsonText(text) + "}\n"} {
			records := mustRead(t, linked(), format, line)
			if len(records) != 1 || records[0].Reason != "" || records[0].Row.Consented != want {
				t.Errorf("%s %q: %+v, want %v", format, text, records, want)
			}
		}
	}
	for value, want := range map[string]bool{"true": true, "1": true, "1770974400000": true, "false": false, "null": false, "0": false, "0.00": false} {
		records := mustRead(t, linked(), NDJSON, `{"id":"ann","linked_at":`+value+"}\n")
		if records[0].Reason != "" || records[0].Row.Consented != want {
			t.Errorf("JSON %s: %+v, want %v", value, records[0], want)
		}
	}
	records := mustRead(t, linked(), NDJSON, `{"id":"ann","linked_at":["SECRET77"]}`+"\n"+`{"id":"ann"}`+"\n"+`{"id":"ann","linked_at":1}`+"\n")
	if records[0].Reason != "consent: an object or array where a value was expected" || records[1].Row.Consented || !records[2].Row.Consented {
		t.Errorf("got %+v", records)
	}
	without := linked()
	without.Link = nil
	if r := mustRead(t, without, CSV, "id,linked_at\nann,2026-02-13\n"); r[0].Row.Consented {
		t.Error("a row carries consent that no policy asks for")
	}
}

// A file that has forgotten the column must not pass for one in which nobody agrees.
func TestFileWithoutTheConsentColumnIsRefused(t *testing.T) {
	_, err := read(linked(), strings.NewReader("id\nann\n"), Source{Format: CSV})
	checkRefusal(t, err, dp.CodeInvalidInput, "linked_at: is not in the header")
	_, err = read(linked(), strings.NewReader(`{"id":"ann"}`), Source{Format: NDJSON})
	checkRefusal(t, err, dp.CodeInvalidInput, "linked_at: is in no record")
}

func TestRowsWithoutTimeLieInTheOneBlock(t *testing.T) {
	p := spend()
	p.Time = nil
	p.Unit = dp.Unit{Row: true, Block: dp.All}
	records := mustRead(t, p, CSV, "shop,visits,Amount (EUR)\ngrocery,7,1\ngrocery,7,1\n")
	if records[0].Block != "all" || records[0].Row.Time != 0 {
		t.Errorf("got %+v", records[0])
	}
	if records[0].Row.Customer == records[1].Row.Customer {
		t.Error("two rows are one customer")
	}
}

func TestBlockOfEveryInstantIsTheCalendars(t *testing.T) {
	for _, zone := range []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu"} {
		for _, unit := range []dp.Block{dp.Month, dp.Quarter, dp.Year} {
			p := spend()
			p.Time.Timezone, p.Unit.Block = zone, unit
			loc, err := rows.Location(p)
			if err != nil {
				t.Fatal(err)
			}
			b := newBlocks(p, loc, nil, "")
			random := rand.New(rand.NewPCG(1, 2))
			for range 2000 {
				// A few years around, and often within a minute of where a month of UTC begins.
				ms := random.Int64N(20*365*24*3600*1000) + 1_000_000_000_000
				if random.IntN(2) == 0 {
					first := time.UnixMilli(ms).UTC()
					ms = time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, loc).UnixMilli() + random.Int64N(120_000) - 60_000
				}
				if got, _ := b.find(ms); got != rows.BlockOf(ms, unit, loc) {
					t.Fatalf("%s %s: %d lies in %s, found %s", zone, unit, ms, rows.BlockOf(ms, unit, loc), got)
				}
			}
		}
	}
}

func TestSpanFindsTheDaysOfAcceptedRows(t *testing.T) {
	text := "id,when,shop,visits,Amount (EUR)\n" +
		"ann,2026-03-31T22:30:00Z,grocery,1,1\n" + // 1 April in Berlin
		"ann,2026-01-05T10:00:00Z,grocery,1,1\n" +
		",2025-01-05T10:00:00Z,grocery,1,1\n"
	first, last, n, err := Span(t.Context(), spend(), strings.NewReader(text), Source{Format: CSV})
	if err != nil || first.String() != "2026-01-05" || last.String() != "2026-04-01" || n != (Counts{2, 1}) {
		t.Errorf("got %v %v %+v %v", first, last, n, err)
	}
	first, _, n, err = Span(t.Context(), spend(), strings.NewReader("id,when,shop,visits,Amount (EUR)\n"), Source{Format: CSV})
	if err != nil || first != (rows.Date{}) || n != (Counts{}) {
		t.Errorf("no rows: got %v %+v %v", first, n, err)
	}
}

func TestParseFormat(t *testing.T) {
	for text, want := range map[string]Format{
		"csv": CSV, "text/csv": CSV, "text/csv; charset=UTF-8; header=present": CSV, "/data/a.b/rows.CSV": CSV, "rows.csv.gz": CSV,
		"ndjson": NDJSON, "application/x-ndjson": NDJSON, "rows.jsonl": NDJSON, "application/jsonl": NDJSON, "rows.ndjson.gz": NDJSON,
		"parquet": Parquet, "rows.parquet": Parquet, "application/vnd.apache.parquet": Parquet, "application/x-parquet": Parquet,
	} {
		if got, err := ParseFormat(text); err != nil || got != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for text, says := range map[string]string{
		"": "CSV", "application/json": "CSV", "rows.xlsx": "CSV", "text/csv; charset=latin1": "UTF-8",
	} {
		if _, err := ParseFormat(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The same random rows, written as CSV and as NDJSON, are the same rows.
func TestFormatsAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var asCSV, asJSON strings.Builder
	asCSV.WriteString("id,when,shop,visits,Amount (EUR)\n")
	for range 500 {
		id, shop := randomText(random), randomText(random)
		visits, amount := fmt.Sprint(random.IntN(12)), fmt.Sprintf("%d.%03d", random.IntN(100), random.IntN(1000))
		quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		fmt.Fprintf(&asCSV, "%s,2026-01-05T10:00:00Z,%s,%s,%s\n", quote(id), quote(shop), visits, amount)
		fmt.Fprintf(&asJSON, "{\"id\":%s,\"when\":\"2026-01-05T10:00:00Z\",\"shop\":%s,\"visits\":%s,\"Amount (EUR)\":%s}\n", jsonText(id), jsonText(shop), visits, amount)
	}
	a, b := mustRead(t, spend(), CSV, asCSV.String()), mustRead(t, spend(), NDJSON, asJSON.String())
	if len(a) != 500 || len(b) != 500 {
		t.Fatalf("%d and %d records", len(a), len(b))
	}
	for i := range a {
		a[i].Line, b[i].Line = 0, 0
		if !reflect.DeepEqual(a[i], b[i]) {
			t.Fatalf("record %d: %+v, %+v", i, a[i], b[i])
		}
	}
}

func TestRealFilesLoad(t *testing.T) {
	for _, c := range []struct {
		file     string
		policy   *dp.Policy
		counts   Counts
		days     string
		lastLine int64
	}{
		// Two addresses hold a newline, so that the last record begins two lines later than its number says.
		{"wikimedia-sessions/session_dataset.csv", &dp.Policy{Name: "sessions", Unit: dp.Unit{Column: "uuid", Block: dp.Month},
			Time:       &dp.TimeColumn{Column: "timestamp", Timezone: "UTC", Format: "rfc3339"},
			Dimensions: []dp.Dimension{{Name: "url", Type: dp.StringDimension, Private: true}}}, Counts{63_524, 0}, "2014-01-07 2014-01-22", 63_527},
		{"pums/PUMS_null.csv", &dp.Policy{Name: "pums", Unit: dp.Unit{Column: "pid", Block: dp.All},
			Dimensions: []dp.Dimension{{Name: "married", Type: dp.IntDimension, Values: []string{"0", "1", "unknown"}, Missing: "unknown"}},
			Measures:   []dp.Measure{{Name: "age", Upper: 100}, {Name: "income", Upper: 500_000}}}, Counts{1860, 88}, "0000-00-00 0000-00-00", 1949},
		{"completejourney/transactions_sample.csv", &dp.Policy{Name: "groceries", Unit: dp.Unit{Column: "household_id", Block: dp.Month},
			Time:     &dp.TimeColumn{Column: "transaction_timestamp", Timezone: "America/New_York", Format: "rfc3339"},
			Measures: []dp.Measure{{Name: "amount", Column: "sales_value", Scale: 2, Upper: 10_000}}}, Counts{75_000, 0}, "2017-01-01 2017-12-31", 75_001},
	} {
		t.Run(c.file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "data", filepath.FromSlash(c.file)))
			if err != nil {
				t.Skip("the real data is not beside the checkout")
			}
			first, last, n, err := Span(t.Context(), c.policy, bytes.NewReader(text), Source{Format: CSV})
			if err != nil || n != c.counts || first.String()+" "+last.String() != c.days {
				t.Errorf("got %+v %s %s %v", n, first, last, err)
			}
			r, err := NewReader(c.policy, bytes.NewReader(text), Source{Format: CSV}, hashed{})
			if err != nil {
				t.Fatal(err)
			}
			var line int64
			for batch, err := range r.Batches(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				line = batch[len(batch)-1].Line
			}
			if line != c.lastLine {
				t.Errorf("the last record begins on line %d, want %d", line, c.lastLine)
			}
		})
	}
}

func FuzzReaderNeverPanicsNorEchoes(f *testing.F) {
	for _, seed := range []string{"id,when,shop,visits,Amount (EUR)\na,b,c,d,e\n", "{\"id\":\"\\ud800\"}", "{\"a\":[{}]}\n{}", "\"", "{\"when\":1e999}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, format := range []Format{CSV, NDJSON} {
			records, _ := read(spend(), bytes.NewReader(text), Source{Format: format, Limits: Limits{Record: 1 << 12}})
			for _, r := range records {
				if r.Reason == "" && (r.Block == "" || len(r.Row.Dimensions) != 2 || len(r.Row.Measures) != 1) {
					t.Errorf("accepted without a row: %+v", r)
				}
			}
		}
	})
}

// spend covers the blocks of 2026 up to June, in Berlin.
func spend() *dp.Policy {
	return &dp.Policy{
		Name: "spend",
		Unit: dp.Unit{Column: "id", Block: dp.Month},
		Time: &dp.TimeColumn{Column: "when", Timezone: "Europe/Berlin", Format: "rfc3339"},
		Dimensions: []dp.Dimension{
			{Name: "shop", Type: dp.StringDimension, Values: []string{"grocery", "other"}, Other: "other"},
			{Name: "visits", Type: dp.IntDimension, Values: []string{"0", "10", "20", "30"}, Bin: &dp.Bin{Step: 10, Up: true}},
		},
		Measures: []dp.Measure{{Name: "amount", Column: "Amount (EUR)", Scale: 2, Upper: 50_000}},
	}
}

func read(p *dp.Policy, in io.Reader, s Source) ([]Record, error) {
	if s.Blocks == nil && p.Time != nil {
		s.Blocks = []string{"2026-01", "2026-02", "2026-03", "2026-04", "2026-05", "2026-06"}
	}
	r, err := NewReader(p, in, s, hashed{})
	if err != nil {
		return nil, err
	}
	var all []Record
	for batch, err := range r.Batches(context.Background()) {
		if err != nil {
			return all, err
		}
		for _, kept := range batch {
			kept.Row.Dimensions = slices.Clone(kept.Row.Dimensions)
			kept.Row.Measures = slices.Clone(kept.Row.Measures)
			all = append(all, kept)
		}
	}
	return all, nil
}

func mustRead(t *testing.T, p *dp.Policy, f Format, text string) []Record {
	t.Helper()
	all, err := read(p, strings.NewReader(text), Source{Format: f})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func checkRefusal(t *testing.T, err error, code dp.Code, says string) {
	t.Helper()
	var refusal *dp.Error
	if !errors.As(err, &refusal) || refusal.Code != code || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %s that says %q", err, code, says)
	}
	if err != nil && strings.Contains(err.Error(), "SECRET77") {
		t.Error("the error echoes a value")
	}
}

func packed(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type repeating struct {
	text string
	at   int
}

// forever gives the same text without end.
func forever(text string) io.Reader { return &repeating{text: text} }

func (r *repeating) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.text[r.at]
		r.at = (r.at + 1) % len(r.text)
	}
	return len(p), nil
}

type hashed struct{}

func (hashed) Pseudonym(customer string) uint64 { return ids(customer) }

func (hashed) RowPseudonym(load, ordinal uint64, dataset string) uint64 {
	return ids(fmt.Sprint(load, ordinal, dataset))
}

func ids(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return h.Sum64()
}

func randomText(random *rand.Rand) string {
	letters := []rune("ab,\"\\\n{}[]:é\u2028\t'")
	text := make([]rune, 1+random.IntN(8))
	for i := range text {
		text[i] = letters[random.IntN(len(letters))]
	}
	return string(text)
}

func jsonText(s string) string {
	r := strings.NewReplacer("\\", `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "é", `\u00e9`)
	return `"` + r.Replace(s) + `"`
}
