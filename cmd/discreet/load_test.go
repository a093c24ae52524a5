package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/schollz/progressbar/v3"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

func TestSameFileTwiceAddsNothing(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	packed := h.file("again.csv.gz", "")
	writeGzip(t, packed, shopRows)
	for i, path := range []string{h.file("first.csv", shopRows), h.file("again.csv", shopRows), packed} {
		var reports []wire.LoadReport
		h.mustJSON(&reports, custodian, "load", "shop", path, "--from", "2026-01-01", "--to", "2026-02-28")
		if reports[0].Repeat != (i > 0) {
			t.Errorf("load %d reports repeat %v", i+1, reports[0].Repeat)
		}
	}
	var release wire.Release
	h.mustJSON(&release, team, "query", "shop", "rows", "--from", "2026-01-01", "--to", "2026-02-28", "--purpose", "product-analytics")
	if rows := release.Groups[0].Values["rows"].Value; rows != 5 {
		t.Errorf("there are %v rows, want 5", rows)
	}
}

func writeGzip(t testing.TB, path, text string) {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, text)
	if err := errors.Join(err, z.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// A plain digest in the ledger would let who guesses a file confirm it.
func TestNoPlainDigestOfAFileIsKept(t *testing.T) {
	h, _, custodian := newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	loads, err := h.client(custodian).Loads(t.Context(), "shop", client.Page{})
	if err != nil {
		t.Fatal(err)
	}
	plain := sha256.Sum256([]byte(shopRows))
	if len(loads.Items) != 1 || !strings.HasPrefix(loads.Items[0].Name, "content-") || strings.Contains(loads.Items[0].Name, hex.EncodeToString(plain[:8])) {
		t.Errorf("the loads are %+v", loads.Items)
	}
}

func TestDatesThatAreTakenFromAFileArePrinted(t *testing.T) {
	h, _, custodian := newShop(t, exact{})
	path := h.file("shop.csv", shopRows)
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--dry-run"}, "declares 2026-01-05 to 2026-02-01, the first and the last date of its rows: without --dry-run they become public"},
		{nil, "declares 2026-01-05 to 2026-02-01, the first and the last date of its rows: they become public; --from and --to declare others"},
		{[]string{"--from", "2026-01-01", "--to", "2026-02-28"}, ""},
	} {
		r := h.run(custodian, append([]string{"load", "shop", path}, c.args...)...)
		if r.code != exitDone || !strings.Contains(r.stderr, c.says) || (r.stderr == "") != (c.says == "") {
			t.Errorf("load with %v: exit %d, it prints %q, want %q", c.args, r.code, r.stderr, c.says)
		}
	}
}

