package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// schedulable finds the policy whose blocks a scheduled report follows.
func (s *Service) schedulable(ctx context.Context, asker dp.Consumer, spec Spec, questions []Question) (dp.VersionedPolicy, error) {
	dataset := questions[0].Query.Dataset
	for i, q := range questions {
		if q.Query.Dataset != dataset {
			return dp.VersionedPolicy{}, invalid([]dp.Location{{Path: fmt.Sprintf("queries[%d].dataset", i), Message: "is another than the first question's: a scheduled report follows the blocks of one dataset"}})
		}
	}
	policy, err := s.policies.Policy(ctx, dataset)
	if codeOf(err) == dp.CodeNotFound || err == nil && !slices.Contains(policy.Audiences, asker.Audience) {
		return dp.VersionedPolicy{}, &dp.Error{Code: dp.CodeNotFound, Message: "there is no such dataset: list the datasets that you may ask"}
	}
	if err != nil {
		return dp.VersionedPolicy{}, err
	}
	if policy.Time == nil || policy.Unit.Block == dp.All {
		return dp.VersionedPolicy{}, invalid([]dp.Location{{Path: "schedule", Message: "needs a dataset with blocks of time: this one is one block"}})
	}
	for path, date := range map[string]string{"from": spec.From, "to": spec.To} {
		if date == "" {
			continue
		}
		if _, err := rows.ParseDate(date); err != nil {
			return dp.VersionedPolicy{}, invalid([]dp.Location{{Path: path, Message: err.Error()}})
		}
	}
	return policy, nil
}

// blockAt is the block of an instant.
func blockAt(p dp.VersionedPolicy, at time.Time) (string, error) {
	zone, err := rows.Location(&p.Policy)
	if err != nil {
		return "", fmt.Errorf("finding the time zone of dataset %s: %w", p.Name, err)
	}
	return rows.BlockOf(at.UnixMilli(), p.Unit.Block, zone), nil
}

// forBlock asks the questions of one block.
func (s Spec) forBlock(questions []Question, p dp.VersionedPolicy, block string) ([]Question, error) {
	first, last, err := rows.BlockDates(block, p.Unit.Block)
	if err != nil {
		return nil, fmt.Errorf("finding the days of a block: %w", err)
	}
	questions = slices.Clone(questions)
	for i := range questions {
		questions[i].Query.From, questions[i].Query.To = first.String(), last.String()
	}
	return questions, nil
}

// due charges the runs of a scheduled report whose blocks have ended and were loaded: each block once, those that began
// before from or, without it, that had ended when the report was made are left out. A refusal is a run, too.
func (s *Service) due(ctx context.Context, r dp.Report) (dp.Report, error) {
	var spec Spec
	if err := json.Unmarshal(r.Spec, &spec); err != nil {
		return r, fmt.Errorf("reading what a report asks: %w", err)
	}
	questions, err := spec.questions()
	if err != nil {
		return r, err
	}
	consumer, err := s.people.Consumer(ctx, r.Consumer)
	if err != nil {
		return r, err
	}
	if consumer.Suspended {
		return r, nil // nothing is due until they are let in again, and then what was meanwhile
	}
	policy, err := s.schedulable(ctx, consumer, spec, questions)
	if codeOf(err) == dp.CodeNotFound {
		return r, nil // nothing is due of what the consumer may not ask
	}
	if err != nil {
		return r, err
	}
	blocks, err := s.dueBlocks(ctx, r, spec, policy)
	if err != nil {
		return r, err
	}
	for _, block := range blocks {
		if err := s.charge(ctx, consumer, r, spec, questions, policy, block); err != nil {
			return r, err
		}
		if r, err = s.book.Report(ctx, r.Consumer, r.ID); err != nil {
			return r, err
		}
		s.notify()
	}
	return r, nil
}

// dueBlocks are in calendar order.
func (s *Service) dueBlocks(ctx context.Context, r dp.Report, spec Spec, policy dp.VersionedPolicy) (due []string, err error) {
	loaded, err := s.book.LoadedBlocks(ctx, policy.Name)
	if err != nil {
		return nil, fmt.Errorf("finding loaded blocks: %w", err)
	}
	current, err := blockAt(policy, s.options.Clock())
	if err != nil {
		return nil, err
	}
	from, err := blockAt(policy, r.Created)
	if err != nil {
		return nil, err
	}
	to := ""
	blockOf := func(date string) string {
		day, _ := rows.ParseDate(date) // was read when the report was made
		return rows.Blocks(day, day, policy.Unit.Block)[0]
	}
	if spec.From != "" {
		from = blockOf(spec.From)
	}
	if spec.To != "" {
		to = blockOf(spec.To)
	}
	for _, block := range loaded {
		if _, _, err := rows.BlockDates(block, policy.Unit.Block); err != nil {
			continue // of a kind that the policy had before rows were loaded
		}
		// Names of blocks of one kind sort as the calendar does.
		asked := slices.ContainsFunc(r.Runs, func(run dp.ReportRun) bool { return run.Block == block })
		if asked || block < from || to != "" && block > to || block >= current {
			continue
		}
		due = append(due, block)
	}
	return due, nil
}

// charge charges the run of a block, or records why it was refused.
func (s *Service) charge(ctx context.Context, consumer dp.Consumer, r dp.Report, spec Spec, questions []Question, policy dp.VersionedPolicy, block string) error {
	number := uint64(len(r.Runs)) + 1
	questions, err := spec.forBlock(questions, policy, block)
	if err != nil {
		return err
	}
	if consumer.Role != dp.Analyst {
		err = errRole()
	}
	var planned Plan
	if err == nil {
		planned, err = s.plan(ctx, consumer, spec, questions)
	}
	if err == nil {
		if waits, err := s.waits(ctx, planned, policy.Name); waits || err != nil {
			return err
		}
	}
	var run NewRun
	if err == nil {
		run, err = planned.run(r.Consumer, r.ID, number, "")
	}
	if err == nil {
		run.Block = block
		err = s.book.AddRun(ctx, r.ID, number, run)
	}
	var refused *dp.Error
	if errors.As(err, &refused) && final(refused.Code) && !errors.Is(err, answer.ErrPolicyChanged) {
		err = s.book.AddRun(ctx, r.ID, number, NewRun{Block: block, Refused: refused})
	}
	if err != nil {
		return fmt.Errorf("charging the run of block %s: %w", block, err)
	}
	return nil
}

// waits tells whether another dataset that the questions join lacks rows yet: nothing was loaded of the last block that
// they touch, nor of a later one. Which blocks were loaded is public (dp/PRIVACY.md, assumption 4).
func (s *Service) waits(ctx context.Context, p Plan, own string) (bool, error) {
	last := make(map[string]string)
	for _, b := range p.Blocks {
		if b.Dataset != own {
			last[b.Dataset] = max(last[b.Dataset], b.Block)
		}
	}
	for dataset, block := range last {
		loaded, err := s.book.LoadedBlocks(ctx, dataset)
		if err != nil {
			return false, fmt.Errorf("finding loaded blocks: %w", err)
		}
		if !slices.ContainsFunc(loaded, func(l string) bool { return l >= block }) {
			return true, nil
		}
	}
	return false, nil
}
