package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/dp/synth"
	"github.com/discreet-analytics/discreet/store/disk"
)

// demoCommand shows Discreet on a bank that does not exist, with a ledger of its own: trying costs no real
// budget.
type demoCommand struct {
	Customers int    `help:"How many customers; ${default} when absent." default:"20000" placeholder:"N"`
	Days      int    `help:"How many days at least, ${default} when absent; whole months are made." default:"120" placeholder:"N"`
	Until     string `help:"Last month, by its last day, ${default} when absent; fixed, so that the same command makes the same data on every day." default:"2026-03-31" placeholder:"DATE"`
	Seed      uint64 `help:"Another seed makes another bank; ${default} when absent." default:"1" placeholder:"N"`
	Listen    string `help:"Address to listen on; 127.0.0.1:8080, or another port where that is taken." placeholder:"HOST:PORT"`
	Data      string `help:"Directory to keep everything in, empty or new; without it, a temporary one that is removed at the end." placeholder:"DIR"`
	Exit      bool   `help:"Print one answer with its interval and price, and end."`
}

// Run makes, loads, serves and prints.
func (c *demoCommand) Run(ctx context.Context, t terminal, from surroundings) (err error) {
	bank, first, err := c.bank()
	if err != nil {
		return err
	}
	listener, err := c.listen(t.stderr)
	if err != nil {
		return err
	}
	defer listener.Close()
	dir, remove, err := c.directory()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()

	// Only what goes wrong is logged: the demo's terminal is for its reader.
	log := slog.New(slog.NewTextHandler(t.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := openService(ctx, storage{dir: dir, witness: witness{file: filepath.Clean(dir) + ".witness"}, disk: demoDisk(), eraseAt: demoEraseAt}, from, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	secret, err := s.office.Bootstrap(ctx)
	if err != nil {
		return fmt.Errorf("making the first officer: %w", err)
	}
	if secret == "" {
		return usagef("%s already holds a ledger: serve it with discreet serve --data %s --witness %s.witness, or give an empty directory", dir, dir, filepath.Clean(dir))
	}

	serving, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.serve(serving, listener) }()
	d := demo{url: "http://" + listener.Addr().String(), bank: bank, first: first, progress: t.stderr}
	if err := d.prepare(ctx, secret); err != nil {
		stop()
		return errors.Join(err, <-ended)
	}
	if c.Exit {
		err := d.answer(ctx, t.stdout)
		stop()
		return errors.Join(err, <-ended)
	}
	if err := d.introduce(t.stdout); err != nil {
		stop()
		return errors.Join(err, <-ended)
	}
	return <-ended
}

// demoDisk keeps less room than a server that is in earnest: a demo writes little.
func demoDisk() disk.Options { return disk.Options{Keep: 256 << 20, Reserve: 64 << 20} }

// demoEraseAt is when customers leave the demo's files each day who were erased, in UTC.
const demoEraseAt = hour(3 * time.Hour)

// bank sizes the bank to whole months, because a load covers whole blocks.
func (c *demoCommand) bank() (*synth.Bank, rows.Date, error) {
	until, err := rows.ParseDate(c.Until)
	if err != nil {
		return nil, rows.Date{}, usagef("--until must be a date such as 2026-03-31")
	}
	_, last, err := rows.BlockDates(monthOf(until), dp.Month)
	if err != nil {
		return nil, rows.Date{}, usagef("--until is out of range")
	}
	if c.Days < 1 || c.Days > synth.MostDays-31 {
		return nil, rows.Date{}, usagef("--days must be from 1 to %d", synth.MostDays-31)
	}
	first, _, err := rows.BlockDates(monthOf(last.AddDays(1-c.Days)), dp.Month)
	if err != nil {
		return nil, rows.Date{}, usagef("--days reaches back too far")
	}
	bank, err := synth.New(synth.Size{Seed: c.Seed, Customers: c.Customers, First: first, Days: first.DaysUntil(last) + 1})
	if err != nil {
		return nil, rows.Date{}, usagef("%v", err)
	}
	return bank, first, nil
}

func monthOf(d rows.Date) string { return fmt.Sprintf("%04d-%02d", d.Year, int(d.Month)) }

const demoAddress = "127.0.0.1:8080"

func (c *demoCommand) listen(progress io.Writer) (net.Listener, error) {
	if c.Listen != "" {
		if err := (&serveCommand{Listen: c.Listen}).checkExposure(false); err != nil {
			return nil, err
		}
		listener, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return nil, explainListen(c.Listen, err)
		}
		return listener, nil
	}
	listener, err := net.Listen("tcp", demoAddress)
	if err == nil {
		return listener, nil
	}
	if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, explainListen(demoAddress, err)
	}
	fmt.Fprintf(progress, "%s is taken: the demo listens on %s instead (--listen names another)\n", demoAddress, listener.Addr())
	return listener, nil
}

