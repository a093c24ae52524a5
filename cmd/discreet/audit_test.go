package main

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// audited are the lines that a filter admits, the oldest first.
func (h *harness) audited(args ...string) (lines []wire.AuditLine) {
	h.t.Helper()
	var list wire.AuditList
	h.mustJSON(&list, h.officer, append([]string{"audit", "list", "--oldest", "--limit", "0"}, args...)...)
	return list.Items
}

// eventually waits for an event that is in the log once its second is over.
func (h *harness) eventually(kind, consumer string, is func(wire.AuditEvent) bool) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var seen []wire.AuditEvent
		for _, l := range h.audited("--kind", kind, "--consumer", consumer) {
			seen = append(seen, l.Events...)
		}
		if slices.ContainsFunc(seen, is) {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("the log has no such %s of %q, only %+v", kind, consumer, seen)
		}
	}
}

// What a team did is in the log, of which every entry is proved; and none of it tells a figure.
func TestAuditLogTellsWhatHappened(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", strings.ReplaceAll(shopRows, "99.99", "471.47")))
	ask := []string{"query", "shop", "spend", "--by", "category", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics"}
	var release wire.Release
	h.mustJSON(&release, team, ask...)
	h.must(team, "release", "show", release.ID)
	h.must(team, ask...) // handed out again
	if r := h.run(team, append(ask, "--epsilon", "90")...); r.code != exitRefused {
		t.Fatalf("exit %d, %s", r.code, r.stderr)
	}
	if r := h.run(team, "audit", "list"); r.code != exitRefused {
		t.Fatalf("a team reads the log: exit %d, %s", r.code, r.stdout)
	}
	h.run("dk_wrong", "budget")

	h.eventually("reading", "team", func(e wire.AuditEvent) bool { return e.Release == release.ID && e.Operation == "get-release" })
	h.eventually("reading", "team", func(e wire.AuditEvent) bool { return e.Release == release.ID && e.Operation == "ask" })
	h.eventually("refusal", "team", func(e wire.AuditEvent) bool {
		return e.Operation == "ask" && e.Code == "budget-exhausted" && e.Dataset == "shop"
	})
	h.eventually("refusal", "team", func(e wire.AuditEvent) bool { return e.Operation == "list-audit" && e.Code == "forbidden" })
	h.eventually("sign-in", "team", func(e wire.AuditEvent) bool { return strings.HasPrefix(e.Key, "key_") })
	h.eventually("failed-sign-in", "", func(e wire.AuditEvent) bool { return e.Code == "unknown" })
	h.eventually("load", "warehouse", func(e wire.AuditEvent) bool { return e.Dataset == "shop" })

	charges := h.audited("--kind", "charge", "--consumer", "team", "--dataset", "shop")
	if len(charges) != 1 || len(charges[0].Charges) != 1 || charges[0].Charges[0].Epsilon != release.Charge.Epsilon || charges[0].Charges[0].ID != release.Charge.ID {
		t.Fatalf("charged: %+v", charges)
	}
	if grants := h.audited("--kind", "change", "--consumer", "team"); len(grants) < 2 || !slices.ContainsFunc(grants, func(l wire.AuditLine) bool { return l.Reason == "test" && slices.Contains(l.Datasets, "shop") }) {
		t.Errorf("changed: %+v", grants)
	}
	table := h.must(h.officer, "audit", "list", "--dataset", "shop")
	for _, part := range []string{"charge chg_", "load shop (1)", "budget-exhausted", string(release.Charge.Epsilon)} {
		if !strings.Contains(table, part) {
			t.Errorf("the list lacks %q:\n%s", part, table)
		}
	}
	rows := strings.Split(strings.TrimSpace(h.must(h.officer, "audit", "list", "--limit", "3", "--format", "ndjson")), "\n")
	if len(rows) < 3 || !json.Valid([]byte(rows[0])) {
		t.Errorf("as NDJSON %q", rows)
	}

	auditor := h.hire("ada", dp.Auditor)
	for _, l := range h.audited() {
		p, err := h.client(auditor).AuditProof(t.Context(), l.Index, 0)
		if err != nil || tlog.RecordHash(p.Entry).String() != l.LeafHash {
			t.Fatalf("entry %d: %v", l.Index, err)
		}
		if strings.Contains(string(p.Entry), "471.47") || strings.Contains(string(p.Entry), "47147") {
			t.Errorf("entry %d, %s, holds a figure", l.Index, l.Kind)
		}
	}
	var proof proved
	h.mustJSON(&proof, auditor, "audit", "proof", "3", "--log-key", mustCheckpoint(h).Key)
	if proof.Proof.Index != 3 || proof.Checkpoint.Note == "" {
		t.Errorf("proved %+v", proof)
	}
	if r := h.run(auditor, "audit", "proof", "100000"); r.code != exitFailed || !strings.Contains(r.stderr, "no such entry") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}

func mustCheckpoint(h *harness) wire.AuditCheckpoint {
	h.t.Helper()
	c, err := h.client(h.officer).AuditCheckpoint(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// An older copy of everything was restored, and other things were done since: whoever kept a checkpoint finds out.
func TestAuditCheckFindsThatTheLogWasRewritten(t *testing.T) {
	h, stop := running(t)
	state := filepath.Join(t.TempDir(), "seen")
	if out := h.must(h.officer, "audit", "check", "--state", state); !strings.Contains(out, "first checkpoint") || !strings.Contains(out, "--log-key") {
		t.Errorf("at first it says\n%s", out)
	}
	stop()
	older := t.TempDir()
	copied := func(from, to string) {
		t.Helper()
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	copied(h.dir, filepath.Join(older, "data"))
	copied(h.state, filepath.Join(older, "state"))
	if err := os.Chmod(filepath.Join(older, "data", "secrets", "secrets"), 0o600); err != nil {
		t.Fatal(err)
	}

	_, stop = h.start(exact{})
	h.hire("ann", dp.Product, "reporting")
	note := h.file("note", h.must(h.officer, "audit", "checkpoint"))
	if out := h.must(h.officer, "audit", "check", "--state", state); !strings.Contains(out, "continues") {
		t.Errorf("later it says\n%s", out)
	}
	kept, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	for _, file := range []string{state, note} {
		if r := h.offline("verify", "--checkpoint", file); r.code != exitDone || !strings.Contains(r.stdout, "root ") {
			t.Errorf("verify against %s: exit %d, %s", file, r.code, r.stderr)
		}
	}

	h.dir, h.state = filepath.Join(older, "data"), filepath.Join(older, "state")
	_, stop = h.start(exact{})
	if r := h.run(h.officer, "audit", "check", "--state", state); r.code != exitFailed || !strings.Contains(r.stderr, "rewritten") || !strings.Contains(r.stderr, "older copy was restored") {
		t.Errorf("of a shorter log: exit %d, %s", r.code, r.stderr)
	}
	for i := range 6 {
		h.must(h.officer, "consumer", "add", fmt.Sprint("b", i), "--role", "auditor")
	}
	if r := h.run(h.officer, "audit", "check", "--state", state); r.code != exitFailed || !strings.Contains(r.stderr, "are not those that were seen") {
		t.Errorf("of another log that is as long: exit %d, %s", r.code, r.stderr)
	}
	if after, err := os.ReadFile(state); err != nil || string(after) != string(kept) {
		t.Errorf("what was seen was forgotten: %v", err)
	}
	if evidence, err := readKept(state + ".rewritten"); err != nil || evidence == nil || evidence.Note == "" {
		t.Errorf("what contradicts it was not kept: %v", err)
	}
	stop()
	for _, file := range []string{state, note} {
		if r := h.offline("verify", "--checkpoint", file); r.code != exitFailed || !strings.Contains(r.stderr, "not the one that was signed") {
			t.Errorf("verify of the rewritten ledger against %s: exit %d, %s", file, r.code, r.stderr)
		}
	}
}

// A server that signs with another key, or whose proofs do not hold, is not believed.
func TestAuditBelievesNoServerButTheOneWhoseKeyIsPinned(t *testing.T) {
	h := newHarness(t, exact{})
	other := newHarness(t, exact{})
	state := filepath.Join(t.TempDir(), "seen")
	h.must(h.officer, "audit", "check", "--state", state)
	if r := other.run(other.officer, "audit", "check", "--state", state); r.code != exitFailed || !strings.Contains(r.stderr, "not signed by the log's key") {
		t.Errorf("another server passes for the first: exit %d, %s", r.code, r.stderr)
	}
	key := mustCheckpoint(h).Key
	for _, verb := range [][]string{{"audit", "checkpoint"}, {"audit", "proof", "0"}} {
		h.must(h.officer, append(verb, "--log-key", key)...)
		if r := other.run(other.officer, append(verb, "--log-key", key)...); r.code != exitFailed || !strings.Contains(r.stderr, "not signed by the log's key") {
			t.Errorf("%v: exit %d, %s", verb, r.code, r.stderr)
		}
		if r := h.run(h.officer, append(verb, "--log-key", "none")...); r.code != exitUsage {
			t.Errorf("%v with a key that is none: exit %d, %s", verb, r.code, r.stderr)
		}
	}

	// Somebody stands between and gives another entry for the one that is asked for.
	to, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	between := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.URL.Path = strings.Replace(r.In.URL.Path, "/proof/1", "/proof/2", 1)
	}})
	defer between.Close()
	h.url = between.URL
	h.must(h.officer, "audit", "proof", "0", "--log-key", key)
	if r := h.run(h.officer, "audit", "proof", "1", "--log-key", key); r.code != exitFailed || !strings.Contains(r.stderr, "does not hold") {
		t.Errorf("another entry passes for entry 1: exit %d, %s", r.code, r.stderr)
	}
	if _, err := h.client(h.officer).Audit(t.Context(), client.AuditFilter{From: "soon"}, client.Page{}); err == nil {
		t.Error("a time that is none is taken")
	}
}
