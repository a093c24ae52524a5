// Package report asks batches of questions: it splits a budget over them, prices them as one, has them charged as one
// before any row is read, and asks them one after the other in the background, again where a process died.
//
// A report is charged in one durable transaction, which holds a charge for every question that is not answered by a
// release that the asker holds: all of them are admitted, or nothing changes. So every account pays the sum of the
// parts, each block exactly the parts that touch it, and every answer is a release like any other, found, reread and
// shared by its own plan. What happens to a question after that is dp/answer's walk, under a key that only its
// report has.
//
// The package reads no row, draws no noise and keeps nothing: Book does. How a report stands follows from its charges.
package report

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// Answers prices and answers single questions (dp/answer.Service).
type Answers interface {
	Plan(ctx context.Context, asker dp.Consumer, q dp.Query) (answer.Quote, error)
	Ask(ctx context.Context, asker dp.Consumer, q dp.Query, key string) (answer.Answer, error)
}

// People knows the consumers.
type People interface {
	// Consumer returns a consumer as it stands now, or CodeNotFound.
	Consumer(ctx context.Context, name string) (dp.Consumer, error)
}

// Policies finds what a dataset allows.
type Policies interface {
	Policy(ctx context.Context, dataset string) (dp.VersionedPolicy, error)
}

// Releases are read to split a budget by what the asker knows already.
type Releases interface {
	// MayRead returns nil where a consumer may have what was drawn from all of these datasets, answer.ErrHidden where it
	// may not know of one.
	MayRead(ctx context.Context, consumer string, datasets []string) error
	// Held lists what a consumer holds, the last first, without groups.
	Held(ctx context.Context, consumer, dataset, cursor string, limit int) (list []dp.Release, next string, err error)
	// Release returns one of them whole.
	Release(ctx context.Context, consumer, id string) (dp.Release, error)
}

// Service has reports made. It is safe for concurrent use.
type Service struct {
	answers  Answers
	book     Book
	people   People
	policies Policies
	releases Releases
	options  Options

	kicks   chan struct{}
	mu      sync.Mutex // of the next two
	changed chan struct{}
	running map[string]bool
}

// Options are the service's limits and its surroundings.
type Options struct {
	// Workers is how many reports are under way at a time; the others wait. Each asks one question at a time.
	Workers int
	// Every is how often it is looked for blocks that ended, and for questions that nobody asks.
	Every time.Duration
	// Retry is how long it is waited, at first, before a question is asked again that could not be answered.
	Retry time.Duration
	Clock func() time.Time
	Log   *slog.Logger
}

// New wires a service. Nothing happens in the background until Run.
func New(a Answers, b Book, p People, policies Policies, r Releases, o Options) *Service {
	return &Service{answers: a, book: b, people: p, policies: policies, releases: r, options: o,
		kicks: make(chan struct{}, 1), changed: make(chan struct{}), running: map[string]bool{}}
}

// Plan is what a report would cost.
type Plan struct {
	Parts []PlannedPart
	// Blocks are all that it touches, with the sum of what the parts cost there: nothing for those that a held release
	// answers. Sorted by dataset and block.
	Blocks []BlockCost
	Left   []dp.Left // for each dataset in order, the account with least room
}

// PlannedPart is one question of it.
type PlannedPart struct {
	Name  string
	Query dp.Query // with its part of the budget
	Quote answer.Quote
}

// BlockCost is what a report costs the accounts of one block.
type BlockCost struct {
	Dataset, Block string
	Loss           dp.Loss
}

// Plan prices a report, free of charge, and sees no row. A scheduled one is priced for the block of now.
func (s *Service) Plan(ctx context.Context, asker dp.Consumer, spec Spec) (Plan, error) {
	questions, err := spec.questions()
	if err != nil {
		return Plan{}, err
	}
	if spec.Schedule != "" {
		policy, err := s.schedulable(ctx, asker, spec, questions)
		if err != nil {
			return Plan{}, err
		}
		block, err := blockAt(policy, s.options.Clock())
		if err != nil {
			return Plan{}, err
		}
		if questions, err = spec.forBlock(questions, policy, block); err != nil {
			return Plan{}, err
		}
	}
	return s.plan(ctx, asker, spec, questions)
}

