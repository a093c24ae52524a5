package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/exposure"
	"github.com/discreet-analytics/discreet/dp/office"
)

type worstCaseInput struct {
	DatasetParam
	Days int `query:"days" minimum:"1" maximum:"366" default:"30" doc:"Over how many days up to today spending is told, and its rate taken"`
}

type worstCaseOutput struct {
	Body wire.WorstCase
}

type whatIfInput struct {
	DatasetParam
	Body wire.WhatIf
}

func (v *Server) registerExposure() {
	register(v, huma.Operation{
		OperationID: "worst-case", Method: http.MethodGet, Path: "/v1/datasets/{dataset}/worst-case", Tags: []string{"Budgets"},
		Summary:     "Read the worst case for one customer",
		Description: "What budgets guarantee and what charges so far add up to, for all rows of one customer in a block, a year, the whole history and linked datasets: for all consumers together and for each. And how fast budgets are spent. It follows from budgets and charges, never from rows.",
		Errors:      []int{404},
	}, v.worstCase)
	register(v, huma.Operation{
		OperationID: "what-if", Method: http.MethodPost, Path: "/v1/datasets/{dataset}/what-if", Tags: []string{"Budgets"},
		Summary:     "Read the worst case under other budgets",
		Description: "The same figures, as if the cap or allotments had been changed now. Nothing is.",
		Errors:      []int{404},
	}, v.whatIf)
}

// usualDays is how many days are looked back on where nothing is asked.
const usualDays = 30

func (v *Server) worstCase(ctx context.Context, in *worstCaseInput) (*worstCaseOutput, error) {
	book, err := v.services.Exposure.Exposure(ctx, in.Dataset)
	if err != nil {
		return nil, err
	}
	return &worstCaseOutput{worstCaseOf(exposure.State(book, exposure.Assumed{}, in.Days))}, nil
}

func (v *Server) whatIf(ctx context.Context, in *whatIfInput) (*worstCaseOutput, error) {
	book, err := v.services.Exposure.Exposure(ctx, in.Dataset)
	if err != nil {
		return nil, err
	}
	change, err := v.changeOf(ctx, in.Body, book.Datasets[0].Policy.Population)
	if err != nil {
		return nil, err
	}
	days := in.Body.Days
	if days == 0 {
		days = usualDays
	}
	assumed := exposure.Assumed{Year: in.Body.YearBlocks, History: in.Body.History}
	return &worstCaseOutput{worstCaseOf(exposure.State(book.Under(change), assumed, days))}, nil
}

// changeOf reads budgets as those do who set them: rounded down, and refused where they could not be set.
func (v *Server) changeOf(ctx context.Context, in wire.WhatIf, population int64) (exposure.Change, error) {
	var change exposure.Change
	p := newProblem(dp.CodeInvalidInput, "What is asked about cannot be used: change what its locations name.")
	budget := func(at string, epsilon, delta wire.Decimal) *dp.Budget {
		var b dp.Budget
		var err error
		if b.Epsilon, err = accounting.ParseEpsilon(string(epsilon), accounting.Down); err != nil {
			p.at(at+".epsilon", "is not an amount of epsilon that can be kept")
		}
		if delta != "" {
			if b.Delta, err = accounting.ParseDelta(string(delta), accounting.Down); err != nil {
				p.at(at+".delta", "is not an amount of delta that can be kept")
			}
		}
		var refused *dp.Error
		if errors.As(office.CheckBudget("budget", b, population), &refused) {
			p.at(at, refused.Message)
		}
		return &b
	}
	if in.Cap != nil {
		change.Cap = budget("body.cap", in.Cap.Epsilon, in.Cap.Delta)
	}
	named := map[string]bool{}
	for i, a := range in.Allotments {
		at := fmt.Sprintf("body.allotments[%d]", i)
		if named[a.Consumer] {
			p.at(at+".consumer", "is named twice")
		}
		named[a.Consumer] = true
		if _, err := v.services.Consumers.Consumer(ctx, a.Consumer); err != nil {
			return change, err
		}
		of := exposure.AllotmentChange{Consumer: a.Consumer}
		switch {
		case !a.Remove:
			of.Budget = budget(at, a.Epsilon, a.Delta)
		case a.Epsilon != "" || a.Delta != "":
			p.at(at+".remove", "comes with an amount: leave one of them out")
		}
		change.Allotments = append(change.Allotments, of)
	}
	if len(p.Errors) > 0 {
		return change, p
	}
	return change, nil
}

