package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/export"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

const (
	jsonType   = "application/json"
	csvType    = "text/csv"
	ndjsonType = "application/x-ndjson"
	arrowType  = "application/vnd.apache.arrow.stream"
	htmlType   = "text/html"
)

type releaseInput struct {
	ID          string `path:"id" pattern:"^[A-Za-z0-9_-]{1,100}$" example:"rel_01k3x8"`
	Format      string `query:"format" enum:"json,csv,ndjson,arrow" doc:"Overrides Accept"`
	IfNoneMatch string `header:"If-None-Match" doc:"An ETag of this release: answers 304 where it is the same"`
	negotiated
}

// negotiated keeps which of an operation's media types the Accept header prefers.
type negotiated struct{ accepted string }

// Resolve asks Fiber, whose choice pass has found not to be empty.
func (n *negotiated) Resolve(ctx huma.Context) []error {
	n.accepted = accepted(fiberOf(ctx), mediaTypes(ctx.Operation()))
	return nil
}

type releaseOutput struct {
	ETag         string `header:"ETag"`
	CacheControl string `header:"Cache-Control"`
	Vary         string `header:"Vary"`
	Body         func(huma.Context)
}

type releasesInput struct {
	PageParams
	Dataset string `query:"dataset" maxLength:"63" doc:"Only of this dataset"`
}

type releasesOutput struct {
	Body wire.ReleaseList
}

func (v *Server) registerReleases() {
	responses := v.releaseResponse("The release; as NDJSON, a line per group", jsonType, csvType, ndjsonType, arrowType)
	responses["304"] = &huma.Response{Description: "It is the one that If-None-Match names"}
	register(v, huma.Operation{
		OperationID: "list-releases", Method: http.MethodGet, Path: "/v1/releases", Tags: []string{"Ask"},
		Summary: "List the releases that you hold", Description: "Newest first, without their groups.",
	}, v.listReleases)
	register(v, huma.Operation{
		OperationID: "get-release", Method: http.MethodGet, Path: "/v1/releases/{id}", Tags: []string{"Ask"},
		Summary: "Read a release", Description: "Free, as often as you like. A release never changes.",
		Metadata:  map[string]any{produces: []string{jsonType, csvType, ndjsonType, arrowType}},
		Responses: responses,
		Errors:    []int{404},
	}, v.getRelease)
}

// releaseResponse documents a release, whose body is streamed and therefore has no type that huma could see.
func (v *Server) releaseResponse(description string, types ...string) map[string]*huma.Response {
	r := &huma.Response{Description: description, Content: map[string]*huma.MediaType{}}
	for _, t := range types {
		switch t {
		case jsonType:
			r.Content[t] = &huma.MediaType{Schema: v.schema(reflect.TypeFor[wire.Release]())}
		case csvType:
			r.Content[t] = &huma.MediaType{Schema: v.textSchema("ReleaseCSV", "A column per part of the key; where levels were reconciled, one for the level; of each metric four: its value, _low, _high and _sd. Texts that a spreadsheet would take for a formula begin with an apostrophe")}
		case ndjsonType:
			r.Content[t] = &huma.MediaType{Schema: v.schema(reflect.TypeFor[wire.Group]())}
		case arrowType:
			r.Content[t] = &huma.MediaType{Schema: v.textSchema("ReleaseArrow", "An Arrow IPC stream with the columns of the CSV")}
		}
	}
	return map[string]*huma.Response{"200": r}
}

func (v *Server) listReleases(ctx context.Context, in *releasesInput) (*releasesOutput, error) {
	list, next, err := v.services.Releases.Held(ctx, callerOf(ctx).Name, in.Dataset, in.page())
	if err != nil {
		return nil, err
	}
	out := &releasesOutput{Body: wire.ReleaseList{Items: []wire.ReleaseHead{}, Next: next}}
	for _, r := range list {
		out.Body.Items = append(out.Body.Items, headOf(r))
	}
	return out, nil
}

func (v *Server) getRelease(ctx context.Context, in *releaseInput) (*releaseOutput, error) {
	release, err := v.services.Releases.Release(ctx, callerOf(ctx).Name, in.ID)
	if err != nil {
		return nil, err
	}
	short := shortOf(in.accepted)
	if in.Format != "" {
		short = in.Format
	}
	out := &releaseOutput{
		ETag:         `"` + release.ID + "." + short + `"`,
		CacheControl: releaseCacheControl,
		Vary:         releaseVary,
	}
	if matches(in.IfNoneMatch, out.ETag) {
		out.Body = func(ctx huma.Context) { ctx.SetStatus(http.StatusNotModified) }
		return out, nil
	}
	v.noteReading(callerOf(ctx).Name, "get-release", release.ID)
	switch short {
	case "csv":
		out.Body = v.body(csvType+"; charset=utf-8", len(release.Groups), func(w io.Writer) error { return export.ReleaseCSV(w, release) })
	case "ndjson":
		out.Body = v.body(ndjsonType, len(release.Groups), ndjsonRelease(release))
	case "arrow":
		out.Body = v.body(arrowType, len(release.Groups), func(w io.Writer) error { return export.ReleaseArrow(w, release) })
	default:
		write := jsonRelease(headOf(release), release, nil)
		if len(release.Groups) <= inMemory {
			write = v.rereading.keep(callerOf(ctx).Name, release, out.ETag, write)
		}
		out.Body = v.body(jsonType, len(release.Groups), write)
	}
	return out, nil
}

// shortOf names a media type as the parameter format does.
func shortOf(mediaType string) string {
	switch mediaType {
	case csvType:
		return "csv"
	case ndjsonType:
		return "ndjson"
	case arrowType:
		return "arrow"
	case htmlType:
		return "html"
	}
	return "json"
}

// matches compares an If-None-Match header with an ETag, weakly.
func matches(header, etag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
		if candidate == "*" || candidate == etag {
			return true
		}
	}
	return false
}

// headOf is a release without its groups. What other consumers may not learn (whose draw it was) and what is
// of no use to a reader (noised coordinates, attempts) stays behind.
func headOf(r dp.Release) wire.ReleaseHead {
	head := wire.ReleaseHead{
		ID: r.ID, Dataset: r.Dataset, AsOf: r.AsOf.UTC(), Confidence: wire.Decimal(r.Confidence),
		By: listOf(r.By), Metrics: listOf(r.Metrics), GroupsMayBeHidden: r.GroupsMayBeHidden,
		Privacy: privacyOf(r.Privacy), Charge: chargeOf(r.Charge, nil), Notes: r.Notes, PolicyVersion: r.PolicyVersion,
	}
	head.Levels = r.Levels
	if r.CanonicalQuery != "" {
		head.Query = json.RawMessage(r.CanonicalQuery)
	}
	return head
}

func valueOf(v dp.Value) wire.Value {
	return wire.Value{Value: v.Value, Low: v.Low, High: v.High, SD: v.SD}
}

func groupOf(r dp.Release, g dp.Group) wire.Group {
	out := wire.Group{Key: make(map[string]string, len(r.By)), Values: make(map[string]wire.Value, len(r.Metrics)), Level: g.Level}
	for i, name := range r.By {
		if g.Level == 0 || slices.Contains(r.Levels[g.Level-1], name) {
			out.Key[name] = g.Key[i]
		}
	}
	for i, name := range r.Metrics {
		out.Values[name] = valueOf(g.Values[i])
	}
	return out
}
