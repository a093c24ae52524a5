package answer_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// drawnTwice asks cheaply, and then for more.
func drawnTwice(t *testing.T, s *answer.Service, change func(*dp.Query)) (first, second answer.Answer) {
	t.Helper()
	q := tilled(func(q *dp.Query) {
		q.By, q.Metrics = []string{"category"}, []string{"customers", "transactions", "spend", "average_ticket"}
		change(q)
	})
	q.Epsilon = "1"
	first = ask(t, s, ann, q, "")
	q.Epsilon = "2"
	return first, ask(t, s, ann, q, "")
}

func TestASharperDrawIsCombinedWithWhatIsHeld(t *testing.T) {
	m, s := newTill(mechanism.Secure())
	first, second := drawnTwice(t, s, func(*dp.Query) {})
	if first.Combined != nil || len(second.Combined) != len(second.Release.Groups) || second.Charge.Loss == (dp.Loss{}) || second.Reused {
		t.Fatalf("the first is combined: %v; the second: %d", first.Combined, len(second.Combined))
	}
	for g, group := range second.Release.Groups {
		for i, metric := range second.Release.Metrics {
			a, b, c := first.Release.Groups[g].Values[i], group.Values[i], second.Combined[g][i]
			if metric == "average_ticket" {
				if c != nil {
					t.Errorf("means are combined: %+v", c)
				}
				continue
			}
			wa, wb := 1/a.SD/a.SD, 1/b.SD/b.SD
			if want := (wa*a.Value + wb*b.Value) / (wa + wb); math.Abs(c.Value-want) > 1e-6 || math.Abs(c.SD-1/math.Sqrt(wa+wb)) > 1e-6*c.SD {
				t.Errorf("%s: %+v, want %v with %v", metric, c, want, 1/math.Sqrt(wa+wb))
			}
			if !(c.Low < c.Value && c.Value < c.High && c.High-c.Low < b.High-b.Low && c.SD < b.SD) {
				t.Errorf("%s: %+v is no sharper than %+v", metric, c, b)
			}
		}
	}
	if note := strings.Join(second.Release.Notes, " "); !strings.Contains(note, "did not prompt") || !strings.Contains(note, "1 earlier") {
		t.Errorf("notes %q", second.Release.Notes)
	}
	// What is stored is the draw, as it was drawn.
	stored := m.releases[1]
	if len(stored.Notes) != len(second.Release.Notes)-1 || !slices.EqualFunc(stored.Groups, second.Release.Groups, func(a, b dp.Group) bool { return slices.Equal(a.Values, b.Values) }) {
		t.Errorf("stored is %+v", stored)
	}
	q := tilled(func(q *dp.Query) {
		q.By, q.Metrics, q.Epsilon, q.Fresh = []string{"category"}, second.Release.Metrics, "2", true
	})
	third := ask(t, s, ann, q, "")
	if want := second.Combined[0][1].SD; third.Combined[0][1].SD >= want || !strings.Contains(strings.Join(third.Release.Notes, " "), "2 earlier") {
		t.Errorf("of three: %+v, of two %v", third.Combined[0][1], want)
	}
}

func TestOnlyTheSameQuestionOverTheSameRowsIsCombined(t *testing.T) {
	again := func(q *dp.Query) { q.Fresh = true }
	for name, c := range map[string]struct {
		between func(*memory)
		change  func(*dp.Query)
		who     dp.Consumer
		want    bool
	}{
		"the same":               {nil, again, ann, true},
		"another consumer's":     {nil, again, bob, false},
		"over other rows":        {func(m *memory) { m.version++ }, again, ann, false},
		"under another policy":   {func(m *memory) { m.policy.Version++ }, again, ann, false},
		"of another question":    {nil, func(q *dp.Query) { again(q); q.To = "2026-03-30" }, ann, false},
		"with another clamp":     {nil, func(q *dp.Query) { again(q); q.Clamp = map[string]dp.Clamp{"spend": {Lower: "0", Upper: "50"}} }, ann, false},
		"with other bounds":      {nil, func(q *dp.Query) { again(q); q.MaxPartitions = 1 }, ann, false},
		"at another confidence":  {nil, func(q *dp.Query) { again(q); q.Confidence = "0.5" }, ann, true},
		"without an earlier one": {func(m *memory) { m.releases = nil }, again, ann, false},
	} {
		m, s := newTill(mechanism.Secure())
		first := tilled(func(q *dp.Query) { q.By = []string{"category"} })
		ask(t, s, ann, first, "")
		if c.between != nil {
			c.between(m)
		}
		c.change(&first)
		if a := ask(t, s, c.who, first, ""); (a.Combined != nil) != c.want {
			t.Errorf("%s: combined %v", name, a.Combined != nil)
		}
	}
	// Which private groups are shown depends on the noise of each draw.
	_, s := newTill(mechanism.Secure())
	private := tilled(func(q *dp.Query) { q.By, q.Epsilon, q.Metrics = []string{"city"}, "4", []string{"customers", "spend"} })
	ask(t, s, ann, private, "")
	private.Fresh = true
	if a := ask(t, s, ann, private, ""); a.Combined != nil {
		t.Error("private groups are combined")
	}
}

