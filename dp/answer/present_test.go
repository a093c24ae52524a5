package answer_test

import (
	"context"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

func hasNote(r dp.Release, part string) bool {
	return slices.ContainsFunc(r.Notes, func(note string) bool { return strings.Contains(note, part) })
}

func totalOf(t *testing.T, a answer.Answer, metric string) *dp.Value {
	t.Helper()
	if len(a.Totals) != len(a.Release.Metrics) {
		t.Fatalf("%d totals of %d metrics", len(a.Totals), len(a.Release.Metrics))
	}
	return a.Totals[slices.Index(a.Release.Metrics, metric)]
}

// Totals follow from the noised groups, drawn, read again or derived, and cost nothing.
func TestTotalsAreWhatTheGroupsAddUpTo(t *testing.T) {
	m, s := newTill(mechanism.Secure())
	q := tilled(fine)
	whole := ask(t, s, ann, q, "")
	if whole.Totals != nil {
		t.Error("totals that nobody asked for")
	}
	q.Totals = true
	again := ask(t, s, ann, q, "")
	q.By, q.Epsilon = []string{"country", "time.month"}, ""
	loose(&q)
	coarser := ask(t, s, ann, q, "")
	if len(m.charges) != 1 || len(coarser.DerivedFrom) != 1 {
		t.Fatalf("%d charges, derived from %v", len(m.charges), coarser.DerivedFrom)
	}
	for _, metric := range []string{"spend", "transactions"} {
		want := sumOf(whole.Release, metric, func(label) (string, bool) { return "", true })[""]
		for name, a := range map[string]answer.Answer{"again": again, "derived": coarser} {
			total := totalOf(t, a, metric)
			if total == nil || math.Abs(total.Value-want) > 1e-6 || !(total.Low < total.Value && total.Value < total.High) {
				t.Errorf("%s: the total of %s is %+v, want %v", name, metric, total, want)
			}
		}
		// Both are sums of as many numbers.
		if a, b := totalOf(t, again, metric), totalOf(t, coarser, metric); math.Abs(a.SD/b.SD-1) > 1e-9 || math.Abs((a.High-a.Low)-(b.High-b.Low)) > 1e-6 {
			t.Errorf("%s: %+v of all groups, %+v of coarser ones", metric, a, b)
		}
		one := whole.Release.Groups[0].Values[slices.Index(whole.Release.Metrics, metric)].SD
		if got := totalOf(t, again, metric).SD; math.Abs(got/(one*math.Sqrt(float64(len(whole.Release.Groups))))-1) > 1e-9 {
			t.Errorf("%s: sd %v of %d groups with %v", metric, got, len(whole.Release.Groups), one)
		}
	}
	if !hasNote(again.Release, "Totals add up") || hasNote(m.releases[0], "Totals") {
		t.Errorf("notes are %v, stored %v", again.Release.Notes, m.releases[0].Notes)
	}
}

// Intervals of totals cover: of 400 draws more than 49 miss at 95 % with a probability below 1e-7 (binomial tail). The
// interval of one group, moved there, misses far more.
func TestIntervalsOfTotalsCover(t *testing.T) {
	q := tilled(func(q *dp.Query) { q.By, q.Totals, q.Fresh = []string{"category", "country"}, true, true })
	_, bare := newTill(exact{})
	truth := *totalOf(t, ask(t, bare, ann, q, ""), "spend")
	const runs, most = 400, 49
	misses, narrow := 0, 0
	_, s := newTill(mechanism.Secure())
	for range runs {
		a := ask(t, s, ann, q, "")
		total, one := totalOf(t, a, "spend"), a.Release.Groups[0].Values[slices.Index(a.Release.Metrics, "spend")]
		if truth.Value < total.Low || truth.Value > total.High {
			misses++
		}
		if math.Abs(total.Value-truth.Value) > (one.High-one.Low)/2 {
			narrow++
		}
	}
	if misses > most || narrow <= most {
		t.Errorf("%d of %d intervals miss, and %d of one group's", misses, runs, narrow)
	}
}

func TestWhatDoesNotAddUpHasNoTotal(t *testing.T) {
	_, s := newTill(mechanism.Secure())
	q := tilled(func(q *dp.Query) {
		q.By, q.Totals, q.Metrics, q.Epsilon = []string{"category"}, true, []string{"customers", "spend", "average_ticket", "each", "spend_share", "per_head"}, "5"
		q.Define = []dp.Definition{
			{Name: "each", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "transactions"},
			{Name: "per_head", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "customers"},
		}
	})
	a := ask(t, s, ann, q, "")
	for _, metric := range []string{"customers", "average_ticket", "spend_share", "per_head"} {
		if total := totalOf(t, a, metric); total != nil {
			t.Errorf("%s has the total %+v", metric, total)
		}
	}
	spend, count, each := totalOf(t, a, "spend"), totalOf(t, a, "transactions"), totalOf(t, a, "each")
	if math.Abs(each.Value-spend.Value/count.Value) > 1e-9 || each.Low > each.Value || each.High < each.Value {
		t.Errorf("the ratio of %+v and %+v is %+v", spend, count, each)
	}
	if !hasNote(a.Release, "average_ticket, customers, per_head, spend_share: no totals") {
		t.Errorf("notes are %v", a.Release.Notes)
	}
	q = tilled(func(q *dp.Query) { q.By, q.Totals, q.Epsilon, q.Delta = []string{"city"}, true, "20", "1e-6" })
	if a = ask(t, s, ann, q, ""); totalOf(t, a, "spend") == nil || !hasNote(a.Release, "of shown groups") {
		t.Errorf("of private keys: %+v, notes %v", a.Totals, a.Release.Notes)
	}
	for _, c := range []struct {
		levels [][]string
		some   bool
	}{{[][]string{{"category"}}, false}, {[][]string{{"category"}, {}}, true}} {
		q = tilled(func(q *dp.Query) {
			q.By, q.Totals, q.Epsilon, q.Delta, q.Reconcile = []string{"category", "country"}, true, "1", "1e-6", c.levels
		})
		a = ask(t, s, ann, q, "")
		total := totalOf(t, a, "spend")
		last := a.Release.Groups[len(a.Release.Groups)-1].Values[slices.Index(a.Release.Metrics, "spend")]
		if (total != nil) != c.some || c.some && *total != last {
			t.Errorf("of the levels %v: %+v, of everything %+v", c.levels, total, last)
		}
	}
}

// The largest groups are shown of whatever is held, and the release keeps all. Which neighbours cannot be told apart is what a
// comparison says.
func TestTopShowsTheLargestNoisedGroups(t *testing.T) {
	m, s := newTill(mechanism.Secure())
	q := tilled(func(q *dp.Query) {
		q.By, q.Metrics, q.Epsilon = []string{"category", "country", "age"}, []string{"customers", "spend", "average_ticket"}, "1"
	})
	whole := ask(t, s, ann, q, "")
	for _, metric := range []string{"customers", "spend", "average_ticket"} {
		at := slices.Index(whole.Release.Metrics, metric)
		order := slices.Clone(whole.Release.Groups)
		slices.SortStableFunc(order, func(a, b dp.Group) int {
			if a.Values[at].Value > b.Values[at].Value {
				return -1
			} else if a.Values[at].Value < b.Values[at].Value {
				return 1
			}
			return 0
		})
		q.Top = &dp.Top{Metric: metric, N: 7}
		a := ask(t, s, ann, q, "")
		if !a.Reused || len(m.charges) != 1 || a.Release.ID != whole.Release.ID || !reflect.DeepEqual(a.Release.Groups, order[:7]) || a.Ranking.Of != len(order) {
			t.Fatalf("%s: %+v of %+v, %d charges", metric, a.Release.Groups, order, len(m.charges))
		}
		for rank := 1; rank <= 7; rank++ {
			cell := func(g dp.Group) answer.Cell {
				key := map[string]string{}
				for i, name := range a.Release.By {
					key[name] = g.Key[i]
				}
				return answer.Cell{Release: whole.Release.ID, Key: key, Metric: metric}
			}
			c, err := s.Compare(context.Background(), ann, answer.Comparison{From: cell(order[rank]), To: cell(order[rank-1])})
			if err != nil {
				t.Fatal(err)
			}
			if unclear := c.Cells[0].Verdict != answer.Up; unclear != slices.Contains(a.Ranking.Unclear, rank) {
				t.Errorf("%s: rank %d is %v, unclear are %v", metric, rank, c.Cells[0].Verdict, a.Ranking.Unclear)
			}
		}
		if !hasNote(a.Release, "These are 7 of 18 groups") {
			t.Errorf("notes are %v", a.Release.Notes)
		}
	}
	if stored := m.releases[0]; len(stored.Groups) != 18 || len(stored.NoisedCoordinates) != 18 {
		t.Errorf("the release has %d groups", len(stored.Groups))
	}
	// More than there are is all of them; a key replays what it showed.
	q.Top, q.Fresh = &dp.Top{Metric: "spend", N: 100}, true
	first := ask(t, s, ann, q, "key")
	if again := ask(t, s, ann, q, "key"); len(first.Release.Groups) != 18 || !reflect.DeepEqual(again.Release.Groups, first.Release.Groups) {
		t.Error("the same call shows other groups")
	}
}

// Of derived figures the noise is that of as many numbers as were added up.
func TestTopOfWhatFollowsIsFree(t *testing.T) {
	m, s := newTill(mechanism.Secure())
	held := ask(t, s, ann, tilled(fine), "")
	q := tilled(loose)
	q.By, q.Top, q.Totals = []string{"category"}, &dp.Top{Metric: "spend", N: 2}, true
	a := ask(t, s, ann, q, "")
	if len(a.DerivedFrom) != 1 || len(m.charges) != 1 || len(a.Release.Groups) != 2 || a.Ranking.Of != 3 {
		t.Fatalf("derived from %v, %d groups of %+v", a.DerivedFrom, len(a.Release.Groups), a.Ranking)
	}
	sums := sumOf(held.Release, "spend", func(l label) (string, bool) { return l("category"), true })
	at := slices.Index(a.Release.Metrics, "spend")
	for i, g := range a.Release.Groups {
		if math.Abs(g.Values[at].Value-sums[g.Key[0]]) > 1e-6 || i > 0 && g.Values[at].Value > a.Release.Groups[i-1].Values[at].Value {
			t.Errorf("%v is %v, want %v", g.Key, g.Values[at].Value, sums[g.Key[0]])
		}
	}
	if total := totalOf(t, a, "spend"); math.Abs(total.Value-sums["food"]-sums["toys"]-sums["other"]) > 1e-6 {
		t.Errorf("the total of all groups is %v", total)
	}
}
