package office

import (
	"reflect"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// A change narrows if nobody may learn more after it than before. These functions are conservative: what is not known to
// narrow does not, so that a field that is added to a type widens until it is told here how it narrows.

// policyNarrows tells whether all that a change of a policy does is to lower the cap, or the default price with it, to take
// away purposes or audiences, or to ask for two persons.
func policyNarrows(before, after dp.Policy) bool {
	rest := after
	rest.Cap, rest.Default, rest.Purposes, rest.Audiences, rest.TwoPerson = before.Cap, before.Default, before.Purposes, before.Audiences, before.TwoPerson
	return reflect.DeepEqual(rest, before) && budgetNarrows(before.Cap, after.Cap) && budgetNarrows(before.Default, after.Default) && subset(after.Purposes, before.Purposes) &&
		subset(after.Audiences, before.Audiences) && (after.TwoPerson || !before.TwoPerson)
}

// allotmentNarrows tells whether all that a change of an allotment does is to lower its budget or its maximum per query,
// to have it expire earlier, or to pause it.
func allotmentNarrows(before, after dp.Allotment) bool {
	rest := after
	rest.Budget, rest.MaxEpsilonPerQuery, rest.Expires, rest.Paused = before.Budget, before.MaxEpsilonPerQuery, before.Expires, before.Paused
	rest.Version = before.Version
	return rest == before && budgetNarrows(before.Budget, after.Budget) && maximumNarrows(before.MaxEpsilonPerQuery, after.MaxEpsilonPerQuery) &&
		expiryNarrows(before.Expires, after.Expires) && (after.Paused || !before.Paused)
}

// consumerNarrows tells whether all that a change of a consumer does is to take away purposes or its subject, to suspend
// it, or to give it a role all of whose rights it had. An audience is none of this: what each may see, the other may not. Nor is an
// organisation, by which officers know whom they let in.
func consumerNarrows(before, after dp.Consumer) bool {
	rest := after
	rest.Role, rest.Purposes, rest.Suspended, rest.Subject, rest.Version = before.Role, before.Purposes, before.Suspended, before.Subject, before.Version
	return reflect.DeepEqual(rest, before) && roleNarrows(before.Role, after.Role) && subset(after.Purposes, before.Purposes) &&
		(after.Suspended || !before.Suspended) && (after.Subject == before.Subject || after.Subject == "")
}

// roleNarrows knows the two pairs of roles of which one may do a part of what the other may (api, rules).
func roleNarrows(before, after dp.Role) bool {
	return before == after || before == dp.Analyst && after == dp.Product || before == dp.Officer && after == dp.Auditor
}

func budgetNarrows(before, after dp.Budget) bool {
	return after.Epsilon <= before.Epsilon && after.Delta <= before.Delta
}

// maximumNarrows compares maxima per query, of which 0 is none.
func maximumNarrows(before, after dp.Epsilon) bool {
	return before == 0 || after > 0 && after <= before
}

// expiryNarrows compares times of which zero is never.
func expiryNarrows(before, after time.Time) bool {
	return before.IsZero() || !after.IsZero() && !after.After(before)
}

func subset[T comparable](of, all []T) bool {
	return !slices.ContainsFunc(of, func(one T) bool { return !slices.Contains(all, one) })
}
