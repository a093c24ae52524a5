package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/metrics"
	"github.com/discreet-analytics/discreet/dp/rows"
)

const yamlType = "application/yaml"

// DatasetParam is a dataset in a path.
type DatasetParam struct {
	Dataset string `path:"dataset" pattern:"^[a-z][a-z0-9_-]{0,62}$" example:"transactions"`
}

type getDatasetInput struct {
	DatasetParam
	negotiated
}

type policyOutput struct {
	ETag string `header:"ETag" doc:"The version, for If-Match"`
	Vary string `header:"Vary"`
	Body func(huma.Context)
}

type datasetOutput struct {
	Status int
	ETag   string `header:"ETag" doc:"The version, for If-Match"`
	Body   wire.Dataset
}

type datasetsInput struct{ PageParams }

type datasetsOutput struct {
	Body wire.DatasetList
}

// ChangeHeaders are the headers of every change of a budget or a policy.
type ChangeHeaders struct {
	IfMatch     string `header:"If-Match" maxLength:"100" doc:"The ETag that you saw; required to change what exists"`
	IfNoneMatch string `header:"If-None-Match" maxLength:"100" doc:"* to create only: refused with 412 where it exists"`
	Reason      string `header:"Discreet-Reason" maxLength:"1000" doc:"Why; kept for auditors"`
}

// version reads If-Match, nil where there is none.
func (in ChangeHeaders) version() (*uint64, error) {
	if in.IfNoneMatch != "" && (in.IfNoneMatch != "*" || in.IfMatch != "") {
		p := newProblem(dp.CodeInvalidInput, "Send If-None-Match: * to create only, or If-Match to change what exists, and not both.")
		p.at("header.If-None-Match", "is not *, or comes with If-Match")
		return nil, p
	}
	if in.IfMatch == "" {
		return nil, nil
	}
	text, quoted := strings.CutPrefix(in.IfMatch, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil || quoted != closed {
		p := newProblem(dp.CodeInvalidInput, "Send the version as it was received: the ETag of the last answer, such as \"3\".")
		p.at("header.If-Match", "is not the ETag of a version")
		return nil, p
	}
	return &version, nil
}

// created words the office's demand for a version to a caller who believed that there was nothing yet.
func (in ChangeHeaders) created(err error) error {
	var refused *dp.Error
	if in.IfNoneMatch == "*" && errors.As(err, &refused) && refused.Code == dp.CodePreconditionRequired {
		return &dp.Error{Code: dp.CodePreconditionFailed, Message: "It exists already: read it, and send its ETag as If-Match to change it."}
	}
	return err
}

func etag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

type putDatasetInput struct {
	DatasetParam
	ChangeHeaders
	ContentType string `header:"Content-Type" hidden:"true"`
	RawBody     []byte `contentType:"application/yaml"`
}

func (v *Server) registerDatasets() {
	body := &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{jsonType: {Schema: v.schema(reflect.TypeFor[policyfile.Document]())}}}
	register(v, huma.Operation{
		OperationID: "list-datasets", Method: http.MethodGet, Path: "/v1/datasets", Tags: []string{"Datasets"},
		Summary: "List the datasets", Description: "Who asks questions sees those whose answers they may receive.",
	}, v.listDatasets)
	register(v, huma.Operation{
		OperationID: "get-dataset", Method: http.MethodGet, Path: "/v1/datasets/{dataset}", Tags: []string{"Datasets"},
		Summary:     "Read a dataset",
		Description: "Its policy, and the metrics and keys that can be asked. As YAML: the policy alone, as a file.",
		Metadata:    map[string]any{produces: []string{jsonType, yamlType}},
		Responses: map[string]*huma.Response{"200": {Description: "The dataset", Content: map[string]*huma.MediaType{
			jsonType: {Schema: v.schema(reflect.TypeFor[wire.Dataset]())},
			yamlType: {Schema: v.policyFile()},
		}}},
		Errors: []int{404},
	}, v.getDataset)
	register(v, huma.Operation{
		OperationID: "put-dataset", Method: http.MethodPut, Path: "/v1/datasets/{dataset}", Tags: []string{"Datasets"},
		Summary:          "Create a dataset or change its policy",
		Description:      "The body is a policy file, as JSON or as YAML. Errors name lines and columns.",
		Metadata:         map[string]any{invalidCode: dp.CodeInvalidPolicy},
		RequestBody:      body,
		Responses:        v.orWait(map[string]*huma.Response{"201": {Description: "Created", Content: map[string]*huma.MediaType{jsonType: {Schema: v.schema(reflect.TypeFor[wire.Dataset]())}}}}),
		SkipValidateBody: true, // policyfile does, with lines and columns
		Errors:           []int{404, 409, 412, 428},
	}, v.putDataset)
	body.Content[yamlType].Schema = v.policyFile() // huma takes a raw body for bytes
}

