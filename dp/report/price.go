package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// plan prices the questions of one run, and adds up what they cost. It refuses with everything that is wrong.
func (s *Service) plan(ctx context.Context, asker dp.Consumer, spec Spec, questions []Question) (Plan, error) {
	questions, err := s.split(ctx, asker, spec, questions)
	if err != nil {
		return Plan{}, err
	}
	var out Plan
	var refusals []*dp.Error
	first := map[string]int{} // plan -> question
	for i, q := range questions {
		quote, err := s.answers.Plan(ctx, asker, q.Query)
		var refused *dp.Error
		if errors.As(err, &refused) && refused.Code != dp.CodeUnavailable {
			refusals = append(refusals, at(refused, fmt.Sprintf("queries[%d]", i)))
			continue
		}
		if err != nil {
			return Plan{}, fmt.Errorf("pricing question %s: %w", q.Name, err)
		}
		// A report's answers are releases: none is added up from another. One that is made because a block was loaded is about
		// the rows that were.
		if quote.Derived || quote.Stale && spec.Schedule != "" {
			quote.FreeFrom, quote.Reused, quote.Derived, quote.Stale = "", nil, false, false
		}
		if before, twice := first[quote.Plan.ID]; twice && !q.Query.Fresh {
			refusals = append(refusals, invalid([]dp.Location{{Path: fmt.Sprintf("queries[%d]", i), Message: fmt.Sprintf("asks what queries[%d] asks, at the same price: leave one out", before)}}))
			continue
		}
		first[quote.Plan.ID] = i
		out.Parts = append(out.Parts, PlannedPart{Name: q.Name, Query: q.Query, Quote: quote})
	}
	if len(refusals) > 0 {
		return Plan{}, joined(refusals)
	}
	out.addUp()
	for _, dataset := range out.datasets() {
		blocks, most := out.of(dataset)
		left, err := s.book.Left(ctx, asker.Name, dataset, blocks, most)
		if err != nil {
			return Plan{}, fmt.Errorf("reading what is left: %w", err)
		}
		out.Left = append(out.Left, left)
	}
	return out, nil
}

// addUp gives each block the sum of the parts that touch it and that no held release answers.
func (p *Plan) addUp() {
	for _, part := range p.Parts {
		priced := part.Quote.Plan
		loss := priced.Loss
		if part.Quote.FreeFrom != "" {
			loss = dp.Loss{}
		}
		p.Blocks = addTo(p.Blocks, priced.Policy.Name, priced.Blocks, loss)
		for _, t := range priced.Also {
			if loss == (dp.Loss{}) {
				t.Loss = loss
			}
			p.Blocks = addTo(p.Blocks, t.Dataset, t.Blocks, t.Loss)
		}
	}
}

// addTo adds a loss to blocks, which stay sorted.
func addTo(costs []BlockCost, dataset string, blocks []string, loss dp.Loss) []BlockCost {
	for _, block := range blocks {
		i := slices.IndexFunc(costs, func(b BlockCost) bool { return b.Dataset == dataset && b.Block == block })
		if i < 0 {
			i = len(costs)
			costs = append(costs, BlockCost{Dataset: dataset, Block: block})
		}
		costs[i].Loss = accounting.Add(costs[i].Loss, loss)
	}
	slices.SortFunc(costs, func(a, b BlockCost) int {
		return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Block, b.Block))
	})
	return costs
}

// Costs are what a run cost the accounts of each block, sorted by dataset and block.
func Costs(run dp.ReportRun) (costs []BlockCost) {
	for _, p := range run.Parts {
		if p.Charge.ID != "" {
			costs = addTo(costs, p.Charge.Dataset, p.Charge.Blocks, p.Charge.Loss)
			for _, also := range p.Charge.Also {
				costs = addTo(costs, also.Dataset, also.Blocks, also.Loss)
			}
		}
	}
	return costs
}

func (p *Plan) datasets() (names []string) {
	for _, b := range p.Blocks {
		names = append(names, b.Dataset)
	}
	return slices.Compact(names)
}

// of gives the blocks of a dataset, and the largest loss of one.
func (p *Plan) of(dataset string) (blocks []string, most dp.Loss) {
	for _, b := range p.Blocks {
		if b.Dataset != dataset {
			continue
		}
		blocks = append(blocks, b.Block)
		most = dp.Loss{Epsilon: max(most.Epsilon, b.Loss.Epsilon), Delta: max(most.Delta, b.Loss.Delta), Rho: max(most.Rho, b.Loss.Rho), DeltaZ: max(most.DeltaZ, b.Loss.DeltaZ)}
	}
	return blocks, most
}

// Largest is the largest sum that one block pays.
func (p Plan) Largest() (most dp.Loss) {
	for _, dataset := range p.datasets() {
		_, of := p.of(dataset)
		most = dp.Loss{Epsilon: max(most.Epsilon, of.Epsilon), Delta: max(most.Delta, of.Delta), Rho: max(most.Rho, of.Rho), DeltaZ: max(most.DeltaZ, of.DeltaZ)}
	}
	return most
}

// at puts a question's place before those that a refusal names.
func at(e *dp.Error, path string) *dp.Error {
	out := *e
	out.Locations = nil
	for _, l := range e.Locations {
		out.Locations = append(out.Locations, dp.Location{Path: path + "." + l.Path, Message: l.Message})
	}
	if len(out.Locations) == 0 {
		out.Locations = []dp.Location{{Path: path, Message: e.Message}}
	}
	return &out
}

// joined is one refusal for all: of their kind, where they are of one.
func joined(refusals []*dp.Error) *dp.Error {
	all := *refusals[0]
	for _, r := range refusals[1:] {
		all.Locations = append(slices.Clip(all.Locations), r.Locations...)
		if r.Code != all.Code {
			all = *invalid(all.Locations)
		}
	}
	if len(refusals) > 1 {
		all.Message = fmt.Sprintf("%d questions of the report cannot be asked: change what the locations name", len(refusals))
	}
	return &all
}
