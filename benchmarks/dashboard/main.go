// Command dashboard counts what a dashboard costs that four consumers open every day for two months while rows are loaded
// daily: with reuse, by the service as it is over generated rows; and without, by the prices of the same questions. It also
// counts how many equal counts a budget of (1, 1e-6) answers. Both beside basic composition. Nothing here depends on time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/dp/synth"
	"github.com/discreet-analytics/discreet/store/columnar"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/load"
	"github.com/discreet-analytics/discreet/store/secrets"
)

func main() {
	if err := flag.CommandLine.Parse([]string{"-logtostderr"}); err != nil { // of the noise library's log
		os.Exit(1)
	}
	set := flag.NewFlagSet("dashboard", flag.ExitOnError)
	customers := set.Int("customers", 1000, "customers whose rows are made; prices do not depend on them")
	_ = set.Parse(os.Args[1:]) // exits on error
	if err := run(context.Background(), *customers); err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, customers int) error {
	first, err := rows.ParseDate("2026-03-01")
	if err != nil {
		return err
	}
	b, err := open(ctx, customers, first)
	if err != nil {
		return err
	}
	defer b.close()
	counts, err := b.openDaily(ctx, first)
	if err != nil {
		return err
	}
	if err := b.report(ctx, os.Stdout, counts, first); err != nil {
		return err
	}
	return equalCounts(os.Stdout)
}

// bank is a service over generated rows.
type bank struct {
	dir     string
	table   synth.Table
	ledger  *ledger.Ledger
	rows    *columnar.Store
	service *answer.Service
	policy  dp.VersionedPolicy
	askers  []dp.Consumer
}