func (v *Server) policyFile() *huma.Schema {
	return v.textSchema("PolicyFile", "A policy as a YAML file, in the shape of Document")
}

func (v *Server) listDatasets(ctx context.Context, in *datasetsInput) (*datasetsOutput, error) {
	all, err := v.services.Catalog.Policies(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing policies: %w", err)
	}
	asker := callerOf(ctx).Consumer
	var seen []dp.VersionedPolicy
	for _, p := range all {
		if mayAsk(asker, p.Policy) {
			seen = append(seen, p)
		}
	}
	page, next := paged(seen, func(p dp.VersionedPolicy) string { return p.Name }, in.page())
	out := &datasetsOutput{Body: wire.DatasetList{Items: []wire.DatasetHead{}, Next: next}}
	for _, p := range page {
		head := wire.DatasetHead{Name: p.Name, Kind: string(p.Kind), Version: p.Version, Block: string(p.Unit.Block), Purposes: listOf(p.Purposes), Metrics: []string{}}
		for _, m := range metrics.Of(&p.Policy) {
			head.Metrics = append(head.Metrics, m.Name)
		}
		out.Body.Items = append(out.Body.Items, head)
	}
	return out, nil
}

// policy finds a policy that the caller may know of. One that they may not know of is not there, in the same words.
func (v *Server) policy(ctx context.Context, dataset string) (dp.VersionedPolicy, error) {
	p, err := v.services.Catalog.Policy(ctx, dataset)
	var refused *dp.Error
	absent := errors.As(err, &refused) && refused.Code == dp.CodeNotFound
	if err != nil && !absent {
		return dp.VersionedPolicy{}, err
	}
	if absent || !mayAsk(callerOf(ctx).Consumer, p.Policy) {
		return dp.VersionedPolicy{}, &dp.Error{Code: dp.CodeNotFound, Message: "There is no such dataset: list the datasets that you may see."}
	}
	return p, nil
}

func (v *Server) getDataset(ctx context.Context, in *getDatasetInput) (*policyOutput, error) {
	p, err := v.policy(ctx, in.Dataset)
	if err != nil {
		return nil, err
	}
	out := &policyOutput{ETag: etag(p.Version), Vary: "Accept, Authorization"}
	if in.accepted == yamlType {
		out.Body = v.body(yamlType, 0, func(w io.Writer) error {
			text, err := policyfile.Format(p.Policy)
			if err != nil {
				return fmt.Errorf("writing a policy: %w", err)
			}
			_, err = w.Write(text)
			return err
		})
		return out, nil
	}
	d, err := v.datasetOf(ctx, p)
	if err != nil {
		return nil, err
	}
	out.Body = v.body(jsonType, 0, func(w io.Writer) error { return json.NewEncoder(w).Encode(d) })
	return out, nil
}

