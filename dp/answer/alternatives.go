package answer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// withAlternatives adds to a refusal by budget what would still be admitted.
func (s *Service) withAlternatives(ctx context.Context, asker dp.Consumer, err error, q dp.Query, p *plan.Plan) error {
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeBudgetExhausted || refused.Left == nil {
		return err
	}
	with := *refused
	with.Alternatives = cheapest(q, p, *refused.Left)
	for _, a := range s.cheaper(ctx, asker, q, p.Policy, p) {
		if a.Epsilon <= refused.Left.Epsilon {
			with.Alternatives = append(with.Alternatives, a)
		}
	}
	return &with
}

// withVariants adds to a refusal by accuracy which variants would reach it.
func (s *Service) withVariants(ctx context.Context, asker dp.Consumer, err error, q dp.Query, policy dp.VersionedPolicy) error {
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeAccuracyUnattainable {
		return err
	}
	with := *refused
	with.Alternatives = s.cheaper(ctx, asker, q, policy, nil)
	return &with
}

// free says how to ask so that a release which the asker holds answers, though less exactly than this question wants it.
func free(f *following) dp.Alternative {
	var within []string
	for _, m := range f.plan.Metrics {
		if m.Within >= 0 {
			within = append(within, fmt.Sprintf("%s %s", m.Name, atLeast(m.Within)))
		}
	}
	return dp.Alternative{Change: fmt.Sprintf("ask within %s: follows from release %s, which you hold", strings.Join(within, ", "), f.release)}
}

// atLeast writes a positive number, or one with four digits that is a little larger.
func atLeast(x float64) string {
	digits := int(math.Floor(math.Log10(x)))
	step := math.Pow10(digits - 3)
	return strconv.FormatFloat(math.Ceil(x/step)*step, 'f', max(0, 3-digits), 64)
}

// cheapest prices the same question for what the fullest account still admits: a pure epsilon, which is
// what Left states.
func cheapest(q dp.Query, p *plan.Plan, left dp.Left) []dp.Alternative {
	if left.Epsilon <= 0 || p.GroupsMayBeHidden {
		return nil
	}
	cheaper := q
	cheaper.Epsilon, cheaper.Delta, cheaper.Within, cheaper.SpendAtMost = left.Epsilon.String(), "0", nil, ""
	priced, err := plan.Make(cheaper, p.Policy, nil, plan.DefaultLimits(), p.Joined()...)
	if err != nil {
		return nil // no variant within what is left: the refusal stands alone
	}
	return []dp.Alternative{{
		Change:  fmt.Sprintf("ask with epsilon %s and delta 0: %s", left.Epsilon, expected(priced)),
		Epsilon: priced.MostLoss().Epsilon,
	}}
}

// cheaper prices variants of a question that tell less: those that cost less than the plan, or are clearly more exact
// for the same price. Without a plan, those that can be answered at all. Like plans they depend on nothing stored.
func (s *Service) cheaper(ctx context.Context, asker dp.Consumer, q dp.Query, policy dp.VersionedPolicy, p *plan.Plan) (list []dp.Alternative) {
	for _, v := range variants(q, &policy.Policy, p) {
		priced, err := s.make(ctx, asker, policy, v.query)
		if err != nil || p != nil && !isBetter(priced, p) {
			continue
		}
		list = append(list, dp.Alternative{Change: v.change + ": " + expected(priced), Epsilon: priced.MostLoss().Epsilon})
	}
	return list
}

// isBetter tells whether a variant costs less, or no more with an interval of every metric that is a fifth narrower.
func isBetter(variant, p *plan.Plan) bool {
	if most, least := p.MostLoss().Epsilon, variant.MostLoss().Epsilon; most != least {
		return least < most
	}
	for i, m := range p.Metrics {
		if m.Within >= 0 && variant.Metrics[i].Within > m.Within*4/5 {
			return false
		}
	}
	return true
}

// variant is another question in place of one, and how to get from one to the other.
type variant struct {
	change string
	query  dp.Query
}

// variants give a question with coarser time and places, fewer keys, groups of fewer customers' parts, and wider intervals.
func variants(q dp.Query, policy *dp.Policy, p *plan.Plan) (list []variant) {
	q.SpendAtMost = ""
	for i, name := range q.By {
		other := q
		other.By = slices.Delete(slices.Clone(q.By), i, i+1)
		for _, coarse := range coarser(policy, name) {
			if slices.Contains(q.By, coarse) {
				continue
			}
			other := other
			other.By = append(slices.Clone(other.By), coarse)
			list = append(list, variant{fmt.Sprintf("group by %s instead of %s", coarse, name), other})
		}
		if _, isTime := rows.ParseTimeUnit(name); !isTime {
			list = append(list, variant{"leave out " + name, other})
		}
	}
	if p != nil && p.Tree.Input.Partitions > 1 {
		other := q
		other.MaxPartitions = (p.Tree.Input.Partitions + 1) / 2
		list = append(list, variant{fmt.Sprintf("set max_partitions to %d, which leaves out more of who is in many groups", other.MaxPartitions), other})
	}
	if len(q.Within) > 0 {
		other := q
		other.Within = make(map[string]string)
		for metric, text := range q.Within {
			units, err := rows.ParseDecimal(text, rows.MaxScale)
			if err != nil || units > 1<<62 {
				return list
			}
			other.Within[metric] = rows.FormatDecimal(2*units, rows.MaxScale)
		}
		list = append(list, variant{"ask for intervals twice as wide", other})
	}
	return list
}

// coarser are keys by which there are fewer groups: the next longer period, the dimension that a policy names as parent,
// and those that are made of this one.
func coarser(policy *dp.Policy, name string) (keys []string) {
	if unit, ok := rows.ParseTimeUnit(name); ok {
		units := rows.TimeUnits()
		if at := slices.Index(units, unit); unit != rows.Hour && at+1 < len(units) {
			keys = append(keys, units[at+1].Field())
		}
		return keys
	}
	for _, d := range policy.Dimensions {
		if d.Name == name && d.Parent != "" {
			keys = append(keys, d.Parent)
		}
	}
	for _, d := range policy.Derived {
		if d.Of == name {
			keys = append(keys, d.Name)
		}
	}
	return keys
}

// expected says how exact a plan is.
func expected(p *plan.Plan) string {
	var list []string
	for _, m := range p.Metrics {
		if m.Within >= 0 {
			list = append(list, fmt.Sprintf("%s within %s", m.Name, strconv.FormatFloat(m.Within, 'g', 3, 64)))
		}
	}
	return strings.Join(list, ", ")
}
