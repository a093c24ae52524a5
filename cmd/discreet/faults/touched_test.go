package faults

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/store/ledger"
)

// bank is the dataset that some questions about the shop read besides.
const bank = "bank"

// further makes seven of eight plans touch blocks at other prices: of the bank, of the shop in a month that no question
// asks about, or of both. Which, follows from the plan, as in a service.
func further(plan string, price dp.Loss, shopVersion, bankVersion uint64) (list []dp.Touched) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(plan)) // never fails
	n := hash.Sum32()
	if n&3 != 0 {
		from := n >> 3 & 1
		list = append(list, dp.Touched{Dataset: bank, PolicyVersion: bankVersion, Blocks: quarter[from : from+1+n>>4&1], Loss: double(price)})
	}
	if n&4 != 0 {
		list = append(list, dp.Touched{Dataset: shop, PolicyVersion: shopVersion, Blocks: []string{"2026-04"}, Loss: half(price)})
	}
	return list
}

func double(l dp.Loss) dp.Loss { return plus(l, l) }

// half is about half of a loss, and not nothing.
func half(l dp.Loss) dp.Loss {
	out := dp.Loss{Epsilon: l.Epsilon/2 + 1, Delta: l.Delta / 2, Rho: l.Rho/2 + 1, DeltaZ: l.DeltaZ / 2}
	if l.Rho == dp.RhoUnknown {
		out.Rho = l.Rho
	}
	return out
}

// planOf is what the ledger knows a plan by: another one for each version of the other dataset's policy, which it is
// priced under, too.
func planOf(ctx context.Context, plan string) string {
	return planUnder(plan, ctx.Value(callKey{}).(*call).bank)
}

func planUnder(plan string, bankVersion uint64) string {
	if len(further(plan, dp.Loss{}, 0, 0)) == 0 {
		return plan
	}
	return fmt.Sprint(plan, " bank ", bankVersion)
}

// partsOf lists all that a charge touches.
func partsOf(dataset string, blocks []string, loss dp.Loss, also []dp.Touched) []dp.Touched {
	return append([]dp.Touched{{Dataset: dataset, Blocks: blocks, Loss: loss}}, also...)
}

// refused holds a refusal by budget to the exact certificates: the account that it names is touched, at the price that
// it names, and has no certificate that the charge would leave. The model allows for the rounding of the conversion.
func refused(l *ledger.Ledger, r answer.ChargeRequest, e *dp.Error) error {
	const rounding = 1000 // units of epsilon
	if e.Required == nil || e.Left == nil {
		return errors.New("a refusal by budget says neither what was required nor what is left")
	}
	for _, p := range partsOf(r.Dataset, r.Blocks, r.Loss, r.Also) {
		for _, block := range p.Blocks {
			for _, owner := range []string{r.Consumer, ""} {
				name := strings.Join([]string{map[bool]string{true: "cap", false: "allotment"}[owner == ""], p.Dataset, block}, "/")
				if name != e.Left.Account {
					continue
				}
				if owner == "" && r.Source != "" {
					return fmt.Errorf("a draw that is paid was refused by %s", name)
				}
				a, err := standing(l, owner, p.Dataset, block)
				if err != nil {
					return err
				}
				a.Budget.Epsilon = max(0, a.Budget.Epsilon-rounding)
				if *e.Required != p.Loss {
					return fmt.Errorf("%s was to be charged %+v, and %+v was required", name, p.Loss, *e.Required)
				}
				if certified(a.Budget, plus(a.Spent, p.Loss)) {
					return fmt.Errorf("%s was refused by %s, which has %+v of %+v spent", r.Plan, name, a.Spent, a.Budget)
				}
				return nil
			}
		}
	}
	return fmt.Errorf("a charge of %s was refused by %s, which it does not touch", r.Plan, e.Left.Account)
}

// standing is an account, one that was never charged too.
func standing(l *ledger.Ledger, owner, dataset, block string) (dp.Account, error) {
	ctx := context.Background()
	accounts, _, err := l.DatasetAccounts(ctx, dataset, "", 0)
	if err != nil {
		return dp.Account{}, err
	}
	for _, a := range accounts {
		if a.Block == block && a.Consumer == owner {
			return a, nil
		}
	}
	if owner == "" {
		p, err := l.Policy(ctx, dataset)
		return dp.Account{Budget: p.Cap}, err
	}
	a, err := l.Allotment(ctx, owner, dataset)
	return dp.Account{Budget: a.Budget}, err
}

// plus adds losses that are far below the largest number, but for an unknown rho.
func plus(a, b dp.Loss) dp.Loss {
	sum := dp.Loss{Epsilon: a.Epsilon + b.Epsilon, Delta: a.Delta + b.Delta, Rho: dp.RhoUnknown, DeltaZ: a.DeltaZ + b.DeltaZ}
	if a.Rho != dp.RhoUnknown && b.Rho != dp.RhoUnknown {
		sum.Rho = a.Rho + b.Rho
	}
	return sum
}
