package answer_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// compared asks by category and month, and compares.
func compared(t *testing.T, s *answer.Service, c answer.Comparison) answer.Compared {
	t.Helper()
	out, err := s.Compare(context.Background(), ann, c)
	if err != nil {
		t.Fatalf("comparing %+v: %v", c, err)
	}
	return out
}

func byMonth(q *dp.Query) {
	q.By, q.Epsilon = []string{"category", "time.month"}, "2"
	q.Metrics = append(q.Metrics, "customers", "average_ticket", "median_ticket", "portion", "ticket", "spread")
	q.Define = []dp.Definition{
		{Name: "portion", Aggregate: dp.Share, Of: "spend"}, {Name: "ticket", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "transactions"},
		{Name: "spread", Aggregate: dp.Variance, Measure: "amount"},
	}
}

func cell(release, category, month, metric string) answer.Cell {
	return answer.Cell{Release: release, Key: map[string]string{"category": category, "time.month": month}, Metric: metric}
}

func TestComparedFiguresDifferByWhatTheyDiffer(t *testing.T) {
	_, s := newTill(exact{})
	r := ask(t, s, ann, tilled(byMonth), "").Release
	value := func(category, month, metric string) float64 {
		for _, g := range r.Groups {
			if g.Key[0] == category && g.Key[1] == month {
				for i, name := range r.Metrics {
					if name == metric {
						return g.Values[i].Value
					}
				}
			}
		}
		t.Fatal("no such figure")
		return 0
	}
	for _, metric := range r.Metrics {
		before, after := value("food", "2026-01", metric), value("food", "2026-02", metric)
		for _, ratio := range []bool{false, true} {
			c := compared(t, s, answer.Comparison{From: cell(r.ID, "food", "2026-01", metric), To: cell(r.ID, "food", "2026-02", metric), Ratio: ratio, Confidence: "0.9"})
			got := c.Cells[0]
			want := after - before
			if ratio {
				want = after / before
			}
			if len(c.Cells) != 1 || c.Missing != 0 || c.Confidence != "0.9" || math.Abs(got.Change.Value-want) > 1e-9*math.Abs(want)+1e-12 || got.From.Value != before || got.To.Value != after {
				t.Errorf("%s, ratio %v: %+v, want %v", metric, ratio, got, want)
			}
			if !got.Unbounded && !(got.Change.Low <= want && want <= got.Change.High && got.Change.SD > 0 && got.Change.Low < got.Change.High) {
				t.Errorf("%s, ratio %v: interval %+v", metric, ratio, got.Change)
			}
			back := compared(t, s, answer.Comparison{From: cell(r.ID, "food", "2026-02", metric), To: cell(r.ID, "food", "2026-01", metric), Ratio: ratio, Confidence: "0.9"}).Cells[0]
			opposite := map[answer.Verdict]answer.Verdict{answer.Up: answer.Down, answer.Down: answer.Up, answer.Unclear: answer.Unclear}
			if !ratio && (back.Verdict != opposite[got.Verdict] || math.Abs(back.Change.Low+got.Change.High) > 1e-9*math.Abs(got.Change.High)) {
				t.Errorf("%s: %+v, and back %+v", metric, got, back)
			}
		}
	}
	// A difference of two numbers with one noise each is sharper than that of their intervals.
	c := compared(t, s, answer.Comparison{From: cell(r.ID, "food", "2026-01", "spend"), To: cell(r.ID, "toys", "2026-01", "spend")}).Cells[0]
	if most := c.From.High - c.From.Low + c.To.High - c.To.Low; c.Change.High-c.Change.Low > 0.9*most || c.Change.SD != math.Hypot(c.From.SD, c.To.SD) {
		t.Errorf("%+v", c)
	}
}

