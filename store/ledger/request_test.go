package ledger

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/office"
)

// request asks for an allotment of so many thousandths of epsilon.
func (f *fixture) request(consumer string, thousandths int64) dp.BudgetRequest {
	f.t.Helper()
	r, _, err := f.office.RequestBudget(ctx, consumer, wish(thousandths), "")
	check(f.t, err)
	return r
}

func wish(thousandths int64) dp.BudgetRequest {
	return dp.BudgetRequest{Dataset: dataset, Reason: "more", Asked: dp.Terms{Budget: dp.Budget{Epsilon: dp.Epsilon(thousandths) * dp.EpsilonOne / 1000}}}
}

func (f *fixture) decide(id string, grant bool, ifMatch uint64) error {
	_, _, err := f.office.DecideRequest(ctx, "officer", id, office.Decision{Grant: grant}, &ifMatch, "decided")
	return err
}

func TestGrantAndItsAllotmentStandTogetherAfterTheLedgerIsReopened(t *testing.T) {
	f := newFixture(t)
	made := wish(2500)
	made.Query = &dp.WantedQuery{Canonical: `{"dataset":"<&>"}`, Purpose: "reporting", Price: []dp.Touched{{Dataset: dataset, PolicyVersion: 1, Blocks: january, Loss: pure(100)}}}
	made.Asked.Expires = firstDay.Add(time.Hour)
	made, _, err := f.office.RequestBudget(ctx, alice, made, "")
	check(t, err)
	f.reopen()
	read, err := f.Request(ctx, made.ID)
	check(t, err)
	if !reflect.DeepEqual(read, made) {
		t.Errorf("read %+v, made %+v", read, made)
	}
	length := f.Status().Length
	granted, a, err := f.office.DecideRequest(ctx, "officer", made.ID, office.Decision{Grant: true}, &[]uint64{1}[0], "agreed")
	check(t, err)
	if got := f.Status().Length - length; got != 1 {
		t.Errorf("a grant wrote %d entries", got)
	}
	f.reopen()
	read, err = f.Request(ctx, made.ID)
	check(t, err)
	now, err := f.Allotment(ctx, alice, dataset)
	check(t, err)
	if !reflect.DeepEqual(read, granted) || now != a || a.Budget != made.Asked.Budget || a.Version != 2 {
		t.Errorf("read %+v and %+v, granted %+v and %+v", read, now, granted, a)
	}
	log := f.changes()
	if last := log[len(log)-1]; last.Actor != "officer" || fmt.Sprint(last.Changed) != "[{allotment alice/transactions 2} {request "+made.ID+" 2}]" {
		t.Errorf("recorded %+v", last)
	}
	if first := log[len(log)-2]; first.Actor != alice || first.Reason != "more" || fmt.Sprint(first.Changed) != "[{request "+made.ID+" 1}]" {
		t.Errorf("recorded %+v", first)
	}
	f.charge(ask(alice, "plan"))
	f.unchanged(dp.CodeConflict, func() error { return f.decide(made.ID, false, 2) })
}

func TestRequestsAreListedByStateConsumerAndDatasetInPages(t *testing.T) {
	f := newFixture(t)
	var made []string // newest first
	add := func(r dp.BudgetRequest) { made = append([]string{r.ID}, made...) }
	for n := range 3 {
		r := f.request(alice, int64(n+1))
		add(r)
		check(t, f.decide(r.ID, n == 1, uint64(1+n/2)))
	}
	add(f.request(bob, 7))
	add(f.request(alice, 8))
	for _, c := range []struct {
		filter dp.RequestFilter
		want   []int
	}{
		{dp.RequestFilter{}, []int{0, 1, 2, 3, 4}},
		{dp.RequestFilter{Dataset: dataset}, []int{0, 1, 2, 3, 4}},
		{dp.RequestFilter{Dataset: "other"}, nil},
		{dp.RequestFilter{Consumer: alice}, []int{0, 2, 3, 4}},
		{dp.RequestFilter{State: dp.RequestOpen}, []int{0, 1}},
		{dp.RequestFilter{State: dp.RequestOpen, Consumer: bob}, []int{1}},
		{dp.RequestFilter{State: dp.RequestGranted}, []int{3}},
		{dp.RequestFilter{State: dp.RequestDenied}, []int{2, 4}},
		{dp.RequestFilter{State: dp.RequestWithdrawn}, nil},
	} {
		for limit := 1; limit <= 6; limit += 2 {
			var got []int
			for cursor, more := "", true; more; more = cursor != "" {
				page, next, err := f.Requests(ctx, c.filter, cursor, limit)
				check(t, err)
				if len(page) > limit {
					t.Fatalf("a page of %d has %d", limit, len(page))
				}
				for _, r := range page {
					got = append(got, slices.Index(made, r.ID))
				}
				cursor = next
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%+v in pages of %d: %v, want %v", c.filter, limit, got, c.want)
			}
		}
	}
	_, _, err := f.Requests(ctx, dp.RequestFilter{}, "not a cursor", 1)
	wantCode(t, dp.CodeInvalidInput, err)
	_, err = f.Request(ctx, "req_none")
	wantCode(t, dp.CodeNotFound, err)
	_, err = f.Grounds(ctx, "req_none")
	wantCode(t, dp.CodeNotFound, err)
}

