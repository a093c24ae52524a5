package answer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// mostLookedAt is how many of the asker's releases, the last ones, one question is compared with.
const mostLookedAt = 200

// following is a release of the asker's from which the figures of a plan follow, at no charge.
type following struct {
	release string
	plan    *plan.Plan // what would be answered: its accuracy is the release's
	// asExact says that no figure is less exact than the asker wants it, or than what the price would buy.
	asExact    bool
	derivation *plan.Derivation // nil where the release answers the question itself
}

// candidate may become a following; to find out how wide its intervals are takes long.
type candidate struct {
	release    string
	source     *plan.Plan
	noise      float64
	derivation *plan.Derivation
}

// mostTried is of how many candidates, the most exact ones, the intervals are computed.
const mostTried = 4

// follow looks for a release that the asker holds, over the current versions of the plan's blocks, from which the plan's
// figures follow: one of the very question, drawn at another price, or one from whose groups they can be added up. Of several
// the most exact is taken that is as exact as was asked, else the most exact; of equal ones the newest. What other
// consumers hold is never looked at, nor are rows, nor figures.
func (s *Service) follow(ctx context.Context, asker dp.Consumer, p *plan.Plan) (*following, error) {
	if p.GroupsMayBeHidden {
		return nil, nil
	}
	held, err := s.releases.HeldOver(ctx, asker.Name, p.Policy.Name, p.Blocks, mostLookedAt)
	if err != nil {
		return nil, fmt.Errorf("looking for releases to reuse: %w", err)
	}
	var candidates []candidate
	for _, r := range held {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("looking for releases to reuse: %w", err)
		}
		if r.PolicyVersion != p.Policy.Version {
			continue
		}
		source := s.drawn.of(r, p.Policy)
		if source == nil {
			continue
		}
		if noise, same := p.IsSameQuestion(source); same {
			candidates = append(candidates, candidate{r.ID, source, noise, nil})
		} else if d, ok := p.DeriveFrom(source); ok {
			candidates = append(candidates, candidate{r.ID, source, d.Noise, d})
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.noise, b.noise) })
	var best *following
	for _, c := range candidates[:min(len(candidates), mostTried)] {
		f := &following{release: c.release, derivation: c.derivation}
		if c.derivation == nil {
			f.plan, f.asExact = p.AsDrawn(c.source)
		} else {
			f.plan, f.asExact = c.derivation.Plan(c.release)
		}
		if f.asExact {
			return f, nil
		}
		if best == nil {
			best = f
		}
	}
	return best, nil
}

// reuse answers from a release that the plan's figures follow from.
func (s *Service) reuse(ctx context.Context, asker dp.Consumer, p *plan.Plan, f *following) (Answer, error) {
	release, err := s.releases.Release(ctx, asker.Name, f.release)
	if err != nil {
		return Answer{}, fmt.Errorf("reading a release to reuse: %w", err)
	}
	answer := Answer{Reused: true, Charge: dp.Charge{Consumer: asker.Name, Dataset: p.Policy.Name, Blocks: p.Blocks}}
	if f.derivation == nil {
		answer.Charge.ID, answer.Charge.Blocks = release.Charge.ID, release.Charge.Blocks
		answer.Release = shown(f.plan, release)
	} else {
		answer.DerivedFrom = []string{release.ID}
		if answer.Release, answer.draws, err = derive(f.plan, f.derivation, release); err != nil {
			return Answer{}, fmt.Errorf("deriving from release %s: %w", release.ID, err)
		}
	}
	if answer.Left, err = s.ledger.Left(ctx, asker.Name, p.Policy.Name, p.Blocks, p.Loss, p.Also...); err != nil {
		return Answer{}, fmt.Errorf("reading what is left: %w", err)
	}
	return presented(f.plan, answer), nil
}

// derive adds up the noised integers of a release for the groups of a plan. The answer is not a release: it has no id of
// its own and is stored nowhere, for it follows from the one that it names whenever it is asked. draws are, of each group, how many numbers were added up.
func derive(p *plan.Plan, d *plan.Derivation, from dp.Release) (r dp.Release, draws []int, err error) {
	groups := p.Groups()
	position := make(map[string]int, len(groups))
	for i, key := range groups {
		position[string(rows.AppendKey(nil, key))] = i
	}
	sums := make([][]int64, len(groups))
	draws = make([]int, len(groups))
	to, at := offsets(p), offsets(d.Source)
	width := 0
	for metric := range d.From {
		if p.Metrics[metric].Drawn == metric { // others are names of the same number, or read from some
			width++
		}
	}
	for i := range sums {
		sums[i] = make([]int64, width)
	}
	if len(from.Groups) != len(d.Source.Groups()) || len(from.NoisedCoordinates) != len(from.Groups) {
		return dp.Release{}, nil, errNotWhole
	}
	for i, g := range from.Groups {
		key, ok := d.Group(g.Key)
		if !ok {
			continue
		}
		into, ok := position[string(rows.AppendKey(nil, key))]
		if !ok {
			return dp.Release{}, nil, errNotWhole
		}
		draws[into]++
		for metric, source := range d.From {
			if p.Metrics[metric].Drawn == metric {
				sums[into][to[metric]] = saturating(sums[into][to[metric]], from.NoisedCoordinates[i][at[source]])
			}
		}
	}
	if slices.Contains(draws, 0) || slices.Max(draws) > d.Most {
		return dp.Release{}, nil, errNotWhole
	}

	r = dp.Release{
		Dataset: from.Dataset, PolicyVersion: from.PolicyVersion, AsOf: from.AsOf, Confidence: p.Confidence.String(),
		By: []string{}, Privacy: Privacy(p), Notes: p.Notes, CanonicalQuery: string(p.Question),
	}
	for _, k := range p.Tree.Input.Input.Keys {
		r.By = append(r.By, k.Name)
	}
	for _, m := range p.Metrics {
		r.Metrics = append(r.Metrics, m.Name)
	}
	for _, b := range from.Blocks {
		if slices.Contains(p.Blocks, b.Block) {
			r.Blocks = append(r.Blocks, b)
		}
	}
	r.NoisedCoordinates = sums
	r.Groups = newFigures(p).groups(groups, sums, draws)
	return r, draws, nil
}

var errNotWhole = errors.New("the release does not have the groups that it says")

// drawnPlans keeps the plans of releases that were compared with questions: to read one takes longer than to compare it.
// A release never changes, nor does the policy of a version.
type drawnPlans struct {
	mu    sync.Mutex
	plans map[string]*plan.Plan // by release; nil where it does not say how it was drawn
	bytes int
}

// mostDrawn bounds the bytes of drawnPlans: a plan takes some kilobytes, or megabytes where it names every day of decades.
// mostDrawnOfOne is what one may take that is kept, so that a few do not push out all others.
const mostDrawn, mostDrawnOfOne = 32 << 20, 1 << 20

func (k *drawnPlans) of(r dp.Release, policy dp.VersionedPolicy) *plan.Plan {
	k.mu.Lock()
	p, known := k.plans[r.ID]
	k.mu.Unlock()
	if known {
		return p
	}
	p, err := plan.Drawn(r, policy)
	size := 200
	if err != nil {
		p = nil // one of an earlier version, or of a limit that is no more: it can be read, and not reused
	} else {
		size += p.Bytes()
	}
	if size > mostDrawnOfOne {
		return p
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.plans == nil || k.bytes+size > mostDrawn {
		k.plans, k.bytes = make(map[string]*plan.Plan), 0
	}
	if _, known := k.plans[r.ID]; !known {
		k.plans[r.ID] = p
		k.bytes += size
	}
	return p
}