func open(ctx context.Context, customers int, first rows.Date) (b *bank, err error) {
	b = &bank{}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.dir, err = os.MkdirTemp("", "dashboard-"); err != nil {
		return b, err
	}
	made, err := synth.New(synth.Size{Seed: 1, Customers: customers, First: first.AddDays(-window), Days: window + days})
	if err != nil {
		return b, err
	}
	b.table = made.Transactions()
	if b.ledger, err = ledger.Open(filepath.Join(b.dir, "ledger"), ledger.Options{Lease: time.Minute, Witness: filepath.Join(b.dir, "witness")}); err != nil {
		return b, err
	}
	keys, err := secrets.Open(filepath.Join(b.dir, "secrets"))
	if err != nil {
		return b, err
	}
	if err := b.ledger.Pair(ctx, keys.Fingerprint()); err != nil {
		return b, err
	}
	if b.rows, err = columnar.Open(filepath.Join(b.dir, "data"), b.ledger, keys, columnar.DefaultOptions()); err != nil {
		return b, err
	}
	b.service = answer.New(b.ledger, b.ledger, b.ledger, b.rows, mechanism.Secure(), answer.Options{
		Limits: plan.DefaultLimits(), Deadline: time.Minute, Renew: 20 * time.Second, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	return b, b.found(ctx, office.New(b.ledger, time.Now), first)
}

// found applies the policy, adds who asks, and loads the rows before the first day.
func (b *bank) found(ctx context.Context, o *office.Office, first rows.Date) error {
	parsed, err := policyfile.Parse([]byte(policy), policyfile.DefaultLimits())
	if err != nil {
		return fmt.Errorf("reading the policy: %w", err)
	}
	if b.policy, _, err = o.ApplyPolicy(ctx, "benchmark", parsed, nil, "benchmark"); err != nil {
		return err
	}
	for i := range consumers {
		c := dp.Consumer{Name: fmt.Sprint("team", i), Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{purpose}}
		if c, err = o.CreateConsumer(ctx, "benchmark", c, "benchmark"); err != nil {
			return err
		}
		if _, _, err := o.SetAllotment(ctx, "benchmark", dp.Allotment{Consumer: c.Name, Dataset: parsed.Name, Budget: parsed.Cap}, nil, "benchmark"); err != nil {
			return err
		}
		b.askers = append(b.askers, c)
	}
	return b.load(ctx, first.AddDays(-window), first.AddDays(-1))
}

// load loads the rows of some days of one or two months, as a delivery that says which months it has.
func (b *bank) load(ctx context.Context, from, to rows.Date) error {
	blocks := rows.Blocks(from, to, dp.Month)
	start, _, err := rows.BlockDates(blocks[0], dp.Month)
	if err != nil {
		return err
	}
	_, end, err := rows.BlockDates(blocks[len(blocks)-1], dp.Month)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := b.table.Between(from, to).WriteCSV(&text); err != nil {
		return err
	}
	spec := columnar.LoadSpec{Name: "until " + to.String(), Format: load.CSV, From: start, To: end}
	report, err := b.rows.Load(ctx, b.policy, spec, strings.NewReader(text.String()), func() error { return nil })
	if err == nil && report.Rejected > 0 {
		err = fmt.Errorf("%d rows were rejected", report.Rejected)
	}
	return err
}

func (b *bank) close() {
	var errs []error
	if b.rows != nil {
		errs = append(errs, b.rows.Close())
	}
	if b.ledger != nil {
		errs = append(errs, b.ledger.Close())
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "dashboard: closing:", err)
	}
}

// outcomes counts how charts of one kind were answered.
type outcomes struct{ drawn, handed, derived, held int }

// openDaily has every consumer open every chart on every day, in the order of the workload.
func (b *bank) openDaily(ctx context.Context, first rows.Date) (map[kind]*outcomes, error) {
	counts := map[kind]*outcomes{base: {}, rollup: {}, subrange: {}}
	for n := range days {
		today := first.AddDays(n)
		if err := b.load(ctx, today, today); err != nil {
			return nil, fmt.Errorf("loading %s: %w", today, err)
		}
		for _, who := range b.askers {
			for _, c := range charts {
				a, err := b.service.Ask(ctx, who, c.query(today), "")
				if err != nil {
					return nil, fmt.Errorf("asking for %s by %v: %w", c.metric, c.by, err)
				}
				of := counts[c.kind]
				switch {
				case a.Stale:
					return nil, errors.New("a chart shows rows of another day")
				case len(a.DerivedFrom) > 0:
					of.derived++
				case a.Charge.Loss == dp.Loss{}:
					of.held++
				case a.Reused:
					of.handed++
				default:
					of.drawn++
				}
			}
		}
	}
	return counts, nil
}

// report prints how charts were answered, and what the month paid that paid most: by the ledger, and by the prices of the
// same questions without reuse.
func (b *bank) report(ctx context.Context, w io.Writer, counts map[kind]*outcomes, first rows.Date) error {
	fmt.Fprintf(w, "%d charts, %d consumers, %d days: %d openings\n\n", len(charts), consumers, days, len(charts)*consumers*days)
	fmt.Fprintln(w, "| charts | drawn | another consumer's draw | derived | held |\n|---|---|---|---|---|")
	for _, k := range []kind{base, rollup, subrange} {
		c := counts[k]
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d |\n", k, c.drawn, c.handed, c.derived, c.held)
	}

	each, err := b.prices(first)
	if err != nil {
		return err
	}
	spent := func(consumer string) (map[string]dp.Loss, error) {
		list, _, err := b.ledger.DatasetAccounts(ctx, "transactions", "", 100)
		all := map[string]dp.Loss{}
		for _, a := range list {
			if a.Consumer == consumer {
				all[a.Block] = a.Spent
			}
		}
		return all, err
	}
	reused, err := spent("")
	if err != nil {
		return err
	}
	team, err := spent(b.askers[0].Name)
	if err != nil {
		return err
	}
	never := map[string]dp.Loss{}
	for block, loss := range each {
		for range consumers {
			never[block] = accounting.Add(never[block], loss)
		}
	}
	const month = "2026-03" // which more windows touch than any other month
	delta := b.policy.Cap.Delta
	fmt.Fprintf(w, "\n| loss of %s | sum of epsilon | certified epsilon at delta %s | sum of rho | sum of epsilon over reuse | sum of rho over reuse |\n|---|---|---|---|---|---|\n", month, delta)
	with := reused[month]
	for _, row := range []struct {
		name string
		loss dp.Loss
	}{
		{"cap, every opening drawn", never[month]},
		{"cap, every question drawn once a day and handed out", each[month]},
		{"cap, with reuse", with},
		{"one consumer, without reuse", each[month]},
		{"one consumer, with reuse", team[month]},
	} {
		l := row.loss
		fmt.Fprintf(w, "| %s | %.4g | %.4g | %.4g | %.2f | %.2f |\n", row.name, epsilon(l.Epsilon), epsilon(accounting.FromRho(l.Rho, delta/2)), float64(l.Rho)/float64(dp.RhoOne),
			float64(l.Epsilon)/float64(with.Epsilon), float64(l.Rho)/float64(with.Rho))
	}
	return nil
}

// prices is, by block, what all questions of all days cost, each drawn once.
func (b *bank) prices(first rows.Date) (map[string]dp.Loss, error) {
	sum := map[string]dp.Loss{}
	for n := range days {
		for _, c := range charts {
			p, err := plan.Make(c.query(first.AddDays(n)), b.policy, []dp.Budget{b.policy.Cap}, plan.DefaultLimits())
			if err != nil {
				return nil, fmt.Errorf("pricing %s by %v: %w", c.metric, c.by, err)
			}
			for _, block := range p.Blocks {
				sum[block] = accounting.Add(sum[block], p.Loss)
			}
		}
	}
	return sum, nil
}

func epsilon(e dp.Epsilon) float64 { return float64(e) / float64(dp.EpsilonOne) }

// equalCounts prints how many counts of customers, all of the same accuracy, one budget admits: by both certificates, and by
// basic composition with whichever noise it affords more of.
func equalCounts(w io.Writer) error {
	budget := dp.Budget{Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 1_000_000}
	fmt.Fprint(w, "\n| half-width of each count, at 95 % | counts under (1, 1e-6) | by basic composition | ratio |\n|---|---|---|---|\n")
	for _, within := range []float64{30, 100, 300, 1000} {
		of := mechanism.Vector{Partitions: 1, Bounds: []int64{1}}
		half := func(v mechanism.Vector) float64 { return float64(v.Draw(0).HalfWidth(mechanism.DefaultConfidence)) }
		v, _, err := mechanism.ForHalfWidth(of, half, within, dp.DeltaOne/1_000_000_000_000, false, dp.EpsilonOne)
		if err != nil {
			return fmt.Errorf("pricing a count within %v: %w", within, err)
		}
		laplace, _, err := mechanism.ForHalfWidth(of, half, within, 0, true, dp.EpsilonOne)
		if err != nil {
			return fmt.Errorf("pricing a count within %v by Laplace noise: %w", within, err)
		}
		ours, basic := admitted(budget, v.Loss()), admitted(budget, basicOnly(laplace.Loss()))
		fmt.Fprintf(w, "| %v | %d | %d | %.2f |\n", within, ours, basic, float64(ours)/float64(basic))
	}
	return nil
}

// basicOnly is a loss without the second certificate.
func basicOnly(l dp.Loss) dp.Loss {
	l.Rho = dp.RhoUnknown
	return l
}

// admitted is how many charges of one loss a budget admits, one after the other.
func admitted(budget dp.Budget, each dp.Loss) (n int) {
	var spent dp.Loss
	for accounting.Admit(budget, spent, each) {
		spent = accounting.Add(spent, each)
		n++
	}
	return n
}