// worstCaseNotes say how the figures are to be read.
var worstCaseNotes = [...]string{
	"Promises are the guarantee: over several blocks by group privacy, of the largest budget that was ever in force. A consumer's is about the direct answers to it alone.",
	"What is spent over several blocks is accounting over the real charges, exact only for charges that were fixed in advance: it shows where one stands, and promises nothing.",
	"Datasets that are not linked are left out: a customer whose rows are in one of them, too, loses what its cap allows besides.",
	"The forecast carries the rate of the last days on; it knows nothing of what will be asked.",
}

func worstCaseOf(s exposure.Statement) wire.WorstCase {
	out := wire.WorstCase{
		Dataset: s.Dataset, Block: string(s.Block), At: s.At, Linked: listOf(s.Linked), Days: s.Days,
		Owners: []wire.Owner{}, Frozen: []wire.Account{}, Burns: []wire.Burn{}, Notes: worstCaseNotes[:],
	}
	for _, o := range s.Owners {
		out.Owners = append(out.Owners, ownerOf(o))
	}
	for _, a := range s.Frozen {
		out.Frozen = append(out.Frozen, accountOf(a, s.At))
	}
	for _, a := range s.Beyond {
		out.Beyond = append(out.Beyond, accountOf(a, s.At))
	}
	for _, b := range s.Burns {
		out.Burns = append(out.Burns, burnOf(s.Dataset, b))
	}
	return out
}

func budgetLoss(b dp.Budget) wire.Loss {
	return wire.Loss{Epsilon: wire.Decimal(b.Epsilon.String()), Delta: wire.Decimal(b.Delta.String())}
}

func ownerOf(o exposure.Owner) wire.Owner {
	out := wire.Owner{Consumer: o.Consumer, Budget: budgetLoss(o.Budget), Certified: budgetLoss(o.Certified), ByCap: o.ByCap, Promises: []wire.Promise{}, Spent: []wire.Spent{}}
	for _, p := range o.Promises {
		promise := wire.Promise{Scope: string(p.Scope), Blocks: p.Blocks, Delta: wire.Decimal(p.Budget.Delta.String()), Vacuous: p.Vacuous, Says: p.Says()}
		if p.Budget.Epsilon != exposure.TooLarge {
			promise.Epsilon = wire.Decimal(p.Budget.Epsilon.String())
		}
		out.Promises = append(out.Promises, promise)
	}
	for _, s := range o.Spent {
		spent := wire.Spent{
			Scope: string(s.Scope), Name: s.Name, Blocks: s.Blocks, Charges: s.Charges, Conservative: s.Conservative,
			Basic: budgetLoss(s.Basic), Zero: wire.ZeroLoss{Rho: rhoOf(s.Rho), DeltaZ: wire.Decimal(s.DeltaZ.String())},
			Epsilon: wire.Decimal(s.Epsilon.String()), By: "basic",
		}
		if s.Known {
			spent.Zero.Epsilon, spent.Zero.Delta = wire.Decimal(s.Zero.Epsilon.String()), wire.Decimal(s.Zero.Delta.String())
		}
		if s.ByZero {
			spent.By = "zcdp"
		}
		out.Spent = append(out.Spent, spent)
	}
	if r := o.Room; r != nil {
		out.Room = &wire.Room{
			Closed: string(r.Closed), Block: r.Block, Epsilon: wire.Decimal(r.Epsilon.String()), Similar: r.Similar,
			FreshEpsilon: wire.Decimal(r.FreshEpsilon.String()), FreshSimilar: r.FreshSimilar,
		}
	}
	return out
}

func burnOf(dataset string, b exposure.Burn) wire.Burn {
	kind := "allotment/"
	if b.Consumer == "" {
		kind = "cap/"
	}
	out := wire.Burn{
		Account: kind + dataset + "/" + b.Block, Consumer: b.Consumer, Block: b.Block,
		Budget: budgetLoss(b.Budget), Spent: *lossOf(b.Spent), Days: []wire.BurnDay{},
	}
	for _, day := range b.Days {
		out.Days = append(out.Days, wire.BurnDay{Date: day.Date.Format(time.DateOnly), Loss: *lossOf(day.Loss)})
	}
	if len(b.Days) > 0 {
		out.PerDay = lossOf(b.Rate)
	}
	if !b.Exhausted.IsZero() {
		out.Exhausted = b.Exhausted.Format(time.DateOnly)
	}
	return out
}
