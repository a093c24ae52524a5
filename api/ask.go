package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

type askInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"The same call made again under this key is charged once"`
	Body           wire.Query
}

type askOutput struct {
	Body func(huma.Context)
}

type planInput struct {
	Body wire.Query
}

type planOutput struct {
	Body wire.Plan
}

func (v *Server) registerAsk() {
	register(v, huma.Operation{
		OperationID: "ask", Method: http.MethodPost, Path: "/v1/queries", Tags: []string{"Ask"},
		Summary: "Ask a question",
		Description: "Answers with a release: noised figures with intervals, what was charged for them and what is left. " +
			"A question whose answer you hold already costs nothing, nor does one whose figures follow from a release that you hold: " +
			"sub-ranges, totals and coarser public groups of rows and sums, their ratios and shares. Such an answer has derived_from and no id. " +
			"It is given where it is no less exact than within asks, or without within, than a new draw at the price would be. " +
			"With totals and top, what is answered is made of the groups: of whatever was drawn, and for nothing.",
		Metadata:  map[string]any{invalidCode: dp.CodeInvalidQuery},
		Responses: v.releaseResponse("The answer", jsonType),
		Errors:    []int{404, 409, 422},
	}, v.ask)
	register(v, huma.Operation{
		OperationID: "plan", Method: http.MethodPost, Path: "/v1/plans", Tags: []string{"Ask"},
		Summary:     "Price a question",
		Description: "Takes the body of a question and answers with its price and its expected error. Free, and sees no row.",
		Metadata:    map[string]any{invalidCode: dp.CodeInvalidQuery},
		Errors:      []int{404, 409, 422},
	}, v.plan)
}

func (v *Server) ask(ctx context.Context, in *askInput) (*askOutput, error) {
	requestOf(ctx).dataset = in.Body.Dataset
	a, err := v.services.Asker.Ask(ctx, callerOf(ctx).Consumer, QueryOf(in.Body), in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	if err := stillIn(ctx); err != nil { // the answer is kept for whoever may read it
		return nil, err
	}
	if a.Reused {
		v.noteReading(callerOf(ctx).Name, "ask", append([]string{a.Release.ID}, a.DerivedFrom...)...)
	}
	head := headOf(a.Release)
	head.Reused, head.Stale, head.DerivedFrom = &a.Reused, &a.Stale, a.DerivedFrom
	head.Charge = chargeOf(a.Charge, &a.Left)
	for i, total := range a.Totals {
		if head.Totals == nil {
			head.Totals = make(map[string]wire.Value)
		}
		if total != nil {
			head.Totals[a.Release.Metrics[i]] = valueOf(*total)
		}
	}
	if a.Ranking != nil {
		head.Top = &wire.Ranking{Metric: a.Ranking.Metric, N: a.Ranking.N, Of: a.Ranking.Of, Unclear: listOf(a.Ranking.Unclear)}
	}
	return &askOutput{Body: v.body(jsonType, len(a.Release.Groups), jsonRelease(head, a.Release, a.Combined))}, nil
}

func (v *Server) plan(ctx context.Context, in *planInput) (*planOutput, error) {
	requestOf(ctx).dataset = in.Body.Dataset
	q, err := v.services.Asker.Plan(ctx, callerOf(ctx).Consumer, QueryOf(in.Body))
	if err != nil {
		return nil, err
	}
	return &planOutput{Body: planOf(q)}, nil
}

func planOf(q answer.Quote) wire.Plan {
	answered := q.Plan // by which noise and bounds it would be
	if q.Reused != nil {
		answered = q.Reused
	}
	out := wire.Plan{
		Dataset:           q.Plan.Policy.Name,
		Confidence:        wire.Decimal(q.Plan.Confidence.String()),
		Expected:          make(map[string]wire.Expected),
		GroupsMayBeHidden: q.Plan.GroupsMayBeHidden,
		Privacy:           privacyOf(answer.Privacy(answered)),
		Charge:            chargeOf(dp.Charge{Dataset: q.Plan.Policy.Name, Blocks: q.Plan.Blocks, Loss: q.Plan.Loss, Also: q.Plan.Also}, &q.Left),
		FreeFrom:          q.FreeFrom,
		Stale:             q.Stale,
		Alternatives:      listOf(alternativesOf(q.Alternatives)),
		Notes:             answered.Notes,
		Query:             json.RawMessage(q.Plan.Canonical),
		PolicyVersion:     q.Plan.Policy.Version,
	}
	for _, m := range answered.Metrics {
		if m.Drawn >= 0 { // of others it depends on the figures
			out.Expected[m.Name] = wire.Expected{SD: m.SD, Within: m.Within}
		}
	}
	return out
}

// QueryOf is a question as dp has it. Numbers stay the text that was sent. Who plans without a server needs it, too.
func QueryOf(q wire.Query) dp.Query {
	out := dp.Query{
		Dataset: q.Dataset, Metrics: q.Metrics, By: q.By, From: q.From, To: q.To, Purpose: q.Purpose,
		Epsilon: string(q.Epsilon), Delta: string(q.Delta), Confidence: string(q.Confidence),
		MaxPartitions: q.MaxPartitions, Fresh: q.Fresh, Reconcile: q.Reconcile, NonNegative: q.NonNegative,
	}
	out.Totals = q.Totals
	if q.Top != nil {
		out.Top = &dp.Top{Metric: q.Top.Metric, N: q.Top.N}
	}
	for _, d := range q.Define {
		out.Define = append(out.Define, dp.Definition{
			Name: d.Name, Aggregate: dp.Aggregate(d.Aggregate), Measure: d.Measure, Rank: string(d.Rank), Numerator: d.Numerator, Denominator: d.Denominator, Of: d.Of,
			Per: dp.Per(d.Per), Distinct: d.Distinct, Where: conditionsOf(d.Where),
		})
	}
	out.Where = conditionsOf(q.Where)
	for _, c := range q.Cohorts {
		out.Cohorts = append(out.Cohorts, dp.Cohort{Dataset: c.Dataset, Where: conditionsOf(c.Where), From: c.From, To: c.To, AtLeast: c.AtLeast, AtMost: c.AtMost})
	}
	if q.First != nil {
		out.First = append([]dp.Condition{}, conditionsOf(q.First.Where)...)
	}
	if q.Funnel != nil {
		out.Funnel = &dp.Funnel{Within: q.Funnel.Within}
		for _, step := range q.Funnel.Steps {
			out.Funnel.Steps = append(out.Funnel.Steps, conditionsOf(step.Where))
		}
	}
	for metric, within := range q.Within {
		if out.Within == nil {
			out.Within = make(map[string]string)
		}
		out.Within[metric] = string(within)
	}
	for metric, c := range q.Clamp {
		if out.Clamp == nil {
			out.Clamp = make(map[string]dp.Clamp)
		}
		out.Clamp[metric] = dp.Clamp{Lower: string(c[0]), Upper: string(c[1])}
	}
	if q.SpendAtMost != nil {
		out.SpendAtMost = string(q.SpendAtMost.Epsilon)
	}
	return out
}

func conditionsOf(list []wire.Condition) (out []dp.Condition) {
	for _, w := range list {
		out = append(out, dp.Condition{Field: w.Field, Eq: (*string)(w.Eq), In: textsOf(w.In), NotIn: textsOf(w.NotIn), Gte: (*string)(w.Gte), Lte: (*string)(w.Lte)})
	}
	return out
}

// textsOf keeps nil apart from empty: a list that is there but empty is a condition that nothing meets.
func textsOf(list []wire.Text) []string {
	if list == nil {
		return nil
	}
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = string(t)
	}
	return out
}
