package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// ProposalParam names a proposal.
type ProposalParam struct {
	ID string `path:"id" pattern:"^[A-Za-z0-9_-]{1,100}$" example:"pro_01k3x8"`
}

type proposalOutput struct {
	Body wire.Proposal
}

type listProposalsInput struct {
	PageParams
	Open bool `query:"open" doc:"Only those that can be confirmed"`
}

type listProposalsOutput struct {
	Body wire.ProposalList
}

type decideProposalInput struct {
	ProposalParam
	Reason string `header:"Discreet-Reason" maxLength:"1000" doc:"Why; kept for auditors"`
	Body   wire.NewConfirmation
}

type withdrawProposalInput struct {
	ProposalParam
	Reason string `header:"Discreet-Reason" maxLength:"1000" doc:"Why; kept for auditors"`
}

func (v *Server) registerProposals() {
	register(v, huma.Operation{
		OperationID: "list-proposals", Method: http.MethodGet, Path: "/v1/proposals", Tags: []string{"Proposals"},
		Summary: "List the proposals", Description: "Changes that take two officers, newest first; those that have ended are kept for ever.",
	}, v.listProposals)
	register(v, huma.Operation{
		OperationID: "get-proposal", Method: http.MethodGet, Path: "/v1/proposals/{id}", Tags: []string{"Proposals"},
		Summary: "Read a proposal", Description: "With every line that would change.", Errors: []int{404},
	}, v.getProposal)
	register(v, huma.Operation{
		OperationID: "decide-proposal", Method: http.MethodPost, Path: "/v1/proposals/{id}/confirmation", Tags: []string{"Proposals"}, DefaultStatus: http.StatusOK,
		Summary: "Confirm or reject a proposal",
		Description: "With a reason, by another officer than who proposed it. To confirm it makes the change, exactly as it is shown. Where what it is about has changed meanwhile, or it has expired, it " +
			"ends and nothing is changed. The same decision made again changes nothing.",
		Errors: []int{404, 409, 412},
	}, v.decideProposal)
	register(v, huma.Operation{
		OperationID: "withdraw-proposal", Method: http.MethodDelete, Path: "/v1/proposals/{id}", Tags: []string{"Proposals"}, DefaultStatus: http.StatusOK,
		Summary: "Withdraw a proposal", Description: "Takes an open proposal of your own back. It is kept, as withdrawn; to withdraw it again changes nothing.",
		Errors: []int{404, 409},
	}, v.withdrawProposal)
}

// awaiting answers a change that waits for a second officer, whichever operation it was asked of. It is no error, but the
// way in which huma lets an operation answer otherwise.
type awaiting struct{ wire.Proposal }

func (awaiting) Error() string  { return "a change waits for a second officer" }
func (awaiting) GetStatus() int { return http.StatusAccepted }

// GetHeaders says where the proposal is.
func (a awaiting) GetHeaders() http.Header {
	return http.Header{"Location": {"/v1/proposals/" + a.ID}}
}

// waiting is the answer to a change that waits; nil for any other outcome.
func (v *Server) waiting(ctx context.Context, err error) (error, bool) {
	var w *office.Waiting
	if !errors.As(err, &w) {
		return nil, false
	}
	p, err := v.proposalOf(ctx, w.Proposal)
	if err != nil {
		return v.refuse(requestOf(ctx), err), true
	}
	return awaiting{p}, true
}

// mayWait describes that answer, and orWait adds it to others.
func (v *Server) mayWait() map[string]*huma.Response { return v.orWait(nil) }

func (v *Server) orWait(others map[string]*huma.Response) map[string]*huma.Response {
	out := map[string]*huma.Response{"202": {Description: "Nothing changed yet: it waits for a second officer", Headers: map[string]*huma.Param{
		"Location": {Description: "Of the proposal", Schema: &huma.Schema{Type: huma.TypeString}},
	}, Content: map[string]*huma.MediaType{jsonType: {Schema: v.schema(reflect.TypeFor[wire.Proposal]())}}}}
	maps.Copy(out, others)
	return out
}

func (v *Server) listProposals(ctx context.Context, in *listProposalsInput) (*listProposalsOutput, error) {
	list, next, err := v.services.Proposals.Proposals(ctx, in.Open, in.page())
	if err != nil {
		return nil, err
	}
	out := &listProposalsOutput{Body: wire.ProposalList{Items: []wire.Proposal{}, Next: next}}
	for _, p := range list {
		item, err := v.proposalOf(ctx, p)
		if err != nil {
			return nil, err
		}
		out.Body.Items = append(out.Body.Items, item)
	}
	return out, nil
}

func (v *Server) getProposal(ctx context.Context, in *ProposalParam) (*proposalOutput, error) {
	p, err := v.services.Proposals.Proposal(ctx, in.ID)
	return v.proposalAnswer(ctx, p, err)
}