// Whoever comes second is refused, however close they are.
func TestOfManyDecisionsAtOnceOneStands(t *testing.T) {
	f := newFixture(t)
	const at = 8
	together := func(do func(i int) error) (stood int, refused error) {
		var wg sync.WaitGroup
		errs := make([]error, at)
		for i := range at {
			wg.Go(func() { errs[i] = do(i) })
		}
		wg.Wait()
		for _, err := range errs {
			if err == nil {
				stood++
			} else {
				refused = err
			}
		}
		return stood, refused
	}
	ids := make([]string, at)
	if stood, err := together(func(i int) error {
		r, _, err := f.office.RequestBudget(ctx, alice, wish(500), "")
		ids[i] = r.ID
		return err
	}); stood != at {
		t.Fatal(err)
	}
	if slices.Sort(ids); ids[0] != ids[at-1] {
		t.Errorf("one wish made the requests %v", ids)
	}
	stood, err := together(func(i int) error { return f.decide(ids[0], i%2 == 0, 1) })
	var e *dp.Error
	if stood != 1 || !errors.As(err, &e) || e.Code != dp.CodeConflict {
		t.Errorf("%d decisions stood; others: %v", stood, err)
	}
	open, _, err := f.Requests(ctx, dp.RequestFilter{State: dp.RequestOpen}, "", 0)
	check(t, err)
	if len(open) != 0 {
		t.Errorf("open are %+v", open)
	}
}

func TestGroundsAreTheAccountsOfBothCeilings(t *testing.T) {
	f := newFixture(t)
	load, _, err := f.BeginLoad(ctx, dataset, 1, "first", quarter)
	check(t, err)
	check(t, f.CommitLoad(ctx, load))
	mine := ask(alice, "mine") // 0.1 in January
	f.charge(mine)
	theirs := ask(bob, "theirs")
	theirs.Blocks = quarter
	f.charge(theirs)
	wanted := wish(3000)
	wanted.Query = &dp.WantedQuery{Canonical: "{}", Price: []dp.Touched{{Dataset: dataset, PolicyVersion: 1, Blocks: []string{"2026-03", "2026-04"}, Loss: pure(200)}}}
	r, _, err := f.office.RequestBudget(ctx, alice, wanted, "")
	check(t, err)
	g, err := f.Grounds(ctx, r.ID)
	check(t, err)
	none, tenth := dp.Loss{}, mine.Loss
	double := accounting.Add(mine.Loss, theirs.Loss)
	want := []office.BlockGrounds{
		{Block: "2026-01", Spent: tenth, CapSpent: double}, {Block: "2026-02", Spent: none, CapSpent: theirs.Loss},
		{Block: "2026-03", Spent: none, CapSpent: theirs.Loss}, {Block: "2026-04", Spent: none, CapSpent: none},
	}
	if !slices.Equal(g.Blocks, want) || g.Allotment.Version != 1 || g.Cap != (dp.Budget{Epsilon: 10 * dp.EpsilonOne}) || g.Default.Epsilon != dp.EpsilonOne/10 || g.Request.ID != r.ID {
		t.Errorf("grounds are %+v", g)
	}
	o := g.Outlook(r.Asked)
	if o.Similar != 15 || o.Blocks[0].After != 2900*dp.EpsilonOne/1000 || o.Blocks[0].Before != 900*dp.EpsilonOne/1000 {
		t.Errorf("the outlook is %+v", o)
	}

	// What it says of the grant is what holds after it.
	check(t, f.decide(r.ID, true, 1))
	left, err := f.Left(ctx, alice, dataset, january, pure(100))
	check(t, err)
	if left.Epsilon != o.Blocks[0].After {
		t.Errorf("after the grant %s is left, %s was foretold", left.Epsilon, o.Blocks[0].After)
	}
}

func TestRequestsOfADayAreThoseOfTheConsumerSince(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		made := f.request(alice, 500)
		check(t, f.decide(made.ID, false, 1))
		f.advance(time.Hour)
	}
	f.request(bob, 500)
	check(t, f.Change(ctx, office.Change{Actor: "root", Reason: "a test"}, func(tx office.Tx) error {
		for _, c := range []struct {
			who  string
			back time.Duration
			want int
		}{{alice, 30 * time.Minute, 0}, {alice, time.Hour, 0}, {alice, time.Hour + 1, 1}, {alice, 24 * time.Hour, 3}, {bob, time.Hour, 1}, {"nobody", time.Hour, 0}} {
			if got, err := tx.RequestsSince(c.who, f.clock().Add(-c.back)); err != nil || len(got) != c.want {
				t.Errorf("%s made %v since %v ago: %v", c.who, got, c.back, err)
			}
		}
		return nil
	}))
}
