package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// wrote gives rows as a Parquet file.
func wrote[T any](t testing.TB, all []T, options ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, options...)
	if _, err := w.Write(all); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// payment has a column that no policy names in the middle.
type payment struct {
	ID     string    `parquet:"id,dict"`
	When   time.Time `parquet:"when,timestamp(microsecond)"`
	Notes  []string  `parquet:"notes,list"`
	Shop   *string   `parquet:"shop,dict,optional,zstd"`
	Visits *int32    `parquet:"visits,optional"`
	Amount *int64    `parquet:"Amount (EUR),decimal(3:18),optional,snappy"`
}

// The same random rows, written as CSV and as Parquet, are the same rows, rejected ones included.
func TestParquetHoldsTheRowsOfCSV(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	var all []payment
	var text strings.Builder
	text.WriteString("id,when,shop,visits,Amount (EUR)\n")
	for range 20_000 {
		p := payment{
			ID:    []string{"ann", "bob", "", "eve\xff"}[random.IntN(4)],
			When:  time.UnixMicro(time.Date(2025, 12, 20, 0, 0, 0, 0, time.UTC).UnixMicro() + random.Int64N(90*24*3600*1_000_000)),
			Notes: make([]string, random.IntN(3)),
		}
		shop, visits, amount := "", "", ""
		if random.IntN(5) > 0 {
			shop = fmt.Sprint("shop ", random.IntN(50))
			p.Shop = &shop
		}
		if random.IntN(5) > 0 {
			v := int32(random.IntN(40) - 5)
			p.Visits, visits = &v, fmt.Sprint(v)
		}
		if random.IntN(5) > 0 {
			v := random.Int64N(2_000_000) - 1_000_000
			p.Amount, amount = &v, rows.FormatDecimal(v, 3)
		}
		all = append(all, p)
		fmt.Fprintf(&text, "%s,%s,%s,%s,%s\n", p.ID, p.When.UTC().Format(time.RFC3339Nano), shop, visits, amount)
	}
	want := mustRead(t, spend(), CSV, text.String())
	file := wrote(t, all, parquet.MaxRowsPerRowGroup(7_000), parquet.PageBufferSize(5_000))
	got := mustRead(t, spend(), Parquet, string(file))
	if len(got) != len(want) {
		t.Fatalf("%d and %d records", len(got), len(want))
	}
	for i := range got {
		want[i].Line-- // the header
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("record %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

// readOne reads a file of one row whose one column is every part of the row that fits.
func readOne[T any](t *testing.T, p *dp.Policy, value T) (Record, error) {
	t.Helper()
	type row struct {
		X T `parquet:"x"`
	}
	_ = row{}
	all, err := read(p, bytes.NewReader(wrote(t, []row{{value}})), Source{Format: Parquet})
	if err != nil {
		return Record{}, err
	}
	if len(all) != 1 {
		t.Fatalf("%d records", len(all))
	}
	return all[0], nil
}

func measured(scale int) *dp.Policy {
	return &dp.Policy{Name: "m", Unit: dp.Unit{Row: true, Block: dp.All}, Measures: []dp.Measure{{Name: "m", Column: "x", Scale: scale, Upper: 10}}}
}

func dimension(kind dp.DimensionType) *dp.Policy {
	return &dp.Policy{Name: "d", Unit: dp.Unit{Row: true, Block: dp.All}, Dimensions: []dp.Dimension{{Name: "d", Column: "x", Type: kind, Private: true}}}
}

func TestNumbersOfParquetAreExactOrRejected(t *testing.T) {
	for _, c := range []struct {
		got    func() (Record, error)
		want   int64
		reason string
	}{
		{func() (Record, error) { return readOne(t, measured(2), 0.1) }, 10, ""},
		{func() (Record, error) { return readOne(t, measured(2), float32(0.1)) }, 10, ""},
		{func() (Record, error) { return readOne(t, measured(2), 1e3) }, 100_000, ""},
		{func() (Record, error) { return readOne(t, measured(2), 1.0/3) }, 0, "m: more than 2 decimal places, which is the scale"},
		{func() (Record, error) { return readOne(t, measured(0), math.NaN()) }, 0, "m: not a decimal number: write digits with an optional sign, point and exponent, such as -12.50 or 1e3"},
		{func() (Record, error) { return readOne(t, measured(0), math.Inf(-1)) }, 0, "m: not a decimal number: write digits with an optional sign, point and exponent, such as -12.50 or 1e3"},
		{func() (Record, error) { return readOne(t, measured(0), int64(math.MinInt64)) }, math.MinInt64, ""},
		{func() (Record, error) { return readOne(t, measured(0), uint64(math.MaxUint64)) }, 0, "m: number out of range for 64-bit fixed point"},
		{func() (Record, error) { return readOne(t, measured(0), uint32(math.MaxUint32)) }, math.MaxUint32, ""},
		{func() (Record, error) { return readOne(t, measured(2), int8(-7)) }, -700, ""},
		{func() (Record, error) { return readOne(t, measured(2), "12.345") }, 1234, ""},
	} {
		record, err := c.got()
		if err != nil || record.Reason != c.reason || c.reason == "" && record.Row.Measures[0] != (rows.Number{Value: c.want, Valid: true}) {
			t.Errorf("got %+v, %v; want %d %q", record, err, c.want, c.reason)
		}
	}
}

func TestDecimalsOfEveryWidthAreExact(t *testing.T) {
	type row struct {
		A int32    `parquet:"a,decimal(2:9)"`
		B [9]byte  `parquet:"b,decimal(2:20)"`
		C [16]byte `parquet:"c,decimal(4:38)"`
	}
	p := measured(2)
	p.Measures = []dp.Measure{{Name: "a", Scale: 2, Upper: 1}, {Name: "b", Scale: 2, Upper: 1}, {Name: "c", Scale: 2, Upper: 1}}
	var minus row
	minus.A = -12345
	for i := range minus.B {
		minus.B[i] = 0xff
	}
	minus.B[8] = 0x85 // -123
	binary.BigEndian.PutUint64(minus.C[8:], 123_4550)
	records := mustRead(t, p, Parquet, string(wrote(t, []row{minus})))
	want := []rows.Number{{Value: -12345, Valid: true}, {Value: -123, Valid: true}, {Value: 12346, Valid: true}} // 123.4550 half to even
	if !reflect.DeepEqual(records[0].Row.Measures, want) {
		t.Errorf("got %+v, want %+v", records[0], want)
	}
}

func TestTextsOfParquet(t *testing.T) {
	type row struct {
		U [16]byte `parquet:"u,uuid"`
		B bool     `parquet:"b"`
		D int32    `parquet:"d,date"`
		E string   `parquet:"e,enum"`
		R []byte   `parquet:"r"`
		F float64  `parquet:"f"`
	}
	p := dimension(dp.StringDimension)
	p.Dimensions = nil
	for _, name := range []string{"u", "b", "d", "e", "r"} {
		p.Dimensions = append(p.Dimensions, dp.Dimension{Name: name, Private: true, Type: dp.StringDimension})
	}
	p.Dimensions = append(p.Dimensions, dp.Dimension{Name: "f", Private: true, Type: dp.IntDimension})
	records := mustRead(t, p, Parquet, string(wrote(t, []row{{[16]byte{1, 0xab, 15: 0xff}, true, 20484, "x", []byte("raw"), 26}, {F: 0.5, E: "x", R: []byte("x")}})))
	var got []string
	for _, text := range records[0].Row.Dimensions {
		got = append(got, text.Value)
	}
	if want := []string{"01ab0000-0000-0000-0000-0000000000ff", "true", "2026-01-31", "x", "raw", "26"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if records[1].Reason != "f: not a whole number: write digits with an optional sign, such as 26" || records[1].Line != 2 {
		t.Errorf("got %+v", records[1])
	}
}

func TestTimesOfParquet(t *testing.T) {
	type row struct {
		ID string `parquet:"id"`
		T  int64  `parquet:"t,timestamp(millisecond)"`
		U  int64  `parquet:"u,timestamp(nanosecond)"`
		L  int64  `parquet:"l,timestamp(microsecond:local)"`
		D  int32  `parquet:"d,date"`
		N  int64  `parquet:"n"`
		S  string `parquet:"s"`
	}
	ms := func(text string) int64 {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return at.UnixMilli()
	}
	summer := ms("2026-03-29T02:30:00.5Z") // never comes in Berlin
	winter := ms("2026-10-25T02:30:00.5Z") // comes twice there
	for _, c := range []struct {
		column, format string
		row            row
		want           int64
		reason         string
	}{
		{"t", "rfc3339", row{T: summer}, summer, ""},
		{"t", "date", row{T: -1}, -1, ""},
		{"u", "rfc3339", row{U: -1}, -1, ""}, // cut off towards the past
		{"u", "rfc3339", row{U: 1_999_999}, 1, ""},
		{"l", "rfc3339", row{L: winter*1000 + 999}, ms("2026-10-25T00:30:00.5Z"), ""},
		{"l", "rfc3339", row{L: summer * 1000}, ms("2026-03-29T01:00:00Z"), ""},
		{"l", "rfc3339", row{L: ms("2026-06-01T12:00:00Z") * 1000}, ms("2026-06-01T10:00:00Z"), ""},
		{"d", "rfc3339", row{D: 20484}, ms("2026-01-30T23:00:00Z"), ""},
		{"n", "unix", row{N: 1769854830}, 1769854830000, ""},
		{"n", "unix_ms", row{N: 1769854830123}, 1769854830123, ""},
		{"s", "DD.MM.YYYY", row{S: "31.01.2026"}, ms("2026-01-30T23:00:00Z"), ""},
		{"s", "DD.MM.YYYY", row{S: "SECRET77"}, 0, "time: not a time in the policy's format"},
		{"t", "rfc3339", row{T: math.MaxInt64}, 0, "time: time outside of the years 1900 to 9999"},
		{"t", "rfc3339", row{T: ms("1899-12-31T23:30:00Z")}, ms("1899-12-31T23:30:00Z"), ""}, // 1900 in Berlin
		{"l", "rfc3339", row{L: math.MinInt64}, 0, "time: time outside of the years 1900 to 9999"},
		{"d", "rfc3339", row{D: math.MaxInt32}, 0, "time: time outside of the years 1900 to 9999"},
	} {
		p := &dp.Policy{Name: "t", Unit: dp.Unit{Column: "id", Block: dp.All}, Time: &dp.TimeColumn{Column: c.column, Timezone: "Europe/Berlin", Format: c.format}}
		c.row.ID = "ann"
		records, err := read(p, bytes.NewReader(wrote(t, []row{c.row})), Source{Format: Parquet, Blocks: []string{"all"}})
		if err != nil || len(records) != 1 || records[0].Reason != c.reason || c.reason == "" && records[0].Row.Time != c.want {
			t.Errorf("%s as %s: got %+v, %v; want %d %q", c.column, c.format, records, err, c.want, c.reason)
		}
	}
}

func TestConsentOfParquet(t *testing.T) {
	p := &dp.Policy{Name: "linked", Unit: dp.Unit{Row: true, Block: dp.All}, Link: &dp.Link{Consent: "x"}}
	type stamped struct {
		X *time.Time `parquet:"x,optional,timestamp(microsecond)"`
	}
	type day struct {
		X int32 `parquet:"x,date"`
	}
	at := time.Date(2026, 2, 13, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		file []byte
		want []bool
	}{
		"timestamp": {wrote(t, []stamped{{&at}, {nil}, {&at}}), []bool{true, false, true}},
		"date":      {wrote(t, []day{{20_000}}), []bool{true}},
		"boolean": {wrote(t, []struct {
			X bool `parquet:"x"`
		}{{true}, {false}}), []bool{true, false}},
		"integer": {wrote(t, []struct {
			X int32 `parquet:"x"`
		}{{0}, {1}, {20_000}}), []bool{false, true, true}},
		"text": {wrote(t, []struct {
			X *string `parquet:"x,optional"`
		}{{new("2026-02-13")}, {new("")}, {nil}, {new("No")}}), []bool{true, false, false, false}},
	} {
		records := mustRead(t, p, Parquet, string(c.file))
		for i, want := range c.want {
			if len(records) != len(c.want) || records[i].Reason != "" || records[i].Row.Consented != want {
				t.Errorf("%s: %+v, want %v", name, records, c.want)
			}
		}
	}
	_, err := readOne(t, p, 1.5)
	checkRefusal(t, err, dp.CodeInvalidInput, "x: is the consent")
}

func TestColumnsOfParquetThatDoNotFitAreRefusedWithAdvice(t *testing.T) {
	type group struct {
		A int64 `parquet:"a"`
	}
	type unix struct {
		T int64 `parquet:"x,timestamp(millisecond)"`
	}
	timed := func(format string) *dp.Policy {
		return &dp.Policy{Name: "t", Unit: dp.Unit{Row: true, Block: dp.All}, Time: &dp.TimeColumn{Column: "x", Timezone: "UTC", Format: format}}
	}
	customer := &dp.Policy{Name: "c", Unit: dp.Unit{Column: "x", Block: dp.All}}
	for name, c := range map[string]struct {
		read func() (Record, error)
		says string
	}{
		"group":             {func() (Record, error) { return readOne(t, measured(0), group{1}) }, "x: is a group or list"},
		"list":              {func() (Record, error) { return readOne(t, measured(0), []int64{1}) }, "x: holds several values in a row"},
		"float customer":    {func() (Record, error) { return readOne(t, customer, 1.0) }, "x: identifies customers"},
		"float text":        {func() (Record, error) { return readOne(t, dimension(dp.StringDimension), 1.0) }, "x: is a dimension"},
		"bool as int":       {func() (Record, error) { return readOne(t, dimension(dp.IntDimension), true) }, "x: is an int dimension"},
		"bool as measure":   {func() (Record, error) { return readOne(t, measured(0), true) }, "x: is a measure"},
		"number as rfc3339": {func() (Record, error) { return readOne(t, timed("rfc3339"), int64(1)) }, "x: is the time"},
		"bytes":             {func() (Record, error) { return readOne(t, dimension(dp.StringDimension), [3]byte{}) }, "x: holds bytes of fixed length"},
		"missing": {func() (Record, error) {
			return Record{}, second(read(spend(), bytes.NewReader(wrote(t, []unix{{1}})), Source{Format: Parquet}))
		}, "Amount (EUR): is not in the header"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.read()
			checkRefusal(t, err, dp.CodeInvalidInput, c.says)
		})
	}
}

func second[T any](_ T, err error) error { return err }

// Whatever is broken in a file, it is refused or its rows are read; nothing panics, hangs or echoes.
func TestBrokenParquetIsRefused(t *testing.T) {
	type row struct {
		ID     string  `parquet:"id,dict"`
		When   int64   `parquet:"when,timestamp(millisecond)"`
		Shop   string  `parquet:"shop,snappy"`
		Visits int32   `parquet:"visits"`
		Amount float64 `parquet:"Amount (EUR)"`
	}
	var all []row
	for i := range 300 {
		all = append(all, row{fmt.Sprint("SECRET77", i), 1767607200000, "grocery", 1, 1})
	}
	whole := wrote(t, all)
	for _, broken := range [][]byte{nil, []byte("PAR1"), whole[:len(whole)-1], whole[len(whole)/2:], append([]byte("PAR2"), whole[4:]...)} {
		_, err := read(spend(), bytes.NewReader(broken), Source{Format: Parquet})
		checkRefusal(t, err, dp.CodeInvalidInput, "not Parquet")
	}
	random := rand.New(rand.NewPCG(13, 14))
	refused := 0
	for range 400 {
		broken := bytes.Clone(whole)
		for range 1 + random.IntN(3) {
			broken[random.IntN(len(broken))] ^= byte(1 << random.IntN(8))
		}
		_, err := read(spend(), bytes.NewReader(broken), Source{Format: Parquet})
		if err == nil {
			continue
		}
		refused++
		if !isRefusal(err) || strings.Contains(err.Error(), "SECRET77") {
			t.Errorf("got %v", err)
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

func TestParquetThatAsksForTooMuchMemoryIsRefused(t *testing.T) {
	file := wrote(t, []struct {
		X int64 `parquet:"x"`
	}{{1}})
	huge := bytes.Clone(file)
	binary.LittleEndian.PutUint32(huge[len(huge)-8:], mostFooter+1)
	_, err := read(measured(0), io.MultiReader(bytes.NewReader(huge[:4]), bytes.NewReader(make([]byte, mostFooter)), bytes.NewReader(huge[4:])), Source{Format: Parquet})
	checkRefusal(t, err, dp.CodeTooLarge, "index of the Parquet file")

	for _, shrink := range []func(*parquetFeed){func(f *parquetFeed) { f.mostPage = 1000 }, func(f *parquetFeed) { f.mostValues = 1000 }} {
		zeros := make([]struct {
			X int64 `parquet:"x,plain,zstd"`
		}, 1001)
		r, err := NewReader(measured(0), bytes.NewReader(wrote(t, zeros)), Source{Format: Parquet}, hashed{})
		if err != nil {
			t.Fatal(err)
		}
		shrink(r.feed.(*parquetFeed))
		for _, err = range r.Batches(t.Context()) {
		}
		checkRefusal(t, err, dp.CodeTooLarge, "write smaller pages")
	}
}

func TestSpoolHoldsToItsLimitsAndLeavesNothing(t *testing.T) {
	file := wrote(t, []struct {
		X int64 `parquet:"x"`
	}{{1}, {2}})
	dir := t.TempDir()
	digest := fnv.New64a()
	records, err := read(measured(0), bytes.NewReader(file), Source{Format: Parquet, Content: digest, Spool: Spool{Dir: dir}})
	if err != nil || len(records) != 2 {
		t.Fatalf("got %v, %v", records, err)
	}
	want := fnv.New64a()
	_, _ = want.Write(file)
	if digest.Sum64() != want.Sum64() {
		t.Error("the digest is not of the file's bytes")
	}
	_, err = read(measured(0), bytes.NewReader(file), Source{Format: Parquet, Spool: Spool{Dir: dir}, Limits: Limits{Bytes: int64(len(file)) - 1}})
	checkRefusal(t, err, dp.CodeTooLarge, fmt.Sprintf("more than %d bytes", len(file)-1))

	full := &dp.Error{Code: dp.CodeUnavailable, Message: "the disk is nearly full"}
	asked := 0
	room := func() error {
		if asked++; asked == 3 {
			return full
		}
		return nil
	}
	_, err = read(measured(0), forever("PAR1"), Source{Format: Parquet, Spool: Spool{Dir: dir, Room: room}})
	if !errors.Is(err, full) || asked != 3 {
		t.Errorf("got %v after %d questions", err, asked)
	}
	_, err = read(measured(0), bytes.NewReader([]byte("x")), Source{Format: Parquet, Spool: Spool{Dir: filepath.Join(dir, "new")}})
	checkRefusal(t, err, dp.CodeInvalidInput, "not Parquet")
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	more, err2 := filepath.Glob(filepath.Join(dir, "spool*"))
	if err != nil || err2 != nil || len(left)+len(more) > 0 {
		t.Errorf("%v %v is left, %v %v", left, more, err, err2)
	}
}

// A file that is there already is read where it is, and stays open.
func TestParquetFileIsReadInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.parquet")
	if err := os.WriteFile(path, wrote(t, []struct {
		X int64 `parquet:"x"`
	}{{1}, {2}}), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _, n, err := Span(t.Context(), measured(0), f, Source{Format: Parquet, Spool: Spool{Dir: "nowhere"}})
	if err != nil || n != (Counts{2, 0}) {
		t.Errorf("got %+v, %v", n, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Errorf("the file was closed: %v", err)
	}
}

// Compare with BenchmarkCSV/chunks: the rows are the same.
func BenchmarkParquet(b *testing.B) {
	p, text := transactions(b)
	type row struct {
		Customer string `parquet:"customer_id,dict,zstd"`
		Booked   int64  `parquet:"booked_at,timestamp(microsecond),zstd"`
		Category string `parquet:"merchant_category,dict,zstd"`
		Merchant string `parquet:"merchant,dict,zstd"`
		Channel  string `parquet:"channel,dict,zstd"`
		Country  string `parquet:"country,dict,zstd"`
		City     string `parquet:"city,dict,zstd"`
		Amount   int64  `parquet:"amount,decimal(2:18),zstd"`
	}
	var all []row
	for line := range strings.Lines(string(text[bytes.IndexByte(text, '\n')+1:])) {
		f := strings.Split(strings.TrimSpace(line), ",")
		at, err := time.Parse(time.RFC3339, f[1])
		if err != nil {
			b.Fatal(err)
		}
		amount, err := rows.ParseExact(f[7], 2)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, row{f[0], at.UnixMicro(), f[2], f[3], f[4], f[5], f[6], amount})
	}
	file := wrote(b, all, parquet.MaxRowsPerRowGroup(122_880))
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r, err := NewReader(p, bytes.NewReader(file), Source{Format: Parquet, Spool: Spool{Dir: b.TempDir()}}, hashed{})
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
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}