// maxReplans bounds how often a report is priced anew because a policy changed under it.
const maxReplans = 3

// Submit charges a report and has it made in the background, or schedules it. Under an idempotency key the same report
// is charged once.
func (s *Service) Submit(ctx context.Context, asker dp.Consumer, spec Spec, key string) (dp.Report, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return dp.Report{}, fmt.Errorf("writing down a report: %w", err)
	}
	r := dp.Report{ID: idOf(asker.Name, key), Consumer: asker.Name, Name: spec.Name, Spec: text, Scheduled: spec.Schedule != ""}
	if key != "" {
		known, err := s.Report(ctx, asker.Name, r.ID)
		if err == nil && bytes.Equal(known.Spec, text) {
			return known, nil // whatever has changed since
		}
		if err != nil && codeOf(err) != dp.CodeNotFound {
			return dp.Report{}, err
		}
	}
	body := sha256.Sum256(text)
	for range maxReplans {
		made, err := s.begin(ctx, asker, spec, r, body)
		if !errors.Is(err, answer.ErrPolicyChanged) {
			if err == nil {
				s.Kick()
			}
			return made, err
		}
	}
	return dp.Report{}, &dp.Error{Code: dp.CodeUnavailable, Message: "a dataset's policy is being changed: ask again in a moment", RetryAfter: time.Second}
}

func (s *Service) begin(ctx context.Context, asker dp.Consumer, spec Spec, r dp.Report, body [32]byte) (dp.Report, error) {
	planned, err := s.Plan(ctx, asker, spec)
	if err != nil {
		return dp.Report{}, err
	}
	if r.Scheduled {
		return s.book.BeginReport(ctx, r, body, nil)
	}
	run, err := planned.run(asker.Name, r.ID, 1, answer.CredentialOf(ctx))
	if err != nil {
		return dp.Report{}, err
	}
	return s.book.BeginReport(ctx, r, body, &run)
}

// run is what a plan is charged as, by a caller with a credential or, in the background, without one.
func (p Plan) run(consumer, id string, number uint64, credential string) (NewRun, error) {
	var run NewRun
	for i, part := range p.Parts {
		next := NewPart{Name: part.Name, Query: part.Query, Held: part.Quote.FreeFrom}
		if next.Held == "" {
			digest, err := answer.Digest(part.Query)
			if err != nil {
				return NewRun{}, err
			}
			priced := part.Quote.Plan
			next.Charge = answer.ChargeRequest{
				Consumer: consumer, Dataset: priced.Policy.Name, PolicyVersion: priced.Policy.Version, Purpose: part.Query.Purpose,
				Plan: priced.ID, Blocks: priced.Blocks, Loss: priced.Loss, Also: priced.Also, Key: partKey(id, number, i), Body: digest, Credential: credential, Source: part.Quote.Other,
			}
		}
		run.Parts = append(run.Parts, next)
	}
	return run, nil
}

// partKey is the idempotency key of a question of a report. No caller's key has a zero byte.
func partKey(id string, run uint64, part int) string {
	return fmt.Sprintf("report\x00%s\x00%d\x00%d", id, run, part)
}

// idOf names a report: after the caller's key, so that the key names one report, or at random.
func idOf(consumer, key string) string {
	if key == "" {
		return "rep_" + strings.ToLower(rand.Text())
	}
	sum := sha256.Sum256([]byte("report\x00" + consumer + "\x00" + key))
	return "rep_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// Cancel ends a report of the asker's: questions that are not answered yet are not asked any more. What was charged
// stands.
func (s *Service) Cancel(ctx context.Context, asker, id string) (dp.Report, error) {
	if _, err := s.Report(ctx, asker, id); err != nil {
		return dp.Report{}, err
	}
	r, err := s.book.CancelReport(ctx, asker, id, dp.Error{Code: dp.CodeConflict, Message: "the report was cancelled before this question was answered, and the charge stands"})
	if err == nil {
		s.notify()
	}
	return r, err
}

// Changed is closed as soon as any report has changed.
func (s *Service) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Service) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

func codeOf(err error) dp.Code {
	var refused *dp.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}
