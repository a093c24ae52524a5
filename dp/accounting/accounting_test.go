package accounting

import (
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

func TestTenChargesOfATenthFitABudgetOfOne(t *testing.T) {
	budget := dp.Budget{Epsilon: dp.EpsilonOne}
	tenth, err := ParseEpsilon("0.1", Up)
	if err != nil {
		t.Fatal(err)
	}
	charge := dp.Loss{Epsilon: tenth, Rho: PureRho(tenth)}
	var spent dp.Loss
	for i := range 10 {
		if !Admit(budget, spent, charge) {
			t.Fatalf("charge %d of 10 refused", i+1)
		}
		spent = Add(spent, charge)
	}
	if Admit(budget, spent, charge) {
		t.Fatal("an eleventh charge was admitted")
	}
	if Admit(budget, spent, dp.Loss{Epsilon: 1, Rho: 1}) {
		t.Fatal("one unit more was admitted")
	}
}
