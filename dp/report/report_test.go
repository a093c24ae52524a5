package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// world is everything that a service needs: it prices as dp/plan does, and answers what it is told to.
type world struct {
	mu       sync.Mutex
	policy   dp.VersionedPolicy
	asker    dp.Consumer
	free     map[string]string // question by its metric -> held release
	stale    bool              // what is free is over rows of before
	releases []dp.Release
	hides    error // what refuses all reading
	reports  map[string]*dp.Report
	runs     []NewRun
	ended    map[string]dp.Error
	asked    []string
	answers  func(key string) error
	left     dp.Left
	changes  int // how many reports still meet a changed policy
	loaded   []string
	joined   []string // blocks of the other dataset that were loaded
	now      time.Time
}

func newWorld() *world {
	return &world{
		policy: dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
			Name: "shop", Kind: dp.Custom, Population: 100_000, Unit: dp.Unit{Column: "c", Block: dp.Month}, Time: &dp.TimeColumn{Timezone: "UTC"},
			Dimensions: []dp.Dimension{{Name: "category", Type: dp.StringDimension, Values: []string{"a", "b"}}},
			Measures:   []dp.Measure{{Name: "amount", Scale: 2, Upper: 100_00}},
			Metrics:    []dp.Metric{{Name: "spend", Aggregate: dp.Sum, Measure: "amount"}},
			Bounds:     dp.Bounds{MaxPartitions: 4, MaxRows: 4}, Cap: dp.Budget{Epsilon: 6 * dp.EpsilonOne, Delta: 1e9}, Default: dp.Budget{Epsilon: dp.EpsilonOne / 10, Delta: 1e7},
			Purposes: []string{"reporting"}, Audiences: []dp.Audience{dp.Internal},
		}},
		asker:   dp.Consumer{Name: "alice", Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting"}},
		reports: map[string]*dp.Report{}, ended: map[string]dp.Error{}, free: map[string]string{}, now: time.Date(2026, 5, 15, 0, 0, 0, 0, time.UTC),
	}
}

func (w *world) service() *Service {
	return New(w, book{w}, w, w, w, Options{Workers: 1, Every: time.Hour, Retry: time.Millisecond, Clock: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler)})
}

func (w *world) Plan(_ context.Context, _ dp.Consumer, q dp.Query) (answer.Quote, error) {
	other := w.policy
	other.Name = "app"
	p, err := plan.Make(q, w.policy, nil, plan.DefaultLimits(), other)
	if err != nil {
		return answer.Quote{}, err
	}
	return answer.Quote{Plan: p, FreeFrom: w.free[p.Metrics[0].Name], Stale: w.stale}, nil
}

func (w *world) Ask(_ context.Context, _ dp.Consumer, _ dp.Query, key string) (answer.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, key)
	if w.answers != nil {
		if err := w.answers(key); err != nil {
			return answer.Answer{}, err
		}
	}
	part := w.part(key)
	part.Release, part.Attempts = "rel_"+part.Charge.ID, part.Attempts+1
	return answer.Answer{}, nil
}

// part finds a question by the key that it is asked under.
func (w *world) part(key string) *dp.ReportPart {
	for _, r := range w.reports {
		for _, run := range r.Runs {
			for i := range run.Parts {
				if partKey(r.ID, run.Number, i) == key {
					return &run.Parts[i]
				}
			}
		}
	}
	panic("nobody asked for " + key)
}

func (w *world) Consumer(context.Context, string) (dp.Consumer, error) { return w.asker, nil }

func (w *world) Policy(_ context.Context, dataset string) (dp.VersionedPolicy, error) {
	if dataset != w.policy.Name {
		return dp.VersionedPolicy{}, &dp.Error{Code: dp.CodeNotFound, Message: "none"}
	}
	return w.policy, nil
}

func (w *world) MayRead(context.Context, string, []string) error { return w.hides }

func (w *world) Held(context.Context, string, string, string, int) ([]dp.Release, string, error) {
	return w.releases, "", nil
}

func (w *world) Release(_ context.Context, _, id string) (dp.Release, error) {
	for _, r := range w.releases {
		if r.ID == id {
			return r, nil
		}
	}
	return dp.Release{}, errors.New("no such release")
}

