package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"

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
		Audience: dp.Audience(in.Body.Audience), Purposes: in.Body.Purposes}
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
	return a.Role == b.Role && a.Organisation == b.Organisation && a.Audience == b.Audience && slices.Equal(a.Purposes, b.Purposes)
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
	patch := office.ConsumerPatch{Role: (*dp.Role)(in.Body.Role), Organisation: in.Body.Organisation, Audience: (*dp.Audience)(in.Body.Audience), Purposes: in.Body.Purposes, Suspended: in.Body.Suspended}
	c, err := v.services.Office.PatchConsumer(ctx, callerOf(ctx).Name, in.Consumer, patch, version, in.Reason)
	if err != nil {
		return nil, err
	}
	return &consumerOutput{ETag: etag(c.Version), Body: consumerOf(c)}, nil
}

type keysInput struct {
	ConsumerParam
	PageParams
}

type keysOutput struct {
	Body wire.KeyList
}

type issueKeyInput struct {
	ConsumerParam
	Reason         string `header:"Discreet-Reason" maxLength:"1000" doc:"Why; kept for auditors"`
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"With it, the call made again issues no second key: it is a conflict that names the first one, or the same key where its hash was given"`
	Body           *wire.NewKey
}

type issuedKeyOutput struct {
	Body wire.IssuedKey
}

type revokeKeyInput struct {
	ConsumerParam
	Key    string `path:"key" pattern:"^[A-Za-z0-9_-]{1,100}$" example:"key_01k3x8"`
	Reason string `header:"Discreet-Reason" maxLength:"1000" doc:"Why; kept for auditors"`
}

func (v *Server) registerKeys() {
	register(v, huma.Operation{
		OperationID: "list-keys", Method: http.MethodGet, Path: "/v1/consumers/{consumer}/keys", Tags: []string{"Consumers"},
		Summary: "List a consumer's keys", Description: "Oldest first, revoked ones included; never their text.", Errors: []int{404},
	}, v.listKeys)
	register(v, huma.Operation{
		OperationID: "issue-key", Method: http.MethodPost, Path: "/v1/consumers/{consumer}/keys", Tags: []string{"Consumers"},
		Summary: "Issue a key", Description: "The answer shows the key's text this once; it is stored nowhere. Whoever will use the key can draw it instead, and have its hash sent: then nobody else sees it.",
		DefaultStatus: http.StatusCreated, Responses: v.mayWait(), Errors: []int{404, 409},
	}, v.issueKey)
	register(v, huma.Operation{
		OperationID: "revoke-key", Method: http.MethodDelete, Path: "/v1/consumers/{consumer}/keys/{key}", Tags: []string{"Consumers"},
		Summary: "Revoke a key", Description: "Ends it at once; revoking it again changes nothing.", Errors: []int{404},
	}, v.revokeKey)
}

func (v *Server) listKeys(ctx context.Context, in *keysInput) (*keysOutput, error) {
	if _, err := v.services.Consumers.Consumer(ctx, in.Consumer); err != nil {
		return nil, err
	}
	all, err := v.services.Consumers.Keys(ctx, in.Consumer)
	if err != nil {
		return nil, err
	}
	age := func(k dp.Key) string { return k.Created.UTC().Format(sortableTime) + "." + k.ID }
	all = slices.SortedFunc(slices.Values(all), func(a, b dp.Key) int { return strings.Compare(age(a), age(b)) })
	page, next := paged(all, age, in.page())
	out := &keysOutput{Body: wire.KeyList{Items: []wire.Key{}, Next: next}}
	for _, k := range page {
		out.Body.Items = append(out.Body.Items, keyOf(k))
	}
	return out, nil
}

// sortableTime is a layout whose texts sort as their times.
const sortableTime = "2006-01-02T15:04:05.000000000Z"

func (v *Server) issueKey(ctx context.Context, in *issueKeyInput) (*issuedKeyOutput, error) {
	n := office.NewKey{Consumer: in.Consumer, Repeat: in.IdempotencyKey}
	if in.Body != nil && in.Body.Expires != nil {
		n.Expires = *in.Body.Expires
	}
	if in.Body != nil && in.Body.Hash != "" {
		hash, err := hex.DecodeString(in.Body.Hash) // the schema admits nothing else
		if err != nil || len(hash) != sha256.Size {
			return nil, newProblem(dp.CodeInvalidInput, "The hash of a key is its SHA-256 in 64 hexadecimal digits: discreet key new shows it.")
		}
		n.Hash = (*[32]byte)(hash)
	}
	text, key, err := v.services.Office.IssueKey(ctx, callerOf(ctx).Name, n, in.Reason)
	if err != nil {
		return nil, err
	}
	return &issuedKeyOutput{Body: wire.IssuedKey{Key: keyOf(key), Text: text}}, nil
}

func (v *Server) revokeKey(ctx context.Context, in *revokeKeyInput) (*struct{}, error) {
	_, err := v.services.Office.RevokeKey(ctx, callerOf(ctx).Name, in.Consumer, in.Key, in.Reason)
	return nil, err
}
