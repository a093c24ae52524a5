package load

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/dp/synth"
)

// reference reads CSV the plain way: one record after the other through encoding/csv, every value by itself
// through package rows. What the reader gives must be the same.
type reference struct {
	policy   *dp.Policy
	csv      *csv.Reader
	zone     *time.Location
	format   rows.TimeFormat
	covered  []string
	position map[string]int
}

func newReference(p *dp.Policy, text []byte, covered []string) (*reference, error) {
	r := &reference{policy: p, csv: csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))), covered: covered, position: make(map[string]int)}
	header, err := r.csv.Read()
	if err != nil {
		return nil, err
	}
	for i, name := range header {
		r.position[name] = i
	}
	if r.zone, err = rows.Location(p); err == nil {
		r.format, err = rows.CompileTimeFormat(p.Time.Format)
	}
	return r, err
}

func (r *reference) next() (Record, error) {
	fields, err := r.csv.Read()
	var malformed *csv.ParseError
	switch {
	case errors.As(err, &malformed) && errors.Is(err, csv.ErrFieldCount):
		return Record{Line: int64(malformed.StartLine), Reason: reasonColumns}, nil
	case errors.As(err, &malformed):
		return Record{Line: int64(malformed.StartLine), Reason: reasonQuote}, nil
	case err != nil:
		return Record{}, err
	}
	line, _ := r.csv.FieldPos(0)
	record := Record{Line: int64(line)}
	if reason := r.read(fields, &record); reason != "" {
		return Record{Line: int64(line), Reason: reason}, nil
	}
	return record, nil
}

func (r *reference) read(fields []string, record *Record) string {
	get := func(column, name string) string { return fields[r.position[header(column, name)]] }
	id := get(r.policy.Unit.Column, "")
	switch {
	case id == "":
		return "customer: missing"
	case len(id) > DefaultLimits().Value:
		return fmt.Sprintf("customer: longer than %d bytes", DefaultLimits().Value)
	case !utf8.ValidString(id):
		return "customer: not valid UTF-8"
	}
	record.Row.Customer = ids(id)
	when := get(r.policy.Time.Column, "")
	if when == "" {
		return "time: missing"
	}
	ms, err := r.format.Parse(when, r.zone)
	if err != nil {
		return "time: " + err.Error()
	}
	record.Row.Time = ms
	record.Block = rows.BlockOf(ms, r.policy.Unit.Block, r.zone)
	if r.covered != nil && !slices.Contains(r.covered, record.Block) {
		return "time: outside of the blocks that the load covers"
	}
	for i := range r.policy.Dimensions {
		d := &r.policy.Dimensions[i]
		text := rows.Text{Value: get(d.Column, d.Name)}
		text.Valid = text.Value != ""
		if len(text.Value) > DefaultLimits().Value {
			return fmt.Sprintf("%s: longer than %d bytes", d.Name, DefaultLimits().Value)
		}
		if !utf8.ValidString(text.Value) {
			return d.Name + ": not valid UTF-8"
		}
		if text.Valid && d.Type == dp.IntDimension {
			if text.Value, err = rows.CanonicalInt(text.Value); err != nil {
				return d.Name + ": " + err.Error()
			}
		}
		if _, ok := rows.NewLabeler(d).Label(text); !ok && text.Valid {
			return d.Name + ": " + reasonOutside
		} else if !ok {
			return d.Name + ": " + reasonMissing
		}
		record.Row.Dimensions = append(record.Row.Dimensions, text)
	}
	for _, m := range r.policy.Measures {
		number := rows.Number{}
		if text := get(m.Column, m.Name); text != "" {
			v, err := rows.ParseDecimal(text, m.Scale)
			if err != nil {
				return m.Name + ": " + err.Error()
			}
			number = rows.Number{Value: v, Valid: true}
		}
		record.Row.Measures = append(record.Row.Measures, number)
	}
	return ""
}

// compare reads text both ways, in chunks of a size.
func compare(t *testing.T, p *dp.Policy, text []byte, covered []string, chunk int, in io.Reader) {
	t.Helper()
	want, wantErr := newReference(p, text, covered)
	got, err := NewReader(p, in, Source{Format: CSV, Blocks: covered}, hashed{})
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: got %v, want %v", text, err, wantErr)
	}
	if err != nil {
		return
	}
	got.feed.(*textFeed).chunk = chunk
	for batch, err := range got.Batches(t.Context()) {
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for _, record := range batch {
			expected, err := want.next()
			if err != nil {
				t.Fatalf("%q in chunks of %d: got %+v, want %v", text, chunk, record, err)
			}
			if !reflect.DeepEqual(record, expected) {
				t.Fatalf("%q in chunks of %d:\ngot  %+v\nwant %+v", text, chunk, record, expected)
			}
		}
	}
	if record, err := want.next(); err != io.EOF {
		t.Fatalf("%q in chunks of %d: ended, want %+v, %v", text, chunk, record, err)
	}
}

