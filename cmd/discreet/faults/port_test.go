package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// errDied is what a call gets from a process that is no more. Its caller never hears of it.
var errDied = errors.New("the process has ended")

// port stands between the walk and what it uses. At every use the call waits until the scheduler lets it go on,
// and the process may end there.
type port struct {
	world *world
	life  int
}

// pause waits for the scheduler, and fails once the process has ended.
func (p *port) pause(ctx context.Context) error {
	if p.dead() {
		return errDied // the rest of the walk runs down without being seen
	}
	c := ctx.Value(callKey{}).(*call)
	if c.batch != nil && p.world.choose.IntN(8) > 0 { // a report is priced in many steps, of which few are worth a look
		return nil
	}
	c.paused <- false
	<-c.resumed
	if p.dead() {
		return errDied
	}
	return nil
}

func (p *port) dead() bool { return p.world.life != p.life }

// use runs one use of the ledger that may write, between two pauses. Sometimes the process ends in it.
func use[T any](p *port, ctx context.Context, do func() (T, error)) (result T, err error) {
	var none T
	if err := p.pause(ctx); err != nil {
		return none, err
	}
	p.world.wrote = true
	if p.world.choose.IntN(20) > 0 {
		if result, err = do(); err != nil {
			return result, err
		}
		return result, nil
	}
	p.world.dieWithin(func() { _, _ = do() })
	return none, errDied
}

// dieWithin ends the process within a call of the ledger that nobody hears the result of. Of its commit nothing,
// any pages of it, or all reached the disk; only in the last case can the witness know of it.
func (w *world) dieWithin(do func()) {
	w.did.CrashedWithin++
	before, err := w.files.copyTo(filepath.Join(w.home, "before"))
	w.fail(err, "copying the files")
	do()
	left := w.files
	switch w.choose.IntN(4) {
	case 0:
		left = before
	case 1: // the commit, and not the witness
		left = w.withWitness(before)
	case 2: // some pages of the commit
		left = w.withWitness(before)
		w.tear(before, left)
	}
	w.life++ // the walk runs down without being seen; then the scheduler goes on from what is left
	w.left = &left
}

// withWitness is a copy of the ledger with the witness of before.
func (w *world) withWitness(before site) site {
	torn, err := w.files.copyTo(filepath.Join(w.home, "torn"))
	w.fail(err, "copying the files")
	w.fail(copyFile(before.witness, torn.witness), "copying the witness")
	return torn
}

// page is what a disk writes at once.
const page = 4096

// tear takes some of the pages away that the newest write-ahead log got since before.
func (w *world) tear(before, after site) {
	logs, err := filepath.Glob(filepath.Join(after.dir, "*.mem"))
	if err != nil || len(logs) == 0 {
		w.fail(fmt.Errorf("no write-ahead log: %w", err), "tearing a commit")
		return
	}
	newest := logs[len(logs)-1]
	now, err := os.ReadFile(newest)
	w.fail(err, "tearing a commit")
	old, err := os.ReadFile(filepath.Join(before.dir, filepath.Base(newest)))
	if err != nil {
		return // a new log: its directory entry, too, may be missing, but then all of the commit is
	}
	file, err := os.OpenFile(newest, os.O_WRONLY, 0)
	w.fail(err, "tearing a commit")
	defer file.Close()
	for at := 0; at < len(now) && at < len(old); at += page {
		end := min(at+page, len(now), len(old))
		if !bytes.Equal(now[at:end], old[at:end]) && w.choose.IntN(2) == 0 {
			_, err := file.WriteAt(old[at:end], int64(at))
			w.fail(err, "tearing a commit")
			w.did.Torn++
		}
	}
}

// Policy implements answer.Policies.
func (p *port) Policy(ctx context.Context, dataset string) (dp.VersionedPolicy, error) {
	if err := p.pause(ctx); err != nil {
		return dp.VersionedPolicy{}, err
	}
	other, err := p.world.ledger.Policy(ctx, bank)
	if err != nil {
		return dp.VersionedPolicy{}, err
	}
	ctx.Value(callKey{}).(*call).bank = other.Version
	return p.world.ledger.Policy(ctx, dataset)
}

// PolicyAt implements answer.Policies.
func (p *port) PolicyAt(ctx context.Context, dataset string, version uint64) (dp.VersionedPolicy, error) {
	if err := p.pause(ctx); err != nil {
		return dp.VersionedPolicy{}, err
	}
	return p.world.ledger.PolicyAt(ctx, dataset, version)
}

// Allotment implements answer.Ledger.
func (p *port) Allotment(ctx context.Context, consumer, dataset string) (dp.Allotment, error) {
	if p.dead() {
		return dp.Allotment{}, errDied
	}
	return p.world.ledger.Allotment(ctx, consumer, dataset)
}