func TestDatasetOfOneBlockIsLoadedWithoutDates(t *testing.T) {
	h := newHarness(t, exact{})
	h.apply(strings.NewReplacer("block: month", "block: all").Replace(shopPolicy))
	custodian := h.hire("warehouse", dp.Custodian)
	r := h.runWith(custodian, shopRows, "load", "shop", "-")
	if r.code != exitDone || r.stderr != "" || !strings.Contains(r.stdout, "loaded") {
		t.Errorf("exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
}

func TestLoadListsRejectsAndDryRunLoadsNothing(t *testing.T) {
	h, _, custodian := newShop(t, exact{})
	rejects := filepath.Join(t.TempDir(), "rejects.csv")
	rowsFile := h.file("shop.csv", shopRows)
	out := h.must(custodian, "load", "shop", rowsFile, "--rejects", rejects, "--dry-run")
	if !strings.Contains(out, "dry run") {
		t.Errorf("a dry run prints\n%s", out)
	}
	f, err := os.Open(rejects)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 3 || records[1][1] != "6" || records[2][1] != "7" {
		t.Errorf("rejects are %v, want lines 6 and 7", records)
	}
	loads, err := h.client(custodian).Loads(t.Context(), "shop", client.Page{})
	if err != nil {
		t.Fatal(err)
	}
	if len(loads.Items) != 0 {
		t.Errorf("a dry run loaded %v", loads.Items)
	}
	r := h.runWith(custodian, shopRows, "load", "shop", "-", "--from", "2026-01-01", "--to", "2026-02-28", "--name", "piped")
	if r.code != exitDone || !strings.Contains(r.stdout, "loaded") {
		t.Errorf("standard input: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
}

const moreShopRows = "customer,at,category,city,amount\nf,2026-01-09,grocery,Bonn,2\n"

// Files are committed one by one, so that what a kill leaves undone is whole files.
func TestRepeatOfAKilledLoadGoesOnWithTheFilesThatWereNotCommitted(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	target, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	var uploads atomic.Int32
	second := make(chan struct{})
	proxy := httputil.NewSingleHostReverseProxy(target)
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/rows") && uploads.Add(1) == 2 {
			_, _ = io.Copy(io.Discard, r.Body)
			close(second)
			<-r.Context().Done() // until the command is gone
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer between.Close()

	files := []string{h.file("first.csv", shopRows), h.file("second.csv", moreShopRows)}
	args := append([]string{"load", "shop"}, files...)
	ctx, kill := context.WithTimeout(t.Context(), time.Minute)
	defer kill()
	command := exec.CommandContext(ctx, os.Args[0], args...)
	command.Env = append(os.Environ(), asCommand+"=1", "DISCREET_URL="+between.URL, "DISCREET_KEY="+custodian)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-second:
	case <-ctx.Done():
	}
	kill()
	if err := command.Wait(); err == nil || uploads.Load() != 2 {
		t.Fatalf("killed in upload %d: %v", uploads.Load(), err)
	}

	var reports []wire.LoadReport
	h.mustJSON(&reports, custodian, args...)
	if len(reports) != 2 || !reports[0].Repeat || reports[1].Repeat {
		t.Errorf("the repeat reports %+v", reports)
	}
	if out := h.must(custodian, args...); strings.Count(out, "loaded before") != 2 {
		t.Errorf("a third time prints\n%s", out)
	}
	var release wire.Release
	h.mustJSON(&release, team, "query", "shop", "rows", "--from", "2026-01-01", "--to", "2026-02-28", "--purpose", "product-analytics")
	if rows := release.Groups[0].Values["rows"].Value; rows != 6 {
		t.Errorf("there are %v rows, want 6", rows)
	}
}

func TestLoadThatFailsTellsWhatItLoaded(t *testing.T) {
	h, _, custodian := newShop(t, exact{})
	rejects := filepath.Join(t.TempDir(), "rejects.csv")
	r := h.run(custodian, "load", "shop", h.file("first.csv", shopRows), h.file("second.csv", "customer\na\n"), "--rejects", rejects)
	if r.code == exitDone || !strings.Contains(r.stdout, "first.csv") || strings.Contains(r.stdout, "second.csv") || !strings.Contains(r.stderr, "the same command again goes on with the others") {
		t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if text, err := os.ReadFile(rejects); err != nil || strings.Count(string(text), "first.csv") != 2 {
		t.Errorf("rejects are %q, %v", text, err)
	}
}

type shopRow struct {
	Customer *string `parquet:"customer,optional,dict"`
	At       int32   `parquet:"at,date"`
	Category string  `parquet:"category,dict"`
	City     string  `parquet:"city"`
	Amount   int64   `parquet:"amount,decimal(2:18)"`
	Secret   string  `parquet:"secret"`
}

func TestParquetIsLoadedByFileAndByStream(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	a, b := "a", "b"
	var packed bytes.Buffer
	w := parquet.NewGenericWriter[shopRow](&packed)
	_, err := w.Write([]shopRow{{&a, 20458, "grocery", "Bonn", 1050, "x"}, {&b, 20459, "travel", "Ulm", 99, "x"}, {nil, 20459, "travel", "Ulm", 1, "x"}})
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	file := h.file("shop.parquet", packed.String())
	var reports []wire.LoadReport
	h.mustJSON(&reports, custodian, "load", "shop", file)
	if r := reports[0]; r.Accepted != 2 || r.Rejected != 1 || r.Rejects[0].Line != 3 || r.Rejects[0].Reason != "customer: missing" || strings.Join(r.Load.Blocks, " ") != "2026-01" {
		t.Errorf("the load reports %+v", r)
	}
	again := h.runWith(custodian, packed.String(), "load", "shop", "-", "--type", "parquet", "--from", "2026-01-05", "--to", "2026-01-06", "--format", "json")
	if again.code != exitDone || !strings.Contains(again.stdout, `"repeat": true`) {
		t.Errorf("the same bytes as a stream: exit %d, %s%s", again.code, again.stdout, again.stderr)
	}
	var release wire.Release
	h.mustJSON(&release, team, "query", "shop", "spend", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics")
	if spent := release.Groups[0].Values["spend"].Value; spent != 11.49 {
		t.Errorf("%v was spent, want 11.49", spent)
	}
	left, err := filepath.Glob(filepath.Join(h.dir, "*", "spill", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	if r := h.run(custodian, "load", "shop", h.file("cut.parquet", packed.String()[:packed.Len()-9])); r.code == exitDone || !strings.Contains(r.stderr, "not Parquet, or encrypted, cut or damaged") {
		t.Errorf("a cut file: exit %d, %s", r.code, r.stderr)
	}
}

func TestBarShowsRateAndTimeLeft(t *testing.T) {
	var drawn safeBuffer
	bar := newBar(&drawn, 100<<20, "rows\n.csv")
	progressbar.OptionThrottle(0)(bar)
	for range 3 {
		if err := bar.Add(20 << 20); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if text := drawn.String(); !strings.Contains(text, "60%") || !regexp.MustCompile(`\([0-9.]+ [kMGT]?B/s\)`).MatchString(text) || !strings.Contains(text, "[0s:0s]") || strings.Contains(text, "\n") {
		t.Errorf("it draws %q", text)
	}
}
