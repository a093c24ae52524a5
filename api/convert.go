package api

import (
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// How dp's words look on the wire. Exact amounts are written as their exact decimal text.

func lossOf(l dp.Loss) *wire.Loss {
	return &wire.Loss{Epsilon: wire.Decimal(l.Epsilon.String()), Delta: wire.Decimal(l.Delta.String()), Rho: rhoOf(l.Rho)}
}

// rhoOf leaves out a rho that has no proved bound.
func rhoOf(r dp.Rho) wire.Decimal {
	if r == dp.RhoUnknown {
		return ""
	}
	return wire.Decimal(r.String())
}

func leftOf(l dp.Left) *wire.Left {
	return &wire.Left{Account: l.Account, Epsilon: wire.Decimal(l.Epsilon.String()), Share: l.Share, SimilarQueries: &l.SimilarQueries}
}

func alternativesOf(list []dp.Alternative) []wire.Alternative {
	var out []wire.Alternative
	for _, a := range list {
		out = append(out, wire.Alternative{Change: a.Change, Epsilon: wire.Decimal(a.Epsilon.String())})
	}
	return out
}

func chargeOf(c dp.Charge, left *dp.Left) wire.Charge {
	out := wire.Charge{
		ID:      c.ID,
		Epsilon: wire.Decimal(c.Loss.Epsilon.String()),
		Delta:   wire.Decimal(c.Loss.Delta.String()),
		Rho:     rhoOf(c.Loss.Rho),
		Blocks:  listOf(c.Blocks),
		Also:    alsoOf(c.Also),
	}
	if left != nil {
		out.Left = leftOf(*left)
	}
	return out
}

func alsoOf(list []dp.Touched) []wire.Touch {
	var out []wire.Touch
	for _, t := range list {
		out = append(out, wire.Touch{Dataset: t.Dataset, Blocks: listOf(t.Blocks),
			Epsilon: wire.Decimal(t.Loss.Epsilon.String()), Delta: wire.Decimal(t.Loss.Delta.String()), Rho: rhoOf(t.Loss.Rho)})
	}
	return out
}

func privacyOf(p dp.Privacy) wire.Privacy {
	out := wire.Privacy{
		Unit:          p.Unit,
		Block:         string(p.Block),
		Mechanism:     p.Mechanism,
		Epsilon:       wire.Decimal(p.Loss.Epsilon.String()),
		Delta:         wire.Decimal(p.Loss.Delta.String()),
		Rho:           rhoOf(p.Loss.Rho),
		MaxPartitions: p.MaxPartitions,
		MaxRows:       p.MaxRows,
	}
	for metric, c := range p.Clamp {
		if out.Clamp == nil {
			out.Clamp = make(map[string][2]wire.Decimal)
		}
		out.Clamp[metric] = [2]wire.Decimal{wire.Decimal(c[0]), wire.Decimal(c[1])}
	}
	if out.Mechanism == nil {
		out.Mechanism = map[string]string{}
	}
	return out
}

func consumerOf(c dp.Consumer) wire.Consumer {
	return wire.Consumer{Name: c.Name, Role: string(c.Role), Organisation: c.Organisation, Audience: string(c.Audience),
		Purposes: listOf(c.Purposes), Suspended: c.Suspended, Subject: c.Subject, Created: c.Created.UTC(), Version: c.Version}
}

func keyOf(k dp.Key) wire.Key {
	return wire.Key{ID: k.ID, Consumer: k.Consumer, Created: k.Created.UTC(), Expires: timeOf(k.Expires), Revoked: timeOf(k.Revoked), Under: k.Under}
}

func allotmentOf(a dp.Allotment) wire.Allotment {
	out := wire.Allotment{Consumer: a.Consumer, Dataset: a.Dataset,
		Epsilon: wire.Decimal(a.Budget.Epsilon.String()), Delta: wire.Decimal(a.Budget.Delta.String()),
		Expires: timeOf(a.Expires), Paused: a.Paused, Version: a.Version}
	if a.MaxEpsilonPerQuery != 0 {
		out.MaxEpsilonPerQuery = wire.Decimal(a.MaxEpsilonPerQuery.String())
	}
	return out
}

func loadOf(l dp.Load) wire.Load {
	return wire.Load{ID: l.ID, Name: l.Name, Blocks: listOf(l.Blocks), Committed: timeOf(l.Committed)}
}

// timeOf leaves out a time that is not set.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// listOf is never null in JSON.
func listOf[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
