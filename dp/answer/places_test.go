package answer_test

import (
	"math"
	"slices"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// mapped is a till with dimensions that are made of others: of a public and of a private one.
func mapped() dp.VersionedPolicy {
	p := till()
	p.Derived = []dp.Derived{
		{Name: "young", Of: "age", Groups: []dp.LabelGroup{{Label: "yes", Values: []string{"20"}}, {Label: "no", Values: []string{"30", "40"}}}},
		{Name: "region", Of: "city", Groups: []dp.LabelGroup{{Label: "rhine", Values: []string{"Bonn", "Cologne"}}, {Label: "sea", Values: []string{"Kiel"}}}, Other: "elsewhere"},
	}
	return p
}

// What is asked of ages gives what is asked of what they are made into, for nothing, and levels of both add up.
func TestPlacesFollowAndReconcile(t *testing.T) {
	m := newMemory(mapped(), mapped().Cap)
	s := newTillOver(m, mechanism.Secure())
	held := ask(t, s, ann, tilled(func(q *dp.Query) { q.By, q.Epsilon = []string{"age", "time.month"}, "5" }), "")
	coarser := ask(t, s, ann, tilled(func(q *dp.Query) { loose(q); q.By = []string{"young"} }), "")
	if len(coarser.DerivedFrom) != 1 || len(m.charges) != 1 || len(coarser.Release.Groups) != 2 {
		t.Fatalf("derived from %v: %+v", coarser.DerivedFrom, coarser.Release.Groups)
	}
	young := func(l label) (string, bool) {
		if l("age") == "20" {
			return "yes", true
		}
		return "no", true
	}
	sums := sumOf(held.Release, "spend", young)
	for _, g := range coarser.Release.Groups {
		v := g.Values[slices.Index(coarser.Release.Metrics, "spend")]
		if math.Abs(v.Value-sums[g.Key[0]]) > 1e-6 {
			t.Errorf("%v is %v, want %v", g.Key, v.Value, sums[g.Key[0]])
		}
	}
	// The larger group is the sum of twice as many numbers.
	sd := func(i int) float64 { return coarser.Release.Groups[i].Values[0].SD }
	if math.Abs(sd(0)/sd(1)-math.Sqrt2) > 1e-9 {
		t.Errorf("sd of no is %v, of yes %v", sd(0), sd(1))
	}

	levels := ask(t, s, ann, tilled(func(q *dp.Query) {
		q.By, q.Reconcile, q.Epsilon, q.Delta = []string{"age", "young"}, [][]string{{"young"}, {}}, "5", "1e-6"
	}), "").Release
	at := slices.Index(levels.Metrics, "spend")
	parts := map[string]float64{}
	for _, g := range levels.Groups {
		name := g.Key[slices.Index(levels.By, "young")]
		switch g.Level {
		case 0:
			parts[name] += g.Values[at].Value
			parts[""] += g.Values[at].Value
		default:
			if math.Abs(g.Values[at].Value-parts[name]) > 1e-6 {
				t.Errorf("%q at level %d is %v, its parts %v", name, g.Level, g.Values[at].Value, parts[name])
			}
		}
	}
	if len(levels.Groups) != 3+2+1 {
		t.Errorf("groups are %+v", levels.Groups)
	}
}

// Of a private dimension the groups are public: each is answered, and none is selected.
func TestGroupsMadeOfAPrivateDimensionAreAllAnswered(t *testing.T) {
	m := newMemory(mapped(), mapped().Cap)
	s := newTillOver(m, exact{})
	a := ask(t, s, ann, tilled(func(q *dp.Query) { q.By, q.Metrics, q.Delta = []string{"region"}, []string{"customers"}, "0" }), "")
	var got []float64
	for _, g := range a.Release.Groups {
		got = append(got, g.Values[0].Value)
	}
	// Every row is of Bonn.
	if a.Release.GroupsMayBeHidden || len(got) != 3 || got[0] != 0 || got[1] == 0 || got[2] != 0 {
		t.Errorf("hidden %v, groups %+v", a.Release.GroupsMayBeHidden, a.Release.Groups)
	}
	if b := ask(t, s, ann, tilled(func(q *dp.Query) {
		q.Metrics, q.Delta, q.Where = []string{"customers"}, "0", []dp.Condition{{Field: "region", In: []string{"rhine", "sea"}}}
	}), ""); b.Release.Groups[0].Values[0].Value != got[1] {
		t.Errorf("under a condition %v, as a group %v", b.Release.Groups[0].Values[0].Value, got[1])
	}
}
