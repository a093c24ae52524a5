// Command ledger compares the charges per second of Discreet's ledger with those of PostgreSQL 15 on the same
// disk in one run, and its repeated reads of a release with a bare Fiber handler that returns the same bytes.
// It prints Markdown for RESULTS.md.
//
//	go run ./ledger            # charges, three runs of two seconds a cell
//	go run ./ledger -http      # charges and reads through HTTP as well; builds and runs the discreet command
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	dir := flag.String("dir", "", "a directory on the disk to measure; default: a temporary one")
	runs := flag.Int("runs", 3, "runs of each cell, of which the median counts")
	each := flag.Duration("each", 2*time.Second, "length of a run")
	overHTTP := flag.Bool("http", false, "measure through HTTP as well")
	charges := flag.Bool("charges", true, "compare charges with PostgreSQL")
	bare := flag.String("bare", "", "serve a file by a bare Fiber handler (used by -http)")
	flag.Parse()
	if *bare != "" {
		exit(serveBare(*bare))
	}
	exit(run(context.Background(), *dir, *runs, *each, *charges, *overHTTP))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func accountName(i int) string { return fmt.Sprintf("account%d", i) }

func run(ctx context.Context, dir string, runs int, each time.Duration, charges, overHTTP bool) error {
	if dir == "" {
		made, err := os.MkdirTemp("", "discreet-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(made)
		dir = made
	}
	if charges {
		if err := compareCharges(ctx, dir, runs, each); err != nil {
			return err
		}
	}
	if overHTTP {
		return measureHTTP(ctx, filepath.Join(dir, "http"), runs, each)
	}
	return nil
}

// compareCharges prints a row for every number of accounts and clients.
func compareCharges(ctx context.Context, dir string, runs int, each time.Duration) error {
	const most = 256
	p, err := startPostgres(ctx, dir, most)
	if err != nil {
		return err
	}
	defer p.close()
	fmt.Printf("\nPostgreSQL %s, one conditional UPDATE of one account, synchronous_commit on; the ledger charges a cap and an allotment and\nrecords the charge, its entry in the chain and the witness, all synced.\n\n", p.version)
	fmt.Println("| accounts | clients | ledger charges/s | p50 | p99 | PostgreSQL updates/s | p50 | p99 | ratio |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for _, accounts := range []int{1, 64} {
		l, err := openLedger(ctx, filepath.Join(dir, fmt.Sprint("ledger", accounts)), accounts)
		if err != nil {
			return err
		}
		if err := p.fill(ctx, accounts); err != nil {
			return err
		}
		for _, clients := range []int{1, 64, most} {
			ours, err := drive(ctx, runs, each, clients, func(ctx context.Context, client int) error { return l.charge(ctx, client%accounts) })
			if err != nil {
				return fmt.Errorf("charging the ledger: %w", err)
			}
			theirs, err := drive(ctx, runs, each, clients, func(ctx context.Context, client int) error { return p.charge(ctx, accountName(client%accounts)) })
			if err != nil {
				return fmt.Errorf("charging PostgreSQL: %w", err)
			}
			fmt.Printf("| %d | %d | %.0f | %s | %s | %.0f | %s | %s | %.1f |\n", accounts, clients, ours.perSecond, short(ours.p50), short(ours.p99),
				theirs.perSecond, short(theirs.p50), short(theirs.p99), ours.perSecond/theirs.perSecond)
		}
		if err := l.close(); err != nil {
			return err
		}
	}
	return nil
}

func short(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
