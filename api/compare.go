package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

type compareInput struct {
	Body wire.Comparison
}

type compareOutput struct {
	Body wire.Compared
}

const asRatio, asDifference = "ratio", "difference"

func (v *Server) registerCompare() {
	register(v, huma.Operation{
		OperationID: "compare", Method: http.MethodPost, Path: "/v1/compare", Tags: []string{"Ask"},
		Summary: "Compare two figures, or two releases",
		Description: "The difference or the ratio of two figures of releases that you hold, or of all figures of the same key and metric in two releases, " +
			"each with an interval and a verdict: up, down or unclear. Free, and sees no row.",
		Metadata: map[string]any{invalidCode: dp.CodeInvalidQuery},
		Errors:   []int{404},
	}, v.compare)
}

func (v *Server) compare(ctx context.Context, in *compareInput) (*compareOutput, error) {
	cell := func(c wire.Cell) answer.Cell {
		return answer.Cell{Release: c.Release, Key: c.Key, Metric: c.Metric}
	}
	compared, err := v.services.Asker.Compare(ctx, callerOf(ctx).Consumer, answer.Comparison{
		From: cell(in.Body.From), To: cell(in.Body.To), Ratio: in.Body.As == asRatio, Confidence: string(in.Body.Confidence),
	})
	if err != nil {
		return nil, err
	}
	v.noteReading(callerOf(ctx).Name, "compare", in.Body.From.Release)
	if in.Body.To.Release != in.Body.From.Release {
		v.noteReading(callerOf(ctx).Name, "compare", in.Body.To.Release)
	}
	out := &compareOutput{Body: wire.Compared{
		As: asDifference, Confidence: wire.Decimal(compared.Confidence), Cells: []wire.ComparedCell{}, Missing: compared.Missing, Notes: compared.Notes,
	}}
	if compared.Ratio {
		out.Body.As = asRatio
	}
	for _, c := range compared.Cells {
		change := wire.Change{Value: c.Change.Value}
		if !c.Unbounded {
			change.Low, change.High, change.SD = &c.Change.Low, &c.Change.High, &c.Change.SD
		}
		out.Body.Cells = append(out.Body.Cells, wire.ComparedCell{
			FromKey: c.FromKey, ToKey: c.ToKey, FromMetric: c.FromMetric, ToMetric: c.ToMetric, From: valueOf(c.From), To: valueOf(c.To),
			Change: change, Verdict: string(c.Verdict),
		})
	}
	return out, nil
}
