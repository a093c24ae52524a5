package answer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// withAlternatives adds to a refusal by budget what would still be admitted.
func (s *Service) withAlternatives(err error, q dp.Query, p *plan.Plan) error {
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeBudgetExhausted || refused.Left == nil {
		return err
	}
	with := *refused
	with.Alternatives = alternatives(q, p, *refused.Left)
	return &with
}

// alternatives prices the same question for what the fullest account still admits: a pure epsilon, which is
// what Left states.
func alternatives(q dp.Query, p *plan.Plan, left dp.Left) []dp.Alternative {
	if left.Epsilon <= 0 || p.GroupsMayBeHidden {
		return nil
	}
	cheaper := q
	cheaper.Epsilon, cheaper.Delta, cheaper.Within, cheaper.SpendAtMost = left.Epsilon.String(), "0", nil, ""
	priced, err := plan.Make(cheaper, p.Policy, nil, plan.DefaultLimits())
	if err != nil {
		return nil // no variant within what is left: the refusal stands alone
	}
	var expected []string
	for _, m := range priced.Metrics {
		if m.Within >= 0 { // of others nothing can be said before
			expected = append(expected, fmt.Sprintf("%s within %s", m.Name, strconv.FormatFloat(m.Within, 'g', 3, 64)))
		}
	}
	return []dp.Alternative{{
		Change:  fmt.Sprintf("ask with epsilon %s and delta 0: %s", left.Epsilon, strings.Join(expected, ", ")),
		Epsilon: priced.Loss.Epsilon,
	}}
}
