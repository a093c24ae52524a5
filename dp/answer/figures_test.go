package answer_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// reader aggregates rows as the reference does.
type reader struct{ rows []rows.Row }

func (r reader) Aggregate(_ context.Context, p *plan.Plan, _ dp.Snapshot, each func(bounding.Partition) error) error {
	partitions, err := bounding.Reference(p, []byte("salt"), r.rows)
	if err != nil {
		return err
	}
	for _, part := range partitions {
		if err := each(part); err != nil {
			return err
		}
	}
	return nil
}

func newReader(m *memory, r reader, n mechanism.Noise, limits plan.Limits) *answer.Service {
	return answer.New(m, m, m, r, n, answer.Options{Limits: limits, Deadline: time.Minute, Clock: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

// payments are of 700 customers, each with three of food or one of toys, within all bounds.
func payments() []rows.Row {
	text := func(s string) rows.Text { return rows.Text{Valid: true, Value: s} }
	var all []rows.Row
	for customer := range uint64(700) {
		city := "Bern"
		if customer%3 == 0 {
			city = "Ulm"
		}
		pay := func(category string, cents uint64) {
			all = append(all, rows.Row{
				Customer: customer, Dimensions: []rows.Text{text(category), text(city)},
				Measures: []rows.Number{{Valid: true, Value: int64(cents % 10_001)}},
			})
		}
		if customer%5 == 0 {
			pay("toys", customer*customer*37)
			continue
		}
		for i := range uint64(3) {
			pay("food", customer*61+i*i*997)
		}
	}
	return all
}

// everything asks for every aggregate.
func everything(by string) dp.Query {
	q := dp.Query{Dataset: "shop", Purpose: "reporting", Epsilon: "2", Delta: "1e-6", By: []string{by}, Metrics: []string{"customers", "spend", "transactions", "spend_share"}}
	for _, d := range []dp.Definition{
		{Name: "mean", Aggregate: dp.Mean, Measure: "amount"},
		{Name: "variance", Aggregate: dp.Variance, Measure: "amount"},
		{Name: "stddev", Aggregate: dp.StdDev, Measure: "amount"},
		{Name: "median", Aggregate: dp.Quantile, Measure: "amount", Rank: "0.5"},
		{Name: "p95", Aggregate: dp.Quantile, Measure: "amount", Rank: "0.95"},
		{Name: "min", Aggregate: dp.Min, Measure: "amount"},
		{Name: "max", Aggregate: dp.Max, Measure: "amount"},
		{Name: "per_head", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "customers"},
		{Name: "a_ratio", Aggregate: dp.Ratio, Numerator: "transactions", Denominator: "customers"}, // before what they are read from
		{Name: "a_share", Aggregate: dp.Share, Of: "transactions"},
	} {
		q.Define, q.Metrics = append(q.Define, d), append(q.Metrics, d.Name)
	}
	return q
}

// byHand computes the figures of everything from rows, without any of the code under test. Quantiles are the least value
// at or below which lies the rank's share of rows; spend clamps each customer's total to 100.
func byHand(all []rows.Row, dimension int) map[string]map[string]float64 {
	values, customers, total := map[string][]float64{}, map[string]map[uint64]float64{}, 0.0
	for _, r := range all {
		key := r.Dimensions[dimension].Value
		if customers[key] == nil {
			customers[key] = map[uint64]float64{}
		}
		customers[key][r.Customer] += float64(r.Measures[0].Value) / 100
		values[key] = append(values[key], float64(r.Measures[0].Value)/100)
	}
	spend := map[string]float64{}
	for key, of := range customers {
		for _, paid := range of {
			spend[key] += min(paid, 100)
			total += min(paid, 100)
		}
	}
	figures := map[string]map[string]float64{}
	for key, v := range values {
		slices.Sort(v)
		n, sum, squares := float64(len(v)), 0.0, 0.0
		for _, x := range v {
			sum += x
		}
		for _, x := range v {
			squares += (x - sum/n) * (x - sum/n)
		}
		at := func(rank float64) float64 { return v[int(math.Ceil(rank*n))-1] }
		figures[key] = map[string]float64{
			"customers": float64(len(customers[key])), "transactions": n, "spend": spend[key], "spend_share": spend[key] / total, "per_head": spend[key] / float64(len(customers[key])),
			"a_ratio": n / float64(len(customers[key])), "a_share": n / float64(len(all)), "mean": sum / n, "variance": squares / n, "stddev": math.Sqrt(squares / n), "median": at(0.5), "p95": at(0.95), "min": at(0.005), "max": at(0.995),
		}
	}
	return figures
}

// TestFiguresOfEveryAggregateAreThoseOfTheRows without noise, with public and with private keys, at the confidence asked
// first and at another one when the answer is read again.
func TestFiguresOfEveryAggregateAreThoseOfTheRows(t *testing.T) {
	for dimension, by := range []string{"category", "city"} {
		m := newMemory(shop(), shop().Cap)
		s := newReader(m, reader{payments()}, exact{}, plan.DefaultLimits())
		first := ask(t, s, ann, everything(by), "")
		again := everything(by)
		again.Confidence = "0.6"
		second := ask(t, s, ann, again, "")
		if !second.Reused || second.Release.ID != first.Release.ID {
			t.Fatalf("by %s: another confidence was drawn anew", by)
		}
		want := byHand(payments(), dimension)
		if len(first.Release.Groups) != len(want) {
			t.Fatalf("by %s: %d groups, want %d", by, len(first.Release.Groups), len(want))
		}
		bin := 0.10 // of 10,001 values, 10 to a bin; of private keys 40
		if by == "city" {
			bin = 0.40
		}
		for g, group := range first.Release.Groups {
			for i, name := range first.Release.Metrics {
				v, narrow, exact := group.Values[i], second.Release.Groups[g].Values[i], want[group.Key[0]][name]
				tolerance := 1e-9 * max(1, exact)
				if slices.Contains([]string{"median", "p95", "min", "max"}, name) {
					tolerance = bin
				}
				if !(math.Abs(v.Value-exact) <= tolerance) {
					t.Errorf("%s of %s is %v, want %v", name, group.Key[0], v.Value, exact)
				}
				if !(v.Low <= exact+1e-9 && exact-1e-9 <= v.High && v.Low <= v.Value && v.Value <= v.High && v.SD > 0) {
					t.Errorf("%s of %s is %+v, want around %v", name, group.Key[0], v, exact)
				}
				if narrow.Value != v.Value || narrow.High-narrow.Low > v.High-v.Low || narrow.High-narrow.Low == v.High-v.Low && v.High-v.Low < 50 && name != "spend_share" && name != "a_share" {
					t.Errorf("%s of %s at 60 %% is %+v, at 95 %% %+v", name, group.Key[0], narrow, v)
				}
				if !(narrow.Low <= exact+1e-9 && exact-1e-9 <= narrow.High) {
					t.Errorf("%s of %s at 60 %% is %+v, want around %v", name, group.Key[0], narrow, exact)
				}
			}
		}
	}
}

// pushed adds the same to every number, or as much with both signs in turn.
type pushed struct {
	by   int64
	turn *int
}

func (p pushed) Add(x int64, d mechanism.Draw) (int64, error) {
	*p.turn++
	if p.by%2 != 0 && *p.turn%2 == 0 {
		return x - p.by, nil
	}
	return x + p.by, nil
}

// TestFiguresAreNumbersWhateverIsDrawn: none is infinite or none at all, and every interval holds its value.
func TestFiguresAreNumbersWhateverIsDrawn(t *testing.T) {
	for _, all := range [][]rows.Row{nil, payments()} {
		for _, by := range []string{"category", "city"} {
			for _, noise := range []int64{0, 1, 2, -2, 1001, 100_000, -100_000, 1<<40 + 1, -1 << 55, 1 << 55, 1<<55 + 1} {
				m := newMemory(shop(), shop().Cap)
				s := newReader(m, reader{all}, pushed{noise, new(int)}, plan.DefaultLimits())
				for _, confidence := range []string{"0.95", "0.5", "0.999"} {
					q := everything(by)
					q.Confidence = confidence
					a := ask(t, s, ann, q, "")
					if _, err := json.Marshal(a.Release); err != nil {
						t.Fatalf("noise %d: %v", noise, err)
					}
					for _, g := range a.Release.Groups {
						for i, v := range g.Values {
							if !(v.Low <= v.Value && v.Value <= v.High && v.SD >= 0) || math.IsInf(v.High-v.Low, 0) || math.IsInf(v.SD, 0) {
								t.Errorf("noise %d: %s of %v is %+v", noise, a.Release.Metrics[i], g.Key, v)
							}
						}
					}
				}
			}
		}
	}
}

// TestRatiosByPrivateKeysReadTheDrawThatSelects: the number of customers is one draw, for the figure, the selection and the
// ratio.
func TestRatiosByPrivateKeysReadTheDrawThatSelects(t *testing.T) {
	m := newMemory(shop(), shop().Cap)
	s := newReader(m, reader{payments()}, mechanism.Secure(), plan.DefaultLimits())
	q := dp.Query{Dataset: "shop", Purpose: "reporting", Epsilon: "2", Delta: "1e-6", By: []string{"city"}, Metrics: []string{"per_head"},
		Define: []dp.Definition{{Name: "per_head", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "customers"}}}
	a := ask(t, s, ann, q, "")
	if !reflect.DeepEqual(a.Release.Metrics, []string{"customers", "per_head", "spend"}) || len(a.Release.Groups) != 2 {
		t.Fatalf("%v of %d groups", a.Release.Metrics, len(a.Release.Groups))
	}
	for i, g := range a.Release.Groups {
		v := g.Values
		if len(a.Release.NoisedCoordinates[i]) != 2 {
			t.Errorf("%d numbers were drawn, want 2", len(a.Release.NoisedCoordinates[i]))
		}
		if got := v[2].Value / v[0].Value; math.Abs(v[1].Value/got-1) > 1e-9 {
			t.Errorf("%v per head, spend over customers is %v", v[1].Value, got)
		}
	}
	if got := a.Charge.Loss.Epsilon; got != 2*dp.EpsilonOne {
		t.Errorf("two draws cost epsilon %s", got)
	}
}

// TestNamesOfOneNumberAreAnsweredAlike, where that number also selects the groups.
func TestNamesOfOneNumberAreAnsweredAlike(t *testing.T) {
	m := newMemory(shop(), shop().Cap)
	s := newReader(m, reader{payments()}, mechanism.Secure(), plan.DefaultLimits())
	q := dp.Query{Dataset: "shop", Purpose: "reporting", Epsilon: "1", Delta: "1e-6", By: []string{"city"}, Metrics: []string{"a", "customers", "spend", "z"},
		Define: []dp.Definition{{Name: "a", Aggregate: dp.Customers}, {Name: "z", Aggregate: dp.Sum, Measure: "amount"}}}
	for _, g := range ask(t, s, ann, q, "").Release.Groups {
		if v := g.Values; v[0] != v[1] || v[2] != v[3] || v[0] == v[2] {
			t.Errorf("%v: %+v", g.Key, v)
		}
	}
}

// TestMoreNumbersThanAreHeldAreTooLarge: of private groups nobody knows before how many are shown.
func TestMoreNumbersThanAreHeldAreTooLarge(t *testing.T) {
	all := payments()
	for i := range all {
		all[i].Dimensions[1].Value = fmt.Sprint(cmp.Compare(all[i].Customer%2, 1))
	}
	limits := plan.DefaultLimits()
	q := everything("city")
	limits.Draws = 20 // 32 times: one group's numbers
	m := newMemory(shop(), shop().Cap)
	_, err := newReader(m, reader{all}, exact{}, limits).Ask(context.Background(), ann, q, "key")
	if code(err) != dp.CodeTooLarge || m.spent["ann"].Epsilon == 0 {
		t.Fatalf("got %v", err)
	}
	_, again := newReader(m, reader{all}, exact{}, plan.DefaultLimits()).Ask(context.Background(), ann, q, "key")
	if code(again) != dp.CodeTooLarge {
		t.Errorf("the outcome was drawn again: %v", again)
	}
	m = newMemory(shop(), shop().Cap)
	limits.Draws = 44
	if a := ask(t, newReader(m, reader{all}, exact{}, limits), ann, q, ""); len(a.Release.Groups) != 2 {
		t.Errorf("%d groups", len(a.Release.Groups))
	}
}
