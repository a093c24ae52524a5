package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// plainType is one identifier on each line.
const plainType = "text/plain"

type eraseInput struct {
	DatasetParam
	Now            bool   `query:"now" doc:"Run now what waits, instead of at the day's hour"`
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"With it, the call made again while the erasure waits is the same erasure, with the same reply"`
	UploadParams
}

type erasureOutput struct {
	Body wire.Erasure
}

type erasuresInput struct {
	DatasetParam
	PageParams
}

type erasuresOutput struct {
	Body wire.ErasureList
}

func (v *Server) registerErasures() {
	body := &huma.RequestBody{Required: true}
	csv := v.textSchema("UnitsCSV", "A header line with the column that the policy has for customers, then a customer per line. Other columns are ignored")
	ndjson := v.textSchema("UnitsNDJSON", "A customer per line, each a flat JSON object with the column that the policy has for customers")
	plain := v.textSchema("UnitsText", "An identifier per line")
	register(v, huma.Operation{
		OperationID: "erase", Method: http.MethodPost, Path: "/v1/datasets/{dataset}/erasures", Tags: []string{"Datasets"}, DefaultStatus: http.StatusAccepted,
		Summary: "Erase customers",
		Description: "Takes customers out of a dataset: at once out of every further answer, and with the day's run out of the files. The reply, and what is recorded, are the same " +
			"whether or not they were there. No version of a block changes, and no budget comes back. To send it again does no harm. Rows that are loaded before the run has ended leave " +
			"as well; what is loaded after it is there again: stop delivering such rows first.",
		RequestBody: body,
		Metadata:    map[string]any{uploads: true},
		Errors:      []int{404, 409, 411},
	}, v.erase)
	body.Content = map[string]*huma.MediaType{
		jsonType: {Schema: v.schema(reflect.TypeFor[wire.NewErasure]())}, csvType: {Schema: csv}, ndjsonType: {Schema: ndjson}, plainType: {Schema: plain},
	}
	register(v, huma.Operation{
		OperationID: "list-erasures", Method: http.MethodGet, Path: "/v1/datasets/{dataset}/erasures", Tags: []string{"Datasets"},
		Summary: "List the erasures", Description: "Newest first. Nothing tells who was erased.", Errors: []int{404},
	}, v.listErasures)
	register(v, huma.Operation{
		OperationID: "run-erasures", Method: http.MethodPost, Path: "/v1/erasure-runs", Tags: []string{"Datasets"}, DefaultStatus: http.StatusAccepted,
		Summary: "Run erasures now", Description: "Begins to take out of the files whatever waits to be erased, of all datasets, and retires the blocks whose time is over. The list of erasures tells when they have ended, a dataset's retention when no row of retired blocks is left.",
	}, v.runErasures)
}

func (v *Server) erase(ctx context.Context, in *eraseInput) (*erasureOutput, error) {
	policy, err := v.policy(ctx, in.Dataset)
	if err != nil {
		return nil, err
	}
	format, err := unitsFormatOf(in.ContentType)
	if err != nil {
		return nil, err
	}
	in.upload.nothing = "nothing was recorded"
	units, err := in.upload.open(in.ContentDigest, in.ContentEncoding == "gzip", v.options.MaxUpload)
	if err != nil {
		return nil, err
	}
	spec := EraseSpec{By: callerOf(ctx).Name, Format: format, Repeat: in.IdempotencyKey}
	if format == "" {
		spec.Format = NDJSON
		if units, err = v.oneUnit(units, policy.Unit.Column); err != nil {
			return nil, err
		}
	}
	e, err := v.services.Rows.Erase(ctx, policy, spec, units, in.upload.verify)
	if err != nil {
		return nil, err
	}
	if in.Now {
		v.services.Rows.RunErasures()
	}
	return &erasureOutput{Body: erasureOf(e)}, nil
}

// unitsFormatOf gives the format of a body of identifiers, "" for JSON.
func unitsFormatOf(contentType string) (Format, error) {
	switch t, parameters, _ := mime.ParseMediaType(contentType); t {
	case jsonType:
		return "", nil
	case plainType:
		if c := strings.ToLower(parameters["charset"]); c != "" && c != "utf-8" && c != "us-ascii" { // an identifier in another would be nobody's
			return "", newProblem(codeUnsupportedMedia, "Send lines in UTF-8.")
		}
		return Lines, nil
	}
	if format, err := formatOf(contentType); err == nil && format != Parquet {
		return format, nil
	}
	return "", newProblem(codeUnsupportedMedia, "Say how the customers are named: Content-Type application/json, text/plain, text/csv or application/x-ndjson.")
}

// oneUnit reads {"unit": "…"} and gives it as a record with the policy's column.
func (v *Server) oneUnit(in io.Reader, column string) (io.Reader, error) {
	text, err := io.ReadAll(io.LimitReader(in, int64(v.options.MaxBody)+1))
	if err != nil {
		return nil, err
	}
	if len(text) > v.options.MaxBody {
		return nil, &dp.Error{Code: dp.CodeTooLarge, Message: fmt.Sprintf("The body is larger than %d bytes: name many customers in a file.", v.options.MaxBody)}
	}
	var tree any
	var one wire.NewErasure
	err = unmarshal(text, &tree)
	if err == nil {
		strict := json.NewDecoder(bytes.NewReader(text))
		strict.DisallowUnknownFields()
		if strict.Decode(&one) != nil || one.Unit == "" { // whose own words would quote the body
			err = errors.New(`is not {"unit": "…"} with an identifier`)
		}
	}
	if err != nil {
		p := newProblem(dp.CodeInvalidInput, `Name one customer as {"unit": "…"}, or several in a file, as text/plain, text/csv or application/x-ndjson.`)
		p.at("body", err.Error())
		return nil, p
	}
	record, err := json.Marshal(map[string]string{column: one.Unit})
	if err != nil {
		return nil, fmt.Errorf("writing a record: %w", err)
	}
	return bytes.NewReader(record), nil
}

func (v *Server) listErasures(ctx context.Context, in *erasuresInput) (*erasuresOutput, error) {
	if _, err := v.policy(ctx, in.Dataset); err != nil {
		return nil, err
	}
	list, next, err := v.services.Rows.Erasures(ctx, in.Dataset, in.page())
	if err != nil {
		return nil, err
	}
	out := &erasuresOutput{Body: wire.ErasureList{Items: []wire.Erasure{}, Next: next}}
	for _, e := range list {
		out.Body.Items = append(out.Body.Items, erasureOf(e))
	}
	return out, nil
}

func (v *Server) runErasures(context.Context, *struct{}) (*struct{}, error) {
	v.services.Rows.RunErasures()
	return nil, nil
}

func erasureOf(e dp.Erasure) wire.Erasure {
	return wire.Erasure{ID: e.ID, Dataset: e.Dataset, By: e.By, At: e.At.UTC(), Units: e.Units, Ended: timeOf(e.Ended)}
}
