package accounting

import (
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

func TestTenChargesOfATenthFitABudgetOfOne(t *testing.T) {
	budget := dp.Budget{Epsilon: dp.EpsilonOne}
	charge := pure(t, "0.1")
	var spent dp.Loss
	for i := range 10 {
		if !Admit(budget, spent, charge) {
			t.Fatalf("charge %d of 10 refused", i+1)
		}
		spent = Add(spent, charge)
	}
	if Admit(budget, spent, charge) {
		t.Error("an eleventh charge was admitted")
	}
	if Admit(budget, spent, dp.Loss{Epsilon: 1, Rho: 1}) {
		t.Error("one unit more was admitted")
	}
}

func TestOrderOfChargesDoesNotMatter(t *testing.T) {
	budget := dp.Budget{Epsilon: dp.EpsilonOne}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		// A random split of exactly 1 into charges of three sizes fits in every order, and nothing after.
		var charges []dp.Loss
		for left := 100; left > 0; {
			n := min([]int{1, 10, 25}[random.IntN(3)], left)
			e := dp.Epsilon(n) * dp.EpsilonOne / 100
			charges = append(charges, dp.Loss{Epsilon: e, Rho: PureRho(e)})
			left -= n
		}
		random.Shuffle(len(charges), func(i, j int) { charges[i], charges[j] = charges[j], charges[i] })
		var spent dp.Loss
		for i, charge := range charges {
			if !Admit(budget, spent, charge) {
				t.Fatalf("charge %d of %d refused", i+1, len(charges))
			}
			spent = Add(spent, charge)
		}
		if Admit(budget, spent, dp.Loss{Epsilon: 1}) {
			t.Fatal("a charge beyond the budget was admitted")
		}
	}
}

func TestBudgetWithoutDeltaKnowsBasicCompositionOnly(t *testing.T) {
	budget := dp.Budget{Epsilon: dp.EpsilonOne}
	if Admit(budget, dp.Loss{}, dp.Loss{Epsilon: 2 * dp.EpsilonOne, Rho: 1}) {
		t.Error("a small rho was admitted without delta")
	}
	if Admit(budget, dp.Loss{}, dp.Loss{Epsilon: 1, Delta: 1}) {
		t.Error("a delta was admitted without delta")
	}
}

func TestEitherCertificateAdmits(t *testing.T) {
	budget := dp.Budget{Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 1_000_000}
	quarter := budget.Delta / 4
	for name, c := range map[string]struct {
		loss dp.Loss
		want bool
	}{
		"a holds at its edge":           {dp.Loss{Epsilon: dp.EpsilonOne, Delta: quarter, Rho: dp.RhoUnknown, DeltaZ: dp.DeltaOne}, true},
		"a fails by a unit of epsilon":  {dp.Loss{Epsilon: dp.EpsilonOne + 1, Delta: quarter, Rho: dp.RhoUnknown}, false},
		"a fails by a unit of delta":    {dp.Loss{Epsilon: dp.EpsilonOne, Delta: quarter + 1, Rho: dp.RhoUnknown}, false},
		"b holds at its edge":           {dp.Loss{Epsilon: 5 * dp.EpsilonOne, Delta: dp.DeltaOne, Rho: dp.RhoOne / 100, DeltaZ: quarter}, true},
		"b fails by a unit of delta":    {dp.Loss{Epsilon: 5 * dp.EpsilonOne, Delta: dp.DeltaOne, Rho: dp.RhoOne / 100, DeltaZ: quarter + 1}, false},
		"b fails for too large a rho":   {dp.Loss{Epsilon: 5 * dp.EpsilonOne, Rho: dp.RhoOne / 40}, false},
		"b never holds for unknown rho": {dp.Loss{Epsilon: 5 * dp.EpsilonOne, Rho: dp.RhoUnknown}, false},
	} {
		if got := Admit(budget, dp.Loss{}, c.loss); got != c.want {
			t.Errorf("%s: Admit is %v", name, got)
		}
	}
}