// directory gives where to keep the demo, and what to do with it at the end.
func (c *demoCommand) directory() (dir string, remove func() error, err error) {
	if c.Data != "" {
		return c.Data, func() error { return nil }, nil
	}
	dir, err = os.MkdirTemp("", "discreet-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	return filepath.Join(dir, "data"), func() error { return os.RemoveAll(dir) }, nil
}

// demo is a server with the bank's data, and a key for each role.
type demo struct {
	url      string
	bank     *synth.Bank
	first    rows.Date
	progress io.Writer
	keys     []demoKey
}

// demoKey is a consumer of the demo.
type demoKey struct {
	name, key string
	role      dp.Role
	purposes  []string
}

// prepare does what an officer and a custodian do first, through the same API as they: policies, consumers,
// keys, allotments, rows.
func (d *demo) prepare(ctx context.Context, secret string) error {
	officer, err := client.New(d.url, secret, nil)
	if err != nil {
		return fmt.Errorf("calling the demo's server: %w", err)
	}
	for _, table := range d.bank.Tables() {
		if _, err := officer.ApplyPolicy(ctx, table.Name, []byte(table.Policy), client.Change{IfNone: true, Reason: "demo"}); err != nil {
			return fmt.Errorf("applying the policy of %s: %w", table.Name, err)
		}
	}
	if err := d.hire(ctx, officer, secret); err != nil {
		return err
	}
	custodian, err := client.New(d.url, d.keyOf(dp.Custodian), nil)
	if err != nil {
		return fmt.Errorf("calling the demo's server: %w", err)
	}
	for _, table := range d.bank.Tables() {
		if err := d.load(ctx, custodian, table); err != nil {
			return fmt.Errorf("loading %s: %w", table.Name, err)
		}
	}
	return nil
}

// hire makes a consumer of every role.
func (d *demo) hire(ctx context.Context, officer *client.Client, secret string) error {
	const analytics, reporting = "product-analytics", "reporting"
	d.keys = []demoKey{
		{name: "growth-team", role: dp.Product, purposes: []string{analytics}},
		{name: "insights", role: dp.Analyst, purposes: []string{analytics, reporting}},
		{name: "warehouse", role: dp.Custodian},
		{name: "audit", role: dp.Auditor},
	}
	for i := range d.keys {
		k := &d.keys[i]
		if _, err := officer.CreateConsumer(ctx, wire.NewConsumer{
			Name: k.name, Role: string(k.role), Organisation: "demo bank", Audience: string(dp.Internal), Purposes: k.purposes,
		}, client.Change{}); err != nil {
			return fmt.Errorf("adding the consumer %s: %w", k.name, err)
		}
		issued, err := officer.IssueKey(ctx, k.name, wire.NewKey{}, client.Change{})
		if err != nil {
			return fmt.Errorf("making a key of %s: %w", k.name, err)
		}
		k.key = issued.Text
		if k.role != dp.Product && k.role != dp.Analyst {
			continue
		}
		for _, table := range d.bank.Tables() {
			if _, err := officer.SetAllotment(ctx, k.name, table.Name, wire.NewAllotment{Epsilon: "3", Delta: "5e-10"}, client.Change{IfNone: true, Reason: "demo"}); err != nil {
				return fmt.Errorf("giving %s a budget: %w", k.name, err)
			}
		}
	}
	d.keys = append(d.keys, demoKey{name: "officer", role: dp.Officer, key: secret})
	return nil
}

// load streams a table month by month.
func (d *demo) load(ctx context.Context, custodian *client.Client, table synth.Table) error {
	started, total := time.Now(), int64(0)
	for _, month := range rows.Blocks(d.first, d.bank.Last(), dp.Month) {
		first, last, err := rows.BlockDates(month, dp.Month)
		if err != nil {
			return fmt.Errorf("finding the days of a month: %w", err)
		}
		out, in := io.Pipe()
		go func() { in.CloseWithError(table.Between(first, last).WriteCSV(in)) }()
		report, err := custodian.Load(ctx, table.Name, client.Upload{
			Body: out, Length: -1, Format: "csv", From: first.String(), To: last.String(), Name: "demo-" + month,
		})
		out.Close()
		if err != nil {
			return err
		}
		if report.Rejected > 0 {
			return fmt.Errorf("%d rows were rejected", report.Rejected)
		}
		total += report.Accepted
		fmt.Fprintf(d.progress, "%-13s %s  %9d rows  %5.1f s\n", table.Name, month, total, time.Since(started).Seconds())
	}
	return nil
}

func (d *demo) keyOf(role dp.Role) string {
	for _, k := range d.keys {
		if k.role == role {
			return k.key
		}
	}
	return ""
}

// question is what the demo asks first: how many shopped where in the last month and for how much, give or
// take 100 customers and 50,000 of the currency.
func (d *demo) question() wire.Query {
	month := monthOf(d.bank.Last())
	return wire.Query{
		Dataset: "transactions", Metrics: []string{"customers", "spend"}, By: []string{"merchant_category"},
		From: month + "-01", To: d.bank.Last().String(), Purpose: "product-analytics",
		Within: map[string]wire.Decimal{"customers": "100", "spend": "50000"},
	}
}

// answer asks the first question and prints what it says.
func (d *demo) answer(ctx context.Context, w io.Writer) error {
	team, err := client.New(d.url, d.keyOf(dp.Product), nil)
	if err != nil {
		return fmt.Errorf("calling the demo's server: %w", err)
	}
	release, err := team.Query(ctx, d.question(), "")
	if err != nil {
		return fmt.Errorf("asking the first question: %w", err)
	}
	q := d.question()
	if _, err := fmt.Fprintf(w, "%s of %s by %s, %s to %s:\n\n", strings.Join(q.Metrics, " and "), q.Dataset, q.By[0], q.From, q.To); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return output{Format: "table"}.print(w, releaseView(release))
}

// introduce prints what a newcomer needs: the address, keys, and questions to paste.
func (d *demo) introduce(w io.Writer) error {
	q := d.question()
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("writing the first question: %w", err)
	}
	var within []string
	for metric, half := range sorted(q.Within) {
		within = append(within, metric+"="+string(half))
	}

	var b strings.Builder
	fmt.Fprintf(&b, "\nThe demo bank is served at %s until you press Ctrl-C. API: %s/docs\n\n", d.url, d.url)
	fmt.Fprintf(&b, "export DISCREET_URL=%s\n", d.url)
	for _, k := range d.keys {
		fmt.Fprintf(&b, "export %s=%s   # %s\n", strings.ToUpper(string(k.role)), k.key, k.name)
	}
	fmt.Fprintf(&b, "\nA first question of the product team, with nothing but curl:\n\n")
	fmt.Fprintf(&b, "curl -s %s/v1/queries -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d '%s'\n",
		d.url, d.keyOf(dp.Product), body)
	fmt.Fprintf(&b, "\nor, after the exports above, with the command:\n\n")
	fmt.Fprintf(&b, "DISCREET_KEY=$PRODUCT discreet query %s %s --by %s --from %s --to %s --within %s --purpose %s\n",
		q.Dataset, strings.Join(q.Metrics, " "), q.By[0], q.From, q.To, strings.Join(within, ","), q.Purpose)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}
