package api

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

type allotmentsInput struct {
	ConsumerParam
	PageParams
}

type allotmentsOutput struct {
	Body wire.AllotmentList
}

type setAllotmentInput struct {
	ConsumerParam
	DatasetParam
	ChangeHeaders
	Body wire.NewAllotment
}

type allotmentOutput struct {
	Status int
	ETag   string `header:"ETag" doc:"The version, for If-Match"`
	Body   wire.Allotment
}

func (v *Server) registerAllotments() {
	register(v, huma.Operation{
		OperationID: "list-allotments", Method: http.MethodGet, Path: "/v1/consumers/{consumer}/allotments", Tags: []string{"Budgets"},
		Summary: "List a consumer's allotments", Description: "By dataset.", Errors: []int{404},
	}, v.listAllotments)
	register(v, huma.Operation{
		OperationID: "set-allotment", Method: http.MethodPut, Path: "/v1/consumers/{consumer}/allotments/{dataset}", Tags: []string{"Budgets"},
		Summary: "Set a consumer's allotment", Description: "What the consumer may spend on each block of the dataset. Replaces the whole of an earlier one; what was spent stays spent.",
		Responses: map[string]*huma.Response{"201": {Description: "Created", Content: map[string]*huma.MediaType{jsonType: {Schema: v.schema(reflect.TypeFor[wire.Allotment]())}}}},
		Errors:    []int{404, 409, 412, 428},
	}, v.setAllotment)
}

func (v *Server) listAllotments(ctx context.Context, in *allotmentsInput) (*allotmentsOutput, error) {
	if _, err := v.services.Consumers.Consumer(ctx, in.Consumer); err != nil {
		return nil, err
	}
	all, err := v.services.Consumers.Allotments(ctx, in.Consumer)
	if err != nil {
		return nil, err
	}
	page, next := paged(all, func(a dp.Allotment) string { return a.Dataset }, in.page())
	out := &allotmentsOutput{Body: wire.AllotmentList{Items: []wire.Allotment{}, Next: next}}
	for _, a := range page {
		out.Body.Items = append(out.Body.Items, allotmentOf(a))
	}
	return out, nil
}

func (v *Server) setAllotment(ctx context.Context, in *setAllotmentInput) (*allotmentOutput, error) {
	version, err := in.version()
	if err != nil {
		return nil, err
	}
	a := dp.Allotment{Consumer: in.Consumer, Dataset: in.Dataset, Paused: in.Body.Paused}
	if in.Body.Expires != nil {
		a.Expires = *in.Body.Expires
	}
	// Budgets are rounded down, so that nothing is promised that was not signed.
	amounts := newProblem(dp.CodeInvalidInput, "An amount cannot be used: give decimal numbers of 0 or more.")
	if a.Budget.Epsilon, err = accounting.ParseEpsilon(string(in.Body.Epsilon), accounting.Down); err != nil {
		amounts.at("body.epsilon", "is not an amount of epsilon that can be kept")
	}
	if in.Body.Delta != "" {
		if a.Budget.Delta, err = accounting.ParseDelta(string(in.Body.Delta), accounting.Down); err != nil {
			amounts.at("body.delta", "is not an amount of delta that can be kept")
		}
	}
	if in.Body.MaxEpsilonPerQuery != "" {
		if a.MaxEpsilonPerQuery, err = accounting.ParseEpsilon(string(in.Body.MaxEpsilonPerQuery), accounting.Down); err != nil || a.MaxEpsilonPerQuery == 0 {
			amounts.at("body.max_epsilon_per_query", "must be above 0: leave it out for no maximum, or set paused")
		}
	}
	if len(amounts.Errors) > 0 {
		return nil, amounts
	}
	set, created, err := v.services.Office.SetAllotment(ctx, callerOf(ctx).Name, a, version, in.Reason)
	if err != nil {
		return nil, in.created(err)
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return &allotmentOutput{Status: status, ETag: etag(set.Version), Body: allotmentOf(set)}, nil
}