func TestWholeReleasesAreComparedGroupByGroup(t *testing.T) {
	_, s := newTill(exact{})
	january := ask(t, s, ann, tilled(func(q *dp.Query) { q.By, q.To, q.Epsilon = []string{"category"}, "2026-01-31", "3" }), "").Release
	february := ask(t, s, ann, tilled(func(q *dp.Query) {
		q.By, q.From, q.Epsilon, q.MaxPartitions = []string{"category"}, "2026-02-01", "3", 1
		q.Where = []dp.Condition{{Field: "category", NotIn: []string{"toys"}}}
		q.Metrics = []string{"spend", "customers"}
	}), "").Release
	c := compared(t, s, answer.Comparison{From: answer.Cell{Release: january.ID}, To: answer.Cell{Release: february.ID}})
	if len(c.Cells) != 2 || c.Missing != 1 || c.Cells[0].FromMetric != "spend" || c.Cells[0].FromKey["category"] != "food" || c.Cells[1].ToKey["category"] != "other" {
		t.Fatalf("compared %+v", c)
	}
	if notes := strings.Join(c.Notes, " "); !strings.Contains(notes, "different bounds") || !strings.Contains(notes, "of 2 comparisons") {
		t.Errorf("notes %q", c.Notes)
	}
	total := ask(t, s, ann, tilled(func(q *dp.Query) { q.To, q.Fresh = "2026-01-31", true }), "").Release
	one := compared(t, s, answer.Comparison{From: answer.Cell{Release: total.ID, Metric: "spend"}, To: answer.Cell{Release: january.ID, Key: map[string]string{"category": "food"}, Metric: "spend"}, Ratio: true})
	if len(one.Cells) != 1 || !(one.Cells[0].Change.Value > 0.5 && one.Cells[0].Change.Value < 1) || one.Cells[0].ToKey["category"] != "food" {
		t.Errorf("a part of a total: %+v", one.Cells)
	}
}

func TestWhatCannotBeComparedIsRefused(t *testing.T) {
	m, s := newTill(exact{})
	r := ask(t, s, ann, tilled(byMonth), "").Release
	other := ask(t, s, ann, tilled(func(q *dp.Query) { q.By = []string{"country"} }), "").Release
	from := cell(r.ID, "food", "2026-01", "spend")
	for name, c := range map[string]struct {
		answer.Comparison
		path string
	}{
		"a figure with itself":    {answer.Comparison{From: from, To: from}, "to"},
		"a release with itself":   {answer.Comparison{From: answer.Cell{Release: r.ID}, To: answer.Cell{Release: r.ID}}, "to"},
		"other units":             {answer.Comparison{From: from, To: cell(r.ID, "food", "2026-01", "customers")}, "to.metric"},
		"a square":                {answer.Comparison{From: cell(r.ID, "food", "2026-01", "spread"), To: from}, "to.metric"},
		"no such group":           {answer.Comparison{From: from, To: cell(r.ID, "beer", "2026-01", "spend")}, "to.key"},
		"half a key":              {answer.Comparison{From: answer.Cell{Release: r.ID, Key: map[string]string{"category": "food"}, Metric: "spend"}, To: from}, "from.key"},
		"more than a key":         {answer.Comparison{From: answer.Cell{Release: other.ID, Key: map[string]string{"country": "DE", "city": "Bonn"}, Metric: "spend"}, To: from}, "from.key"},
		"a key on one side":       {answer.Comparison{From: from, To: answer.Cell{Release: r.ID, Metric: "spend"}}, "to.key"},
		"a metric on one side":    {answer.Comparison{From: from, To: answer.Cell{Release: r.ID, Key: from.Key}}, "to.metric"},
		"no such metric":          {answer.Comparison{From: from, To: cell(r.ID, "food", "2026-02", "revenue")}, "to.metric"},
		"releases by other keys":  {answer.Comparison{From: answer.Cell{Release: r.ID}, To: answer.Cell{Release: other.ID}}, "to.release"},
		"an unknown confidence":   {answer.Comparison{From: from, To: cell(r.ID, "food", "2026-02", "spend"), Confidence: "1"}, "confidence"},
		"a confidence that is no": {answer.Comparison{From: from, To: from, Confidence: "most"}, "confidence"},
	} {
		_, err := s.Compare(context.Background(), ann, c.Comparison)
		var refused *dp.Error
		if !errors.As(err, &refused) || refused.Code != dp.CodeInvalidQuery || len(refused.Locations) != 1 || refused.Locations[0].Path != c.path {
			t.Errorf("%s: %v", name, err)
		}
	}
	for who, id := range map[string]string{"bob": r.ID, "ann": "rel_unknown"} {
		asker := map[string]dp.Consumer{"ann": ann, "bob": bob}[who]
		if _, err := s.Compare(context.Background(), asker, answer.Comparison{From: from, To: answer.Cell{Release: id, Key: from.Key, Metric: "spend"}}); who == "ann" && code(err) != dp.CodeNotFound {
			t.Errorf("an unknown release: %v", err)
		} else if who == "bob" && code(err) != dp.CodeNotFound {
			t.Errorf("a release of another consumer: %v", err)
		}
	}
	if len(m.charges) != 2 {
		t.Errorf("%d charges", len(m.charges))
	}
}

