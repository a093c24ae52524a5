package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