func (v *Server) putDataset(ctx context.Context, in *putDatasetInput) (*datasetOutput, error) {
	version, err := in.version()
	if err != nil {
		return nil, err
	}
	if !isPolicyType(in.ContentType) {
		return nil, newProblem(codeUnsupportedMedia, "Send the policy as application/yaml or application/json.")
	}
	p, err := policyfile.Parse(in.RawBody, v.options.Policy)
	if err != nil {
		return nil, err
	}
	if p.Name != in.Dataset {
		return nil, &dp.Error{Code: dp.CodeInvalidPolicy, Message: "The name in the policy is not the one in the address: make them the same.",
			Locations: []dp.Location{{Path: "name", Message: "differs from the address"}}}
	}
	applied, created, err := v.services.Office.ApplyPolicy(ctx, callerOf(ctx).Name, p, version, in.Reason)
	if err != nil {
		return nil, in.created(err)
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	d, err := v.datasetOf(ctx, applied)
	if err != nil {
		return nil, err
	}
	return &datasetOutput{Status: status, ETag: etag(applied.Version), Body: d}, nil
}

func isPolicyType(header string) bool {
	t, _, err := mime.ParseMediaType(header)
	return err == nil && (t == jsonType || t == yamlType || t == "application/x-yaml" || t == "text/yaml")
}

func (v *Server) datasetOf(ctx context.Context, p dp.VersionedPolicy) (wire.Dataset, error) {
	retired, next, err := v.services.Catalog.Retention(ctx, p.Name)
	if err != nil {
		return wire.Dataset{}, fmt.Errorf("reading what is retired: %w", err)
	}
	text, err := json.Marshal(policyfile.JSON(p.Policy))
	if err != nil {
		return wire.Dataset{}, fmt.Errorf("writing a policy: %w", err)
	}
	out := wire.Dataset{Name: p.Name, Kind: string(p.Kind), Version: p.Version, Policy: text, Metrics: []wire.Metric{}, Keys: []string{}}
	out.Retention = retentionOf(retired, next)
	if who := callerOf(ctx).Role; out.Retention != nil && (who == dp.Product || who == dp.Analyst) {
		out.Retention.Gone = false // when the run ends depends on how many rows there were
	}
	for _, m := range metrics.Of(&p.Policy) {
		out.Metrics = append(out.Metrics, metricOf(p.Policy, m))
	}
	for _, d := range p.Dimensions {
		out.Keys = append(out.Keys, d.Name)
	}
	for _, d := range p.Derived {
		out.Keys = append(out.Keys, d.Name)
	}
	if p.Time != nil {
		out.Keys = append(out.Keys, "time.hour", "time.day", "time.week", "time.month", "time.quarter", "time.year")
	}
	return out, nil
}

// retentionOf gives months as the days that they begin with.
func retentionOf(r dp.Retirement, next string) *wire.Retention {
	if r.Before == "" && next == "" {
		return nil
	}
	day := func(month string) string {
		if month == "" {
			return ""
		}
		return month + "-01"
	}
	return &wire.Retention{KeptFrom: day(r.Before), RetiredAt: timeOf(r.At), Gone: r.Before != "" && r.Gone == r.Before, NextKeptFrom: day(next)}
}

// metricOf tells a metric with the clamp that will apply, its own or its measure's.
func metricOf(p dp.Policy, m dp.Metric) wire.Metric {
	out := wire.Metric{
		Name: m.Name, Aggregate: string(m.Aggregate), Measure: m.Measure, Rank: wire.Decimal(m.Rank),
		Numerator: m.Numerator, Denominator: m.Denominator, PerDay: m.PerDay, Of: m.Of, Per: string(m.Per), Distinct: m.Distinct,
	}
	for _, c := range m.Where {
		out.Where = append(out.Where, wire.Condition{Field: c.Field, Eq: (*wire.Text)(c.Eq), In: wireTexts(c.In), NotIn: wireTexts(c.NotIn), Gte: (*wire.Text)(c.Gte), Lte: (*wire.Text)(c.Lte)})
	}
	for _, measure := range p.Measures {
		if measure.Name != m.Measure || m.Measure == "" {
			continue
		}
		lower, upper := measure.Lower, measure.Upper
		if m.Lower != nil {
			lower = *m.Lower
		}
		if m.Upper != nil {
			upper = *m.Upper
		}
		out.Lower = wire.Decimal(rows.FormatDecimal(lower, measure.Scale))
		out.Upper = wire.Decimal(rows.FormatDecimal(upper, measure.Scale))
	}
	return out
}

// wireTexts keeps nil apart from empty, as textsOf does.
func wireTexts(list []string) []wire.Text {
	if list == nil {
		return nil
	}
	out := make([]wire.Text, len(list))
	for i, text := range list {
		out[i] = wire.Text(text)
	}
	return out
}
