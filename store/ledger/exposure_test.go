package ledger

import (
	"context"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/exposure"
)

func TestExposureHoldsTheLargestBudgetsEverInForce(t *testing.T) {
	f := newFixture(t)
	version := uint64(1)
	f.applyPolicy(&version, func(p *dp.Policy) { p.Cap = dp.Budget{Epsilon: 4 * dp.EpsilonOne, Delta: 1_000_000} })
	f.allot(alice, func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: 5 * dp.EpsilonOne} })
	f.allot(alice, func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: dp.EpsilonOne / 2, Delta: 1000} })
	f.reopen()
	b, err := f.Exposure(ctx, dataset)
	check(t, err)
	d := b.Datasets[0]
	if d.Policy.Cap.Epsilon != 4*dp.EpsilonOne || d.Largest != (dp.Budget{Epsilon: 10 * dp.EpsilonOne, Delta: 1_000_000}) {
		t.Errorf("the cap is %+v, the largest %+v", d.Policy.Cap, d.Largest)
	}
	want := map[string][2]dp.Budget{
		alice: {{Epsilon: dp.EpsilonOne / 2, Delta: 1000}, {Epsilon: 5 * dp.EpsilonOne, Delta: 1000}},
		bob:   {{Epsilon: dp.EpsilonOne}, {Epsilon: dp.EpsilonOne}},
	}
	for _, a := range d.Allotments {
		if got := [2]dp.Budget{a.Budget, a.Largest}; got != want[a.Consumer] {
			t.Errorf("%s has %+v", a.Consumer, got)
		}
	}
	if len(d.Allotments) != 2 || len(b.Datasets) != 1 || !b.At.Equal(f.clock()) {
		t.Errorf("the book is %+v", b)
	}
	_, err = f.Exposure(ctx, "nothing")
	wantCode(t, dp.CodeNotFound, err)
}

func TestExposureHoldsChargesAndAccountsOfLinkedDatasets(t *testing.T) {
	f := newFixture(t)
	version := uint64(1)
	f.applyPolicy(&version, func(p *dp.Policy) { p.Link = &dp.Link{Consent: "agreed"} })
	for _, name := range []string{"app", "web"} {
		f.applyPolicy(nil, func(p *dp.Policy) {
			p.Name = name
			if name == "app" {
				p.Link = &dp.Link{Consent: "linked_at"}
			}
		})
	}
	for _, who := range []string{alice, bob} {
		_, _, err := f.office.SetAllotment(ctx, "root", dp.Allotment{Consumer: who, Dataset: "app", Budget: dp.Budget{Epsilon: dp.EpsilonOne}}, nil, "a test")
		check(t, err)
	}
	f.load("first", 1, []string{"2025-12"})
	r := ask(alice, "plan both")
	r.PolicyVersion, r.Blocks = 2, quarter
	r.Also = []dp.Touched{{Dataset: "app", PolicyVersion: 1, Blocks: january, Loss: pure(300)}}
	both := f.charge(r)
	published := release(both, "rel_both", "plan both")
	published.Also = both.Snapshot.Also
	_, err := f.Publish(ctx, both.Charge.ID, both.Attempt, answer.Outcome{Release: published})
	check(t, err)
	again := r
	again.Consumer, again.Source = bob, "rel_both"
	f.charge(again)
	single := ask(bob, "plan single")
	single.PolicyVersion = 2
	f.charge(single)

	b := f.inFull(dataset)
	if len(b.Datasets) != 2 || b.Datasets[1].Policy.Name != "app" {
		t.Fatalf("linked are %+v", b.Datasets)
	}
	if d := b.Datasets[0]; len(d.Blocks) != 4 || d.Blocks[0] != "2025-12" || len(d.Accounts) != 9 {
		t.Errorf("blocks %v, %d accounts", d.Blocks, len(d.Accounts))
	}
	seen := map[string]int{}
	for _, c := range b.Charges {
		switch {
		case c.Release != nil && c.Caps && c.Consumer == alice && len(c.Parts) == 2:
			seen["paid"]++
		case c.Release != nil && !c.Caps && c.Consumer == bob:
			seen["handed out"]++
		case c.Release == nil && c.Caps && len(c.Parts) == 1:
			seen["open"]++
		}
	}
	if len(b.Charges) != 3 || len(seen) != 3 {
		t.Errorf("charges are %+v", b.Charges)
	}
	// What accounts hold is what charges add up to: nothing is left over that would count as not known.
	b, err = f.Exposure(ctx, dataset)
	check(t, err)
	if len(b.Charges) != 1 {
		t.Errorf("without an outcome are %+v", b.Charges)
	}
	s := exposure.State(b, exposure.Assumed{}, 30)
	for _, o := range s.Owners {
		for _, spent := range o.Spent {
			if spent.Scope == exposure.OneBlock && spent.Name == "2026-01" && spent.Basic.Epsilon != f.spent(o.Consumer, "2026-01").Epsilon {
				t.Errorf("%q spent %v", o.Consumer, spent.Basic.Epsilon)
			}
			if spent.Scope == exposure.LinkedHistory && o.Consumer == "" && (spent.Charges != 2 || spent.Basic.Epsilon != pure(300+300+100).Epsilon) {
				t.Errorf("over linked datasets all spent %+v", spent)
			}
		}
	}
}

