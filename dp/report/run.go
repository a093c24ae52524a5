package report

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// Kick has it looked at once for what there is to do.
func (s *Service) Kick() {
	select {
	case s.kicks <- struct{}{}:
	default:
	}
	s.notify()
}

// Run makes reports until ctx ends, and returns once no question is being asked any more. What an earlier process left
// is gone on with where it was.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(s.options.Every)
	defer tick.Stop()
	var workers sync.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, max(1, s.options.Workers))
	for {
		if err := s.look(ctx, slots, &workers); err != nil && ctx.Err() == nil {
			s.options.Log.Warn("looking for reports to make", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.kicks:
		case <-tick.C:
		}
	}
}

// look charges runs that are due, and has every question asked that has no answer.
func (s *Service) look(ctx context.Context, slots chan struct{}, workers *sync.WaitGroup) error {
	open, err := s.book.OpenReports(ctx)
	if err != nil {
		return fmt.Errorf("finding open reports: %w", err)
	}
	for _, r := range open {
		if r.Scheduled && r.Cancelled.IsZero() {
			if r, err = s.due(ctx, r); err != nil {
				s.options.Log.Warn("a scheduled report could not be charged yet", "report", r.ID, "error", err)
			}
		}
		if ended, all := Progress(r); ended == all || !s.claim(r.ID) {
			continue
		}
		workers.Go(func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				s.free(r.ID)
				return
			}
			ended := s.work(ctx, r)
			s.free(r.ID)
			if ended {
				s.Kick() // it may have another run by now
			}
		})
	}
	return nil
}

func (s *Service) claim(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[id] {
		return false
	}
	s.running[id] = true
	return true
}

func (s *Service) free(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, id)
}

// work asks the questions of a report that have not ended, in order, and tells whether all have ended.
func (s *Service) work(ctx context.Context, r dp.Report) bool {
	for _, run := range r.Runs {
		for i, p := range run.Parts {
			if p.Ended() {
				continue
			}
			if err := s.ask(ctx, r, run.Number, i, p); err != nil {
				if ctx.Err() == nil {
					s.options.Log.Warn("a question of a report waits", "report", r.ID, "question", p.Name, "error", err)
				}
				return false // it is looked at again
			}
			s.notify()
		}
	}
	return true
}

// maxRetry is the longest pause between two attempts.
const maxRetry = time.Minute

// ask asks one question until it has ended. What goes wrong before an attempt begins ends it, unless it passes by
// itself; what goes wrong in an attempt is counted by the ledger, which ends the charge after the third.
func (s *Service) ask(ctx context.Context, r dp.Report, run uint64, i int, p dp.ReportPart) error {
	for pause := s.options.Retry; ; pause = min(2*pause, maxRetry) {
		consumer, err := s.people.Consumer(ctx, r.Consumer)
		if err == nil && consumer.Role != dp.Analyst {
			err = errRole()
		}
		if err == nil && consumer.Suspended {
			err = &dp.Error{Code: dp.CodeForbidden, Message: "the consumer is suspended"}
		}
		if err == nil {
			s.notify() // it is being asked
			_, err = s.answers.Ask(ctx, consumer, p.Query, partKey(r.ID, run, i))
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now, readErr := s.book.Report(ctx, r.Consumer, r.ID)
		if readErr != nil {
			return readErr
		}
		part := now.Runs[run-1].Parts[i]
		if part.Ended() {
			return nil // its failure is its outcome, or it was cancelled
		}
		var refused *dp.Error
		if errors.As(err, &refused) && final(refused.Code) {
			why := dp.Error{Code: refused.Code, Message: "the question could not be asked when it was its turn, and the charge stands: " + refused.Message}
			return s.book.EndParts(ctx, r.ID, []string{part.Charge.ID}, why)
		}
		wait := pause
		if refused != nil {
			wait = max(wait, min(refused.RetryAfter, maxRetry))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// final tells whether a refusal does not pass by itself.
func final(code dp.Code) bool {
	switch code {
	case dp.CodeUnavailable, dp.CodeRateLimited, dp.CodeInternal:
		return false
	}
	return true
}

func errRole() error {
	return &dp.Error{Code: dp.CodeForbidden, Message: "reports are made for analysts, and the consumer is none any more"}
}
