package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

type auditInput struct {
	PageParams
	Order    string `query:"order" enum:"newest,oldest" default:"newest" doc:"Which entries come first"`
	Kind     string `query:"kind" maxLength:"32" doc:"Only entries of this kind, or with an event of it"`
	Consumer string `query:"consumer" maxLength:"63" doc:"Only what this consumer did, was charged for, or is changed by"`
	Dataset  string `query:"dataset" maxLength:"63" doc:"Only of this dataset"`
	From     string `query:"from" maxLength:"40" doc:"Only since then: a date (in UTC) or a time such as 2026-01-31T08:00:00Z"`
	To       string `query:"to" maxLength:"40" doc:"Only before then, or up to the end of a date"`
}

type auditOutput struct {
	Body wire.AuditList
}

type checkpointInput struct{ negotiated }

type checkpointOutput struct {
	CacheControl string `header:"Cache-Control"`
	Vary         string `header:"Vary"`
	Body         func(huma.Context)
}

type proofInput struct {
	Index uint64 `path:"index" doc:"Of the entry, from 0" example:"1041"`
	Size  uint64 `query:"size" doc:"Of the log that it is to be shown to be in; without it, of the whole log"`
}

type proofOutput struct {
	Body wire.AuditProof
}

type consistencyInput struct {
	From uint64 `query:"from" required:"true" minimum:"1" doc:"Size of the log that you know"`
	To   uint64 `query:"to" doc:"Size of the log that it is to be shown to continue in; without it, the whole log"`
}

type consistencyOutput struct {
	Body wire.AuditConsistency
}

func (v *Server) registerAudit() {
	register(v, huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/v1/audit", Tags: []string{"Audit"},
		Summary: "Read the audit log",
		Description: "Every write of the ledger is an entry of the log: charges, releases, changes with their reasons, loads, erasures. What changes nothing (refusals, readings of releases, sign-ins) is " +
			"in entries of kind events, a second's worth in each. No entry holds a row or a figure of an answer; the questions that were answered are in the entries themselves (proof), and not in these lines.",
	}, v.listAudit)
	register(v, huma.Operation{
		OperationID: "get-audit-checkpoint", Method: http.MethodGet, Path: "/v1/audit/checkpoint", Tags: []string{"Audit"},
		Summary: "Get a signed checkpoint", Description: "The size of the log and the root of the Merkle tree over its entries, signed. Keep it: a later log that does not continue it was rewritten. As text/plain, the signed note alone.",
		Metadata: map[string]any{produces: []string{jsonType, plainType}},
		Responses: map[string]*huma.Response{"200": {Description: "The checkpoint", Content: map[string]*huma.MediaType{
			jsonType:  {Schema: v.schema(reflect.TypeFor[wire.AuditCheckpoint]())},
			plainType: {Schema: v.textSchema("AuditNote", "The signed note")},
		}}},
	}, v.getCheckpoint)
	register(v, huma.Operation{
		OperationID: "get-audit-proof", Method: http.MethodGet, Path: "/v1/audit/proof/{index}", Tags: []string{"Audit"},
		Summary: "Prove that an entry is in the log", Description: "The entry, and the hashes that lead from it to the root that a checkpoint states (RFC 6962; golang.org/x/mod/sumdb/tlog.CheckRecord).",
		Errors: []int{404},
	}, v.getProof)
	register(v, huma.Operation{
		OperationID: "get-audit-consistency", Method: http.MethodGet, Path: "/v1/audit/consistency", Tags: []string{"Audit"},
		Summary: "Prove that the log continues an earlier one", Description: "The hashes by which the root that an earlier checkpoint states leads to that of a later one (RFC 6962; golang.org/x/mod/sumdb/tlog.CheckTree).",
	}, v.getConsistency)
}

// tarType is the media type of an export.
const tarType = "application/x-tar"

type exportOutput struct {
	CacheControl string `header:"Cache-Control"`
	Disposition  string `header:"Content-Disposition"`
	Body         func(huma.Context)
}

func (v *Server) registerAuditExport() {
	register(v, huma.Operation{
		OperationID: "export-audit", Method: http.MethodGet, Path: "/v1/audit/export", Tags: []string{"Audit"},
		Summary: "Export the log for a regulator",
		Description: "One archive, as the log stands: every entry, what entries hold by digest, every version of every policy, what is guaranteed and what was spent, what that means, and the program's version, all of it signed. " +
			"It holds no figure of an answer. discreet verify --export checks it without a server. What was cut off on its way lacks its end.",
		Metadata: map[string]any{produces: []string{tarType}},
		Responses: map[string]*huma.Response{"200": {Description: "The archive", Content: map[string]*huma.MediaType{
			tarType: {Schema: v.textSchema("AuditExport", "A tar archive in the ustar format, uncompressed")},
		}}},
		Errors: []int{409},
	}, v.exportAudit)
}

// mostExports is how many exports are written at a time: each reads the whole ledger.
const mostExports = 2

func (v *Server) exportAudit(ctx context.Context, _ *struct{}) (*exportOutput, error) {
	who := callerOf(ctx)
	return &exportOutput{CacheControl: "no-store", Disposition: `attachment; filename="discreet-export.tar"`, Body: func(ctx huma.Context) {
		if fiberOf(ctx).Context().IsHead() {
			v.streamed(tarType, nil)(ctx)
			return
		}
		write, err := v.beginExport(ctx.Context(), who)
		if err != nil {
			r := requestOf(ctx.Context())
			v.write(fiberOf(ctx).Context(), r, v.refuse(r, err))
			return
		}
		v.streamed(tarType, write)(ctx)
	}}, nil
}