func TestExposureHoldsWhatMayHaveBeenInForceInWhatWasLost(t *testing.T) {
	f := newFixture(t)
	f.publish(f.charge(ask(alice, "plan one")), "rel_one", "plan one")
	check(t, f.WriteOff(ctx, "root", "the cap was 12 for a week", &dp.Budget{Epsilon: 12 * dp.EpsilonOne, Delta: 7}))
	b, err := f.Exposure(ctx, dataset)
	check(t, err)
	want := dp.Budget{Epsilon: 12 * dp.EpsilonOne, Delta: 7}
	if d := b.Datasets[0]; d.Largest != want || d.Policy.Cap.Epsilon != 10*dp.EpsilonOne || d.Allotments[0].Largest != want {
		t.Errorf("the largest are %+v and %+v", d.Largest, d.Allotments)
	}
	s := exposure.State(b, exposure.Assumed{}, 30)
	for _, spent := range s.Owners[0].Spent {
		if spent.Scope == exposure.OneYear && (spent.Charges != 2 || spent.Conservative > 1 || spent.Basic.Epsilon < 12*dp.EpsilonOne) {
			t.Errorf("with what was written off all spent %+v", spent)
		}
	}
	if len(s.Frozen) == 0 {
		t.Error("no account is frozen by what was written off")
	}
}

// inFull is the book of a dataset with every single charge, read from the charges and not from the entries.
func (f *fixture) inFull(name string) exposure.Book {
	f.t.Helper()
	b, err := f.Exposure(ctx, name)
	check(f.t, err)
	ours := map[string]bool{}
	for _, d := range b.Datasets {
		ours[d.Policy.Name] = true
	}
	b.Settled, b.Charges, b.Policies = nil, nil, map[exposure.PolicyVersion]dp.VersionedPolicy{}
	check(f.t, f.read(ctx, func(v view) error {
		return v.walk([]byte{kindCharge}, nil, ascending, func(_, value []byte) (bool, error) {
			record, err := decode[chargeRecord](value)
			check(f.t, err)
			c := exposure.Charge{Consumer: record.Charge.Consumer, Caps: record.Source == "", At: record.Charge.At, Parts: record.parts()}
			touches, blocks := false, 0
			for _, p := range c.Parts {
				touches = touches || ours[p.Dataset]
				blocks += len(p.Blocks)
			}
			if record.Release != "" && blocks > 1 {
				bought, err := mustLoad[releaseRecord](v, releaseKey(record.Release))
				check(f.t, err)
				c.Release = &bought.Summary
			}
			if touches {
				b.Charges = append(b.Charges, c)
			}
			return true, nil
		})
	}))
	return b
}

// agree compares what is remembered with what all charges add up to, read anew.
func (f *fixture) agree(name string) exposure.Statement {
	f.t.Helper()
	b, err := f.Exposure(ctx, name)
	check(f.t, err)
	s := exposure.State(b, exposure.Assumed{}, 30)
	if want := exposure.State(f.inFull(name), exposure.Assumed{}, 30); !reflect.DeepEqual(s, want) {
		f.t.Fatalf("after %d entries of %s there are\n%+v, and all charges come to\n%+v", f.exposed.length, name, s, want)
	}
	return s
}

func TestExposureThatIsAddedUpInStepsIsThatOfAllCharges(t *testing.T) {
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, 5))
		f := newPair(t)
		for range 12 {
			f.wander(random, 12)
			f.agree(dataset)
		}
		f.charge(join(bob, "both"))
		f.advance(48 * time.Hour)
		check(t, f.settle(ctx))
		if seed == 0 {
			f.reopen()
		}
		s := f.agree(dataset)
		if s.Owners[0].Spent[0].Charges == 0 || len(s.Linked) != 0 {
			t.Fatalf("nothing was asked: %+v", s)
		}
		// From now on, both are linked: what was added up for each begins anew.
		for _, name := range []string{dataset, other} {
			version := uint64(1)
			f.applyPolicy(&version, func(p *dp.Policy) { p.Name, p.Link = name, &dp.Link{Consent: "agreed"} })
		}
		s = f.agree(dataset)
		if len(s.Linked) != 1 || s.Owners[0].Spent[len(s.Owners[0].Spent)-1].Scope != exposure.LinkedHistory {
			t.Errorf("of linked datasets: %+v", s.Owners[0])
		}
		f.agree(other)
		check(t, f.WriteOff(ctx, "root", "a test", nil))
		f.agree(dataset)
	}
}

// patient ends after it was asked so many times whether it has.
type patient struct {
	context.Context
	left int
}

func (p *patient) Err() error {
	if p.left--; p.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestExposureThatIsCutShortGoesOnWhereItWas(t *testing.T) {
	f := newFixture(t)
	f.wander(rand.New(rand.NewPCG(9, 9)), 80)
	cut, length := 0, uint64(0)
	for ; ; cut++ {
		_, err := f.Exposure(&patient{ctx, 10 + cut}, dataset)
		if err == nil {
			break
		}
		if f.exposed.length < length || cut > 100 {
			t.Fatalf("after %d calls %d entries were read: %v", cut, f.exposed.length, err)
		}
		length = f.exposed.length
	}
	if cut < 5 {
		t.Errorf("only %d calls were cut short", cut)
	}
	f.agree(dataset)
}

func TestExposureIsAskedForManyTimesAtOnce(t *testing.T) {
	f := newFixture(t)
	done := make(chan error)
	for range 4 {
		go func() {
			for range 20 {
				b, err := f.Exposure(ctx, dataset)
				if err != nil {
					done <- err
					return
				}
				for _, o := range exposure.State(b, exposure.Assumed{}, 30).Owners {
					for _, spent := range o.Spent {
						if spent.Conservative != 0 {
							t.Errorf("%q: %+v counts as not known", o.Consumer, spent)
						}
					}
				}
			}
			done <- nil
		}()
	}
	for range 8 {
		f.charge(ask(alice, "plan"))
	}
	for range 4 {
		check(t, <-done)
	}
	f.agree(dataset)
}
