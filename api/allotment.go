package api

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
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
		Responses: v.orWait(map[string]*huma.Response{"201": {Description: "Created", Content: map[string]*huma.MediaType{jsonType: {Schema: v.schema(reflect.TypeFor[wire.Allotment]())}}}}),
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
		shown, err := v.allotment(ctx, a)
		if err != nil {
			return nil, err
		}
		out.Body.Items = append(out.Body.Items, shown)
	}
	return out, nil
}

func (v *Server) setAllotment(ctx context.Context, in *setAllotmentInput) (*allotmentOutput, error) {
	version, err := in.version()
	if err != nil {
		return nil, err
	}
	a := dp.Allotment{Consumer: in.Consumer, Dataset: in.Dataset, Paused: in.Body.Paused}
	amounts := newAmounts()
	terms := amounts.terms(wire.BudgetTerms{Epsilon: in.Body.Epsilon, Delta: in.Body.Delta, MaxEpsilonPerQuery: in.Body.MaxEpsilonPerQuery, Expires: in.Body.Expires})
	if err := amounts.refused(); err != nil {
		return nil, err
	}
	a.Budget, a.MaxEpsilonPerQuery, a.Expires = terms.Budget, terms.MaxEpsilonPerQuery, terms.Expires
	set, created, err := v.services.Office.SetAllotment(ctx, callerOf(ctx).Name, a, version, in.Reason)
	if err != nil {
		return nil, in.created(err)
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	shown, err := v.allotment(ctx, set)
	if err != nil {
		return nil, err
	}
	return &allotmentOutput{Status: status, ETag: etag(set.Version), Body: shown}, nil
}
