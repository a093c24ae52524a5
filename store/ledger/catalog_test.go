package ledger

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// begin begins a load under the policy in force.
func (f *fixture) begin(name string, blocks []string) (dp.Load, *dp.Load) {
	f.t.Helper()
	p, err := f.Policy(ctx, dataset)
	check(f.t, err)
	l, earlier, err := f.BeginLoad(ctx, dataset, p.Version, name, blocks)
	check(f.t, err)
	return l, earlier
}

// pending names the loads of a dataset that have not ended.
func (f *fixture) pending(dataset string) string {
	f.t.Helper()
	list, err := f.PendingLoads(ctx, dataset)
	check(f.t, err)
	text := ""
	for _, l := range list {
		text += fmt.Sprint(l.Dataset, " ", l.ID, " ", l.Name, l.Blocks, "; ")
	}
	return text
}

func (f *fixture) versions(blocks ...string) string {
	f.t.Helper()
	list, err := f.Versions(ctx, dataset, blocks)
	check(f.t, err)
	text := ""
	for _, v := range list {
		text += fmt.Sprint(v.Version, " ")
	}
	return text
}

func (f *fixture) visible(block string, version uint64) []uint64 {
	f.t.Helper()
	loads, err := f.CommittedLoads(ctx, dataset, block, version)
	check(f.t, err)
	return loads
}

func TestCommittedLoadIsVisibleFromItsVersionOn(t *testing.T) {
	f := newFixture(t)
	first := f.load("first", 1, quarter[:2])
	abandoned, _ := f.begin("abandoned", quarter)
	second := f.load("second", 2, quarter[1:])
	if first.ID != 1 || abandoned.ID != 2 || second.ID != 3 {
		t.Fatalf("numbers are %d %d %d", first.ID, abandoned.ID, second.ID)
	}
	if got := f.versions("2026-01", "2026-02", "2026-03", "2026-04"); got != "1 2 1 0 " {
		t.Fatalf("versions are %s", got)
	}
	for version, want := range map[uint64][]uint64{0: nil, 1: {1}, 2: {1, 3}, 9: {1, 3}} {
		if got := f.visible("2026-02", version); !slices.Equal(got, want) {
			t.Errorf("at version %d loads %v are visible, want %v", version, got, want)
		}
	}
	f.reopen()
	if third, _ := f.begin("third", january); third.ID != 4 {
		t.Fatalf("after reopening the next number is %d", third.ID)
	}
	list, err := f.Loads(ctx, dataset)
	check(t, err)
	if len(list) != 2 || list[0].Name != "first" || list[1].ID != 3 || !list[1].Committed.Equal(firstDay) || list[1].Digest != [32]byte{2} {
		t.Fatalf("loads are %+v", list)
	}
}

func TestRepeatBumpsVersionsAndAddsNothing(t *testing.T) {
	f := newFixture(t)
	first := f.load("first", 1, january)
	again, earlier := f.begin("first", january)
	if earlier == nil || earlier.ID != first.ID || earlier.Digest != first.Digest {
		t.Fatalf("the earlier load is %+v", earlier)
	}
	again.Digest = first.Digest
	check(t, f.RepeatLoad(ctx, again))
	if got := f.versions("2026-01"); got != "2 " {
		t.Fatalf("version is %s", got)
	}
	if got := f.visible("2026-01", 2); !slices.Equal(got, []uint64{first.ID}) {
		t.Fatalf("loads %v are visible", got)
	}
	list, err := f.Loads(ctx, dataset)
	check(t, err)
	if len(list) != 1 {
		t.Fatalf("%d loads are listed", len(list))
	}
}

