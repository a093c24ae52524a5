package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/columnar"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/load"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// store is a data directory of Discreet, laid out and opened like the command's.
type store struct {
	ledger *ledger.Ledger
	rows   *columnar.Store
	office *office.Office
}

const (
	actor = "benchmark"
	asker = "asker"
	lease = 30 * time.Second
)

func openStore(ctx context.Context, dir string) (s *store, err error) {
	s = &store{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("opening Discreet: %w", err), s.close())
			s = nil
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	if s.ledger, err = ledger.Open(filepath.Join(dir, "ledger"), ledger.Options{Lease: lease, Witness: dir + ".witness"}); err != nil {
		return s, err
	}
	keys, err := secrets.Open(filepath.Join(dir, "secrets"))
	if err != nil {
		return s, err
	}
	if err := s.ledger.Pair(ctx, keys.Fingerprint()); err != nil {
		return s, err
	}
	s.office = office.New(s.ledger, time.Now)
	s.rows, err = columnar.Open(filepath.Join(dir, "data"), s.ledger, keys, columnar.DefaultOptions())
	return s, err
}

func (s *store) close() error {
	var errs []error
	if s.rows != nil {
		errs = append(errs, s.rows.Close())
	}
	if s.ledger != nil {
		errs = append(errs, s.ledger.Close())
	}
	return errors.Join(errs...)
}

// found makes the policy, the one who asks, and their budget.
func (s *store) found(ctx context.Context, policyText string) error {
	policy, err := policyfile.Parse([]byte(policyText), policyfile.DefaultLimits())
	if err != nil {
		return fmt.Errorf("reading the policy: %w", err)
	}
	if _, _, err := s.office.ApplyPolicy(ctx, actor, policy, nil, "benchmark"); err != nil {
		return fmt.Errorf("applying the policy: %w", err)
	}
	consumer := dp.Consumer{Name: asker, Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{purpose}}
	if _, err := s.office.CreateConsumer(ctx, actor, consumer, "benchmark"); err != nil {
		return fmt.Errorf("adding who asks: %w", err)
	}
	if _, _, err := s.office.SetAllotment(ctx, actor, dp.Allotment{Consumer: asker, Dataset: policy.Name, Budget: policy.Cap}, nil, "benchmark"); err != nil {
		return fmt.Errorf("giving a budget: %w", err)
	}
	return nil
}

// loadFile loads a file of the year's rows and returns how many were accepted.
func (s *store) loadFile(ctx context.Context, dataset, path, name string) (int64, error) {
	policy, err := s.ledger.Policy(ctx, dataset)
	if err != nil {
		return 0, err
	}
	format, err := load.ParseFormat(path)
	if err != nil {
		return 0, err
	}
	spec := columnar.LoadSpec{Name: name, Format: format}
	if spec.From, err = rows.ParseDate(firstDay); err != nil {
		return 0, err
	}
	if spec.To, err = rows.ParseDate(lastDay); err != nil {
		return 0, err
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	loaded, err := s.rows.Load(ctx, policy, spec, file, func() error { return nil })
	if err != nil {
		return 0, err
	}
	if loaded.Rejected > 0 {
		return 0, fmt.Errorf("%d rows were rejected: %v", loaded.Rejected, loaded.Reasons)
	}
	return loaded.Accepted, nil
}

// buildDiscreet loads the rows into a directory and merges them, unless this very program did so before.
func (d *data) buildDiscreet(ctx context.Context, rebuild bool) error {
	program, err := programDigest()
	if err != nil {
		return err
	}
	return built(d.discreet(), d.made+" "+program, rebuild, func() error {
		s, err := openStore(ctx, d.discreet())
		if err != nil {
			return err
		}
		err = s.found(ctx, d.policy)
		if err == nil {
			_, err = s.loadFile(ctx, dataset, d.csv(), "year")
		}
		if err == nil {
			err = s.rows.Compact(ctx) // as a server does in the background, soon after a load
		}
		return errors.Join(err, s.close())
	})
}

// programDigest names the code that writes a store: builds of the same sources are the same.
func programDigest() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	file, err := os.Open(self)
	if err != nil {
		return "", err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// plan prices a question as the service does.
func (s *store) plan(ctx context.Context, q dp.Query) (*plan.Plan, dp.Snapshot, error) {
	policy, err := s.ledger.Policy(ctx, q.Dataset)
	if err != nil {
		return nil, dp.Snapshot{}, err
	}
	p, err := plan.Make(q, policy, []dp.Budget{policy.Cap}, plan.DefaultLimits())
	if err != nil {
		return nil, dp.Snapshot{}, fmt.Errorf("planning: %w", err)
	}
	versions, err := s.ledger.Versions(ctx, q.Dataset, p.Blocks)
	return p, dp.Snapshot{Dataset: q.Dataset, PolicyVersion: policy.Version, Blocks: versions}, err
}

// aggregate gives the exact, bounded integers of a question.
func (s *store) aggregate(ctx context.Context, q dp.Query) (*plan.Plan, []bounding.Partition, error) {
	p, at, err := s.plan(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	var partitions []bounding.Partition
	err = s.rows.Aggregate(ctx, p, at, func(one bounding.Partition) error {
		partitions = append(partitions, one)
		return nil
	})
	return p, partitions, err
}

// contestant plans and aggregates a question.
func (s *store) contestant(q question) contestant {
	return contestant{"Discreet", func(ctx context.Context) error {
		_, partitions, err := s.aggregate(ctx, q.query())
		if err == nil && len(partitions) == 0 {
			err = errors.New("no partitions")
		}
		return err
	}}
}

// service walks whole queries: charge, scan, noise, release.
func (s *store) service() *answer.Service {
	return answer.New(s.ledger, s.ledger, s.ledger, s.rows, mechanism.Secure(), answer.Options{
		Limits: plan.DefaultLimits(), Deadline: time.Minute, Renew: lease / 3, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	})
}

func (s *store) consumer(ctx context.Context) (dp.Consumer, error) {
	return s.ledger.Consumer(ctx, asker)
}
