package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/api/policyfile"
)

// compareConcurrent asks one and sixteen at a time.
func compareConcurrent(ctx context.Context, s settings, r *report) error {
	l, err := open(ctx, s, s.rows, s.customers)
	if err != nil {
		return err
	}
	defer l.close()
	var rows [][]string
	for _, q := range questions()[:2] {
		for _, c := range []contestant{
			l.ours.contestant(q),
			l.byTime.contestant("DuckDB, plain GROUP BY, time order", q.plain(table)),
			l.sorted.contestant("DuckDB, bounded, sorted", q.bounded(table)),
		} {
			note("%s: %s", q.Name, c.name)
			if err := c.do(ctx); err != nil { // warms up
				return err
			}
			var alone calls
			for _, clients := range []int{1, 16} {
				m, err := drive(ctx, clients, s.each, nil, c.do)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				if clients == 1 {
					alone = m
				}
				rows = append(rows, []string{q.Name, c.name, fmt.Sprint(clients), fmt.Sprintf("%.1f", m.perSecond), ratio(m.perSecond, alone.perSecond), short(m.p50), short(m.p99)})
			}
		}
	}
	r.table(fmt.Sprintf("One and sixteen questions at once, %s rows", millions(l.rows)),
		[]string{"question", "engine", "at once", "answers/s", "over one at once", "p50", "p99"}, rows)
	return nil
}

// measureIngest asks while another dataset of the same store is loaded, in a copy of the directory.
func measureIngest(ctx context.Context, s settings, r *report) error {
	l, err := open(ctx, s, s.rows, s.customers)
	if err != nil {
		return err
	}
	if err := l.close(); err != nil {
		return err
	}
	more, err := prepare(s, max(1000, s.rows/10), max(100, s.customers/10))
	if err != nil {
		return err
	}
	dir, remove, err := l.copyStore()
	if err != nil {
		return err
	}
	defer remove()
	ours, err := openStore(ctx, dir)
	if err != nil {
		return err
	}
	defer ours.close()
	for _, name := range []string{"alone", "asked"} {
		policy, err := policyfile.Parse([]byte(strings.Replace(more.policy, "name: "+dataset+"\n", "name: "+name+"\n", 1)), policyfile.DefaultLimits())
		if err != nil {
			return err
		}
		if _, _, err := ours.office.ApplyPolicy(ctx, actor, policy, nil, "benchmark"); err != nil {
			return err
		}
	}
	ask := ours.contestant(questions()[0])
	if err := ask.do(ctx); err != nil {
		return err
	}
	quiet, err := drive(ctx, 1, s.each, nil, ask.do)
	if err != nil {
		return err
	}
	begin := time.Now()
	if _, err := ours.loadFile(ctx, "alone", more.csv(), "more"); err != nil {
		return err
	}
	alone := time.Since(begin)

	done, failed := make(chan struct{}), make(chan error, 1)
	var asked time.Duration
	begin = time.Now()
	go func() {
		defer close(done)
		_, err := ours.loadFile(ctx, "asked", more.csv(), "more")
		asked = time.Since(begin)
		failed <- err
	}()
	busy, err := drive(ctx, 1, 0, done, ask.do)
	if err := errors.Join(err, <-failed); err != nil {
		return err
	}
	rate := func(d time.Duration) string { return fmt.Sprintf("%.2f M/s", float64(more.rows)/1e6/d.Seconds()) }
	r.table(fmt.Sprintf("Asking about %s rows while %s are loaded", millions(l.rows), millions(more.rows)),
		[]string{"", "alone", "together", "together over alone"}, [][]string{
			{"p50 of " + questions()[0].Name, short(quiet.p50), short(busy.p50), ratio(busy.p50, quiet.p50)},
			{"p99", short(quiet.p99), short(busy.p99), ratio(busy.p99, quiet.p99)},
			{"rows loaded from CSV", rate(alone), rate(asked), ratio(float64(alone), float64(asked))},
		})
	return nil
}

// copyStore copies Discreet's directory and its witness, so that what is measured on them leaves the original as it
// is.
func (d *data) copyStore() (dir string, remove func(), err error) {
	parent, err := os.MkdirTemp(d.dir, "copy-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(parent) }
	dir = filepath.Join(parent, "discreet")
	err = os.CopyFS(dir, os.DirFS(d.discreet()))
	if err == nil { // the copy's files are for everybody, which is refused of secrets
		err = os.Chmod(filepath.Join(dir, "secrets", "secrets"), 0o600)
	}
	if err == nil {
		var witness []byte
		if witness, err = os.ReadFile(d.discreet() + ".witness"); err == nil {
			err = os.WriteFile(dir+".witness", witness, 0o600)
		}
	}
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("copying the store: %w", err)
	}
	return dir, remove, nil
}