func (v *Server) decideProposal(ctx context.Context, in *decideProposalInput) (*proposalOutput, error) {
	p, err := v.services.Office.DecideProposal(ctx, callerOf(ctx).Name, in.ID, in.Body.Confirm, in.Reason)
	return v.proposalAnswer(ctx, p, err)
}

func (v *Server) withdrawProposal(ctx context.Context, in *withdrawProposalInput) (*proposalOutput, error) {
	p, err := v.services.Office.WithdrawProposal(ctx, callerOf(ctx).Name, in.ID, in.Reason)
	return v.proposalAnswer(ctx, p, err)
}

func (v *Server) proposalAnswer(ctx context.Context, p dp.Proposal, err error) (*proposalOutput, error) {
	if err != nil {
		return nil, err
	}
	body, err := v.proposalOf(ctx, p)
	return &proposalOutput{Body: body}, err
}

// proposalOf shows a proposal with every line that would change, of all that it holds.
func (v *Server) proposalOf(ctx context.Context, p dp.Proposal) (wire.Proposal, error) {
	out := wire.Proposal{ID: p.ID, State: string(p.State(v.options.Clock())), By: p.By, Reason: p.Reason, Made: p.Made.UTC(), Expires: p.Expires.UTC()}
	if e := p.End; e != nil {
		out.End = &wire.ProposalDecision{By: e.By, At: e.At.UTC(), Reason: e.Reason}
	}
	var before, after []string
	switch c := p.Change; {
	case c.Policy != nil:
		out.Kind, out.On, out.Seen = "policy", c.Policy.After.Name, c.Policy.After.Version-1
		was, err := v.services.Catalog.PolicyAt(ctx, out.On, out.Seen)
		if err != nil {
			return out, fmt.Errorf("reading the policy that a proposal changes: %w", err)
		}
		if before, err = policyLines(was.Policy); err != nil {
			return out, err
		}
		if after, err = policyLines(c.Policy.After.Policy); err != nil {
			return out, err
		}
	case c.Allotment != nil:
		a := c.Allotment
		out.Kind, out.On, out.Seen, out.Request = "allotment", a.After.Consumer+"/"+a.After.Dataset, a.After.Version-1, a.Request
		if a.Request != "" {
			out.Kind = "grant"
		}
		if a.Before != nil {
			before = allotmentLines(*a.Before)
		}
		after = allotmentLines(a.After)
	case c.Consumer != nil:
		out.Kind, out.On, out.Seen = "consumer", c.Consumer.After.Name, c.Consumer.After.Version-1
		if c.Consumer.Before != nil {
			before = consumerLines(*c.Consumer.Before)
		}
		after = consumerLines(c.Consumer.After)
	default:
		out.Kind, out.On = "key", c.Key.Consumer
		after = []string{"key: " + c.Key.ID, "sha256: " + hex.EncodeToString(c.Key.Hash[:]), "expires: " + expiryText(c.Key.Expires)}
	}
	out.Changes = changedLines(before, after)
	return out, nil
}

func policyLines(p dp.Policy) ([]string, error) {
	text, err := policyfile.Format(p)
	if err != nil {
		return nil, fmt.Errorf("writing a policy: %w", err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), nil
}

func allotmentLines(a dp.Allotment) []string {
	most := "none"
	if a.MaxEpsilonPerQuery != 0 {
		most = a.MaxEpsilonPerQuery.String()
	}
	return []string{"epsilon: " + a.Budget.Epsilon.String(), "delta: " + a.Budget.Delta.String(), "max_epsilon_per_query: " + most,
		"expires: " + expiryText(a.Expires), fmt.Sprint("paused: ", a.Paused)}
}

func consumerLines(c dp.Consumer) []string {
	return []string{"name: " + c.Name, "role: " + string(c.Role), "organisation: " + c.Organisation, "audience: " + string(c.Audience),
		"purposes: [" + strings.Join(c.Purposes, ", ") + "]", "subject: " + c.Subject, fmt.Sprint("suspended: ", c.Suspended)}
}

func expiryText(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// changedLines gives the lines that go and those that come, in their order, by the longest common subsequence.
func changedLines(before, after []string) []string {
	// common[i][j] is the length of that of before[i:] and after[j:].
	common := make([][]int, len(before)+1)
	for i := range common {
		common[i] = make([]int, len(after)+1)
	}
	for i := len(before) - 1; i >= 0; i-- {
		for j := len(after) - 1; j >= 0; j-- {
			if before[i] == after[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	out := []string{}
	for i, j := 0, 0; i < len(before) || j < len(after); {
		switch {
		case i < len(before) && j < len(after) && before[i] == after[j]:
			i, j = i+1, j+1
		case j == len(after) || i < len(before) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "- "+before[i])
			i++
		default:
			out = append(out, "+ "+after[j])
			j++
		}
	}
	return out
}