// TestReleasesThatDoNotSayHowTheyWereDrawnAreComparedByTheirIntervals: those of earlier versions, under a policy that has
// changed since, and those of several levels.
func TestReleasesThatDoNotSayHowTheyWereDrawnAreComparedByTheirIntervals(t *testing.T) {
	m, s := newTill(exact{})
	r := ask(t, s, ann, tilled(func(q *dp.Query) { byMonth(q); q.Confidence = "0.99" }), "").Release
	c := answer.Comparison{From: cell(r.ID, "food", "2026-01", "spend"), To: cell(r.ID, "food", "2026-02", "spend")}
	sharp := compared(t, s, c).Cells[0]
	m.earlier = map[uint64]dp.VersionedPolicy{1: m.policy}
	m.policy.Version, m.policy.Bounds.MaxPartitions = 2, 1
	if again := compared(t, s, c).Cells[0]; again.Change != sharp.Change {
		t.Errorf("under a later policy: %+v, before %+v", again.Change, sharp.Change)
	}
	m.releases[0].Privacy.Noise = nil
	got := compared(t, s, c).Cells[0]
	if got.Change.Low != got.To.Low-got.From.High || got.Change.High != got.To.High-got.From.Low || got.Change.Value != sharp.Change.Value {
		t.Errorf("by intervals %+v", got)
	}
	c.Confidence = "0.99"
	if _, err := s.Compare(context.Background(), ann, c); code(err) != dp.CodeInvalidQuery || !strings.Contains(err.Error(), "at most 0.98") {
		t.Errorf("more than the intervals give: %v", err)
	}

	_, s = newTill(exact{})
	levels := ask(t, s, ann, tilled(func(q *dp.Query) { q.By, q.Reconcile = []string{"category", "country"}, [][]string{{"country"}} }), "").Release
	whole := compared(t, s, answer.Comparison{
		From: answer.Cell{Release: levels.ID, Key: map[string]string{"country": "DE"}, Metric: "spend"},
		To:   answer.Cell{Release: levels.ID, Key: map[string]string{"country": "FR"}, Metric: "spend"}, Confidence: "0.9",
	})
	if len(whole.Cells) != 1 || whole.Cells[0].ToKey["country"] != "FR" || whole.Cells[0].Change.High <= whole.Cells[0].Change.Low {
		t.Errorf("of a coarser level: %+v", whole.Cells)
	}
}

// TestRatiosToWhatMayBeNothingHaveNoEnds: of figures known by intervals alone.
func TestRatiosToWhatMayBeNothingHaveNoEnds(t *testing.T) {
	_, s := newTill(exact{})
	r := ask(t, s, ann, tilled(func(q *dp.Query) { byMonth(q); q.Epsilon = "0.01" }), "").Release
	for _, metric := range []string{"average_ticket", "portion"} {
		c := compared(t, s, answer.Comparison{From: cell(r.ID, "food", "2026-01", metric), To: cell(r.ID, "food", "2026-02", metric), Ratio: true}).Cells[0]
		if !c.Unbounded || c.Verdict != answer.Unclear {
			t.Errorf("%s: %+v", metric, c)
		}
	}
}