func TestNameOfALoadKeepsItsContent(t *testing.T) {
	f := newFixture(t)
	first := f.load("first", 1, january)
	other, _ := f.begin("first", january)
	other.Digest[0] = 2
	f.unchanged(dp.CodeConflict, func() error { return f.CommitLoad(ctx, other) })
	f.unchanged(dp.CodeConflict, func() error { return f.RepeatLoad(ctx, other) })

	wider, _ := f.begin("first", quarter)
	wider.Digest = first.Digest
	f.unchanged(dp.CodeConflict, func() error { return f.RepeatLoad(ctx, wider) })

	// Of two that load the same at once, one adds its rows and the other is told to send again.
	a, _ := f.begin("same", january)
	b, _ := f.begin("same", january)
	check(t, f.CommitLoad(ctx, a))
	f.unchanged(dp.CodeConflict, func() error { return f.CommitLoad(ctx, b) })
	f.unchangedBy(func() { check(t, f.CommitLoad(ctx, a)) }) // the reply of the first was lost
	check(t, f.RepeatLoad(ctx, b))
}

// A load whose content is not known yet has no name; when it was read, it ends under one, as a commit or a repeat.
func TestLoadThatBeganWithoutANameEndsUnderOne(t *testing.T) {
	f := newFixture(t)
	first, earlier := f.begin("", january)
	if earlier != nil {
		t.Fatalf("found %+v without a name", earlier)
	}
	if f.CommitLoad(ctx, first) == nil {
		t.Fatal("a load was committed without a name")
	}
	first.Name, first.Digest = "content-1", [32]byte{1}
	if named, err := f.LoadNamed(ctx, dataset, first.Name); err != nil || named != nil {
		t.Fatalf("before the commit the name is that of %+v, %v", named, err)
	}
	check(t, f.CommitLoad(ctx, first))
	named, err := f.LoadNamed(ctx, dataset, first.Name)
	check(t, err)
	if named == nil || named.ID != first.ID || named.Digest != first.Digest {
		t.Fatalf("after the commit the name is that of %+v", named)
	}
	if named, err := f.LoadNamed(ctx, "other", first.Name); err != nil || named != nil {
		t.Fatalf("in another dataset the name is that of %+v, %v", named, err)
	}

	again, earlier := f.begin("", january)
	if earlier != nil {
		t.Fatalf("found %+v without a name", earlier)
	}
	again.Name, again.Digest = first.Name, first.Digest
	f.unchanged(dp.CodeConflict, func() error { return f.CommitLoad(ctx, again) })
	check(t, f.RepeatLoad(ctx, again))
	if got := f.versions("2026-01") + f.pending(dataset); got != "2 " {
		t.Fatalf("versions and pending loads are %s", got)
	}

	renamed, _ := f.begin("mine", january)
	renamed.Name = "content-2"
	if f.CommitLoad(ctx, renamed) == nil {
		t.Fatal("a load was committed under another name than it began with")
	}
}

func TestAbandonedLoadIsNoLongerPending(t *testing.T) {
	f := newFixture(t)
	first, _ := f.begin("first", january)
	second, _ := f.begin("", quarter)
	f.load("third", 3, january)
	want := "transactions 1 first[2026-01]; transactions 2 [2026-01 2026-02 2026-03]; "
	if got := f.pending(dataset); got != want || f.pending("") != want || f.pending("trans") != "" {
		t.Fatalf("pending are %s and of all datasets %s", got, f.pending(""))
	}
	check(t, f.AbandonLoad(ctx, first))
	f.unchangedBy(func() { check(t, f.AbandonLoad(ctx, first)) }) // the first reply was lost
	if got := f.pending(""); got != "transactions 2 [2026-01 2026-02 2026-03]; " {
		t.Fatalf("pending are %s", got)
	}
	if f.CommitLoad(ctx, first) == nil {
		t.Fatal("an abandoned load was committed")
	}
	f.reopen()
	check(t, f.AbandonLoad(ctx, second))
	if got := f.versions(quarter...) + f.pending(""); got != "1 0 0 " {
		t.Fatalf("versions and pending loads are %s", got)
	}
	if next, earlier := f.begin("first", january); next.ID != 4 || earlier != nil {
		t.Fatalf("the next load is %+v, and %+v had its name", next, earlier)
	}
}

