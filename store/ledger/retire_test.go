package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// retain has the dataset's policy retain rows for some months.
func (f *fixture) retain(version *uint64, months int64) {
	f.t.Helper()
	*version = f.applyPolicy(version, func(p *dp.Policy) { p.RetainMonths = months }).Version
}

// retire retires what is due, and gives what is retired of the dataset.
func (f *fixture) retire() dp.Retirement {
	f.t.Helper()
	list, err := f.Retire(ctx)
	check(f.t, err)
	if len(list) == 0 {
		return dp.Retirement{}
	}
	return list[0]
}

func over(blocks ...string) answer.ChargeRequest {
	r := ask(alice, "plan over "+strings.Join(blocks, " "))
	r.Blocks = blocks
	return r
}

// It is the first of April: of a month, what ended by the first of February is over by more than two months.
func TestBlocksRetireOnceTheirTimeIsOver(t *testing.T) {
	f := newFixture(t)
	version := uint64(1)
	f.load("first", 1, quarter)
	before := f.dump()
	if r := f.retire(); r.Before != "" || len(f.dump()) != len(before) {
		t.Fatalf("a policy without retain retires %+v", r)
	}
	f.retain(&version, 2)
	r := f.retire()
	if want := (dp.Retirement{Dataset: dataset, Before: "2026-02", At: firstDay, PolicyVersion: 2}); r != want {
		t.Fatalf("retired %+v, want %+v", r, want)
	}
	if again := f.dump(); f.retire() != r || len(f.dump()) != len(again) {
		t.Error("what is retired is retired again")
	}

	// A longer time brings nothing back, a shorter one acts with the next run, and a clock that goes back does nothing.
	f.retain(&version, 24)
	if now := f.retire(); now != r {
		t.Errorf("under a longer retention %+v is retired", now)
	}
	f.retain(&version, 1)
	f.advance(-90 * 24 * time.Hour)
	if now := f.retire(); now != r {
		t.Errorf("by an earlier clock %+v is retired", now)
	}
	f.advance(90 * 24 * time.Hour)
	if now := f.retire(); now.Before != "2026-03" || now.PolicyVersion != version {
		t.Errorf("under a shorter retention %+v is retired", now)
	}
	f.advance(30*24*time.Hour - 12*time.Hour - time.Nanosecond) // to the end of April
	if now := f.retire(); now.Before != "2026-03" {
		t.Errorf("before a month is over %+v is retired", now)
	}
	f.advance(time.Nanosecond)
	if now := f.retire(); now.Before != "2026-04" {
		t.Errorf("at its end %+v is retired", now)
	}

	// Rows leave later, and once.
	check(t, f.EndRetirement(ctx, dataset, "2026-04"))
	ended := f.retire()
	if ended.Gone != "2026-04" || ended.GoneAt.IsZero() {
		t.Errorf("ended %+v", ended)
	}
	f.advance(time.Hour)
	check(t, f.EndRetirement(ctx, dataset, "2026-04"))
	check(t, f.EndRetirement(ctx, dataset, "2026-02"))
	if f.retire() != ended {
		t.Error("it ends twice")
	}
	if f.EndRetirement(ctx, dataset, "2026-05") == nil {
		t.Error("rows are gone that were not retired")
	}
	f.reopen()
	if f.retire() != ended {
		t.Error("it is forgotten")
	}
	var lines []string
	for _, kind := range []string{"retire", "retire-end"} {
		list, _, _, err := f.AuditLines(ctx, dp.AuditFilter{Kind: kind, Dataset: dataset, OldestFirst: true}, "", 10)
		check(t, err)
		for _, line := range list {
			lines = append(lines, fmt.Sprint(line.Kind, line.Objects))
		}
	}
	if got := strings.Join(lines, " "); got != "retire[{retirement 2026-02 2}] retire[{retirement 2026-03 4}] retire[{retirement 2026-04 4}] retire-end[{retirement 2026-04 4}]" {
		t.Errorf("the log says %s", got)
	}
}

