package main

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// proposed calls a verb whose change takes two officers, and gives the proposal that it became.
func (h *harness) proposed(key string, args ...string) wire.Proposal {
	h.t.Helper()
	var p wire.Proposal
	h.mustJSON(&p, key, args...)
	if !strings.HasPrefix(p.ID, "pro_") || p.State != "open" || len(p.Changes) == 0 {
		h.t.Fatalf("discreet %s: became %+v", strings.Join(args, " "), p)
	}
	return p
}

func TestTwoOfficersAgreeOnWhatLoosensAndOneNarrows(t *testing.T) {
	h := &harness{t: t, dir: t.TempDir() + "/data", state: t.TempDir()}
	var ahead atomic.Int64
	started, stop := h.startAt(exact{}, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	t.Cleanup(stop)
	ada := keyIn(started)
	h.officer = ada
	team := h.hire("team", dp.Product, "reporting")
	two := h.file("two.yaml", trapPolicy+"two_person: true\n")
	h.fails(ada, exitFailed, "two officers", "dataset", "apply", two)
	grace := h.hire("grace", dp.Officer)
	h.must(ada, "dataset", "apply", two) // takes one
	if text := h.must(ada, "dataset", "show", "cards"); !strings.Contains(text, "takes two") {
		t.Errorf("the dataset shows\n%s", text)
	}
	question := []string{"query", "cards", "rows", "--from", "2026-01-01", "--to", "2026-01-31", "--epsilon", "0.1", "--purpose", "reporting"}

	// Ada gives a budget: it waits, whoever asks again, until Grace agrees.
	give := []string{"allotment", "set", "team", "cards", "--epsilon", "0.5", "--reason", "the launch"}
	text := h.must(ada, give...)
	p := h.proposed(ada, give...)
	if !strings.Contains(text, "waits for a second officer: proposal "+p.ID) || !strings.Contains(text, "+ epsilon: 0.5") || p.Kind != "allotment" || p.On != "team/cards" {
		t.Errorf("it became %+v and shows\n%s", p, text)
	}
	h.fails(team, exitRefused, "no allotment", question...)
	h.fails(ada, exitRefused, "their own", "proposal", "confirm", p.ID, "--reason", "me too")
	h.fails(team, exitRefused, "forbidden", "proposal", "list")
	if text := h.must(grace, "proposal", "list"); !strings.Contains(text, p.ID) || !strings.Contains(text, "the launch") {
		t.Errorf("Grace lists\n%s", text)
	}
	if text := h.must(grace, "proposal", "show", p.ID); !strings.Contains(text, "+ epsilon: 0.5") {
		t.Errorf("Grace sees\n%s", text)
	}
	for range 2 {
		h.must(grace, "proposal", "confirm", p.ID, "--reason", "agreed")
	}
	h.must(team, question...)
	if text := h.must(ada, "proposal", "list", "--all"); !strings.Contains(text, "confirmed") {
		t.Errorf("Ada lists\n%s", text)
	}

	// One narrows at once.
	h.must(grace, "allotment", "set", "team", "cards", "--paused", "--reason", "a doubt")
	h.fails(team, exitRefused, "paused", append(question, "--fresh")...)
	more := func(cap string) []string {
		policy := strings.Replace(trapPolicy, "epsilon: 1,", "epsilon: "+cap+",", 1) + "two_person: true\n"
		return []string{"dataset", "apply", h.file("policy.yaml", policy), "--reason", "spring"}
	}
	stale := h.proposed(ada, more("3")...)
	if stale.Seen != 1 || strings.Join(stale.Changes, "\n") != "- cap: {epsilon: 1, delta: 0.000000001}\n+ cap: {epsilon: 3, delta: 0.000000001}" {
		t.Errorf("proposed %+v", stale)
	}
	h.must(grace, more("0.9")...)
	h.fails(grace, exitFailed, "changed meanwhile", "proposal", "confirm", stale.ID, "--reason", "agreed")
	if text := h.must(ada, "proposal", "show", stale.ID); !strings.Contains(text, "stale by grace") {
		t.Errorf("Ada sees\n%s", text)
	}

	withdrawn, rejected, expired := h.proposed(ada, more("4")...), h.proposed(ada, more("5")...), h.proposed(ada, more("6")...)
	h.fails(grace, exitRefused, "who proposed", "proposal", "withdraw", withdrawn.ID)
	h.must(ada, "proposal", "withdraw", withdrawn.ID)
	h.fails(grace, exitFailed, "withdrawn", "proposal", "confirm", withdrawn.ID, "--reason", "agreed")
	h.must(grace, "proposal", "reject", rejected.ID, "--reason", "too much")
	ahead.Store(int64(8 * 24 * time.Hour))
	var list wire.ProposalList
	h.mustJSON(&list, ada, "proposal", "list")
	if len(list.Items) != 0 {
		t.Errorf("open are %+v", list.Items)
	}
	h.fails(grace, exitFailed, "expired", "proposal", "confirm", expired.ID, "--reason", "agreed")
	for id, state := range map[string]string{withdrawn.ID: "withdrawn", rejected.ID: "rejected", expired.ID: "expired"} {
		var p wire.Proposal
		if h.mustJSON(&p, ada, "proposal", "show", id); p.State != state {
			t.Errorf("%s is %s, want %s", id, p.State, state)
		}
	}

	// A third officer, whose key nobody else has seen.
	h.must(grace, "proposal", "confirm", h.proposed(ada, "consumer", "add", "mary", "--role", "officer", "--reason", "a third").ID, "--reason", "agreed")
	h.fails(ada, exitUsage, "discreet key new", "key", "add", "mary", "--reason", "hers")
	var drawn struct{ Text, Hash string }
	h.mustJSON(&drawn, "", "key", "new")
	h.must(grace, "proposal", "confirm", h.proposed(ada, "key", "add", "mary", "--hash", drawn.Hash, "--reason", "hers").ID, "--reason", "she told me the hash")
	mary := drawn.Text
	h.must(mary, "proposal", "list")
	h.must(ada, "key", "add", "officer") // one's own

	// Suspended, she is out at once, and so is the team; to let them in again takes two.
	h.must(ada, "consumer", "set", "mary", "--suspended", "--reason", "lost her bag")
	h.fails(mary, exitFailed, "unauthenticated", "proposal", "list")
	h.must(ada, "consumer", "set", "team", "--suspended", "--reason", "a doubt")
	h.fails(team, exitFailed, "unauthenticated", question...)
	h.fails(ada, exitFailed, "another officer first", "consumer", "set", "grace", "--suspended", "--reason", "alone")
	h.must(grace, "proposal", "confirm", h.proposed(ada, "consumer", "set", "mary", "--no-suspended", "--reason", "found").ID, "--reason", "agreed")
	h.must(mary, "proposal", "list")

	stop()
	if r := h.offlineAt(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }, "verify"); r.code != exitDone {
		t.Errorf("verify: exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
}