// Charge implements answer.Ledger, adds what the plan touches besides, and keeps what was acknowledged.
func (p *port) Charge(ctx context.Context, r answer.ChargeRequest) (answer.Charged, error) {
	r.Also = further(r.Plan, r.Loss, r.PolicyVersion, ctx.Value(callKey{}).(*call).bank)
	r.Plan = planOf(ctx, r.Plan)
	charged, err := use(p, ctx, func() (answer.Charged, error) { return p.world.ledger.Charge(ctx, r) })
	var short *dp.Error
	if errors.As(err, &short) && short.Code == dp.CodeBudgetExhausted {
		p.world.fail(refused(p.world.ledger, r, short), "being refused")
		if strings.Contains(short.Left.Account, "/"+bank+"/") {
			p.world.did.RefusedElsewhere++
		}
	}
	if errors.Is(err, answer.ErrPolicyChanged) {
		p.world.did.Repriced++
	}
	if err == nil {
		if len(charged.Charge.Also) > 0 {
			p.world.did.Several++
			if charged.Charge.CapLoss == (dp.Loss{}) {
				p.world.did.HandedOut++
			}
		}
		w := p.world
		if _, repeated := w.model.entries[charged.Charge.ID]; !repeated {
			w.fail(admitted(w.ledger, charged.Charge), "charging")
		}
		w.fail(w.model.charged(r, charged), "charging")
		if charged.Attempt > 1 {
			w.did.Repeated++
		}
		if charged.Outcome != nil {
			w.did.Replayed++
		}
	}
	return charged, err
}

// Recall implements answer.Ledger.
func (p *port) Recall(ctx context.Context, consumer, key string, body [32]byte) (answer.Charged, bool, error) {
	if err := p.pause(ctx); err != nil {
		return answer.Charged{}, false, err
	}
	charged, known, err := p.world.ledger.Recall(ctx, consumer, key, body)
	if err == nil && known && charged.Outcome != nil {
		p.world.did.Replayed++
	}
	return charged, known, err
}

// Left implements answer.Ledger.
func (p *port) Left(ctx context.Context, consumer, dataset string, blocks []string, loss dp.Loss, also ...dp.Touched) (dp.Left, error) {
	if err := p.pause(ctx); err != nil {
		return dp.Left{}, err
	}
	return p.world.ledger.Left(ctx, consumer, dataset, blocks, loss, also...)
}

// CheckRetired implements answer.Ledger.
func (p *port) CheckRetired(ctx context.Context, dataset string, blocks []string, also ...dp.Touched) error {
	if err := p.pause(ctx); err != nil {
		return err
	}
	return p.world.ledger.CheckRetired(ctx, dataset, blocks, also...)
}

// Find implements answer.Releases.
func (p *port) Find(ctx context.Context, consumer, plan, dataset string, blocks []string, also ...dp.Touched) (answer.Found, error) {
	if err := p.pause(ctx); err != nil {
		return answer.Found{}, err
	}
	also = append(also, further(plan, dp.Loss{}, 0, 0)...)
	c := ctx.Value(callKey{}).(*call)
	c.planned[plan] = c.bank
	return p.world.ledger.Find(ctx, consumer, planOf(ctx, plan), dataset, blocks, also...)
}

// HeldOver implements answer.Releases.
func (p *port) HeldOver(ctx context.Context, consumer, dataset string, blocks []string, most int) ([]dp.Release, error) {
	if err := p.pause(ctx); err != nil {
		return nil, err
	}
	return p.world.ledger.HeldOver(ctx, consumer, dataset, blocks, most)
}

// Publish implements answer.Releases.
func (p *port) Publish(ctx context.Context, charge string, attempt int, o answer.Outcome) (answer.Outcome, error) {
	if o.Release != nil {
		r := *o.Release
		r.Also = ctx.Value(callKey{}).(*call).read.Also
		r.Plan = planOf(ctx, r.Plan)
		o.Release = &r
	}
	return use(p, ctx, func() (answer.Outcome, error) { return p.world.ledger.Publish(ctx, charge, attempt, o) })
}

// Renew implements answer.Releases.
func (p *port) Renew(ctx context.Context, charge string, attempt int) error {
	_, err := use(p, ctx, func() (struct{}, error) { return struct{}{}, p.world.ledger.Renew(ctx, charge, attempt) })
	return err
}

// Abandon implements answer.Releases.
func (p *port) Abandon(ctx context.Context, charge string, attempt int) error {
	_, err := use(p, ctx, func() (struct{}, error) { return struct{}{}, p.world.ledger.Abandon(ctx, charge, attempt) })
	return err
}

// Release implements answer.Releases.
func (p *port) Release(ctx context.Context, consumer, id string) (dp.Release, error) {
	if err := p.pause(ctx); err != nil {
		return dp.Release{}, err
	}
	return p.world.ledger.Release(ctx, consumer, id)
}

// Aggregate implements answer.Aggregator by an engine that is slow, away, or broken at times. What it returns
// depends on the block versions alone, as it would over real rows.
func (p *port) Aggregate(ctx context.Context, query *plan.Plan, at dp.Snapshot, each func(bounding.Partition) error) error {
	if err := p.pause(ctx); err != nil {
		return err
	}
	ctx.Value(callKey{}).(*call).read = at
	w := p.world
	switch n := w.choose.IntN(20); {
	case n < 3:
		w.now = w.now.Add(2 * lease) // slow: another attempt may begin
		if err := p.pause(ctx); err != nil {
			return err
		}
	case n < 6:
		return &dp.Error{Code: dp.CodeUnavailable, Message: "the engine is away"}
	case n < 7:
		return errors.New("the engine failed")
	}
	total := int64(0)
	for _, part := range append([]dp.Snapshot{at}, at.Also...) {
		for _, b := range part.Blocks {
			total += int64(b.Version) + 1
		}
	}
	key := []string{}
	if len(query.Tree.Input.Input.Keys) > 0 {
		key = []string{"food"}
	}
	totals := make([]int64, len(query.Tree.Columns))
	for i := range totals {
		totals[i] = total
	}
	return each(bounding.Partition{Key: key, Totals: totals})
}