// TestIntervalsOfChangesCover: over noise draws, intervals of differences and ratios hold the exact change, and verdicts
// are wrong no more often than the confidence allows. Binomial tails at 1e-8 for each of 12 cells; noise that is scaled by
// 2.5 fails, except with a probability below 1e-12.
func TestIntervalsOfChangesCover(t *testing.T) {
	if answer.RaceDetector {
		t.Skip("nothing here is concurrent")
	}
	const runs, confidence = 200, 0.9
	question := func(q *dp.Query) {
		q.By, q.Epsilon, q.Delta, q.Fresh = []string{"time.month"}, "1", "1e-6", true
		q.Metrics = []string{"transactions", "spend", "average_ticket"}
	}
	for _, scale := range []float64{1, 2.5} {
		noise := &scaled{with: mechanism.Secure(), by: scale, off: true}
		m, s := newTill(noise)
		m.budget.Epsilon = math.MaxInt64 / 2
		truth := ask(t, s, bob, tilled(question), "").Release
		noise.off = false
		covered, wrong := map[string]int{}, map[string]int{}
		for range runs {
			m.releases, m.keys, m.spent = nil, map[string]string{}, map[string]dp.Loss{}
			r := ask(t, s, ann, tilled(question), "").Release
			for at, metric := range truth.Metrics {
				before, after := truth.Groups[0].Values[at].Value, truth.Groups[1].Values[at].Value
				for _, ratio := range []bool{false, true} {
					of := func(month string) answer.Cell {
						return answer.Cell{Release: r.ID, Key: map[string]string{"time.month": month}, Metric: metric}
					}
					c := compared(t, s, answer.Comparison{From: of("2026-01"), To: of("2026-02"), Ratio: ratio, Confidence: fmt.Sprint(confidence)}).Cells[0]
					want, name := after-before, metric+" difference"
					if ratio {
						want, name = after/before, metric+" ratio"
					}
					if c.Unbounded || c.Change.Low <= want && want <= c.Change.High {
						covered[name]++
					}
					if c.Verdict == answer.Up && after < before || c.Verdict == answer.Down && after > before {
						wrong[name]++
					}
				}
			}
		}
		least, most := binomialRange(runs, confidence)
		for name, n := range covered {
			exactly := name == "spend difference"
			switch passes := n >= least && (n <= most || !exactly); {
			case scale == 1 && !passes:
				t.Errorf("%s covered %d of %d, not within %d..%d", name, n, runs, least, most)
			case scale != 1 && exactly && passes:
				t.Errorf("noise of %v times the scale passes: %s covered %d of %d", scale, name, n, runs)
			}
			if scale == 1 && wrong[name] > runs-least {
				t.Errorf("%s: %d wrong verdicts of %d", name, wrong[name], runs)
			}
		}
	}
}

// TestFiguresOfOneUnitAndTwoScalesAreComparedInTheirUnit: two datasets may keep a measure of one name with different
// precision.
func TestFiguresOfOneUnitAndTwoScalesAreComparedInTheirUnit(t *testing.T) {
	m, s := newTill(exact{})
	day := func(q *dp.Query) { q.Metrics, q.To = []string{"spend"}, "2026-01-31" }
	fine := ask(t, s, ann, tilled(day), "").Release
	// The same till, in whole units.
	coarse, t2 := newTill(exact{})
	coarse.policy.Name, coarse.policy.Measures = "kiosk", []dp.Measure{{Name: "amount", Upper: 100}, {Name: "balance", Upper: 100, Level: true}}
	other := ask(t, t2, ann, tilled(func(q *dp.Query) { day(q); q.Dataset = "kiosk" }), "").Release
	other.ID = "rel_kiosk"
	m.releases = append(m.releases, other)
	m.holders[other.ID] = []string{"ann"}
	both := answer.New(twoPolicies{m, coarse}, m, m, nil, exact{}, answer.Options{})
	for _, c := range []struct{ from, to dp.Release }{{fine, other}, {other, fine}} {
		out, err := both.Compare(context.Background(), ann, answer.Comparison{From: answer.Cell{Release: c.from.ID, Metric: "spend"}, To: answer.Cell{Release: c.to.ID, Metric: "spend"}})
		if err != nil {
			t.Fatal(err)
		}
		got := out.Cells[0]
		if want := math.Hypot(got.From.SD, got.To.SD); math.Abs(got.Change.SD-want) > 1e-6*want {
			t.Errorf("the difference has sd %v, its figures %v and %v", got.Change.SD, got.From.SD, got.To.SD)
		}
		if half := (got.Change.High - got.Change.Low) / 2; half < got.Change.SD || half > 4*got.Change.SD {
			t.Errorf("the interval reaches %v, at an sd of %v", half, got.Change.SD)
		}
	}
}

// twoPolicies finds the policies of two memories.
type twoPolicies struct{ one, other *memory }

func (p twoPolicies) Policy(ctx context.Context, dataset string) (dp.VersionedPolicy, error) {
	if dataset == p.other.policy.Name {
		return p.other.Policy(ctx, dataset)
	}
	return p.one.Policy(ctx, dataset)
}

func (p twoPolicies) PolicyAt(ctx context.Context, dataset string, _ uint64) (dp.VersionedPolicy, error) {
	return p.Policy(ctx, dataset)
}