// beginExport takes the log as it stands, and writes down that it was. It is written for as long as somebody reads it who is
// still let in.
func (v *Server) beginExport(ctx context.Context, who caller) (func(io.Writer) error, error) {
	select {
	case v.exports <- struct{}{}:
	default:
		return nil, &dp.Error{Code: dp.CodeConflict, Message: "As many exports are under way as are made at a time: try again when they have ended."}
	}
	export, err := v.services.Audit.Export(ctx)
	if err != nil {
		<-v.exports
		return nil, err
	}
	v.services.Audit.Note(dp.AuditEvent{Kind: dp.AuditExport, Consumer: who.Name, Operation: "export-audit", Object: strconv.FormatUint(export.Size, 10)})
	return func(w io.Writer) error {
		defer func() { <-v.exports }()
		return export.Write(v.base, &watched{w: w, still: func() error { return who.again(v.base) }})
	}, nil
}

func (v *Server) listAudit(ctx context.Context, in *auditInput) (*auditOutput, error) {
	f := dp.AuditFilter{Kind: in.Kind, Consumer: in.Consumer, Dataset: in.Dataset, OldestFirst: in.Order == "oldest"}
	p := newProblem(dp.CodeInvalidInput, "Write from and to as dates such as 2026-01-31, or as times such as 2026-01-31T08:00:00Z.")
	for _, t := range []struct {
		name, text string
		into       *time.Time
		end        bool
	}{{"from", in.From, &f.From, false}, {"to", in.To, &f.To, true}} {
		if !parseMoment(t.text, t.end, t.into) {
			p.at("query."+t.name, "is neither a date nor a time")
		}
	}
	if len(p.Errors) > 0 {
		return nil, p
	}
	lines, next, size, err := v.services.Audit.Lines(ctx, f, in.page())
	if err != nil {
		return nil, err
	}
	out := &auditOutput{Body: wire.AuditList{Items: []wire.AuditLine{}, Next: next, Size: size}}
	for _, l := range lines {
		out.Body.Items = append(out.Body.Items, auditLineOf(l))
	}
	return out, nil
}

// parseMoment reads a date or a time, and tells whether it is one; an empty one is none, and well.
func parseMoment(text string, end bool, into *time.Time) bool {
	if text == "" {
		return true
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		*into, err = time.Parse(time.RFC3339Nano, text)
		return err == nil
	}
	if end {
		day = day.AddDate(0, 0, 1)
	}
	*into = day
	return true
}

func (v *Server) getCheckpoint(ctx context.Context, in *checkpointInput) (*checkpointOutput, error) {
	c, err := v.services.Audit.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	out := &checkpointOutput{CacheControl: "no-store", Vary: "Accept"}
	if in.accepted == plainType {
		out.Body = v.body(plainType+"; charset=utf-8", 0, func(w io.Writer) error { _, err := w.Write(c.Note); return err })
		return out, nil
	}
	body := wire.AuditCheckpoint{Log: c.Log, Size: c.Size, Root: hashText(c.Root), Note: string(c.Note), Key: c.Key}
	out.Body = v.body(jsonType, 0, func(w io.Writer) error { return json.NewEncoder(w).Encode(body) })
	return out, nil
}

func (v *Server) getProof(ctx context.Context, in *proofInput) (*proofOutput, error) {
	p, leaf, err := v.services.Audit.Proof(ctx, in.Index, in.Size)
	if err != nil {
		return nil, err
	}
	return &proofOutput{Body: wire.AuditProof{Index: p.Index, Size: p.Size, Entry: p.Entry, LeafHash: hashText(leaf), Hashes: hashTexts(p.Hashes)}}, nil
}

func (v *Server) getConsistency(ctx context.Context, in *consistencyInput) (*consistencyOutput, error) {
	hashes, to, err := v.services.Audit.Consistency(ctx, in.From, in.To)
	if err != nil {
		return nil, err
	}
	return &consistencyOutput{Body: wire.AuditConsistency{From: in.From, To: to, Hashes: hashTexts(hashes)}}, nil
}

func hashText(h [32]byte) string { return base64.StdEncoding.EncodeToString(h[:]) }

func hashTexts(hashes [][32]byte) []string {
	texts := make([]string, len(hashes))
	for i, h := range hashes {
		texts[i] = hashText(h)
	}
	return texts
}

func auditLineOf(l dp.AuditLine) wire.AuditLine {
	out := wire.AuditLine{
		Index: l.Index, At: l.At.UTC(), Kind: l.Kind, Actor: l.Actor, Reason: l.Reason, Datasets: l.Datasets,
		Failure: string(l.Failure), Lost: l.Lost, Partial: l.Partial, Bytes: l.Bytes, LeafHash: hashText(l.Hash),
	}
	for _, o := range l.Objects {
		out.Objects = append(out.Objects, wire.AuditObject(o))
	}
	for _, c := range l.Charges {
		out.Charges = append(out.Charges, wire.AuditCharge{
			ID: c.ID, Consumer: c.Consumer, Dataset: c.Dataset, Blocks: listOf(c.Blocks),
			Epsilon: wire.Decimal(c.Loss.Epsilon.String()), Delta: wire.Decimal(c.Loss.Delta.String()), Rho: rhoOf(c.Loss.Rho),
			Also: alsoOf(c.Also), Purpose: c.Purpose, HandedOut: c.Source,
		})
	}
	for _, e := range l.Events {
		out.Events = append(out.Events, wire.AuditEvent{
			Kind: string(e.Kind), Consumer: e.Consumer, Operation: e.Operation, Code: string(e.Code), Dataset: e.Dataset,
			Release: e.Release, Key: e.Key, Object: e.Object, Further: e.Further, Count: e.Count,
		})
	}
	return out
}