func TestChunksGiveWhatSerialReadingGives(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	covered := []string{"2026-01", "2026-03", "2026-10"}
	for i := range 1500 {
		p := spend()
		p.Time.Format = []string{"rfc3339", "YYYY-MM-DD hh:mm:ss", "date", "unix", "DD.MM.YYYY hh:mm"}[i%5]
		p.Time.Timezone = []string{"Europe/Berlin", "UTC", "America/Sao_Paulo", "Pacific/Apia"}[i%4]
		p.Dimensions[0].Other = []string{"other", ""}[i%2]
		text := randomCSV(random, p.Time.Format)
		chunk := 1 + random.IntN(200)
		var in io.Reader = bytes.NewReader(text)
		switch random.IntN(4) {
		case 0:
			in = iotest.OneByteReader(in)
		case 1:
			in = iotest.DataErrReader(in)
		case 2:
			in = iotest.HalfReader(in)
		}
		compare(t, p, text, covered, chunk, in)
	}
}

func randomCSV(random *rand.Rand, format string) []byte {
	var b bytes.Buffer
	if random.IntN(8) == 0 {
		b.WriteString("\xef\xbb\xbf")
	}
	end := []string{"\n", "\r\n"}[random.IntN(2)]
	b.WriteString(strings.Repeat(end, random.IntN(3)/2) + `id,when,notes,shop,visits,"Amount (EUR)"`)
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	for range random.IntN(12) {
		b.WriteString(end)
		if random.IntN(30) == 0 {
			end = pick("\n", "\r\n", "\n\n", "\r\n\r\n", "\n\r\n")
		}
		fields := []string{
			pick("ann", "bob", "bob", "", "\xff", "ä", "long"+strings.Repeat("g", 50)),
			randomTime(random, format),
			pick("", "x", "a,b", "say \"hi\"", "two\nlines", "two\r\nlines", "\r", "\n\n", `"`),
			pick("grocery", "grocery", "kiosk", "", "\xc3", "gro\"cery"),
			pick("1", "026.0", "", "-3", "30", "1e1", "x"),
			pick("1.5", "-0.005", "1.005", ".5", "5.", ".", "-", "+1", "1e3", "", "99999999999999999999", "123456789012345678", "1234567890123456.78", "-9223372036854775808", "0x1"),
		}
		switch random.IntN(20) {
		case 0:
			fields = fields[:random.IntN(len(fields)+1)]
		case 1:
			fields = append(fields, "more")
		}
		for i, field := range fields {
			if i > 0 {
				b.WriteByte(',')
			}
			quoted := `"` + strings.ReplaceAll(field, `"`, `""`) + `"`
			switch {
			case random.IntN(60) == 0: // a mistake
				b.WriteString(pick(field, quoted+"x", `"`+field, field+`"`, quoted+"\r", quoted+`"`))
			case strings.ContainsAny(field, ",\"\r\n"), random.IntN(6) == 0:
				b.WriteString(quoted)
			default:
				b.WriteString(field)
			}
		}
	}
	b.WriteString(pick("", end, "\r", "\n\n", "\r\n", `"`))
	return b.Bytes()
}

// randomTime is often within an hour of a change of clocks.
func randomTime(random *rand.Rand, format string) string {
	changes := []string{"2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2018-11-04T03:00:00Z", "2011-12-30T10:00:00Z", "2026-01-05T12:00:00Z"}
	change, err := time.Parse(time.RFC3339, changes[random.IntN(len(changes))])
	if err != nil || random.IntN(12) == 0 {
		return []string{"", "soon", "2026-02-30", "1899-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-05T24:00:00Z", "2026-01-05 10:61:00", "1e99"}[random.IntN(8)]
	}
	at := change.Add(time.Duration(random.Int64N(int64(3*time.Hour)) - int64(90*time.Minute))).In(time.FixedZone("", 3600*random.IntN(3)))
	switch format {
	case "rfc3339":
		return at.Format([]string{time.RFC3339, time.RFC3339, time.RFC3339Nano}[random.IntN(3)])
	case "date":
		return at.Format(time.DateOnly)
	case "unix":
		return fmt.Sprint(at.Unix())
	case "DD.MM.YYYY hh:mm":
		return at.Format("02.01.2006 15:04")
	}
	return at.Format(time.DateTime)
}

func FuzzChunksGiveWhatSerialReadingGives(f *testing.F) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 50 {
		f.Add(randomCSV(random, "rfc3339"), 1+random.IntN(100))
	}
	f.Fuzz(func(t *testing.T, text []byte, chunk int) {
		if bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) || bytes.HasPrefix(text, []byte{0x1f, 0x8b}) {
			t.Skip("no UTF-8")
		}
		const head = "id,when,shop,visits,Amount (EUR)\n"
		compare(t, spend(), append([]byte(head), text...), nil, 1+max(0, chunk)%1000, io.MultiReader(strings.NewReader(head), bytes.NewReader(text)))
	})
}