// TestCombinedIntervalsCover: over pairs of draws, one of Laplace and one of Gaussian noise. Binomial tails at 1e-8 for each
// of 4 cells; noise that is scaled by 0.4 or 2.5 fails.
func TestCombinedIntervalsCover(t *testing.T) {
	if answer.RaceDetector {
		t.Skip("nothing here is concurrent")
	}
	const runs = 400
	covered := func(scale, confidence float64) (n int) {
		noise := &scaled{with: mechanism.Secure(), by: scale, off: true}
		m, s := newTill(noise)
		m.budget.Epsilon, m.policy.Bounds.MaxPartitions = math.MaxInt64/2, 40
		q := tilled(func(q *dp.Query) {
			q.Metrics, q.Fresh, q.By, q.To = []string{"spend"}, true, []string{"time.day", "category"}, "2026-01-13"
		})
		truth := ask(t, s, bob, q, "").Release.Groups[0].Values[0].Value
		noise.off = false
		for range runs {
			m.releases, m.keys, m.spent = nil, map[string]string{}, map[string]dp.Loss{}
			q.Epsilon, q.Delta, q.Confidence = "1", "0", "0.9"
			laplace := ask(t, s, ann, q, "").Release.Privacy.Mechanism["spend"]
			q.Epsilon, q.Delta = "0.5", "1e-6"
			if confidence == 0.5 {
				q.Confidence = "0.5"
			}
			a := ask(t, s, ann, q, "")
			if laplace != "laplace" || a.Release.Privacy.Mechanism["spend"] != "gaussian" {
				t.Fatalf("drawn by %s and %s", laplace, a.Release.Privacy.Mechanism["spend"])
			}
			if c := a.Combined[0][0]; c.Low <= truth && truth <= c.High {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		scale, confidence float64
		passes            bool
	}{{1, 0.5, true}, {1, 0.9, true}, {0.4, 0.5, false}, {2.5, 0.9, false}} {
		least, most := binomialRange(runs, c.confidence)
		if n := covered(c.scale, c.confidence); (n >= least && n <= most) != c.passes {
			t.Errorf("noise of %v times the scale, at %v: %d of %d covered, %d..%d is plausible", c.scale, c.confidence, n, runs, least, most)
		}
	}
}

// TestARepeatedAttemptIsNotCombinedWithDrawsOverLaterRows: what is answered under an old key is over the rows of then.
func TestARepeatedAttemptIsNotCombinedWithDrawsOverLaterRows(t *testing.T) {
	m, s := newTill(mechanism.Secure())
	q := tilled(func(q *dp.Query) { q.By = []string{"category"} })
	first := ask(t, s, ann, q, "key").Release // is forgotten: it died before it was published
	c := m.charges[first.Charge.ID]
	c.charged.Outcome, m.releases = nil, nil
	m.version++ // rows are loaded
	fresh := q
	fresh.Fresh = true
	ask(t, s, ann, fresh, "")
	again := ask(t, s, ann, q, "key")
	if again.Release.Blocks[0].Version == m.version || again.Combined != nil {
		t.Errorf("a draw over version %d is combined with one over version %d: %v", again.Release.Blocks[0].Version, m.version, again.Combined)
	}
}

// TestNobodyIsCombinedWithWhatOthersHold: though the numbers of draws are kept for all, at once by many.
func TestNobodyIsCombinedWithWhatOthersHold(t *testing.T) {
	m, s := newTill(mechanism.Secure())
	m.budget.Epsilon = math.MaxInt64 / 2
	eve := ann
	eve.Name = "eve"
	question := tilled(func(q *dp.Query) { q.By, q.Fresh = []string{"category"}, true })
	ask(t, s, eve, question, "") // from here on the engine's answer is only read
	const each = 12
	var askers sync.WaitGroup
	for _, who := range []dp.Consumer{ann, bob} {
		askers.Go(func() {
			for n := range each {
				a, err := s.Ask(t.Context(), who, question, "")
				if err != nil {
					t.Error(err)
					return
				}
				note := fmt.Sprintf("this draw with %d earlier", n)
				if got := strings.Join(a.Release.Notes, " "); (n == 0) != (a.Combined == nil) || n > 0 && !strings.Contains(got, note) {
					t.Errorf("%s, who holds %d draws, is told %q", who.Name, n, got)
				}
			}
		})
	}
	askers.Wait()
}
