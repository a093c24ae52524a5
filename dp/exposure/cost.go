package exposure

import (
	"maps"
	"math"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// pricing works out what charges cost a customer of whom several blocks are left out together.
type pricing struct {
	plans map[string]*plan.Plan // of releases, by the identity of what was drawn; nil: not known
	pairs map[string]pair       // of plans over blocks
	wider map[wider]reached     // of Gaussian pairs, which take a search, and most are asked again
}

// mostRemembered is how many plans and pairs are remembered.
const mostRemembered = 1 << 10

func newPricing() pricing {
	return pricing{map[string]*plan.Plan{}, map[string]pair{}, map[wider]reached{}}
}

// over is what a charge cost in those of its blocks that are chosen (dp/PRIVACY.md, "Several blocks, as accounting"), and
// which these are. Conservative says that how it was drawn is not known, and would have mattered.
func (p *pricing) over(c Charge, policies map[PolicyVersion]dp.VersionedPolicy, chosen func(dataset, block string) bool) (loss dp.Loss, blocks []account, conservative bool) {
	var touched []dp.Touched
	var sum dp.Loss
	for _, part := range c.Parts {
		var kept []string
		for _, block := range part.Blocks {
			if chosen(part.Dataset, block) {
				kept = append(kept, block)
				blocks = append(blocks, account{dataset: part.Dataset, block: block})
				sum = accounting.Add(sum, part.Loss)
			}
		}
		if len(kept) > 0 {
			touched = append(touched, dp.Touched{Dataset: part.Dataset, PolicyVersion: part.PolicyVersion, Blocks: kept, Loss: part.Loss})
		}
	}
	if len(blocks) <= 1 {
		return sum, blocks, false
	}

	drawn := p.plan(c.Release, policies)
	loss = sum
	if drawn == nil || !drawn.KeepsApart() {
		// (sum of roots of rho)^2 is at most the number times the sum, and equal where all are alike.
		loss.Rho = multiply(sum.Rho, int64(len(blocks)))
	}
	if sum.Delta == 0 {
		return loss, blocks, drawn == nil
	}
	if drawn != nil {
		if known := p.pair(drawn, touched); known.ok {
			loss.Epsilon, loss.Delta = known.Epsilon, known.Delta
			return loss, blocks, false
		}
	}
	var links []accounting.Link
	for _, t := range touched {
		links = append(links, accounting.Link{Budget: dp.Budget{Epsilon: t.Loss.Epsilon, Delta: t.Loss.Delta}, Times: int64(len(t.Blocks))})
	}
	group, _ := accounting.Chain(links)
	loss.Epsilon, loss.Delta = group.Epsilon, group.Delta
	return loss, blocks, true
}

// wider is a Gaussian's pair, and by how much changes are larger.
type wider struct {
	epsilon dp.Epsilon
	delta   dp.Delta
	times   int64
	root    bool
}

// reached is the epsilon that it comes to, if there is one.
type reached struct {
	epsilon dp.Epsilon
	ok      bool
}

func (p *pricing) pairOver(e dp.Epsilon, delta dp.Delta, times int64, root bool) (dp.Epsilon, bool) {
	asked := wider{e, delta, times, root}
	found, ok := p.wider[asked]
	if !ok {
		if len(p.wider) >= mostRemembered {
			clear(p.wider)
		}
		found.epsilon, found.ok = accounting.PairOver(e, delta, times, root)
		p.wider[asked] = found
	}
	return found.epsilon, found.ok
}

// pair is what plan.Over says.
type pair struct {
	dp.Budget
	ok bool
}

func (p *pricing) pair(drawn *plan.Plan, touched []dp.Touched) pair {
	key := drawn.ID
	for _, t := range touched {
		key += "\x00" + t.Dataset + "\x00" + strings.Join(t.Blocks, " ")
	}
	known, ok := p.pairs[key]
	if !ok {
		if len(p.pairs) >= mostRemembered {
			clear(p.pairs)
		}
		known.Budget, known.ok = drawn.Over(touched, p.pairOver)
		p.pairs[key] = known
	}
	return known
}

// plan is the one that a release is the draw of, nil where it does not tell.
func (p *pricing) plan(r *dp.Release, policies map[PolicyVersion]dp.VersionedPolicy) *plan.Plan {
	if r == nil {
		return nil
	}
	if known, ok := p.plans[r.Plan]; ok {
		return known
	}
	var drawn *plan.Plan
	policy, ok := policies[PolicyVersion{r.Dataset, r.PolicyVersion}]
	var others []dp.VersionedPolicy
	for _, also := range r.Also {
		if also.Dataset == r.Dataset {
			continue
		}
		other, found := policies[PolicyVersion{also.Dataset, also.PolicyVersion}]
		ok = ok && found
		others = append(others, other)
	}
	if ok {
		var err error
		if drawn, err = plan.Drawn(*r, policy, others...); err != nil {
			drawn = nil // its charge counts by group privacy, and the statement says so
		}
	}
	if len(p.plans) >= mostRemembered {
		clear(p.plans)
	}
	p.plans[r.Plan] = drawn
	return drawn
}

// total adds up charges.
type total struct {
	loss         dp.Loss
	charges      int64
	conservative int64
	blocks       map[account]bool // without consumer
}

func (t *total) add(loss dp.Loss, conservative bool, blocks []account) {
	for _, b := range blocks {
		t.blocks[b] = true
	}
	t.loss = accounting.Add(t.loss, loss)
	t.charges++
	if conservative {
		t.conservative++
	}
}

// merge adds what other charges add up to, but for those that are among them already (nil: none).
func (t *total) merge(other, already *total) {
	if already == nil {
		already = &total{}
	}
	maps.Copy(t.blocks, other.blocks)
	t.loss = accounting.Add(t.loss, beyond(other.loss, already.loss))
	t.charges += other.charges - already.charges
	t.conservative += other.conservative - already.conservative
}

func (t *total) clone() *total {
	out := *t
	out.blocks = maps.Clone(t.blocks)
	return &out
}

// about is between which two numbers the epsilon of spent lies, at a tiny part of its cost.
func (t *total) about(certified dp.Delta) (low, high dp.Epsilon) {
	above := accounting.FromRho(t.loss.Rho, certified/2)
	if above == math.MaxInt64 {
		only := t.state(place{}, certified, above).Epsilon
		return only, only
	}
	below := max(0, above-4-above/1e11) // FromRho is that close to the least
	a, b := t.state(place{}, certified, above), t.state(place{}, certified, below)
	low, high = min(a.Epsilon, b.Epsilon), max(a.Epsilon, b.Epsilon)
	if a.ByZero != b.ByZero {
		high = max(high, above)
	}
	return low, high
}

// spent states a total beside what is certified.
func (t *total) spent(at place, certified dp.Delta) Spent {
	return t.state(at, certified, accounting.LeastFromRho(t.loss.Rho, certified/2))
}

// state does, given the epsilon that rho comes to at half of what is certified.
func (t *total) state(at place, certified dp.Delta, epsilon dp.Epsilon) Spent {
	s := Spent{
		Scope: at.scope, Name: at.name, Blocks: int64(len(t.blocks)), Charges: t.charges, Conservative: t.conservative,
		Basic: dp.Budget{Epsilon: t.loss.Epsilon, Delta: min(t.loss.Delta, dp.DeltaOne)}, Rho: t.loss.Rho, DeltaZ: min(t.loss.DeltaZ, dp.DeltaOne),
		Epsilon: t.loss.Epsilon,
	}
	half := certified / 2
	if epsilon == math.MaxInt64 {
		return s
	}
	most := dp.DeltaOne - half
	factor := mechanism.CutFactor(epsilon)
	if s.DeltaZ > 0 && factor > int64(most/s.DeltaZ) {
		return s
	}
	rest := s.DeltaZ * dp.Delta(factor)
	if rest >= most {
		return s
	}
	s.Known, s.Zero = true, dp.Budget{Epsilon: epsilon, Delta: half + rest}
	basic, zero := s.Basic.Delta <= certified, s.Zero.Delta <= certified
	if zero && (!basic || s.Zero.Epsilon < s.Basic.Epsilon) {
		s.Epsilon, s.ByZero = s.Zero.Epsilon, true
	}
	return s
}

// multiply is for numbers that are not negative. What does not fit is unknown.
func multiply(rho dp.Rho, n int64) dp.Rho {
	if rho > 0 && n > math.MaxInt64/int64(rho) {
		return dp.RhoUnknown
	}
	return rho * dp.Rho(n)
}