func TestNegativeLossIsRefused(t *testing.T) {
	budget := dp.Budget{Epsilon: dp.EpsilonOne, Delta: 1000}
	for _, loss := range []dp.Loss{{Epsilon: -1}, {Delta: -1}, {Rho: -1}, {DeltaZ: -1}} {
		if Admit(budget, dp.Loss{Epsilon: dp.EpsilonOne}, loss) {
			t.Errorf("charge %+v was admitted", loss)
		}
		if Admit(budget, loss, dp.Loss{Epsilon: 1}) {
			t.Errorf("spent %+v admitted a charge", loss)
		}
		if Similar(budget, dp.Loss{}, loss, 10) != 0 {
			t.Errorf("charges like %+v fit", loss)
		}
	}
	for _, b := range []dp.Budget{{Epsilon: -1}, {Delta: -1}} {
		if Admit(b, dp.Loss{}, dp.Loss{}) {
			t.Errorf("budget %+v admitted a charge", b)
		}
	}
}

func TestSumsNeverWrap(t *testing.T) {
	const most = math.MaxInt64
	full := dp.Loss{Epsilon: most, Delta: most, Rho: most, DeltaZ: most}
	if got := Add(full, dp.Loss{Epsilon: 1, Delta: 1, Rho: 1, DeltaZ: 1}); got != full {
		t.Errorf("the largest loss and one unit are %+v", got)
	}
	if got := Add(full, full); got != full {
		t.Errorf("twice the largest loss is %+v", got)
	}
	if got := Add(dp.Loss{Rho: dp.RhoUnknown}, dp.Loss{Rho: 7}); got.Rho != dp.RhoUnknown {
		t.Errorf("an unknown rho and 7 are %v", got.Rho)
	}
	if Admit(dp.Budget{Epsilon: most, Delta: most}, full, dp.Loss{}) {
		t.Error("a saturated sum was admitted by the largest budget")
	}
	if Admit(dp.Budget{Epsilon: dp.EpsilonOne}, dp.Loss{Epsilon: most - 1}, dp.Loss{Epsilon: 10}) {
		t.Error("a sum that would wrap was admitted")
	}
	if got := times(dp.Loss{Epsilon: most / 2}, 3); got.Epsilon != most {
		t.Errorf("a product that would wrap is %d", got.Epsilon)
	}
}

func TestRoomIsTheLargestChargeThatFits(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		budget := randomBudget(random)
		spent := randomLoss(random, budget)
		room := Room(budget, spent)
		charge := func(e dp.Epsilon) dp.Loss { return dp.Loss{Epsilon: e, Rho: PureRho(e)} }
		if room > 0 && !Admit(budget, spent, charge(room)) {
			t.Fatalf("room %v of %+v after %+v does not fit", room, budget, spent)
		}
		if Admit(budget, spent, charge(room+1)) {
			t.Fatalf("more than the room %v of %+v after %+v fits", room, budget, spent)
		}
	}
	if room := Room(dp.Budget{Epsilon: dp.EpsilonOne}, dp.Loss{Epsilon: dp.EpsilonOne / 4}); room != dp.EpsilonOne*3/4 {
		t.Errorf("room is %v, want 0.75", room)
	}
}

func TestSimilarCountsTheChargesThatFit(t *testing.T) {
	budget := dp.Budget{Epsilon: dp.EpsilonOne}
	if n := Similar(budget, dp.Loss{}, pure(t, "0.1"), 1000); n != 10 {
		t.Errorf("%d charges of 0.1 fit a budget of 1", n)
	}
	if n := Similar(budget, dp.Loss{}, pure(t, "0.1"), 7); n != 7 {
		t.Errorf("%d charges fit where at most 7 were asked for", n)
	}
	if n := Similar(budget, dp.Loss{}, dp.Loss{}, 99); n != 99 {
		t.Errorf("%d charges of nothing fit", n)
	}
	random := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		budget := randomBudget(random)
		spent, charge := randomLoss(random, budget), randomLoss(random, budget)
		want, sum := int64(0), spent
		for want < 50 && Admit(budget, sum, charge) {
			sum, want = Add(sum, charge), want+1
		}
		if got := Similar(budget, spent, charge, 50); got != want {
			t.Fatalf("%d similar charges fit one by one, Similar says %d", want, got)
		}
	}
}