func TestLoadEndsAsItBegan(t *testing.T) {
	f := newFixture(t)
	declared, _ := f.begin("first", january)
	declared.Blocks = quarter
	if f.CommitLoad(ctx, declared) == nil {
		t.Fatal("a load committed other blocks than it declared")
	}
	if unknown := (dp.Load{ID: 99, Dataset: dataset, Name: "x", Blocks: january}); f.CommitLoad(ctx, unknown) == nil {
		t.Fatal("a load was committed that never began")
	}
	_, _, err := f.BeginLoad(ctx, "none", 1, "x", january)
	wantCode(t, dp.CodeNotFound, err)
	_, _, err = f.BeginLoad(ctx, dataset, 1, string(make([]byte, maxLoadName+1)), january)
	wantCode(t, dp.CodeInvalidInput, err)
	_, _, err = f.BeginLoad(ctx, dataset, 1, "x", make([]string, 5000))
	wantCode(t, dp.CodeTooLarge, err)
	for name, blocks := range map[string][]string{"no block": nil, "a block twice": {"2026-01", "2026-01"}} {
		if _, _, err = f.BeginLoad(ctx, dataset, 1, "x", blocks); err == nil {
			t.Fatalf("%s was declared", name)
		}
	}
	for _, version := range []uint64{0, 2} {
		if _, _, err = f.BeginLoad(ctx, dataset, version, "x", january); err == nil {
			t.Fatalf("a load began under version %d of a policy of one", version)
		}
	}
}

func TestRowsFixWhatTheirPolicyMadeOfThem(t *testing.T) {
	f := newFixture(t)
	scale := func(to int) func(*dp.Policy) { return func(p *dp.Policy) { p.Measures[0].Scale = to } }
	one, two := uint64(1), uint64(2)
	during, _ := f.begin("during", january)
	f.applyPolicy(&one, scale(3)) // nothing is loaded: free to change
	f.unchanged(dp.CodeConflict, func() error { return f.CommitLoad(ctx, during) })

	// Who read the policy before it changed has read rows by the old one, whenever the load begins.
	behind, _, err := f.BeginLoad(ctx, dataset, 1, "behind", january)
	check(t, err)
	f.unchanged(dp.CodeConflict, func() error { return f.CommitLoad(ctx, behind) })

	f.load("first", 1, january)
	p, err := f.Policy(ctx, dataset)
	check(t, err)
	scale(2)(&p.Policy)
	f.unchanged(dp.CodeConflict, func() error {
		_, _, err := f.office.ApplyPolicy(ctx, "root", p.Policy, &two, "a test")
		return err
	})
	f.applyPolicy(&two, func(p *dp.Policy) { scale(3)(p); p.Cap.Epsilon = dp.EpsilonOne })

	// A change that rows do not mind lets a load that had begun end.
	three := uint64(3)
	harmless, _ := f.begin("harmless", january)
	f.applyPolicy(&three, func(p *dp.Policy) { scale(3)(p); p.Cap.Epsilon = 2 * dp.EpsilonOne })
	check(t, f.CommitLoad(ctx, harmless))
}

func TestConcurrentLoadsBumpEachBlockOncePerLoad(t *testing.T) {
	f := newFixture(t)
	var group sync.WaitGroup
	for n := range 20 {
		group.Go(func() {
			l, _, err := f.BeginLoad(ctx, dataset, 1, fmt.Sprint("load ", n), quarter)
			if err == nil {
				err = f.CommitLoad(ctx, l)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := f.versions(quarter...); got != "20 20 20 " {
		t.Fatalf("versions are %s", got)
	}
	seen := f.visible("2026-02", 20)
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 20 {
		t.Fatalf("loads %v are visible", seen)
	}
}

func TestPoliciesAreListedByName(t *testing.T) {
	f := newFixture(t)
	p, err := f.Policy(ctx, dataset)
	check(t, err)
	for _, name := range []string{"z", "a_long_name", "b"} {
		p.Policy.Name = name
		_, created, err := f.office.ApplyPolicy(ctx, "root", p.Policy, nil, "")
		check(t, err)
		if !created {
			t.Fatalf("%s existed", name)
		}
	}
	list, err := f.Policies(ctx)
	check(t, err)
	names := ""
	for _, p := range list {
		names += p.Name + " "
	}
	if names != "a_long_name b transactions z " {
		t.Fatalf("listed %s", names)
	}
	_, err = f.Policy(ctx, "none")
	wantCode(t, dp.CodeNotFound, err)
}
