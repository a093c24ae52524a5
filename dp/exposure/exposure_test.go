package exposure

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/plan"
)

var today = time.Date(2026, 4, 10, 15, 0, 0, 0, time.UTC)

const e = dp.EpsilonOne

func shop(name string) dp.VersionedPolicy {
	return dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: name, Kind: dp.Custom, Population: 1000,
		Unit: dp.Unit{Column: "customer", Block: dp.Month}, Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "date"},
		Dimensions: []dp.Dimension{{Name: "kind", Type: dp.StringDimension, Values: kinds()}, {Name: "city", Type: dp.StringDimension, Private: true}},
		Measures:   []dp.Measure{{Name: "amount", Upper: 100}},
		Bounds:     dp.Bounds{MaxPartitions: 60, MaxRows: 5},
		Cap:        dp.Budget{Epsilon: 6 * e, Delta: 1_000_000_000}, Default: dp.Budget{Epsilon: e / 10, Delta: 10_000_000},
		Purposes: []string{"reporting"}, Audiences: []dp.Audience{dp.Internal},
	}}
}

// kinds are so many that Gaussian noise is the smaller one.
func kinds() (list []string) {
	for i := range 60 {
		list = append(list, fmt.Sprintf("k%02d", i))
	}
	return list
}

// asked is a charge for a question that was answered, as the ledger tells of it.
func asked(t *testing.T, consumer string, q dp.Query) Charge {
	t.Helper()
	policy := shop("shop")
	q.Dataset, q.Purpose = "shop", "reporting"
	if q.From == "" {
		q.From, q.To = "2026-01-01", "2026-03-31"
	}
	p, err := plan.Make(q, policy, []dp.Budget{policy.Cap}, plan.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	parts := append([]dp.Touched{{Dataset: "shop", PolicyVersion: 1, Blocks: p.Blocks, Loss: p.Loss}}, p.Also...)
	r := &dp.Release{Dataset: "shop", PolicyVersion: 1, Plan: p.ID, CanonicalQuery: string(p.Question), GroupsMayBeHidden: p.GroupsMayBeHidden, Privacy: answer.Privacy(p)}
	r.Charge.Also = p.Also
	return Charge{Consumer: consumer, Caps: true, At: today, Parts: parts, Release: r}
}

// newBook is of datasets that have the same policy but for their names, with accounts that hold what charges add up to.
func newBook(charges []Charge, names ...string) Book {
	b := Book{At: today, Charges: charges, Policies: map[PolicyVersion]dp.VersionedPolicy{}}
	for _, name := range names {
		policy := shop(name)
		d := Dataset{Policy: policy, Largest: policy.Cap}
		b.Policies[PolicyVersion{name, 1}] = policy
		accounts := map[string]dp.Account{}
		add := func(consumer, block string, budget dp.Budget, loss dp.Loss) {
			a := accounts[block+"/"+consumer]
			a.Consumer, a.Dataset, a.Block, a.Budget = consumer, name, block, budget
			a.Spent = accounting.Add(a.Spent, loss)
			accounts[block+"/"+consumer] = a
		}
		for _, consumer := range []string{"ann", "bob"} {
			budget := dp.Budget{Epsilon: 3 * e, Delta: 500_000_000}
			d.Allotments = append(d.Allotments, Allotment{Allotment: dp.Allotment{Consumer: consumer, Dataset: name, Budget: budget}, Largest: budget})
		}
		for _, c := range charges {
			for _, part := range c.Parts {
				if part.Dataset != name {
					continue
				}
				for _, block := range part.Blocks {
					d.Blocks = append(d.Blocks, block)
					add(c.Consumer, block, d.Allotments[0].Budget, part.Loss)
					if c.Caps {
						add("", block, policy.Cap, part.Loss)
					}
				}
			}
		}
		slices.Sort(d.Blocks)
		d.Blocks = slices.Compact(d.Blocks)
		for _, a := range accounts {
			d.Accounts = append(d.Accounts, a)
		}
		slices.SortFunc(d.Accounts, func(a, b dp.Account) int { return strings.Compare(a.Block+"/"+a.Consumer, b.Block+"/"+b.Consumer) })
		b.Datasets = append(b.Datasets, d)
	}
	return b
}

func ownerNamed(t *testing.T, s Statement, name string) Owner {
	t.Helper()
	for _, o := range s.Owners {
		if o.Consumer == name {
			return o
		}
	}
	t.Fatalf("nothing is said of %q", name)
	return Owner{}
}

func (o Owner) of(t *testing.T, scope Scope) Spent {
	t.Helper()
	for _, s := range o.Spent {
		if s.Scope == scope {
			return s
		}
	}
	t.Fatalf("nothing is said of what %q spent in a %s", o.Consumer, scope)
	return Spent{}
}

// normalDelta is the delta of Gaussian noise at epsilon where the shift is so many sigmas (Balle and Wang, 2018, Theorem 8).
func normalDelta(shift, epsilon float64) float64 {
	phi := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	return phi(shift/2-epsilon/shift) - math.Exp(epsilon)*phi(-shift/2-epsilon/shift)
}

// shiftOf is how many sigmas a pair allows, by bisection.
func shiftOf(epsilon, delta float64) float64 {
	low, high := 0.0, 100.0
	for range 200 {
		if middle := (low + high) / 2; normalDelta(middle, epsilon) <= delta {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// epsilonOf is the least epsilon at a delta for a shift of so many sigmas.
func epsilonOf(shift, delta float64) float64 {
	low, high := 0.0, 700.0
	for range 200 {
		if middle := (low + high) / 2; normalDelta(shift, middle) <= delta {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// TestTableOfPrivacyIsWhatChargesComeTo recomputes the example of PRIVACY.md, "Several blocks, as accounting".
func TestTableOfPrivacyIsWhatChargesComeTo(t *testing.T) {
	laplace := asked(t, "ann", dp.Query{Metrics: []string{"customers"}, By: []string{"kind"}, Epsilon: "0.2", Delta: "0"})
	apart := asked(t, "ann", dp.Query{Metrics: []string{"customers"}, By: []string{"kind", "time.month"}, Epsilon: "0.2", Delta: "0"})
	gaussian := asked(t, "ann", dp.Query{Metrics: []string{"rows"}, By: []string{"kind", "time.day"}, Epsilon: "0.2", Delta: "1e-11"})
	together := asked(t, "ann", dp.Query{Metrics: []string{"rows"}, By: []string{"kind", "time.week"}, Epsilon: "0.2", Delta: "1e-11"})
	if together.Release.Privacy.Mechanism["rows"] != "gaussian" || gaussian.Release.Privacy.Mechanism["rows"] != "gaussian" || apart.Release.Privacy.Mechanism["customers"] != "laplace" {
		t.Fatalf("the examples are drawn with %v, %v and %v", together.Release.Privacy, gaussian.Release.Privacy, apart.Release.Privacy)
	}
	failed := together
	failed.Release = nil

	var rows []string
	for _, c := range []struct {
		name   string
		charge Charge
		shift  float64 // of what three blocks change against one, for the Gaussian's pair
		apart  bool
		group  bool
	}{
		{"customers by kind, Laplace", laplace, 0, false, false},
		{"customers by kind and month, Laplace", apart, 0, true, false},
		{"rows by kind and week, Gaussian", together, 3, false, false},
		{"rows by kind and day, Gaussian", gaussian, math.Sqrt(3), true, false},
		{"rows by kind and week, no outcome", failed, 0, false, true},
	} {
		loss := c.charge.Parts[0].Loss
		year := ownerNamed(t, State(newBook([]Charge{c.charge}, "shop"), Assumed{}, 30), "").of(t, OneYear)
		if year.Blocks != 3 || year.Name != "2026" || (year.Conservative == 1) != c.group {
			t.Errorf("%s: %+v", c.name, year)
		}
		times := dp.Rho(9)
		if c.apart {
			times = 3
		}
		if year.Rho != times*loss.Rho || year.DeltaZ != 3*loss.DeltaZ {
			t.Errorf("%s: rho %v, delta_z %v, of a charge of %+v", c.name, year.Rho, year.DeltaZ, loss)
		}
		epsilon, delta := 3*loss.Epsilon, 3*loss.Delta
		if c.shift > 0 {
			pair := c.charge.Release.Privacy.Noise["rows"]
			d := float64(pair.Delta) / 1e18
			want := epsilonOf(c.shift*shiftOf(float64(pair.Epsilon)/1e12, d), d)
			// The library finds sigma to a thousandth.
			if got := float64(year.Basic.Epsilon) / 1e12; math.Abs(got-want) > 1e-3*want {
				t.Errorf("%s: the pair is %v, the normal law says %v", c.name, got, want)
			}
			epsilon, delta = year.Basic.Epsilon, pair.Delta+3*(loss.Delta-pair.Delta)
		}
		if c.group {
			x := math.Exp(0.2)
			if got := float64(year.Basic.Delta) / float64(loss.Delta); math.Abs(got-(1+x+x*x)) > 1e-6 {
				t.Errorf("%s: delta is %v times that of one block", c.name, got)
			}
			delta = year.Basic.Delta
		}
		if year.Basic.Epsilon != epsilon || year.Basic.Delta != delta {
			t.Errorf("%s: %+v, not (%v, %v)", c.name, year.Basic, epsilon, delta)
		}
		short := func(text string) string {
			n, _ := new(big.Float).SetString(text)
			return n.Text('g', 4)
		}
		rows = append(rows, fmt.Sprintf("| %s | %s, %s | %s | %s, %s | %s |", c.name,
			short(loss.Epsilon.String()), short(loss.Delta.String()), short(loss.Rho.String()),
			short(year.Basic.Epsilon.String()), short(year.Basic.Delta.String()), short(year.Rho.String())))
	}
	for _, k := range []int64{1, 2, 3, 12} {
		budget, vacuous := accounting.Chain([]accounting.Link{{Budget: dp.Budget{Epsilon: e, Delta: 1_000_000_000}, Times: k}})
		if vacuous {
			t.Errorf("%d blocks are vacuous", k)
		}
		n, _ := new(big.Float).SetString(budget.Delta.String())
		rows = append(rows, fmt.Sprintf("| %d | %s | %s |", k, budget.Epsilon, n.Text('g', 4)))
	}
	text, err := os.ReadFile("../PRIVACY.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if !strings.Contains(string(text), row) {
			t.Errorf("PRIVACY.md lacks %s", row)
		}
	}
}

// TestFiguresAreThoseOfAnExactModel replays random histories over two linked datasets, of charges of which nothing is known
// but their prices, with rational numbers and no code of the package. In every other history, the second dataset has one
// block for all time, whose rows are of every year. Half of the charges were added up before.
func TestFiguresAreThoseOfAnExactModel(t *testing.T) {
	random := rand.New(rand.NewPCG(21, 22))
	months := []string{"2025-11", "2025-12", "2026-01", "2026-02", "2026-03"}
	compared := 0
	for round := range 200 {
		var charges []Charge
		for range 1 + random.IntN(12) {
			c := Charge{Consumer: []string{"ann", "bob"}[random.IntN(2)], Caps: random.IntN(4) > 0, At: today}
			for _, dataset := range []string{"shop", "club"} {
				first := random.IntN(len(months))
				part := dp.Touched{Dataset: dataset, PolicyVersion: 1, Blocks: months[first : first+random.IntN(len(months)-first+1)]}
				if dataset == "club" && round%2 == 1 && len(part.Blocks) > 0 {
					part.Blocks = []string{"all"}
				}
				part.Loss = dp.Loss{Epsilon: dp.Epsilon(1 + random.Int64N(int64(e/5))), Rho: dp.Rho(1 + random.Int64N(int64(e/100)))}
				if random.IntN(2) == 0 {
					part.Loss.Delta, part.Loss.DeltaZ = dp.Delta(random.Int64N(1000)), dp.Delta(random.Int64N(1000))
				}
				if len(part.Blocks) > 0 {
					c.Parts = append(c.Parts, part)
				}
			}
			charges = append(charges, c)
		}
		b := newBook(charges, "shop", "club")
		settled := NewSums([]string{"club", "shop"})
		for _, c := range charges[:len(charges)/2] {
			settled.Add(c, b.Policies)
		}
		b.Settled, b.Charges = settled, charges[len(charges)/2:]
		before := fmt.Sprint(b.Charges, len(settled.owners[""]), settled.charged)
		s := State(b, Assumed{}, 30)
		for _, owner := range s.Owners {
			for _, spent := range owner.Spent {
				model := map[string]*exactTotal{} // by year or block where those are
				years := map[string]bool{}        // of what was charged in all
				for _, c := range charges {
					for _, part := range c.Parts {
						if (owner.Consumer != "" || c.Caps) && (owner.Consumer == "" || owner.Consumer == c.Consumer) && part.Blocks[0] != "all" {
							for _, block := range part.Blocks {
								years[block[:4]] = true
							}
						}
					}
				}
				for _, c := range charges {
					if owner.Consumer == "" && !c.Caps || owner.Consumer != "" && owner.Consumer != c.Consumer {
						continue
					}
					touched := map[string][]dp.Loss{}
					for _, part := range c.Parts {
						if part.Dataset != "shop" && spent.Scope != LinkedYear && spent.Scope != LinkedHistory {
							continue
						}
						for _, block := range part.Blocks {
							if spent.Scope == LinkedYear && block == "all" {
								for year := range years {
									touched[year] = append(touched[year], part.Loss)
								}
								if len(years) > 0 {
									continue
								}
							}
							name := map[Scope]string{OneBlock: block, OneYear: block[:min(4, len(block))], LinkedYear: block[:min(4, len(block))]}[spent.Scope]
							touched[name] = append(touched[name], part.Loss)
						}
					}
					for name, losses := range touched {
						if model[name] == nil {
							model[name] = &exactTotal{}
						}
						model[name].add(losses)
					}
				}
				got := model[spent.Name]
				if got == nil {
					t.Fatalf("%q spent %+v, and the model nothing", owner.Consumer, spent)
				}
				if int64(spent.Basic.Epsilon) != got.epsilon || int64(spent.Rho) != got.rho || int64(spent.DeltaZ) != got.deltaZ || spent.Charges != got.charges {
					t.Fatalf("%q: %+v, the model has %+v", owner.Consumer, spent, got)
				}
				over := float64(spent.Basic.Delta) - got.delta
				if over < -1e-3*float64(got.charges) || over > 1+float64(got.charges) {
					t.Fatalf("%q: delta %v, the model has %v", owner.Consumer, int64(spent.Basic.Delta), got.delta)
				}
				if want := accounting.LeastFromRho(spent.Rho, owner.Certified.Delta/2); spent.Zero.Epsilon != want || spent.Epsilon != min(want, spent.Basic.Epsilon) {
					t.Fatalf("%q: %+v converts to %v", owner.Consumer, spent, want)
				}
				for name, other := range model {
					if spent.Epsilon >= min(dp.Epsilon(other.epsilon), accounting.FromRho(dp.Rho(other.rho), owner.Certified.Delta/2)) {
						continue // and FromRho is no less than the least
					}
					if spent.Epsilon < min(dp.Epsilon(other.epsilon), accounting.LeastFromRho(dp.Rho(other.rho), owner.Certified.Delta/2)) {
						t.Fatalf("%q: %s has more than %+v", owner.Consumer, name, spent)
					}
				}
				compared++
			}
		}
		if fmt.Sprint(b.Charges, len(settled.owners[""]), settled.charged) != before {
			t.Fatal("a statement changed the book")
		}
	}
	if compared < 1500 {
		t.Errorf("only %d figures were compared", compared)
	}
}

// exactTotal is what charges add up to: (sum of epsilon, delta through neighbours), n * sum of rho, sum of delta_z.
type exactTotal struct {
	epsilon, rho, deltaZ, charges int64
	delta                         float64
}

func (x *exactTotal) add(losses []dp.Loss) {
	var epsilon, rho int64
	for _, l := range losses {
		epsilon += int64(l.Epsilon)
		rho += int64(l.Rho)
		x.deltaZ += int64(l.DeltaZ)
	}
	x.epsilon += epsilon
	x.rho += int64(len(losses)) * rho
	x.charges++
	// Losses come in at most two runs of equal ones: the better order of the two.
	order := func(losses []dp.Loss) (delta float64) {
		for _, l := range slices.Backward(losses) {
			delta = float64(l.Delta) + math.Exp(float64(l.Epsilon)/1e12)*delta
		}
		return delta
	}
	at := 0
	for at < len(losses) && losses[at] == losses[0] {
		at++
	}
	x.delta += min(order(losses), order(slices.Concat(losses[at:], losses[:at])))
}

func TestBlockOfAllTimeCountsInEveryYear(t *testing.T) {
	charge := func(milli dp.Epsilon, blocks map[string]string) Charge {
		c := Charge{Consumer: "ann", Caps: true, At: today}
		for _, dataset := range []string{"shop", "club"} {
			if of := blocks[dataset]; of != "" {
				c.Parts = append(c.Parts, dp.Touched{Dataset: dataset, PolicyVersion: 1, Blocks: strings.Fields(of), Loss: dp.Loss{Epsilon: milli * e / 1000, Rho: dp.RhoUnknown}})
			}
		}
		return c
	}
	b := newBook([]Charge{
		charge(1, map[string]string{"club": "all"}),
		charge(10, map[string]string{"shop": "2025-12 2026-01", "club": "all"}),
		charge(100, map[string]string{"shop": "2026-02"}),
		charge(200, map[string]string{"shop": "2024-05"}),
	}, "shop", "club")
	b.Datasets[1].Policy.Unit.Block = dp.All
	all := ownerNamed(t, State(b, Assumed{}, 30), "")
	// 2026: 1 + (10 + 10) + 100; 2024: 200, and the 1 and the 10 of the block that has rows of 2024, too.
	if got := all.of(t, LinkedYear); got.Name != "2024" || got.Basic.Epsilon != 211*e/1000 || got.Blocks != 2 || got.Charges != 3 {
		t.Errorf("of linked datasets, most in a year: %+v", got)
	}
	if got := all.of(t, LinkedHistory); got.Basic.Epsilon != (1+30+100+200)*e/1000 || got.Blocks != 5 {
		t.Errorf("of all time: %+v", got)
	}
	b.Datasets[0], b.Datasets[1] = b.Datasets[1], b.Datasets[0]
	if got := ownerNamed(t, State(b, Assumed{}, 30), "").of(t, OneYear); got.Name != "all" || got.Basic.Epsilon != 11*e/1000 {
		t.Errorf("of all time alone: %+v", got)
	}
}

func TestPromisesAddUpOverBlocksAndLinkedDatasets(t *testing.T) {
	b := newBook([]Charge{asked(t, "ann", dp.Query{Metrics: []string{"customers"}, Epsilon: "0.1", Delta: "0"})}, "shop", "club")
	b.Datasets[1].Policy.Cap = dp.Budget{Epsilon: e, Delta: 1_000_000_000}
	b.Datasets[1].Largest = dp.Budget{Epsilon: 2 * e, Delta: 1_000_000_000} // it was lowered
	all := ownerNamed(t, State(b, Assumed{}, 30), "")
	got := map[Scope]string{}
	for _, p := range all.Promises {
		got[p.Scope] = fmt.Sprint(p.Blocks, " ", p.Budget.Epsilon, " ", p.Vacuous)
	}
	want := map[Scope]string{OneBlock: "1 6 false", OneYear: "12 72 true", History: "3 18 false", LinkedBlock: "2 8 false", LinkedYear: "24 96 true", LinkedHistory: "4 20 false"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("promises are %v", got)
	}
	// Through neighbours, the smaller epsilon first: D + e^2 * D.
	for _, p := range all.Promises {
		if p.Scope == LinkedBlock && p.Budget.Delta != 8_389_056_099 {
			t.Errorf("delta of two linked blocks is %v", p.Budget.Delta)
		}
	}
	if got := ownerNamed(t, State(b, Assumed{Year: 2, History: 5}, 30), "").Promises; got[1].Blocks != 2 || got[1].Budget.Epsilon != 12*e || got[2].Blocks != 5 {
		t.Errorf("under assumed numbers promises are %+v", got)
	}
	// No year has more blocks than it has, and all of time is one.
	b.Datasets[1].Policy.Unit.Block = dp.All
	if got := ownerNamed(t, State(b, Assumed{Year: 20, History: 30}, 30), "").Promises; got[1].Blocks != 12 || got[4].Blocks != 13 || got[5].Blocks != 31 {
		t.Errorf("with a block of all time promises are %+v", got)
	}
}

func TestWhatIfChangesFiguresAndNothingElse(t *testing.T) {
	b := newBook([]Charge{
		asked(t, "ann", dp.Query{Metrics: []string{"customers"}, Epsilon: "2", Delta: "0", To: "2026-01-31", From: "2026-01-01"}),
		asked(t, "bob", dp.Query{Metrics: []string{"customers"}, Epsilon: "1", Delta: "0"}),
	}, "shop")
	before := fmt.Sprintf("%+v", b)
	budget := func(n dp.Epsilon) *dp.Budget { return &dp.Budget{Epsilon: n * e} }
	s := State(b.Under(Change{Cap: budget(2), Allotments: []AllotmentChange{{"ann", nil}, {"zoe", budget(1)}, {"bob", budget(8)}}}), Assumed{}, 30)
	if fmt.Sprintf("%+v", b) != before {
		t.Error("asking what if changed the book")
	}
	var frozen []string
	for _, a := range s.Frozen {
		frozen = append(frozen, a.Consumer+"/"+a.Block)
	}
	if fmt.Sprint(frozen) != "[/2026-01 ann/2026-01]" {
		t.Errorf("frozen are %v", frozen)
	}
	all, ann, bob, zoe := ownerNamed(t, s, ""), ownerNamed(t, s, "ann"), ownerNamed(t, s, "bob"), ownerNamed(t, s, "zoe")
	if all.Budget.Epsilon != 2*e || all.Certified.Epsilon != 6*e {
		t.Errorf("a lower cap is %v and certifies %v", all.Budget, all.Certified)
	}
	if ann.Budget != (dp.Budget{}) || ann.Certified.Epsilon != 3*e || ann.Room.Epsilon != 0 || ann.Room.FreshEpsilon != 0 {
		t.Errorf("without an allotment: %+v, room %+v", ann, ann.Room)
	}
	if !bob.ByCap || bob.Certified != all.Certified || bob.Room.Block != "2026-01" || bob.Room.Epsilon != 0 || bob.Room.FreshEpsilon != 2*e {
		t.Errorf("beyond the cap: %+v, room %+v", bob, bob.Room)
	}
	if zoe.Certified.Epsilon != e || len(zoe.Spent) != 0 || zoe.Room.FreshSimilar != 10 {
		t.Errorf("a new allotment: %+v, room %+v", zoe, zoe.Room)
	}
	if raised := ownerNamed(t, State(b.Under(Change{Cap: budget(9)}), Assumed{}, 30), ""); raised.Certified != (dp.Budget{Epsilon: 9 * e, Delta: 1_000_000_000}) {
		t.Errorf("a raised cap certifies %+v", raised.Certified)
	}
}

func TestWhatWasWrittenOffCounts(t *testing.T) {
	b := newBook([]Charge{asked(t, "ann", dp.Query{Metrics: []string{"customers"}, Epsilon: "0.5", Delta: "0"})}, "shop")
	for i := range b.Datasets[0].Accounts {
		if a := &b.Datasets[0].Accounts[i]; a.Consumer == "" {
			a.Spent = accounting.Add(a.Spent, dp.Loss{Epsilon: e, Delta: 1000, Rho: dp.RhoUnknown, DeltaZ: 1000})
		}
	}
	year := ownerNamed(t, State(b, Assumed{}, 30), "").of(t, OneYear)
	if year.Basic.Epsilon != 3*e/2+3*e || year.Known || year.Conservative != 1 || year.Basic.Delta < 1000*(1+2+7) || year.Charges != 2 {
		t.Errorf("with an epsilon written off in three blocks: %+v", year)
	}
	if s := State(b, Assumed{}, 30); len(s.Beyond) != 0 || len(s.Frozen) != 0 {
		t.Errorf("within the cap of 6, beyond are %+v and frozen %+v", s.Beyond, s.Frozen)
	}
	for i := range b.Datasets[0].Accounts {
		if a := &b.Datasets[0].Accounts[i]; a.Consumer == "" {
			a.Spent.Epsilon += 5 * e
		}
	}
	if s := State(b, Assumed{}, 30); len(s.Beyond) != 3 || s.Beyond[0].Spent.Epsilon != 13*e/2 {
		t.Errorf("beyond every budget are %+v", s.Beyond)
	}
	b.Datasets[0].Largest.Epsilon = 7 * e
	if s := State(b, Assumed{}, 30); len(s.Beyond) != 0 || len(s.Frozen) != 3 {
		t.Errorf("within the largest budget, beyond are %+v and frozen %+v", s.Beyond, s.Frozen)
	}
	if ann := ownerNamed(t, State(b, Assumed{}, 30), "ann").of(t, OneYear); ann.Basic.Epsilon != 3*e/2 || ann.Conservative != 0 {
		t.Errorf("who was not written off spent %+v", ann)
	}
}

func TestForecastCarriesTheRateOn(t *testing.T) {
	day := func(n int) time.Time { return today.AddDate(0, 0, -n) }
	one := dp.Query{Metrics: []string{"customers"}, Epsilon: "0.3", Delta: "0", From: "2026-03-01", To: "2026-03-31"}
	var charges []Charge
	for _, ago := range []int{0, 0, 9, 10, 300} {
		c := asked(t, "ann", one)
		c.At = day(ago)
		charges = append(charges, c)
	}
	b := newBook(charges, "shop")
	b.Datasets[0].Policy.Cap, b.Datasets[0].Largest = dp.Budget{Epsilon: 2 * e}, dp.Budget{Epsilon: 2 * e}
	for i := range b.Datasets[0].Accounts {
		b.Datasets[0].Accounts[i].Budget = dp.Budget{Epsilon: 2 * e}
	}
	burn := State(b, Assumed{}, 10).Burns[0]
	// 0.9 in ten days, 1.5 spent of 2: 5 days more fit, and the sixth from today does not.
	if burn.Consumer != "" || len(burn.Days) != 2 || burn.Days[1].Loss.Epsilon != 6*e/10 || burn.Rate.Epsilon != 9*e/100 || burn.Exhausted.Format(time.DateOnly) != "2026-04-16" {
		t.Errorf("the cap burns %+v", burn)
	}
	if later := State(b, Assumed{}, 11).Burns[0]; len(later.Days) != 3 {
		t.Errorf("over 11 days: %+v", later)
	}
	b.At = today.AddDate(2, 0, 0)
	if idle := State(b, Assumed{}, 10).Burns[0]; len(idle.Days) != 0 || idle.Rate != (dp.Loss{}) || !idle.Exhausted.IsZero() {
		t.Errorf("without charges it burns %+v", idle)
	}
}
