package report

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// split gives every question without a price of its own its part of the report's budget.
func (s *Service) split(ctx context.Context, asker dp.Consumer, spec Spec, questions []Question) ([]Question, error) {
	if spec.Epsilon == "" {
		return questions, nil
	}
	epsilon, err := accounting.ParseEpsilon(spec.Epsilon, accounting.Down)
	if err != nil {
		return nil, invalid([]dp.Location{{Path: "epsilon", Message: err.Error()}})
	}
	delta := dp.Delta(0)
	if spec.Delta != "" {
		if delta, err = accounting.ParseDelta(spec.Delta, accounting.Down); err != nil {
			return nil, invalid([]dp.Location{{Path: "delta", Message: err.Error()}})
		}
	}
	var open []int
	var problems []dp.Location
	for i, q := range questions {
		if q.Query.Epsilon == "" && len(q.Query.Within) == 0 {
			open = append(open, i)
			if q.Query.Delta != "" && spec.Delta != "" {
				problems = append(problems, dp.Location{Path: fmt.Sprintf("queries[%d].delta", i), Message: "has a part of the report's as well: state epsilon, too, or leave one of both deltas out"})
			}
		}
	}
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	if len(open) == 0 {
		return nil, invalid([]dp.Location{{Path: "epsilon", Message: "is for questions that state neither epsilon nor within, and there is none: leave it out"}})
	}
	var weights []int64
	if spec.Equalise == RelativeError {
		weights, err = s.equalising(ctx, asker, questions, open, epsilon)
	} else {
		weights, err = spec.weightsOf(questions, open)
	}
	if err != nil {
		return nil, err
	}
	questions = slices.Clone(questions)
	epsilons, deltas := share(int64(epsilon), weights), share(int64(delta), weights)
	for n, i := range open {
		questions[i].Query.Epsilon = dp.Epsilon(epsilons[n]).String()
		if spec.Delta != "" {
			questions[i].Query.Delta = dp.Delta(deltas[n]).String()
		}
	}
	return questions, nil
}

// weightsOf reads the weights that were given, in units of 10^-12.
func (s Spec) weightsOf(questions []Question, open []int) ([]int64, error) {
	var weights []int64
	for name := range s.Weights {
		if !slices.ContainsFunc(open, func(i int) bool { return questions[i].Name == name }) {
			return nil, invalid([]dp.Location{{Path: "weights", Message: "names a question that states its own price: leave one of both out"}})
		}
	}
	for _, i := range open {
		text, given := s.Weights[questions[i].Name]
		if !given {
			text = "1"
		}
		weight, err := accounting.ParseEpsilon(text, accounting.Down)
		if err != nil || weight <= 0 {
			return nil, invalid([]dp.Location{{Path: "weights." + questions[i].Name, Message: "must be a number above 0"}})
		}
		weights = append(weights, int64(weight))
	}
	return weights, nil
}

// share splits a whole by weights. The last part takes what rounding down leaves, so that the parts add up to the whole.
func share(whole int64, weights []int64) []int64 {
	sum := new(big.Int)
	for _, w := range weights {
		sum.Add(sum, big.NewInt(w))
	}
	parts, rest := make([]int64, len(weights)), whole
	for i, w := range weights {
		part := new(big.Int).Mul(big.NewInt(whole), big.NewInt(w))
		parts[i] = part.Quo(part, sum).Int64()
		rest -= parts[i]
	}
	parts[len(parts)-1] += rest
	return parts
}

// equalising are the weights at which the intervals of all questions are of one width relative to what they are about.
// Widths are nearly in inverse proportion to epsilon, so that a question's weight is its width at some epsilon over
// the size of its figures. How large these are, the newest release tells that the asker holds of the same question
// over any dates: it is read, which is free, and its noise is part of what was learned already.
func (s *Service) equalising(ctx context.Context, asker dp.Consumer, questions []Question, open []int, epsilon dp.Epsilon) ([]int64, error) {
	weights, relative := make([]int64, len(open)), make([]float64, len(open))
	var problems []dp.Location
	for n, i := range open {
		q := questions[i].Query
		q.Epsilon = dp.Epsilon(share(int64(epsilon), slices.Repeat([]int64{1}, len(open)))[n]).String()
		path := fmt.Sprintf("queries[%d]", i)
		quote, err := s.answers.Plan(ctx, asker, q)
		if err != nil {
			if refused, ok := err.(*dp.Error); ok {
				return nil, at(refused, path)
			}
			return nil, err
		}
		size, err := s.sizes(ctx, asker, quote)
		if err != nil {
			return nil, err
		}
		for _, m := range quote.Plan.Metrics {
			if of := size[m.Name]; of > 0 && m.Within > 0 {
				relative[n] = max(relative[n], m.Within/of)
			}
		}
		if relative[n] == 0 {
			problems = append(problems, dp.Location{Path: path, Message: "has no answer among your releases that says how large its figures are: ask it once by itself, over any dates, or give weights instead of equalise"})
		}
	}
	if len(problems) > 0 {
		return nil, invalid(problems)
	}
	most := slices.Max(relative)
	for n := range open {
		weights[n] = max(1, int64(math.Round(relative[n]/most*1e9)))
	}
	return weights, nil
}

// searched is how many of the newest releases are looked through for a question.
const searched = 1000

// sizes are the median figures of each metric of a question, by the newest release of it that the asker holds.
func (s *Service) sizes(ctx context.Context, asker dp.Consumer, q answer.Quote) (map[string]float64, error) {
	want, err := undated(q.Plan.Question)
	if err != nil {
		return nil, err
	}
	held, _, err := s.releases.Held(ctx, asker.Name, q.Plan.Policy.Name, "", searched)
	if err != nil {
		return nil, fmt.Errorf("listing held releases: %w", err)
	}
	for _, known := range held {
		have, err := undated([]byte(known.CanonicalQuery))
		if err != nil || !reflect.DeepEqual(have, want) {
			continue
		}
		whole, err := s.releases.Release(ctx, asker.Name, known.ID)
		if err != nil {
			return nil, fmt.Errorf("reading a held release: %w", err)
		}
		sizes := map[string]float64{}
		for i, name := range whole.Metrics {
			var figures []float64
			for _, g := range whole.Groups {
				figures = append(figures, math.Abs(g.Values[i].Value))
			}
			if len(figures) > 0 {
				slices.Sort(figures)
				sizes[name] = figures[len(figures)/2]
			}
		}
		return sizes, nil
	}
	return nil, nil
}

// undated is a canonical question without its dates.
func undated(question []byte) (map[string]any, error) {
	var out map[string]any
	if err := json.Unmarshal(question, &out); err != nil {
		return nil, fmt.Errorf("reading a canonical question: %w", err)
	}
	delete(out, "from")
	delete(out, "to")
	return out, nil
}