// Blocks of quarters and years go as a whole, by the calendar of the policy's zone.
func TestBlockRetiresAtItsEndInItsZone(t *testing.T) {
	for _, c := range []struct {
		block  dp.Block
		zone   string
		months int64
		at     string
		name   string
		gone   bool
	}{
		{dp.Quarter, "UTC", 3, "2026-06-30T23:59:59Z", "2026-Q1", false},
		{dp.Quarter, "UTC", 3, "2026-07-01T00:00:00Z", "2026-Q1", true},
		{dp.Quarter, "UTC", 4, "2026-08-01T00:00:00Z", "2026-Q1", true},
		{dp.Quarter, "UTC", 4, "2026-07-31T00:00:00Z", "2026-Q1", false},
		{dp.Year, "UTC", 12, "2026-12-31T23:59:59Z", "2025", false},
		{dp.Year, "UTC", 12, "2027-01-01T00:00:00Z", "2025", true},
		{dp.Month, "Asia/Tokyo", 1, "2026-06-30T14:59:59Z", "2026-05", false},
		{dp.Month, "Asia/Tokyo", 1, "2026-06-30T15:00:00Z", "2026-05", true},
		{dp.Month, "America/New_York", 1, "2026-07-01T03:59:59Z", "2026-05", false},
		{dp.Month, "America/New_York", 1, "2026-07-01T04:00:00Z", "2026-05", true},
	} {
		f := newFixture(t)
		version := uint64(1)
		f.applyPolicy(&version, func(p *dp.Policy) {
			p.Unit.Block, p.Time.Timezone, p.RetainMonths = c.block, c.zone, c.months
		})
		at, err := time.Parse(time.RFC3339, c.at)
		check(t, err)
		f.now.Store(at.UnixNano())
		f.retire()
		r := over(c.name)
		r.PolicyVersion = 2
		_, err = f.Charge(ctx, r)
		if refused := codeOf(err) == dp.CodeInvalidQuery; refused != c.gone || !refused && err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func codeOf(err error) dp.Code {
	var refused *dp.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

func TestRetiredBlocksAreNeitherChargedNorLoaded(t *testing.T) {
	f := newFixture(t)
	version := uint64(1)
	f.load("first", 1, quarter)
	held := over("2026-01", "2026-02")
	f.publish(f.charge(held), "rel_1", held.Plan)
	pending, _ := f.begin("late", january)
	f.retain(&version, 2)
	f.retire()

	under := func(r answer.ChargeRequest) answer.ChargeRequest { r.PolicyVersion = version; return r }
	for name, r := range map[string]answer.ChargeRequest{
		"first block": under(over(quarter...)),
		"handed out":  under(func() answer.ChargeRequest { r := held; r.Consumer, r.Source = bob, "rel_1"; return r }()),
		"older block": under(over("1999-12", "2026-03")),
		"of a cohort": under(func() answer.ChargeRequest {
			r := over("2026-03")
			r.Also = []dp.Touched{{Dataset: dataset, PolicyVersion: version, Blocks: []string{"2026-01"}, Loss: pure(100)}}
			return r
		}()),
	} {
		e := f.unchanged(dp.CodeInvalidQuery, func() error { _, err := f.Charge(ctx, r); return err })
		if len(e.Locations) != 1 || !strings.Contains(e.Locations[0].Message, "2026-04-01") || !strings.Contains(e.Locations[0].Message, "from 2026-02-01") {
			t.Errorf("%s is refused with %+v", name, e)
		}
		if codeOf(f.CheckRetired(ctx, r.Dataset, r.Blocks, r.Also...)) != dp.CodeInvalidQuery {
			t.Errorf("%s is not refused before it is asked", name)
		}
	}
	f.charge(under(over("2026-02", "2026-03")))
	check(t, f.CheckRetired(ctx, dataset, []string{"2026-02"}))
	if r, err := f.Release(ctx, alice, "rel_1"); err != nil || r.ID != "rel_1" {
		t.Errorf("a held release is %+v, %v", r, err)
	}

	e := f.unchanged(dp.CodeInvalidInput, func() error { _, _, err := f.BeginLoad(ctx, dataset, version, "again", quarter); return err })
	if !strings.Contains(e.Message, "the block 2026-01,") || !strings.Contains(e.Message, "load from 2026-02-01 on") {
		t.Errorf("a load is refused with %q", e.Message)
	}
	f.unchanged(dp.CodeInvalidInput, func() error { return f.CommitLoad(ctx, pending) })
	pending.Digest[0] = 1
	repeated := pending
	repeated.Name = "first"
	if f.RepeatLoad(ctx, repeated) == nil {
		t.Error("a load of a retired block is repeated")
	}
	check(t, f.AbandonLoad(ctx, pending))
	f.load("second", 2, quarter[1:])
	if versions, err := f.Versions(ctx, dataset, quarter); err != nil || !slices.Equal(versions, []dp.BlockVersion{{Block: "2026-01", Version: 1}, {Block: "2026-02", Version: 2}, {Block: "2026-03", Version: 2}}) {
		t.Errorf("versions are %v, %v", versions, err)
	}
}
