package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

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
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"With it, the call made again issues no second key: it is a conflict that names the first one, or the same key where its hash was given. Not with grace_seconds"`
	Body           *wire.NewKey
}

type issuedKeyOutput struct {
	Body wire.IssuedKey
}

// KeyParam is a key in a path.
type KeyParam struct {
	Key string `path:"key" pattern:"^[A-Za-z0-9_-]{1,100}$" example:"key_01k3x8"`
}

type revokeKeyInput struct {
	ConsumerParam
	KeyParam
	Reason string `header:"Discreet-Reason" maxLength:"1000" doc:"Why; kept for auditors"`
}

type ownKeysInput struct{ PageParams }

type issueOwnKeyInput struct {
	Body *wire.NewOwnKey
}

func (v *Server) registerKeys() {
	register(v, huma.Operation{
		OperationID: "list-keys", Method: http.MethodGet, Path: "/v1/consumers/{consumer}/keys", Tags: []string{"Consumers"},
		Summary: "List a consumer's keys", Description: "Oldest first, revoked ones included; never their text.", Errors: []int{404},
	}, v.listKeys)
	register(v, huma.Operation{
		OperationID: "issue-key", Method: http.MethodPost, Path: "/v1/consumers/{consumer}/keys", Tags: []string{"Consumers"},
		Summary: "Issue a key, or rotate keys", Description: "The answer shows the key's text this once; it is stored nowhere. Whoever will use the key can draw it instead, and have its hash sent: then nobody else sees it. " +
			"With grace_seconds the others end after that, in the same change.",
		DefaultStatus: http.StatusCreated, Responses: v.mayWait(), Errors: []int{404, 409},
	}, v.issueKey)
	register(v, huma.Operation{
		OperationID: "revoke-key", Method: http.MethodDelete, Path: "/v1/consumers/{consumer}/keys/{key}", Tags: []string{"Consumers"},
		Summary: "Revoke a key", Description: "Ends it at once, and all that were made under it; revoking it again changes nothing else.", Errors: []int{404},
	}, v.revokeKey)
}

func (v *Server) registerOwnKeys() {
	register(v, huma.Operation{
		OperationID: "list-own-keys", Method: http.MethodGet, Path: "/v1/me/keys", Tags: []string{"Consumers"},
		Summary: "List your keys", Description: "Oldest first, revoked ones included; never their text.",
	}, v.listOwnKeys)
	register(v, huma.Operation{
		OperationID: "issue-own-key", Method: http.MethodPost, Path: "/v1/me/keys", Tags: []string{"Consumers"},
		Summary: "Make a key of your own",
		Description: "Under the key that signs the call in: it ends no later than that one, and where an officer revokes that one, with it. At most 10 such keys are in force, and 20 are made in a day. " +
			"With grace_seconds the key that signs the call in ends after that. Under a token no key is made, which would outlive it. The answer shows the key's text this once.",
		DefaultStatus: http.StatusCreated, Errors: []int{409},
	}, v.issueOwnKey)
	register(v, huma.Operation{
		OperationID: "revoke-own-key", Method: http.MethodDelete, Path: "/v1/me/keys/{key}", Tags: []string{"Consumers"},
		Summary: "Revoke a key of your own", Description: "Ends it at once, be it the one that signs the call in. Keys that were made under it stay.", Errors: []int{404},
	}, v.revokeOwnKey)
}

func (v *Server) listKeys(ctx context.Context, in *keysInput) (*keysOutput, error) {
	if _, err := v.services.Consumers.Consumer(ctx, in.Consumer); err != nil {
		return nil, err
	}
	return v.keysOf(ctx, in.Consumer, in.page())
}

func (v *Server) listOwnKeys(ctx context.Context, in *ownKeysInput) (*keysOutput, error) {
	return v.keysOf(ctx, callerOf(ctx).Name, in.page())
}

func (v *Server) keysOf(ctx context.Context, consumer string, p Page) (*keysOutput, error) {
	all, err := v.services.Consumers.Keys(ctx, consumer)
	if err != nil {
		return nil, err
	}
	age := func(k dp.Key) string { return k.Created.UTC().Format(sortableTime) + "." + k.ID }
	all = slices.SortedFunc(slices.Values(all), func(a, b dp.Key) int { return strings.Compare(age(a), age(b)) })
	page, next := paged(all, age, p)
	out := &keysOutput{Body: wire.KeyList{Items: []wire.Key{}, Next: next}}
	for _, k := range page {
		listed := keyOf(k)
		if at := v.uses.last(k.ID); !at.IsZero() {
			at = at.UTC().Truncate(time.Second)
			listed.LastUsed = &at
		}
		out.Body.Items = append(out.Body.Items, listed)
	}
	return out, nil
}

// sortableTime is a layout whose texts sort as their times.
const sortableTime = "2006-01-02T15:04:05.000000000Z"

func (v *Server) issueKey(ctx context.Context, in *issueKeyInput) (*issuedKeyOutput, error) {
	actor, asked := callerOf(ctx).Name, wire.NewKey{}
	if in.Body != nil {
		asked = *in.Body
	}
	if asked.GraceSeconds != nil {
		if asked.Hash != "" || in.IdempotencyKey != "" {
			return nil, &dp.Error{Code: dp.CodeInvalidInput, Message: "With grace_seconds the key is drawn here, anew for each call: leave out hash and Idempotency-Key, or issue the key and revoke the others later."}
		}
		return issued(v.services.Office.RotateKey(ctx, actor, in.Consumer, *graceOf(asked.GraceSeconds), timeIn(asked.Expires), in.Reason))
	}
	n := office.NewKey{Consumer: in.Consumer, Expires: timeIn(asked.Expires), Repeat: in.IdempotencyKey}
	if asked.Hash != "" {
		hash, err := hex.DecodeString(asked.Hash) // the schema admits nothing else
		if err != nil || len(hash) != sha256.Size {
			return nil, newProblem(dp.CodeInvalidInput, "The hash of a key is its SHA-256 in 64 hexadecimal digits: discreet key new shows it.")
		}
		n.Hash = (*[32]byte)(hash)
	}
	text, key, err := v.services.Office.IssueKey(ctx, actor, n, in.Reason)
	return issued(text, key, nil, err)
}

func (v *Server) issueOwnKey(ctx context.Context, in *issueOwnKeyInput) (*issuedKeyOutput, error) {
	who, asked := callerOf(ctx), wire.NewOwnKey{}
	if who.key == "" {
		return nil, &dp.Error{Code: dp.CodeForbidden, Message: "A token makes no key, which would outlive it: sign in with a key, or ask an officer for one."}
	}
	if in.Body != nil {
		asked = *in.Body
	}
	return issued(v.services.Office.IssueOwnKey(ctx, who.Name, who.key, graceOf(asked.GraceSeconds), timeIn(asked.Expires)))
}

func issued(text string, key dp.Key, ending []dp.Key, err error) (*issuedKeyOutput, error) {
	if err != nil {
		return nil, err
	}
	out := &issuedKeyOutput{Body: wire.IssuedKey{Key: keyOf(key), Text: text}}
	for _, k := range ending {
		out.Body.Ending = append(out.Body.Ending, keyOf(k))
	}
	return out, nil
}

// timeIn is a time of a body; zero where there is none.
func timeIn(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func graceOf(seconds *int64) *time.Duration {
	if seconds == nil {
		return nil
	}
	grace := time.Duration(*seconds) * time.Second // the schema bounds it
	return &grace
}

func (v *Server) revokeKey(ctx context.Context, in *revokeKeyInput) (*struct{}, error) {
	_, err := v.services.Office.RevokeKey(ctx, callerOf(ctx).Name, in.Consumer, in.Key, in.Reason)
	return nil, err
}

func (v *Server) revokeOwnKey(ctx context.Context, in *KeyParam) (*struct{}, error) {
	_, err := v.services.Office.RevokeOwnKey(ctx, callerOf(ctx).Name, in.Key)
	return nil, err
}
