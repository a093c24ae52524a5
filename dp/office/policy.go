package office

import (
	"context"
	"reflect"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// ApplyPolicy creates a dataset or changes its policy. To change one, ifMatch is the version that the caller
// saw, and the reason is not empty; without ifMatch it only creates. A policy that already stands is returned
// as it is. Budgets change without touching what was spent. Where the policy in force asks for two persons, a change
// that does not narrow it is a *Waiting; to create a dataset takes one, for nothing is spent there yet.
//
// Errors: CodeInvalidPolicy, CodeInvalidInput, CodePreconditionRequired, CodePreconditionFailed, and
// CodeConflict for a change of what loaded rows fix, or where there are not two officers to ask for.
func (o *Office) ApplyPolicy(ctx context.Context, actor string, p dp.Policy, ifMatch *uint64, reason string) (applied dp.VersionedPolicy, created bool, err error) {
	if err := checkPolicy(p); err != nil {
		return applied, false, err
	}
	if err := checkReason(reason, false); err != nil {
		return applied, false, err
	}
	err = o.changeOrWait(ctx, actor, reason, func(tx Tx, now time.Time) (*Waiting, error) {
		var before *dp.VersionedPolicy
		applied, before, err = decidePolicy(tx, p, ifMatch, reason, now)
		created = before == nil
		switch {
		case err != nil || before != nil && before.Version == applied.Version:
			return nil, err
		case before != nil && before.TwoPerson && !policyNarrows(before.Policy, p):
			return propose(tx, actor, reason, dp.ProposedChange{Policy: &dp.PolicyChange{After: applied}}, now)
		}
		return nil, tx.PutPolicy(applied)
	})
	if err != nil {
		return dp.VersionedPolicy{}, false, err
	}
	return applied, created, nil
}

// confirmPolicy puts a proposed version in force.
func confirmPolicy(tx Tx, after dp.VersionedPolicy, end dp.ProposalEnd) error {
	seen := after.Version - 1
	next, _, err := decidePolicy(tx, after.Policy, &seen, end.Reason, end.At)
	if err != nil {
		return err
	}
	return tx.PutPolicy(next)
}

// decidePolicy gives the version that a policy would be, and the one in force, nil where there is no dataset. Where that is
// so already, they are the same.
func decidePolicy(tx Tx, p dp.Policy, ifMatch *uint64, reason string, at time.Time) (next dp.VersionedPolicy, before *dp.VersionedPolicy, err error) {
	versions, err := tx.Policies(p.Name)
	if err != nil {
		return next, nil, err
	}
	next = dp.VersionedPolicy{Policy: p, Version: uint64(len(versions)) + 1}
	if len(versions) == 0 {
		if err := checkMatch("dataset", false, 0, ifMatch); err != nil {
			return next, nil, err
		}
		if p.TwoPerson {
			err = enoughOfficers(tx, at)
		}
		return next, nil, err
	}
	now := versions[len(versions)-1]
	if reflect.DeepEqual(now.Policy, p) {
		return now, &now, nil
	}
	if err := checkMatch("policy", true, now.Version, ifMatch); err != nil {
		return next, nil, err
	}
	if err := checkReason(reason, true); err != nil {
		return next, nil, err
	}
	if p.TwoPerson && !now.TwoPerson {
		if err := enoughOfficers(tx, at); err != nil {
			return next, nil, err
		}
	}
	loadedUnder, err := tx.LoadedUnder(p.Name)
	if err != nil {
		return next, nil, err
	}
	if loadedUnder > 0 {
		for _, since := range versions[loadedUnder-1:] {
			if err := CheckFixed(since.Policy, p); err != nil {
				return next, nil, err
			}
		}
	}
	return next, &now, nil
}

// CheckFixed refuses a policy under which rows that were loaded under an earlier one would mean something
// else: they are kept by block, with times and fixed-point integers that only the earlier policy explains.
// A measure or a dimension may be added or dropped; one that comes back is what it was. A link may be added, dropped or
// read from another column: rows carry the consent that they were loaded with, and none where they were loaded without a link.
func CheckFixed(loaded, p dp.Policy) error {
	const instead = "keep it, or declare a new dataset under another name and load the rows there"
	fixed := func(what string) error {
		return refuse(dp.CodeConflict, "rows are loaded, which fixes %s: %s", what, instead)
	}
	if loaded.Unit.Row != p.Unit.Row || loaded.Unit.Column != p.Unit.Column {
		return fixed("the unit")
	}
	if loaded.Unit.Block != p.Unit.Block {
		return fixed("the block")
	}
	if (loaded.Time == nil) != (p.Time == nil) {
		return fixed("whether rows have a time")
	}
	if p.Time != nil && loaded.Time.Column != p.Time.Column {
		return fixed("the time column")
	}
	if p.Time != nil && loaded.Time.Timezone != p.Time.Timezone {
		return fixed("the time zone")
	}
	scales := map[string]int{}
	for _, m := range loaded.Measures {
		scales[m.Name] = m.Scale
	}
	for _, m := range p.Measures {
		if scale, ok := scales[m.Name]; ok && scale != m.Scale {
			return fixed("the scale of every measure")
		}
	}
	types := map[string]dp.DimensionType{}
	for _, d := range loaded.Dimensions {
		types[d.Name] = d.Type
	}
	for _, d := range p.Dimensions {
		if t, ok := types[d.Name]; ok && t != d.Type {
			return fixed("the type of every dimension")
		}
	}
	return nil
}

// maxPopulation keeps ten times the population within the units of delta.
const maxPopulation = 100_000_000_000_000_000

// checkPolicy checks what the guarantee rests on whoever wrote the policy; the spelling of a policy file is
// its reader's business.
func checkPolicy(p dp.Policy) error {
	if err := checkName("dataset", p.Name); err != nil {
		return asPolicy(err)
	}
	switch p.Kind {
	case dp.Engagement, dp.Transactions, dp.Custom:
	default:
		return badPolicy("give the policy a kind: engagement, transactions or custom")
	}
	if p.Population < 1 || p.Population > maxPopulation {
		return badPolicy("declare a population between 1 and 10^17: the number of customers, which bounds delta")
	}
	if p.Unit.Row != (p.Unit.Column == "") {
		return badPolicy("name the customer's column as the unit, or say {row: true} where every row is its own customer")
	}
	switch p.Unit.Block {
	case dp.Month, dp.Quarter, dp.Year:
		if p.Time == nil {
			return badPolicy("declare the time column, or the block all: a calendar block needs times")
		}
	case dp.All:
	default:
		return badPolicy("give the unit a block: month, quarter, year or all")
	}
	if p.Bounds.MaxPartitions < 1 || p.Bounds.MaxRows < 1 {
		return badPolicy("declare max_partitions and max_rows of at least 1")
	}
	if p.Unit.Row && (p.Bounds.MaxPartitions != 1 || p.Bounds.MaxRows != 1) {
		return badPolicy("declare max_partitions and max_rows of 1 where every row is its own customer")
	}
	if p.Cap.Epsilon <= 0 {
		return badPolicy("declare a cap with an epsilon above 0")
	}
	if err := CheckBudget("cap", p.Cap, p.Population); err != nil {
		return asPolicy(err)
	}
	if err := CheckBudget("default", p.Default, p.Population); err != nil {
		return asPolicy(err)
	}
	if err := checkLink(p); err != nil {
		return err
	}
	if err := checkRetain(p); err != nil {
		return err
	}
	if err := checkDeclared(&p); err != nil {
		return err
	}
	if len(p.Purposes) == 0 {
		return badPolicy("list at least one purpose: a query states which one it serves")
	}
	if err := checkPurposes(p.Purposes); err != nil {
		return asPolicy(err)
	}
	if len(p.Audiences) == 0 {
		return badPolicy("list the audiences that may receive answers: internal, third-party or both")
	}
	for _, a := range p.Audiences {
		if !isAudience(a) {
			return badPolicy("an audience is internal or third-party: list those that may receive answers")
		}
	}
	return nil
}

// checkLink refuses a consent that nobody gave.
func checkLink(p dp.Policy) error {
	switch {
	case p.Link == nil:
		return nil
	case p.Unit.Row:
		return badPolicy("leave link out: rows that are customers of their own cannot be joined")
	case p.Link.Consent == "":
		return badPolicy("name the column that holds a row's consent, or leave link out")
	case p.Link.Consent == p.Unit.Column, p.Time != nil && p.Link.Consent == p.Time.Column:
		return badPolicy("link names the column of customers or times, which every row has, as its consent: name the column that holds the consent")
	}
	return nil
}

// checkRetain refuses a retention under which nothing would ever leave, or a block before it has ended.
func checkRetain(p dp.Policy) error {
	least := map[dp.Block]int64{dp.Month: 1, dp.Quarter: 3, dp.Year: 12}[p.Unit.Block]
	switch {
	case p.RetainMonths == 0:
		return nil
	case least == 0:
		return badPolicy("leave retain out: the block all never ends, so that nothing of it would ever leave")
	case p.RetainMonths < least || p.RetainMonths > dp.MaxRetainMonths:
		return badPolicy("retain rows for %d to %d months after their block has ended, or leave retain out", least, dp.MaxRetainMonths)
	}
	return nil
}

func badPolicy(format string, values ...any) error {
	return refuse(dp.CodeInvalidPolicy, format, values...)
}

// asPolicy gives a refusal of a part of a policy the code of the whole.
func asPolicy(err error) error {
	if e, ok := err.(*dp.Error); ok {
		e.Code = dp.CodeInvalidPolicy
	}
	return err
}
