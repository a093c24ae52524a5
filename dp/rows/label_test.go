package rows_test

import (
	"math"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

func text(value string) rows.Text { return rows.Text{Value: value, Valid: true} }

func TestRawValuesAreMappedToTheDomain(t *testing.T) {
	up10 := &dp.Bin{Step: 10, Up: true}
	absent := rows.Text{}
	tests := []struct {
		name      string
		dimension dp.Dimension
		raw       rows.Text
		want      string
		ok        bool
	}{
		{"in the domain", dp.Dimension{Values: []string{"a", "b"}}, text("b"), "b", true},
		{"outside", dp.Dimension{Values: []string{"a"}}, text("z"), "", false},
		{"outside with other", dp.Dimension{Values: []string{"a", "rest"}, Other: "rest"}, text("z"), "rest", true},
		{"spelling matters", dp.Dimension{Values: []string{"a"}}, text("A"), "", false},
		{"the label itself", dp.Dimension{Values: []string{"a", "rest"}, Other: "rest"}, text("rest"), "rest", true},
		{"absent", dp.Dimension{Values: []string{"a"}}, absent, "", false},
		{"absent with other", dp.Dimension{Values: []string{"a", "rest"}, Other: "rest"}, absent, "rest", true},
		{"absent with missing", dp.Dimension{Values: []string{"a", "rest", "none"}, Other: "rest", Missing: "none"}, absent, "none", true},
		{"outside with missing only", dp.Dimension{Values: []string{"a", "none"}, Missing: "none"}, text("z"), "", false},
		{"binned", dp.Dimension{Type: dp.IntDimension, Bin: up10, Values: []string{"30"}}, text("26"), "30", true},
		{"binned outside", dp.Dimension{Type: dp.IntDimension, Bin: up10, Values: []string{"30"}}, text("31"), "", false},
		{"binned to other", dp.Dimension{Type: dp.IntDimension, Bin: up10, Values: []string{"30", "rest"}, Other: "rest"}, text("31"), "rest", true},
		{"bin overflows", dp.Dimension{Type: dp.IntDimension, Bin: up10, Private: true}, text("9223372036854775807"), "", false},
		{"bin overflows to other", dp.Dimension{Type: dp.IntDimension, Bin: up10, Values: []string{"rest"}, Other: "rest"}, text("9223372036854775807"), "rest", true},
		{"private", dp.Dimension{Private: true}, text("anything"), "anything", true},
		{"private binned", dp.Dimension{Private: true, Type: dp.IntDimension, Bin: up10}, text("26"), "30", true},
		{"private absent", dp.Dimension{Private: true}, absent, "", false},
		{"private absent with missing", dp.Dimension{Private: true, Missing: "none"}, absent, "none", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, ok := rows.NewLabeler(&test.dimension).Label(test.raw); got != test.want || ok != test.ok {
				t.Errorf("got %q, %v; want %q, %v", got, ok, test.want, test.ok)
			}
		})
	}
}

func TestBinsAreMultiplesOnBothSidesOfZero(t *testing.T) {
	tests := []struct {
		v, step  int64
		down, up int64
	}{
		{26, 10, 20, 30}, {30, 10, 30, 30}, {0, 10, 0, 0}, {1, 10, 0, 10}, {-1, 10, -10, 0}, {-10, 10, -10, -10}, {-11, 10, -20, -10},
		{7, 1, 7, 7}, {-7, 1, -7, -7}, {5, math.MaxInt64, 0, math.MaxInt64}, {-5, math.MaxInt64, -math.MaxInt64, 0},
	}
	for _, test := range tests {
		if got, ok := rows.BinLabel(test.v, dp.Bin{Step: test.step}); !ok || got != test.down {
			t.Errorf("%d down to %d: got %d, %v; want %d", test.v, test.step, got, ok, test.down)
		}
		if got, ok := rows.BinLabel(test.v, dp.Bin{Step: test.step, Up: true}); !ok || got != test.up {
			t.Errorf("%d up to %d: got %d, %v; want %d", test.v, test.step, got, ok, test.up)
		}
	}
	for _, test := range []struct {
		v   int64
		bin dp.Bin
	}{
		{math.MaxInt64, dp.Bin{Step: 10, Up: true}}, {math.MinInt64, dp.Bin{Step: 10}}, {math.MinInt64, dp.Bin{Step: math.MaxInt64}},
		{5, dp.Bin{Step: 0}}, {5, dp.Bin{Step: -10}},
	} {
		if got, ok := rows.BinLabel(test.v, test.bin); ok {
			t.Errorf("%d by %+v gave %d", test.v, test.bin, got)
		}
	}
}