// TestAdmissionNeverExceedsTheExactModel replays random histories against both certificates in exact
// rationals, the conversion in 128-bit floats. What is admitted must hold there; what is refused must fail
// there, or be within a few units of the edge. DISCREET_HISTORIES=100000 replays as many.
func TestAdmissionNeverExceedsTheExactModel(t *testing.T) {
	histories := 10_000
	if raceDetector {
		histories = 500
	}
	if text := os.Getenv("DISCREET_HISTORIES"); text != "" {
		var err error
		if histories, err = strconv.Atoi(text); err != nil {
			t.Fatalf("DISCREET_HISTORIES: %v", err)
		}
	}
	random := rand.New(rand.NewPCG(7, 8))
	var admitted, refused, byB int
	for range histories {
		budget := randomBudget(random)
		var spent dp.Loss
		for range 1 + random.IntN(8) {
			charge := randomLoss(random, budget)
			after := Add(spent, charge)
			a, b, slack := exactCertificates(budget, after)
			got := Admit(budget, spent, charge)
			switch {
			case got && !a && !b:
				t.Fatalf("budget %+v admitted %+v after %+v against the exact model", budget, charge, spent)
			case !got && a:
				t.Fatalf("budget %+v refused %+v after %+v, which basic composition admits", budget, charge, spent)
			case !got && b && slack > 5:
				t.Fatalf("budget %+v refused %+v after %+v with %v units to spare", budget, charge, spent, slack)
			}
			if !got {
				refused++
				continue
			}
			admitted++
			if !a {
				byB++
			}
			spent = after
		}
	}
	if admitted < histories/2 || refused < histories/2 || byB < histories/20 {
		t.Errorf("histories are one-sided: %d admitted, %d of them by zCDP alone, %d refused", admitted, byB, refused)
	}
}

// exactCertificates decides (a), and (b) where (a) fails, in exact arithmetic; slack is by how many units of epsilon (b) holds.
func exactCertificates(budget dp.Budget, spent dp.Loss) (a, b bool, slack float64) {
	ratio := func(n, d int64) *big.Rat { return big.NewRat(n, d) }
	e, d := ratio(int64(budget.Epsilon), int64(dp.EpsilonOne)), ratio(int64(budget.Delta), int64(dp.DeltaOne))
	quarter := new(big.Rat).Quo(d, ratio(4, 1))
	a = ratio(int64(spent.Epsilon), int64(dp.EpsilonOne)).Cmp(e) <= 0 && ratio(int64(spent.Delta), int64(dp.DeltaOne)).Cmp(quarter) <= 0
	if budget.Delta == 0 || spent.Rho == dp.RhoUnknown || ratio(int64(spent.DeltaZ), int64(dp.DeltaOne)).Cmp(quarter) > 0 {
		return a, false, 0
	}
	if a {
		return a, false, 0 // the conversion is slow, and nobody asks
	}
	converted := exactFromRho(ratio(int64(spent.Rho), int64(dp.RhoOne)), new(big.Rat).Quo(d, ratio(2, 1)))
	room := new(big.Float).Sub(new(big.Float).SetPrec(precision).SetRat(e), converted)
	room.Mul(room, big.NewFloat(float64(dp.EpsilonOne)))
	slack, _ = room.Float64()
	return a, slack >= 0, slack
}

func randomBudget(random *rand.Rand) dp.Budget {
	budget := dp.Budget{Epsilon: 1 + dp.Epsilon(random.Float64()*10*float64(dp.EpsilonOne))}
	if random.IntN(4) > 0 {
		budget.Delta = dp.Delta(math.Pow(10, 3+12*random.Float64()))
	}
	return budget
}

// randomLoss is a part of the budget, now by one certificate's measure, now by the other's.
func randomLoss(random *rand.Rand, budget dp.Budget) dp.Loss {
	e := dp.Epsilon(random.Float64() * float64(budget.Epsilon) / 2)
	loss := dp.Loss{Epsilon: e, Rho: PureRho(e)}
	switch random.IntN(5) {
	case 0: // a Gaussian's: much cheaper in zCDP
		loss.Epsilon *= 2
		loss.Delta = budget.Delta / dp.Delta(1+random.IntN(20))
		loss.Rho = dp.Rho(random.Float64() * 0.02 * float64(budget.Epsilon))
		loss.DeltaZ = budget.Delta / dp.Delta(4+random.IntN(100))
	case 1: // a selection's
		loss.Delta = budget.Delta / dp.Delta(4+random.IntN(50))
		loss.DeltaZ = loss.Delta
	case 2:
		if random.IntN(4) == 0 {
			loss.Rho = dp.RhoUnknown
		}
	}
	return loss
}

func pure(t *testing.T, text string) dp.Loss {
	t.Helper()
	e, err := ParseEpsilon(text, Up)
	if err != nil {
		t.Fatal(err)
	}
	return dp.Loss{Epsilon: e, Rho: PureRho(e)}
}
