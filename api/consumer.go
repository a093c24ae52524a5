package api

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// ConsumerParam is a consumer in a path.
type ConsumerParam struct {
	Consumer string `path:"consumer" pattern:"^[a-z][a-z0-9_-]{0,62}$" example:"growth-team"`
}

type consumerOutput struct {
	ETag string `header:"ETag" doc:"The version, for If-Match"`
	Body wire.Consumer
}

type consumersInput struct{ PageParams }

type consumersOutput struct {
	Body wire.ConsumerList
}

type createConsumerInput struct {
	Reason         string `header:"Discreet-Reason" maxLength:"1000" doc:"Why; kept for auditors"`
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"With it, creating a consumer that is there just so already is no conflict"`
	Body           wire.NewConsumer
}

type patchConsumerInput struct {
	ConsumerParam
	ChangeHeaders
	Body wire.ConsumerPatch
}

func (v *Server) registerConsumers() {
	register(v, huma.Operation{
		OperationID: "list-consumers", Method: http.MethodGet, Path: "/v1/consumers", Tags: []string{"Consumers"},
		Summary: "List the consumers", Description: "By name.",
	}, v.listConsumers)
	register(v, huma.Operation{
		OperationID: "create-consumer", Method: http.MethodPost, Path: "/v1/consumers", Tags: []string{"Consumers"},
		Summary: "Create a consumer", Description: "Without keys and without allotments; names are never reused.",
		DefaultStatus: http.StatusCreated, Responses: v.mayWait(), Errors: []int{409},
	}, v.createConsumer)
	register(v, huma.Operation{
		OperationID: "get-consumer", Method: http.MethodGet, Path: "/v1/consumers/{consumer}", Tags: []string{"Consumers"},
		Summary: "Read a consumer", Errors: []int{404},
	}, v.getConsumer)
	register(v, huma.Operation{
		OperationID: "patch-consumer", Method: http.MethodPatch, Path: "/v1/consumers/{consumer}", Tags: []string{"Consumers"},
		Summary: "Change a consumer", Description: "Changes the fields that the body holds, of the version that you saw, with a reason.",
		Responses: v.mayWait(),
		Errors:    []int{404, 409, 412, 428},
	}, v.patchConsumer)
}

func (v *Server) listConsumers(ctx context.Context, in *consumersInput) (*consumersOutput, error) {
	all, err := v.services.Consumers.All(ctx)
	if err != nil {
		return nil, err
	}
	page, next := paged(all, func(c dp.Consumer) string { return c.Name }, in.page())
	out := &consumersOutput{Body: wire.ConsumerList{Items: []wire.Consumer{}, Next: next}}
	for _, c := range page {
		out.Body.Items = append(out.Body.Items, consumerOf(c))
	}
	return out, nil
}

func (v *Server) createConsumer(ctx context.Context, in *createConsumerInput) (*consumerOutput, error) {
	n := dp.Consumer{Name: in.Body.Name, Role: dp.Role(in.Body.Role), Organisation: in.Body.Organisation,
		Audience: dp.Audience(in.Body.Audience), Purposes: in.Body.Purposes, Subject: in.Body.Subject}
	if n.Audience == "" {
		n.Audience = dp.Internal
	}
	created, err := v.services.Office.CreateConsumer(ctx, callerOf(ctx).Name, n, in.Reason)
	var refused *dp.Error
	if in.IdempotencyKey != "" && errors.As(err, &refused) && refused.Code == dp.CodeConflict {
		// The answer to the first call may have been lost; what it made is as it was asked for.
		if there, readErr := v.services.Consumers.Consumer(ctx, n.Name); readErr == nil && sameConsumer(there, n) {
			created, err = there, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return &consumerOutput{ETag: etag(created.Version), Body: consumerOf(created)}, nil
}

func sameConsumer(a, b dp.Consumer) bool {
	return a.Role == b.Role && a.Organisation == b.Organisation && a.Audience == b.Audience && slices.Equal(a.Purposes, b.Purposes) && a.Subject == b.Subject
}

func (v *Server) getConsumer(ctx context.Context, in *ConsumerParam) (*consumerOutput, error) {
	c, err := v.services.Consumers.Consumer(ctx, in.Consumer)
	if err != nil {
		return nil, err
	}
	return &consumerOutput{ETag: etag(c.Version), Body: consumerOf(c)}, nil
}

func (v *Server) patchConsumer(ctx context.Context, in *patchConsumerInput) (*consumerOutput, error) {
	version, err := in.version()
	if err != nil {
		return nil, err
	}
	if in.IfNoneMatch != "" {
		return nil, &dp.Error{Code: dp.CodePreconditionFailed, Message: "A consumer that is to be changed must exist: leave out If-None-Match."}
	}
	patch := office.ConsumerPatch{Role: (*dp.Role)(in.Body.Role), Organisation: in.Body.Organisation, Audience: (*dp.Audience)(in.Body.Audience), Purposes: in.Body.Purposes, Suspended: in.Body.Suspended, Subject: in.Body.Subject}
	c, err := v.services.Office.PatchConsumer(ctx, callerOf(ctx).Name, in.Consumer, patch, version, in.Reason)
	if err != nil {
		return nil, err
	}
	return &consumerOutput{ETag: etag(c.Version), Body: consumerOf(c)}, nil
}
