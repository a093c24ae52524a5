package api

import (
	"context"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// parquetType is the media type of Parquet, as it is registered with IANA.
const parquetType = "application/vnd.apache.parquet"

type loadInput struct {
	DatasetParam
	From           string `query:"from" maxLength:"10" doc:"First date that the load covers, included; with to, whole blocks. Both are required unless rows have no time, the block is all, or dry_run is set. Askers can see which blocks were loaded: choose the dates without looking at the rows"`
	To             string `query:"to" maxLength:"10" doc:"Last date that the load covers, included"`
	Name           string `query:"name" maxLength:"200" doc:"Names the load: the same content under the same name adds nothing. Without a name or an Idempotency-Key, a keyed digest of the content names it"`
	DryRun         bool   `query:"dry_run" doc:"Read and report, commit nothing"`
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"Names the load where name does not"`
	UploadParams
}

// UploadParams are those of a body that streams.
type UploadParams struct {
	ContentType     string `header:"Content-Type" hidden:"true"`
	ContentEncoding string `header:"Content-Encoding" enum:"identity,gzip" doc:"gzip where the body is compressed"`
	ContentDigest   string `header:"Content-Digest" maxLength:"1000" doc:"sha-256 of the body as sent (RFC 9530), here or as a trailer; required where the body is chunked, because a chunked body that was cut can look complete"`

	upload *upload
}

// Resolve takes hold of the body, which huma does not read.
func (in *UploadParams) Resolve(ctx huma.Context) []error {
	b, ok := ctx.BodyReader().(*body)
	if !ok {
		panic("an upload's context is not ours")
	}
	in.upload = &upload{body: b, request: &fiberOf(ctx).Context().Request.Header, nothing: "nothing was loaded",
		still: func() error { return stillIn(ctx.Context()) }, looked: time.Now()}
	return nil
}

type loadOutput struct {
	Body wire.LoadReport
}

type loadsInput struct {
	DatasetParam
	PageParams
}

type loadsOutput struct {
	Body wire.LoadList
}

func (v *Server) registerRows() {
	body := &huma.RequestBody{Required: true}
	csv := v.textSchema("RowsCSV", "A header line, then a row per line. Columns that the policy does not name are ignored and never stored")
	ndjson := v.textSchema("RowsNDJSON", "A row per line, each a flat JSON object")
	parquet := v.textSchema("RowsParquet", "An Apache Parquet file, not encrypted. Columns that the policy names hold one value per row; the others are never read")
	v.huma.OpenAPI().Components.Schemas.Map()["RowsParquet"].Format = "binary"
	register(v, huma.Operation{
		OperationID: "load-rows", Method: http.MethodPost, Path: "/v1/datasets/{dataset}/rows", Tags: []string{"Datasets"},
		Summary: "Load rows",
		Description: "Streams rows in and commits them all at once when the body is complete; a body that was cut commits nothing. " +
			"Rows that do not fit the policy are rejected one by one, with line (of Parquet: row) and reason.",
		RequestBody: body,
		Metadata:    map[string]any{uploads: true},
		Errors:      []int{404, 409, 411},
	}, v.load)
	// Only now, because huma would read the body to validate it.
	body.Content = map[string]*huma.MediaType{csvType: {Schema: csv}, ndjsonType: {Schema: ndjson}, parquetType: {Schema: parquet}}
	register(v, huma.Operation{
		OperationID: "list-loads", Method: http.MethodGet, Path: "/v1/datasets/{dataset}/loads", Tags: []string{"Datasets"},
		Summary: "List the loads", Description: "Newest first.", Errors: []int{404},
	}, v.listLoads)
}

func (v *Server) load(ctx context.Context, in *loadInput) (*loadOutput, error) {
	policy, err := v.policy(ctx, in.Dataset)
	if err != nil {
		return nil, err
	}
	spec := LoadSpec{By: callerOf(ctx).Name, Name: in.Name, From: in.From, To: in.To, DryRun: in.DryRun}
	if spec.Name == "" {
		spec.Name = in.IdempotencyKey
	}
	if spec.Format, err = formatOf(in.ContentType); err != nil {
		return nil, err
	}
	if (in.From == "") != (in.To == "") {
		p := newProblem(dp.CodeInvalidInput, "Give from and to together.")
		p.at("query", "has one of from and to")
		return nil, p
	}
	rows, err := in.upload.open(in.ContentDigest, in.ContentEncoding == "gzip", v.options.MaxUpload)
	if err != nil {
		return nil, err
	}
	report, err := v.services.Rows.Load(ctx, policy, spec, rows, in.upload.verify)
	if err != nil {
		return nil, err
	}
	if !in.DryRun {
		v.services.Audit.Note(dp.AuditEvent{Kind: dp.AuditLoad, Consumer: spec.By, Operation: "load-rows", Dataset: policy.Name})
	}
	out := wire.LoadReport{Load: loadOf(report.Load), DryRun: in.DryRun, Repeat: report.Repeat, Accepted: report.Accepted, Rejected: report.Rejected, Rejects: []wire.Reject{}}
	for _, r := range report.Rejects {
		out.Rejects = append(out.Rejects, wire.Reject{Line: r.Line, Reason: r.Reason})
	}
	return &loadOutput{Body: out}, nil
}

func formatOf(contentType string) (Format, error) {
	switch t, _, _ := mime.ParseMediaType(contentType); t {
	case csvType:
		return CSV, nil
	case ndjsonType, "application/ndjson", "application/jsonl":
		return NDJSON, nil
	case parquetType, "application/x-parquet":
		return Parquet, nil
	}
	return "", newProblem(codeUnsupportedMedia, "Say what the rows are: Content-Type text/csv, application/x-ndjson or application/vnd.apache.parquet.")
}

func (v *Server) listLoads(ctx context.Context, in *loadsInput) (*loadsOutput, error) {
	if _, err := v.policy(ctx, in.Dataset); err != nil {
		return nil, err
	}
	list, next, err := v.services.Rows.Loads(ctx, in.Dataset, in.page())
	if err != nil {
		return nil, err
	}
	out := &loadsOutput{Body: wire.LoadList{Items: []wire.Load{}, Next: next}}
	for _, l := range list {
		out.Body.Items = append(out.Body.Items, loadOf(l))
	}
	return out, nil
}