// A clock is a memory of the format's Parse and nothing else.
func TestClockReadsWhatTheFormatReads(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	for _, name := range []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Africa/Casablanca", "Australia/Lord_Howe", "Africa/Freetown"} {
		zone, err := rows.LoadZone(name)
		if err != nil {
			t.Fatal(err)
		}
		for format, layout := range map[string]string{
			"rfc3339": time.RFC3339, "YYYY-MM-DD hh:mm:ss": time.DateTime, "YYYYMMDDhhmm": "200601021504", "hh YYYY-MM-DD": "15 2006-01-02", "date": time.DateOnly, "DD.MM.YYYY": "02.01.2006",
		} {
			compiled, err := rows.CompileTimeFormat(format)
			if err != nil {
				t.Fatal(err)
			}
			c := newClock(format, compiled, zone)
			for range 700 {
				at := time.Unix(random.Int64N(4_000_000_000)-2_100_000_000, 0).In(zone)
				if random.IntN(2) == 0 { // around a change
					start, _ := at.ZoneBounds()
					at = start.Add(time.Duration(random.Int64N(int64(50*time.Hour))) - 25*time.Hour).UTC()
				}
				text := at.Format(layout)
				if random.IntN(10) == 0 {
					i := random.IntN(len(text))
					text = text[:i] + string(rune('/'+random.IntN(12))) + text[i+1:]
				}
				want, wantErr := compiled.Parse(text, zone)
				got, err := c.parse(text)
				if got != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
					t.Fatalf("%s %s %q: got %d, %v; want %d, %v", name, format, text, got, err, want, wantErr)
				}
			}
		}
	}
}

// What is remembered is forgotten in time, and rows stay what they are.
func TestManyDifferentValuesAreReadInBoundedMemory(t *testing.T) {
	var text bytes.Buffer
	text.WriteString("id,when,shop,visits,Amount (EUR)\n")
	start := time.Date(1950, 1, 1, 12, 0, 0, 0, time.UTC)
	for i := range mostMet + 1000 {
		fmt.Fprintf(&text, "c%d,%s,shop %d,1,%d\n", i, start.AddDate(0, 0, i%(5*mostDays)).Format(time.RFC3339), i, i)
	}
	compare(t, spend(), text.Bytes(), nil, 64<<10, bytes.NewReader(text.Bytes()))
	r, err := NewReader(spend(), bytes.NewReader(text.Bytes()), Source{Format: CSV}, hashed{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range r.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, worker := range r.readers {
		if len(worker.met[0].meanings) > mostMet || worker.met[0].bytes > mostMetBytes || len(worker.clock.days) > mostDays {
			t.Errorf("a worker remembers %d values and %d days", len(worker.met[0].meanings), len(worker.clock.days))
		}
	}
}

// transactions is some 10^5 rows as a bank would write them.
func transactions(b *testing.B) (*dp.Policy, []byte) {
	bank, err := synth.New(synth.Size{Seed: 1, Customers: 20_000, First: rows.Date{Year: 2026, Month: 1, Day: 1}, Days: 90})
	if err != nil {
		b.Fatal(err)
	}
	var text bytes.Buffer
	if err := bank.Transactions().WriteCSV(&text); err != nil {
		b.Fatal(err)
	}
	return &dp.Policy{
		Name: "transactions", Unit: dp.Unit{Column: "customer_id", Block: dp.Month},
		Time: &dp.TimeColumn{Column: "booked_at", Timezone: "Europe/Berlin", Format: "rfc3339"},
		Dimensions: []dp.Dimension{
			{Name: "merchant_category", Values: []string{"grocery"}, Other: "other"}, {Name: "merchant", Private: true}, {Name: "channel", Private: true},
			{Name: "country", Values: []string{"DE"}, Other: "elsewhere"}, {Name: "city", Private: true, Missing: "online"},
		},
		Measures: []dp.Measure{{Name: "amount", Scale: 2, Upper: 500}},
	}, text.Bytes()
}

// Compare the rates of the two: what the machine does is in both.
func BenchmarkCSV(b *testing.B) {
	p, text := transactions(b)
	report := func(b *testing.B, n int) { b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s") }
	b.Run("plain", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		n := 0
		for b.Loop() {
			r, err := newReference(p, text, nil)
			if err != nil {
				b.Fatal(err)
			}
			for err == nil {
				_, err = r.next()
				n++
			}
		}
		report(b, n)
	})
	b.Run("chunks", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			r, err := NewReader(p, bytes.NewReader(text), Source{Format: CSV}, hashed{})
			if err != nil {
				b.Fatal(err)
			}
			for batch, err := range r.Batches(b.Context()) {
				if err != nil {
					b.Fatal(err)
				}
				n += len(batch)
			}
		}
		report(b, n)
	})
}