// book is the world as Book: its Report is not that of Releases.
type book struct{ *world }

func (b book) BeginReport(_ context.Context, r dp.Report, _ [32]byte, first *NewRun) (dp.Report, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changes > 0 {
		b.changes--
		b.policy.Version++
		return dp.Report{}, answer.ErrPolicyChanged
	}
	if known := b.reports[r.ID]; known != nil {
		return *known, nil
	}
	r.Created = b.now
	b.reports[r.ID] = &r
	if first != nil {
		b.add(&r, 1, *first)
	}
	return r, nil
}

func (b book) add(r *dp.Report, number uint64, run NewRun) {
	b.runs = append(b.runs, run)
	out := dp.ReportRun{Number: number, Block: run.Block, Refused: run.Refused}
	for _, p := range run.Parts {
		part := dp.ReportPart{Name: p.Name, Query: p.Query, Release: p.Held}
		if p.Held == "" {
			part.Charge = dp.Charge{ID: fmt.Sprintf("%s-%d-%s", r.ID, number, p.Name), Dataset: p.Charge.Dataset, Blocks: p.Charge.Blocks, Loss: p.Charge.Loss}
		}
		out.Parts = append(out.Parts, part)
	}
	r.Runs = append(r.Runs, out)
}

func (b book) AddRun(_ context.Context, id string, number uint64, run NewRun) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if run.Refused == nil && b.left.Account == "refuse "+run.Block {
		return &dp.Error{Code: dp.CodeBudgetExhausted, Message: "spent"}
	}
	b.add(b.reports[id], number, run)
	return nil
}

func (b book) EndParts(_ context.Context, id string, charges []string, why dp.Error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, run := range b.reports[id].Runs {
		for i := range run.Parts {
			if run.Parts[i].Charge.ID == charges[0] {
				run.Parts[i].Failure = &why
			}
		}
	}
	return nil
}

func (b book) CancelReport(ctx context.Context, consumer, id string, why dp.Error) (dp.Report, error) {
	return b.Report(ctx, consumer, id)
}

func (b book) Report(_ context.Context, consumer, id string) (dp.Report, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.reports[id]; r != nil && r.Consumer == consumer {
		return clone(*r), nil
	}
	return dp.Report{}, &dp.Error{Code: dp.CodeNotFound, Message: "none"}
}

func clone(r dp.Report) dp.Report {
	runs := r.Runs
	r.Runs = nil
	for _, run := range runs {
		run.Parts = append([]dp.ReportPart(nil), run.Parts...)
		r.Runs = append(r.Runs, run)
	}
	return r
}

func (b book) Reports(context.Context, string, string, int) (list []dp.Report, next string, err error) {
	for _, r := range b.reports {
		list = append(list, *r)
	}
	return list, "", nil
}

func (b book) OpenReports(context.Context) (list []dp.Report, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.reports {
		if ended, all := Progress(*r); ended < all || r.Scheduled {
			list = append(list, clone(*r))
		}
	}
	return list, nil
}

func (b book) Left(_ context.Context, _, dataset string, _ []string, loss dp.Loss, _ ...dp.Touched) (dp.Left, error) {
	return dp.Left{Account: "allotment/" + dataset, Epsilon: loss.Epsilon}, nil
}

func (b book) LoadedBlocks(_ context.Context, dataset string) ([]string, error) {
	if dataset == "app" {
		return b.joined, nil
	}
	return b.loaded, nil
}

func question(name, metric string, by ...string) Question {
	return Question{Name: name, Query: dp.Query{Metrics: []string{metric}, By: by}}
}

func spec(questions ...Question) Spec {
	return Spec{Name: "a report", Dataset: "shop", Purpose: "reporting", From: "2026-01-01", To: "2026-02-28", Questions: questions}
}