// TestRatiosToANegativeFigureAreThoseOfBothTurned: a sum may well be below 0.
func TestRatiosToANegativeFigureAreThoseOfBothTurned(t *testing.T) {
	m, s := newTill(exact{})
	m.policy.Measures[0].Lower = -100_00
	r := ask(t, s, ann, tilled(func(q *dp.Query) { q.By, q.Epsilon, q.Metrics = []string{"time.month"}, "5", []string{"spend"} }), "").Release
	stored := &m.releases[0]
	for i := range stored.NoisedCoordinates {
		stored.NoisedCoordinates[i][0] *= -1
	}
	of := func(month string) answer.Cell {
		return answer.Cell{Release: r.ID, Key: map[string]string{"time.month": month}, Metric: "spend"}
	}
	c := compared(t, s, answer.Comparison{From: of("2026-01"), To: of("2026-02"), Ratio: true}).Cells[0]
	if want := c.To.Value / c.From.Value; c.From.Value >= 0 || math.Abs(c.Change.Value-want) > 1e-9*want || c.Change.Low > want || c.Change.High < want || c.Change.High-c.Change.Low > want {
		t.Errorf("the ratio of %v to %v is %+v", c.To.Value, c.From.Value, c.Change)
	}
	if c.Verdict != answer.Unclear {
		t.Errorf("to less than nothing it is %s", c.Verdict)
	}
}

// TestReconciledFiguresAreComparedAtAnyConfidence: read again at another confidence, a reconciled release has the intervals
// that a comparison goes by; where figures were kept from being negative, the comparison's hold those.
func TestReconciledFiguresAreComparedAtAnyConfidence(t *testing.T) {
	for _, nonNegative := range []bool{false, true} {
		_, s := newTill(mechanism.Secure())
		q := tilled(func(q *dp.Query) {
			q.By, q.Reconcile, q.NonNegative, q.Epsilon = []string{"category", "country"}, [][]string{{"country"}, {}}, nonNegative, "0.2"
		})
		stored := ask(t, s, ann, q, "").Release
		for _, confidence := range []string{"0.5", "0.95", "0.999"} {
			q.Confidence = confidence
			again := ask(t, s, ann, q, "")
			if again.Release.ID != stored.ID || !again.Reused {
				t.Fatal("it was drawn again")
			}
			position := func(key map[string]string, level int) int {
				for i, g := range stored.Groups {
					if g.Level == level && (key["country"] == "" || g.Key[1] == key["country"]) && (key["category"] == "" || g.Key[0] == key["category"]) {
						return i
					}
				}
				t.Fatal("no such group")
				return 0
			}
			for _, pair := range [][2]map[string]string{{{"country": "DE"}, {"country": "FR"}}, {{"category": "food", "country": "DE"}, {"category": "toys", "country": "FR"}}} {
				c := compared(t, s, answer.Comparison{From: answer.Cell{Release: stored.ID, Key: pair[0], Metric: "spend"}, To: answer.Cell{Release: stored.ID, Key: pair[1], Metric: "spend"}, Confidence: confidence})
				for i, got := range []dp.Value{c.Cells[0].From, c.Cells[0].To} {
					level := 2 - len(pair[i])
					want := again.Release.Groups[position(pair[i], level)].Values[0]
					near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-6*(want.High-want.Low)+1e-9 }
					holds := got.Low <= want.Low+1e-6 && got.High >= want.High-1e-6
					if got.Value != want.Value || !holds || !nonNegative && !(near(got.Low, want.Low) && near(got.High, want.High)) {
						t.Errorf("at %s, non-negative %v, %v is compared as %+v and read as %+v", confidence, nonNegative, pair[i], got, want)
					}
				}
				if change := c.Cells[0].Change; !(change.Low < change.Value && change.Value < change.High) && !nonNegative {
					t.Errorf("the change is %+v", change)
				}
			}
		}
		// A level is compared with an answer of its own.
		own := ask(t, s, ann, tilled(func(q *dp.Query) { q.By, q.Epsilon = []string{"country"}, "5" }), "").Release
		de := map[string]string{"country": "DE"}
		c := compared(t, s, answer.Comparison{From: answer.Cell{Release: own.ID, Key: de, Metric: "spend"}, To: answer.Cell{Release: stored.ID, Key: de, Metric: "spend"}})
		if len(c.Cells) != 1 || c.Cells[0].Change.Low >= c.Cells[0].Change.High {
			t.Errorf("beside an answer of its own: %+v", c)
		}
		other := answer.Comparison{From: answer.Cell{Release: own.ID, Key: de, Metric: "transactions"}, To: answer.Cell{Release: stored.ID, Key: de, Metric: "spend"}}
		if _, err := s.Compare(context.Background(), ann, other); code(err) != dp.CodeInvalidQuery {
			t.Errorf("rows less an amount: %v", err)
		}
	}
}
