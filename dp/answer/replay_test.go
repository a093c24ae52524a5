package answer

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// replayed is noise that is the same for neighbours: it depends on the group and on the draw's position in it. It notes what
// was drawn.
type replayed struct {
	group string // of private keys; of public ones all draws are in one order
	draws map[string][]drawn
}

type drawn struct {
	exact, noised int64
	draw          mechanism.Draw
}

func (r *replayed) Add(x int64, d mechanism.Draw) (int64, error) {
	at := len(r.draws[r.group])
	noise := rand.New(rand.NewPCG(uint64(at), uint64(len(r.group)))).Int64N(2001) - 1000
	r.draws[r.group] = append(r.draws[r.group], drawn{x, x + noise, d})
	return x + noise, nil
}

// replay draws an answer over rows. Selection keeps every candidate, so that all that could be shown is compared.
func (w *realWorld) replay(t *testing.T, p *plan.Plan, all map[string][]rows.Row) (exact map[string][]int64, draws map[string][]drawn) {
	t.Helper()
	noise := &replayed{draws: make(map[string][]drawn)}
	drawing := newNoising(p, noise, plan.DefaultLimits())
	drawing.tau = math.MinInt64
	exact = make(map[string][]int64)
	for _, part := range w.exact(t, p, all) {
		key := strings.Join(part.Key, "\x00")
		exact[key] = slices.Clone(part.Totals)
		if p.GroupsMayBeHidden {
			noise.group = key
		}
		if err := drawing.take(bounding.Partition{Key: part.Key, Totals: part.Totals}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := drawing.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	return exact, noise.draws
}

// TestSameRandomnessOnNeighboursTellsNoMoreThanIsCharged leaves one (customer, block) at a time out of the real page views
// and purchases, of windows of eight customers, and draws both answers with the same randomness: 3,100 pairs of neighbours, or
// as many as DISCREET_PAIRS says, over every aggregate and operator. The same numbers have to be drawn with the same parameters; no number may move by more than
// its bound, no more partitions than L0, and all numbers together by no more than the block is charged for: d/b under
// Laplace noise of scale b, d^2/(2 sigma^2) under Gaussian noise (dp/PRIVACY.md 5 and 6). A block that is not charged changes nothing.
//
// Half the noise would be seen: of nearly every question some pair reaches more than half of its price.
func TestSameRandomnessOnNeighboursTellsNoMoreThanIsCharged(t *testing.T) {
	if raceDetector {
		t.Skip("one goroutine")
	}
	questions, pairs := realQuestions(), 3100
	if text := os.Getenv("DISCREET_PAIRS"); text != "" {
		var err error
		if pairs, err = strconv.Atoi(text); err != nil || pairs < 3100 {
			t.Fatal("DISCREET_PAIRS is no number of at least 3100")
		}
	}
	w := newRealWorld(t)
	byCustomer := make(map[string]map[uint64][]rows.Row)
	for dataset, of := range w.rows {
		byCustomer[dataset] = make(map[uint64][]rows.Row)
		for _, r := range of {
			byCustomer[dataset][r.Customer] = append(byCustomer[dataset][r.Customer], r)
		}
	}
	each := (pairs + len(questions) - 1) / len(questions)
	compared, changed, tame := 0, 0, 0
	for i, q := range questions {
		p := w.plan(t, q, "0.95")
		of := replays{world: w, plan: p, name: q.name, random: rand.New(rand.NewPCG(uint64(i), 20))}
		for of.pairs < each {
			of.window(t, byCustomer)
		}
		t.Logf("%-46s %5d pairs, %5d change the answer, by at most %3.0f %% of the price", q.name, of.pairs, of.changed, 100*of.reached)
		compared, changed = compared+of.pairs, changed+of.changed
		if of.reached <= 0.5 {
			tame++
		}
	}
	t.Logf("%d pairs of %d questions, %d of them change the answer; no violation", compared, len(questions), changed)
	if changed < compared/4 || tame > len(questions)/4 {
		t.Errorf("%d of %d pairs change anything, %d of %d questions stay below half of their prices: too tame to show anything", changed, compared, tame, len(questions))
	}
}

// replays are the pairs of one question.
type replays struct {
	world          *realWorld
	plan           *plan.Plan
	name           string
	random         *rand.Rand
	pairs, changed int
	reached        float64 // the largest part of a price
}

// window compares eight customers with all of their neighbours.
func (of *replays) window(t *testing.T, byCustomer map[string]map[uint64][]rows.Row) {
	t.Helper()
	most := 10_000
	if of.plan.Policy.Name == purchases || len(of.plan.Also) > 0 && of.plan.Also[0].Dataset != of.plan.Policy.Name {
		most = 2377 // customers of both
	}
	all := make(map[string][]rows.Row)
	type unit struct {
		dataset  string
		customer uint64
		block    string
	}
	var units []unit
	for range 8 {
		customer := of.random.Uint64N(uint64(most))
		for dataset := range byCustomer {
			for _, r := range byCustomer[dataset][customer] {
				all[dataset] = append(all[dataset], r)
				u := unit{dataset, customer, monthOf(r)}
				if !slices.Contains(units, u) && (of.touches(u.dataset, u.block) || of.random.IntN(50) == 0) {
					units = append(units, u)
				}
			}
		}
	}
	slices.SortFunc(units, func(a, b unit) int { return strings.Compare(a.dataset+a.block, b.dataset+b.block) })
	exact, draws := of.world.replay(t, of.plan, all)
	for _, u := range units {
		without := make(map[string][]rows.Row)
		for dataset, rs := range all {
			without[dataset] = slices.DeleteFunc(slices.Clone(rs), func(r rows.Row) bool {
				return dataset == u.dataset && r.Customer == u.customer && monthOf(r) == u.block
			})
		}
		neighbour, replayed := of.world.replay(t, of.plan, without)
		of.pairs++
		of.compare(t, u.dataset, u.block, [2]map[string][]int64{exact, neighbour}, [2]map[string][]drawn{draws, replayed})
	}
}

func monthOf(r rows.Row) string { return rows.BlockOf(r.Time, dp.Month, time.UTC) }

// paid is what a block is charged.
func (of *replays) paid(dataset, block string) (loss dp.Loss, ok bool) {
	if dataset == of.plan.Policy.Name && slices.Contains(of.plan.Blocks, block) {
		return of.plan.Loss, true
	}
	for _, t := range of.plan.Also {
		if dataset == t.Dataset && slices.Contains(t.Blocks, block) {
			return t.Loss, true
		}
	}
	return dp.Loss{}, false
}

func (of *replays) touches(dataset, block string) bool {
	_, ok := of.paid(dataset, block)
	return ok
}

func (of *replays) compare(t *testing.T, dataset, block string, exact [2]map[string][]int64, draws [2]map[string][]drawn) {
	t.Helper()
	plain, bound := of.plan.Tree.Input.Input.Profile == nil, of.plan.Tree.Input
	partitions := int64(0)
	for key := range unionOf(exact[0], exact[1]) {
		if !slices.Equal(exact[0][key], exact[1][key]) {
			partitions++
		}
	}
	if plain && partitions > bound.Partitions {
		t.Fatalf("%s: one block changes %d partitions, L0 is %d", of.name, partitions, bound.Partitions)
	}

	var epsilon, rho float64
	for group := range unionOf(draws[0], draws[1]) {
		a, b := draws[0][group], draws[1][group]
		switch {
		case a == nil || b == nil: // a private key that only one has: nothing, with the same noise
			if !of.plan.GroupsMayBeHidden {
				t.Fatalf("%s: draws of %q are made for one of both", of.name, group)
			}
			a, b = sameOfNothing(a, b)
		case len(a) != len(b):
			t.Fatalf("%s: %d numbers are drawn, for its neighbour %d", of.name, len(a), len(b))
		}
		for i := range a {
			if a[i].draw != b[i].draw {
				t.Fatalf("%s: number %d is drawn by other parameters for its neighbour", of.name, i)
			}
			d, draw := math.Abs(float64(a[i].exact-b[i].exact)), a[i].draw
			if math.Abs(float64(a[i].noised-b[i].noised)) != d {
				t.Fatalf("%s: number %d moves by %v, its noised one by another", of.name, i, d)
			}
			if d == 0 {
				continue
			}
			if plain && of.plan.Levels == nil && d > float64(draw.Bound) { // levels are bounded together
				t.Fatalf("%s: number %d moves by %v, its bound is %d", of.name, i, d, draw.Bound)
			}
			if draw.Kind == mechanism.Gaussian {
				sigma2 := draw.SD()*draw.SD() - 1.0/12 // the rest is rounding's
				rho += d * d / (2 * sigma2)
				continue
			}
			e := d * float64(draw.Epsilon) / float64(dp.EpsilonOne) / float64(draw.L0*draw.Bound)
			epsilon, rho = epsilon+e, rho+e+math.Exp(-e)-1
		}
	}
	paid, charged := of.paid(dataset, block)
	if !charged {
		if partitions > 0 || epsilon > 0 || rho > 0 {
			t.Fatalf("%s: a block of %s that is not charged changes the answer", of.name, dataset)
		}
		return
	}
	inEpsilon, inRho := epsilon/float64(paid.Epsilon)*float64(dp.EpsilonOne), rho/float64(paid.Rho)*float64(dp.RhoOne)
	if inEpsilon > 1+1e-9 || inRho > 1+1e-9 {
		t.Fatalf("%s: leaving out a block of %s tells epsilon %v and rho %v, its price is epsilon %s and rho %v", of.name, dataset, epsilon, rho, paid.Epsilon, float64(paid.Rho)/float64(dp.RhoOne))
	}
	if partitions > 0 {
		of.changed++
	}
	// Rho tells of Gaussian noise; the rho of Laplace noise grows with the square as well.
	of.reached = max(of.reached, inEpsilon, math.Sqrt(inRho))
}

// sameOfNothing completes the draws of a group that one of both lacks.
func sameOfNothing(a, b []drawn) (_, _ []drawn) {
	nothing := func(of []drawn) []drawn {
		zeros := slices.Clone(of)
		for i := range zeros {
			zeros[i].exact, zeros[i].noised = 0, of[i].noised-of[i].exact
		}
		return zeros
	}
	if a == nil {
		return nothing(b), b
	}
	return a, nothing(a)
}

func unionOf[V any](a, b map[string]V) map[string]bool {
	keys := make(map[string]bool)
	for key := range a {
		keys[key] = true
	}
	for key := range b {
		keys[key] = true
	}
	return keys
}