func TestBudgetIsSplitByWeightsToTheLastUnit(t *testing.T) {
	w := newWorld()
	s := spec(question("a", "spend"), question("b", "rows", "category"), question("", "customers"), Question{Name: "own", Query: dp.Query{Metrics: []string{"spend"}, Epsilon: "0.25"}})
	s.Epsilon, s.Delta, s.Weights = "1", "1e-10", map[string]string{"b": "1.5"}
	p, err := w.service().Plan(t.Context(), w.asker, s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, part := range p.Parts {
		got = append(got, part.Name+" "+part.Query.Epsilon+" "+part.Query.Delta)
	}
	want := "a 0.285714285714 0.000000000028571428, b 0.428571428571 0.000000000042857142, q3 0.285714285715 0.00000000002857143, own 0.25 "
	if strings.Join(got, ", ") != want {
		t.Errorf("split as %s", strings.Join(got, ", "))
	}
	if len(p.Blocks) != 2 || p.Blocks[0].Block != "2026-01" || p.Blocks[1].Loss != p.Largest() {
		t.Errorf("its blocks pay %+v", p.Blocks)
	}
	if e := p.Largest().Epsilon; e != 1250*dp.EpsilonOne/1000 {
		t.Errorf("each block pays %s", e)
	}
}

func TestHeldAnswersCostNothing(t *testing.T) {
	w := newWorld()
	w.free["spend"] = "rel_1"
	r, err := w.service().Submit(t.Context(), w.asker, spec(question("a", "spend"), question("b", "rows")), "")
	if err != nil {
		t.Fatal(err)
	}
	if run := w.runs[0]; run.Parts[0].Held != "rel_1" || run.Parts[0].Charge.Consumer != "" || run.Parts[1].Charge.Loss.Epsilon != dp.EpsilonOne/10 || run.Parts[1].Charge.Key != partKey(r.ID, 1, 1) {
		t.Errorf("charged as %+v", run)
	}
	p, err := w.service().Plan(t.Context(), w.asker, spec(question("a", "spend"), question("b", "rows")))
	if err != nil || p.Largest().Epsilon != dp.EpsilonOne/10 {
		t.Errorf("planned as %+v, %v", p.Blocks, err)
	}
}

// TestScheduledReportIsAboutTheRowsThatWereLoaded: an answer that the asker holds over rows of before costs nothing, and is
// no answer about a block that has ended and was loaded since.
// A run of a joined dataset waits for its rows: they decide which of its own count, and are paid for.
func TestScheduledReportWaitsForTheDatasetThatItJoins(t *testing.T) {
	w := newWorld()
	w.policy.Link = &dp.Link{Consent: "linked_at"}
	w.loaded, w.joined = []string{"2026-01"}, []string{"2025-12"}
	joining := question("a", "spend")
	joining.Query.Cohorts = []dp.Cohort{{Dataset: "app"}}
	scheduled := spec(joining)
	scheduled.Schedule, scheduled.To = PerBlock, ""
	r, err := w.service().Submit(t.Context(), w.asker, scheduled, "")
	if err != nil {
		t.Fatal(err)
	}
	if r, err = w.service().due(t.Context(), r); err != nil || len(w.runs) != 0 {
		t.Fatalf("before the other rows came it is charged as %+v, %v", w.runs, err)
	}
	w.joined = append(w.joined, "2026-02") // January had none
	if _, err = w.service().due(t.Context(), r); err != nil || len(w.runs) != 1 || len(w.runs[0].Parts[0].Charge.Also) != 1 {
		t.Errorf("charged as %+v, %v", w.runs, err)
	}
}

func TestScheduledReportIsAboutTheRowsThatWereLoaded(t *testing.T) {
	w := newWorld()
	w.free["spend"], w.stale = "rel_1", true
	w.loaded = []string{"2026-01"}
	scheduled := spec(question("a", "spend"))
	scheduled.Schedule, scheduled.To = PerBlock, ""
	r, err := w.service().Submit(t.Context(), w.asker, scheduled, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.service().due(t.Context(), r); err != nil || len(w.runs) != 1 || w.runs[0].Parts[0].Held != "" || w.runs[0].Parts[0].Charge.Loss.Epsilon == 0 {
		t.Errorf("charged as %+v, %v", w.runs, err)
	}
	if _, err := w.service().Submit(t.Context(), w.asker, spec(question("a", "spend")), ""); err != nil || w.runs[1].Parts[0].Held != "rel_1" {
		t.Errorf("asked for by itself it is charged as %+v, %v", w.runs[1], err)
	}
}

func TestCostsCountEveryBlockThatAQuestionTouched(t *testing.T) {
	loss := func(e dp.Epsilon) dp.Loss { return dp.Loss{Epsilon: e, Rho: 1} }
	run := dp.ReportRun{Parts: []dp.ReportPart{
		{Charge: dp.Charge{ID: "chg_1", Dataset: "shop", Blocks: []string{"2026-01"}, Loss: loss(1), Also: []dp.Touched{
			{Dataset: "shop", Blocks: []string{"2026-02"}, Loss: loss(3)}, {Dataset: "bank", Blocks: []string{"2026-01"}, Loss: loss(5)},
		}}},
		{Charge: dp.Charge{ID: "chg_2", Dataset: "bank", Blocks: []string{"2026-01"}, Loss: loss(7)}},
		{Charge: dp.Charge{Dataset: "bank", Blocks: []string{"2026-01"}, Loss: loss(9)}}, // held before, and free
	}}
	want := []BlockCost{
		{Dataset: "bank", Block: "2026-01", Loss: dp.Loss{Epsilon: 12, Rho: 2}},
		{Dataset: "shop", Block: "2026-01", Loss: loss(1)}, {Dataset: "shop", Block: "2026-02", Loss: loss(3)},
	}
	if got := Costs(run); !reflect.DeepEqual(got, want) {
		t.Errorf("costs are %+v", got)
	}
}

func TestRelativeErrorsAreEqualised(t *testing.T) {
	w := newWorld()
	s := spec(question("small", "spend", "category"), question("large", "rows"))
	s.Epsilon, s.Equalise = "1", RelativeError
	// Without an answer to go by it is refused, naming the questions.
	_, err := w.service().Plan(t.Context(), w.asker, s)
	var refused *dp.Error
	if !errors.As(err, &refused) || len(refused.Locations) != 2 || refused.Locations[1].Path != "queries[1]" {
		t.Fatalf("got %v", err)
	}
	for i, held := range []struct {
		q     dp.Query
		value float64
	}{{s.Questions[0].Query, 100}, {s.Questions[1].Query, 100_000}} {
		q := held.q
		q.Dataset, q.Purpose, q.From, q.To, q.Epsilon = "shop", "reporting", "2025-06-01", "2025-06-30", "0.3"
		p, err := plan.Make(q, w.policy, nil, plan.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		w.releases = append(w.releases, dp.Release{ID: fmt.Sprint("rel_", i), Metrics: q.Metrics, CanonicalQuery: string(p.Question),
			Groups: []dp.Group{{Values: []dp.Value{{Value: held.value}}}, {Values: []dp.Value{{Value: -held.value}}}, {Values: []dp.Value{{Value: 1e9}}}}})
	}
	p, err := w.service().Plan(t.Context(), w.asker, s)
	if err != nil {
		t.Fatal(err)
	}
	relative := func(i int, size float64) float64 { return p.Parts[i].Quote.Plan.Metrics[0].Within / size }
	if a, b := relative(0, 100), relative(1, 100_000); a/b > 1.3 || b/a > 1.3 {
		t.Errorf("relative errors are %g and %g", a, b)
	}
	even := spec(s.Questions...)
	even.Epsilon = "1"
	if p, err = w.service().Plan(t.Context(), w.asker, even); err != nil {
		t.Fatal(err)
	}
	if a, b := relative(0, 100), relative(1, 100_000); a/b < 100 {
		t.Errorf("without it they would be %g and %g: the test shows nothing", a, b)
	}
}

func TestWhatIsWrongIsSaidAtOnce(t *testing.T) {
	w := newWorld()
	bad := func(change func(*Spec)) Spec {
		s := spec(question("a", "spend"), question("b", "rows"))
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		spec  Spec
		paths []string
	}{
		"nothing":           {Spec{}, []string{"name", "queries"}},
		"unknown names":     {bad(func(s *Spec) { s.Questions[0].Query.By = []string{"x"}; s.Questions[1].Query.Metrics = []string{"y"} }), []string{"queries[0].by[0]", "queries[1].metrics[0]"}},
		"names":             {bad(func(s *Spec) { s.Questions[0].Name = "A"; s.Questions[1].Name = "" }), []string{"queries[0].name"}},
		"names twice":       {bad(func(s *Spec) { s.Questions[1].Name = "a" }), []string{"queries[1].name"}},
		"weights":           {bad(func(s *Spec) { s.Weights = map[string]string{"a": "1"} }), []string{"epsilon"}},
		"weight of nobody":  {bad(func(s *Spec) { s.Epsilon = "1"; s.Weights = map[string]string{"c": "1"} }), []string{"weights"}},
		"weight of nothing": {bad(func(s *Spec) { s.Epsilon = "1"; s.Weights = map[string]string{"a": "0"} }), []string{"weights.a"}},
		"both":              {bad(func(s *Spec) { s.Epsilon, s.Equalise, s.Weights = "1", RelativeError, map[string]string{"a": "2"} }), []string{"weights"}},
		"other words":       {bad(func(s *Spec) { s.Schedule, s.Equalise, s.Epsilon = "daily", "all", "1" }), []string{"equalise", "schedule"}},
		"epsilon for none": {bad(func(s *Spec) {
			s.Epsilon = "1"
			s.Questions[0].Query.Epsilon = "1"
			s.Questions[1].Query.Within = map[string]string{"rows": "9"}
		}), []string{"epsilon"}},
		"two deltas":     {bad(func(s *Spec) { s.Epsilon, s.Delta, s.Questions[1].Query.Delta = "1", "1e-10", "1e-9" }), []string{"queries[1].delta"}},
		"asked twice":    {bad(func(s *Spec) { s.Questions[1].Query = s.Questions[0].Query }), []string{"queries[1]"}},
		"dated schedule": {bad(func(s *Spec) { s.Schedule = PerBlock; s.Questions[1].Query.From = "2026-01-01" }), []string{"queries[1].from"}},
		"no dataset":     {bad(func(s *Spec) { s.Dataset = "" }), []string{"queries[0].dataset", "queries[1].dataset"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.service().Submit(t.Context(), w.asker, c.spec, "")
			var refused *dp.Error
			if !errors.As(err, &refused) || refused.Code != dp.CodeInvalidQuery {
				t.Fatalf("got %v", err)
			}
			var paths []string
			for _, l := range refused.Locations {
				paths = append(paths, l.Path)
			}
			if !reflect.DeepEqual(paths, c.paths) {
				t.Errorf("it names %v: %v", paths, err)
			}
		})
	}
	if len(w.reports) != 0 {
		t.Errorf("recorded %+v", w.reports)
	}
}

func TestSameKeyIsTheSameReportWhateverChangedSince(t *testing.T) {
	w := newWorld()
	s := w.service()
	one := spec(question("a", "spend"))
	first, err := s.Submit(t.Context(), w.asker, one, "key")
	if err != nil {
		t.Fatal(err)
	}
	w.policy.Metrics = nil // the question cannot be asked any more
	again, err := s.Submit(t.Context(), w.asker, one, "key")
	if err != nil || again.ID != first.ID || len(w.runs) != 1 {
		t.Errorf("again it is %+v, %v", again, err)
	}
	if one, two := idOf("alice", ""), idOf("alice", ""); idOf("alice", "key") == idOf("bob", "key") || one == two {
		t.Error("two reports have one name")
	}
}

func TestReportOfADatasetThatIsHiddenIsNotThere(t *testing.T) {
	w := newWorld()
	s := w.service()
	r, err := s.Submit(t.Context(), w.asker, spec(question("a", "spend")), "key")
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]func() error{
		"read": func() error { _, err := s.Report(t.Context(), w.asker.Name, r.ID); return err },
		"again": func() error {
			_, err := s.Submit(t.Context(), w.asker, spec(question("a", "spend")), "key")
			return err
		},
		"cancel": func() error { _, err := s.Cancel(t.Context(), w.asker.Name, r.ID); return err },
		"list": func() error {
			list, _, err := s.Reports(t.Context(), w.asker.Name, "", 10)
			if err == nil && len(list) == 0 {
				err = errNoReport()
			}
			return err
		},
	}
	w.hides = answer.ErrHidden
	for name, way := range ways {
		if name != "again" && codeOf(way()) != dp.CodeNotFound {
			t.Errorf("%s: it is there", name)
		}
	}
	w.hides = nil
	for name, way := range ways {
		if err := way(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChangedPolicyIsPricedAnew(t *testing.T) {
	w := newWorld()
	w.changes = 2
	if _, err := w.service().Submit(t.Context(), w.asker, spec(question("a", "spend")), ""); err != nil || w.runs[0].Parts[0].Charge.PolicyVersion != 3 {
		t.Errorf("charged under version %d, %v", w.runs[0].Parts[0].Charge.PolicyVersion, err)
	}
	w.changes = 9
	if _, err := w.service().Submit(t.Context(), w.asker, spec(question("a", "spend")), ""); codeOf(err) != dp.CodeUnavailable {
		t.Errorf("got %v", err)
	}
}

// finish runs a service until a report is as a test wants it.
func finish(t *testing.T, w *world, s *Service, id string, want State) dp.Report {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for deadline := time.After(20 * time.Second); ; {
		changed := s.Changed()
		r, err := s.Report(t.Context(), w.asker.Name, id)
		if err != nil {
			t.Fatal(err)
		}
		if StateOf(r) == want {
			return r
		}
		select {
		case <-changed:
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatalf("it stands at %s: %+v", StateOf(r), r)
		}
	}
}

func TestQuestionIsAskedAgainUntilItEnds(t *testing.T) {
	w := newWorld()
	s := w.service()
	tries := 0
	w.answers = func(key string) error {
		if strings.HasSuffix(key, "\x000") { // the first question
			if tries++; tries < 3 {
				return []error{&dp.Error{Code: dp.CodeUnavailable, Message: "no engine"}, errors.New("no disk")}[tries-1]
			}
			return nil
		}
		return &dp.Error{Code: dp.CodePurposeNotAllowed, Message: "not any more"}
	}
	r, err := s.Submit(t.Context(), w.asker, spec(question("a", "spend"), question("b", "rows")), "")
	if err != nil {
		t.Fatal(err)
	}
	r = finish(t, w, s, r.ID, Failed)
	parts := r.Runs[0].Parts
	if parts[0].Release == "" || parts[1].Failure == nil || parts[1].Failure.Code != dp.CodePurposeNotAllowed || !strings.Contains(parts[1].Failure.Message, "the charge stands") || len(w.asked) != 4 {
		t.Errorf("asked %q: %+v", w.asked, parts)
	}
}

func TestWhoIsNoAnalystAnyMoreIsAnsweredNothing(t *testing.T) {
	w := newWorld()
	s := w.service()
	r, err := s.Submit(t.Context(), w.asker, spec(question("a", "spend")), "")
	if err != nil {
		t.Fatal(err)
	}
	w.asker.Role = dp.Auditor
	r = finish(t, w, s, r.ID, Failed)
	if len(w.asked) != 0 || r.Runs[0].Parts[0].Failure.Code != dp.CodeForbidden {
		t.Errorf("asked %q: %+v", w.asked, r)
	}
}

func TestSuspendedConsumersReportsAreNotMade(t *testing.T) {
	w := newWorld()
	s := w.service()
	r, err := s.Submit(t.Context(), w.asker, spec(question("a", "spend")), "")
	if err != nil {
		t.Fatal(err)
	}
	w.loaded = []string{"2026-01"}
	scheduled := spec(question("b", "spend"))
	scheduled.Schedule, scheduled.From = PerBlock, "2026-01-01"
	waits, err := s.Submit(t.Context(), w.asker, scheduled, "")
	if err != nil {
		t.Fatal(err)
	}
	w.asker.Suspended = true
	r = finish(t, w, s, r.ID, Failed)
	if len(w.asked) != 0 || r.Runs[0].Parts[0].Failure.Code != dp.CodeForbidden {
		t.Errorf("asked %q: %+v", w.asked, r)
	}
	if _, err := s.due(t.Context(), mustReport(t, w, waits.ID)); err != nil {
		t.Fatal(err)
	}
	if got := mustReport(t, w, waits.ID); len(got.Runs) != 0 {
		t.Errorf("a suspended consumer's schedule has %d runs", len(got.Runs))
	}
	w.asker.Suspended = false
	if _, err := s.due(t.Context(), mustReport(t, w, waits.ID)); err != nil {
		t.Fatal(err)
	}
	if got := mustReport(t, w, waits.ID); len(got.Runs) != 1 {
		t.Errorf("once it is let in again, what was due has %d runs", len(got.Runs))
	}
}

func TestBlocksAreDueOnceWhenTheyEndedAndWereLoaded(t *testing.T) {
	w := newWorld()
	s := w.service()
	w.loaded = []string{"2025-12", "2026-01", "2026-03", "2026-04", "2026-05", "all"}
	w.left.Account = "refuse 2026-03"
	scheduled := spec(question("a", "spend"))
	scheduled.Schedule, scheduled.From, scheduled.To = PerBlock, "2026-01-15", "2026-04-02"
	r, err := s.Submit(t.Context(), w.asker, scheduled, "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.due(t.Context(), mustReport(t, w, r.ID)); err != nil {
			t.Fatal(err)
		}
	}
	r = mustReport(t, w, r.ID)
	var runs []string
	for _, run := range r.Runs {
		text := run.Block
		if run.Refused != nil {
			text += " " + string(run.Refused.Code)
		} else {
			text += " " + run.Parts[0].Query.From + " " + run.Parts[0].Query.To
		}
		runs = append(runs, text)
	}
	if got, want := strings.Join(runs, ", "), "2026-01 2026-01-01 2026-01-31, 2026-03 budget-exhausted, 2026-04 2026-04-01 2026-04-30"; got != want {
		t.Errorf("its runs are %s", got)
	}
	w.loaded = append(w.loaded, "2026-02") // comes late
	if r, err = s.due(t.Context(), r); err != nil || len(r.Runs) != 4 || r.Runs[3].Block != "2026-02" {
		t.Errorf("a block that comes late: %+v, %v", r.Runs, err)
	}
}

func mustReport(t *testing.T, w *world, id string) dp.Report {
	t.Helper()
	r, err := book{w}.Report(t.Context(), w.asker.Name, id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSpecIsReadBackAsItWasWritten(t *testing.T) {
	in := spec(Question{Name: "a", Query: dp.Query{Metrics: []string{"m"}, Where: []dp.Condition{{Field: "f", In: []string{}}}, First: []dp.Condition{}}})
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Spec
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	a, errA := answer.Digest(in.Questions[0].Query)
	b, errB := answer.Digest(out.Questions[0].Query)
	if errA != nil || errB != nil || a != b || !reflect.DeepEqual(in, out) {
		t.Errorf("%+v reads back as %+v", in, out)
	}
	in.Questions[0].Query.First = nil // is another question
	if c, err := answer.Digest(in.Questions[0].Query); err != nil || c == a {
		t.Errorf("two questions have one digest, %v", err)
	}
}

func TestReportIsChargedUnderTheCallersKeyAndItsLaterRunsUnderNone(t *testing.T) {
	w := newWorld()
	s := w.service()
	ctx := answer.WithCredential(t.Context(), "key_1")
	if _, err := s.Submit(ctx, w.asker, spec(question("a", "spend")), ""); err != nil || w.runs[0].Parts[0].Charge.Credential != "key_1" {
		t.Errorf("charged as %+v: %v", w.runs, err)
	}
	w.loaded = []string{"2026-01"}
	scheduled := spec(question("b", "spend"))
	scheduled.Schedule, scheduled.From = PerBlock, "2026-01-01"
	r, err := s.Submit(ctx, w.asker, scheduled, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.due(t.Context(), mustReport(t, w, r.ID)); err != nil || len(w.runs) != 2 || w.runs[1].Parts[0].Charge.Credential != "" {
		t.Errorf("charged as %+v: %v", w.runs, err)
	}
}
