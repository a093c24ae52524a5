package ledger

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/mod/sumdb/tlog"
)

// request is one write that waits for the writer.
type request struct {
	decide  func(*tx) error
	despite bool         // is decided even while the ledger refuses, and alone in its batch
	always  bool         // is written where there is little room, too: it takes hardly any
	state   atomic.Int32 // waiting, then taken or withdrawn
	done    chan struct{}
	err     error // valid once done is closed
}

const (
	waiting int32 = iota
	taken
	withdrawn
)

// write has the writer run decide over the state that all earlier writes left, and returns once what it wrote
// is durable. If decide fails, nothing is written and its error is returned. If ctx ends first, the write is
// withdrawn and nothing is written; once the writer has taken it, it stands whatever becomes of ctx. Decide
// runs once, names what it writes, must be quick, and must not call the ledger.
//
// A write that the writer has not taken after Limits.Wait is refused, so that it lasts at most that long and
// the time of two commits: of the batch that is being synced, and of its own.
func (l *Ledger) write(ctx context.Context, decide func(*tx) error) error {
	return l.submit(ctx, &request{decide: decide, done: make(chan struct{})})
}

// writeAlways is write where nothing else is written for want of room. Only what takes next to nothing may use it,
// and only so often as there are charges.
func (l *Ledger) writeAlways(ctx context.Context, decide func(*tx) error) error {
	return l.submit(ctx, &request{decide: decide, always: true, done: make(chan struct{})})
}

func (l *Ledger) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-l.quit:
		return errClosed()
	default:
	}
	late := time.NewTimer(l.limits.Wait)
	defer late.Stop()
	select {
	case l.queue <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.quit:
		return errClosed()
	case <-late.C:
		return errBusy()
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, withdrawn) {
			return ctx.Err()
		}
	case <-late.C:
		if r.state.CompareAndSwap(waiting, withdrawn) {
			return errBusy()
		}
	case <-l.done:
		// The writer may have ended before this request reached it.
		if r.state.CompareAndSwap(waiting, withdrawn) {
			return errClosed()
		}
	}
	<-r.done
	return r.err
}

// run is the writer: it alone changes the database, so writes never conflict, and whatever waits while one
// batch is synced makes up the next.
func (l *Ledger) run() {
	defer close(l.done)
	for {
		select {
		case <-l.quit:
			return
		case first := <-l.queue:
			l.commitWaiting(first)
		}
	}
}

// commitWaiting commits what waits. Nobody hears of a decision before the batch is durable, not even of a
// refusal: it may rest on an earlier request of the same batch. So what was decided over a batch that came to
// nothing comes to nothing, too, wherever it would have been written.
func (l *Ledger) commitWaiting(first *request) {
	b := l.newBatch()
	for r, more := first, true; more; r, more = l.next() {
		if !r.state.CompareAndSwap(waiting, taken) {
			continue
		}
		if r.despite { // is decided over what is durable, and decides what follows
			_ = l.finish(b) // which has answered whoever it concerns
			b = l.newBatch()
			staged, err := l.decide(b, r)
			b.add(l.hot, r, staged, err)
			_ = l.finish(b)
			b = l.newBatch()
			continue
		}
		staged, err := l.decide(b, r)
		if len(b.requests) == maxGroup || b.bytes > 0 && b.bytes+staged.bytes > maxBatch {
			// What was decided stays true over a batch that has been committed.
			failed := l.finish(b)
			b = l.newBatch()
			if failed != nil {
				r.answer(failed)
				continue
			}
		}
		b.add(l.hot, r, staged, err)
	}
	_ = l.finish(b)
}

// answer ends a request.
func (r *request) answer(err error) {
	r.err = err
	close(r.done)
}

// next takes a request that waits already, if any.
func (l *Ledger) next() (*request, bool) {
	select {
	case r := <-l.queue:
		return r, true
	default:
		return nil, false
	}
}

// maxGroup is how many requests one batch answers at most, so that refusals, which add no bytes, do not wait
// for ever.
const maxGroup = 1024

// batch is a transaction that holds the writes of several requests.
type batch struct {
	txn      *badger.Txn
	now      time.Time
	entries  *entrySeal
	head     head // of the chain, with the entries of this batch
	edge     edge // of the tree over them
	requests []*request
	bytes    int
	lost     uint64 // number of the write-off that it is, over which the witness is set anew
	opens    uint64 // number of the opening that it counts; 0: none
	full     error  // why nothing may be written
	err      error  // a failure that concerns the whole batch
}

func (l *Ledger) newBatch() *batch {
	b := &batch{txn: l.db.NewTransaction(true), now: l.clock().UTC().Round(0), entries: l.entries, head: l.head, edge: slices.Clone(l.edge)}
	if l.opened.Load() {
		b.full = l.room()
	}
	return b
}

// decide runs a request over the batch so far. What it writes is kept aside until it has succeeded.
func (l *Ledger) decide(b *batch, req *request) (staged *tx, err error) {
	staged = &tx{txn: b.txn, hot: l.hot, now: b.now, staged: make(map[string][]byte, 16)}
	if l.broken.Load() || b.err != nil {
		return staged, errBroken()
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("deciding a write: %v\n%s", p, debug.Stack())
		}
	}()
	if err := req.decide(staged); err != nil {
		return staged, err
	}
	if len(staged.staged) > 0 && staged.kind == "" {
		return staged, errors.New("a write does not say what it is")
	}
	if r := l.refusal.Load(); r != nil && !req.despite && len(staged.staged) > 0 { // as with a full disk
		return staged, r.err()
	}
	if staged.bytes > maxRequest || staged.long {
		return staged, errTooLarge()
	}
	if b.full != nil && !req.always && len(staged.staged) > 0 { // what writes nothing, such as a repeat or a refusal, goes on
		return staged, b.full
	}
	return staged, nil
}

// add puts a decided request into the batch: its writes, or its refusal, which leaves nothing.
func (b *batch) add(h *hot, r *request, staged *tx, err error) {
	r.err = err
	b.requests = append(b.requests, r)
	if err != nil || b.err != nil || len(staged.staged) == 0 {
		return
	}
	entry := encodeEntry(b.head, b.now, staged.kind, staged.staged)
	edge, hashes, err := b.edge.add(b.head.length, tlog.RecordHash(entry))
	if err != nil { // nothing of the batch is committed
		b.err = err
		return
	}
	b.head, b.edge = b.head.after(entry), edge
	staged.staged[string(entryKey(b.head.length))] = b.entries.seal(b.head.length, entry)
	staged.staged[string(hashesKey(b.head.length))] = encodeHashes(hashes)
	for key, value := range staged.staged {
		if value == nil {
			err = b.txn.Delete([]byte(key))
		} else {
			err = b.txn.Set([]byte(key), value)
		}
		if isHot([]byte(key)) {
			h.set(key, value)
		}
		if err != nil { // nothing of the batch is committed
			b.err = fmt.Errorf("adding a write to its batch: %w", err)
			return
		}
	}
	b.bytes += staged.bytes
	b.lost, b.opens = staged.lost, max(b.opens, staged.opens)
}

// finish commits a batch and then answers its requests. It returns why nothing of the batch stands, if so.
func (l *Ledger) finish(b *batch) error {
	defer b.txn.Discard()
	if b.err == nil && l.broken.Load() { // what was decided rests on a batch that may not be on disk
		b.err = errBroken()
	}
	if b.err == nil && b.bytes > 0 {
		b.err = l.commit(b)
	}
	if b.err != nil {
		l.hot.forget()
	}
	for _, r := range b.requests {
		if b.err != nil {
			r.err = b.err
		}
		r.answer(r.err)
	}
	return b.err
}

// commit makes a batch durable: the database, then the names of its files, then the witness. Only after that
// may anybody hear of it, so that what the witness has not seen was never acknowledged. A commit that failed may
// or may not be on disk: the ledger stops, and opening it again shows what stands.
func (l *Ledger) commit(b *batch) error {
	if err := l.checkWitness(b); err != nil {
		return err
	}
	l.durable.Lock()
	defer l.durable.Unlock()
	err := b.txn.Commit()
	if err == nil {
		err = l.dir.sync()
	}
	if err == nil {
		err = l.witness.write(l.id, b.head, b.now)
	}
	if err != nil {
		l.broken.Store(true)
		l.log.Error("ledger: a commit failed, no further ones are made", "error", err)
		return errBroken()
	}
	l.head, l.edge = b.head, b.edge
	if b.opens > 0 {
		l.opening = b.opens
		l.forgetRestored()
	}
	if b.lost > 0 {
		l.lost.Store(b.lost)
		l.refusal.Store(nil)
	}
	return nil
}

// checkWitness makes sure, before anything is committed, that the witness is this process's to write.
func (l *Ledger) checkWitness(b *batch) error {
	if b.lost > 0 {
		err := l.takeWitness()
		if err != nil && l.refusal.Load() == nil {
			_ = l.stillWitnessed() // says so in the status
		}
		return err
	}
	return l.stillWitnessed()
}

// stillWitnessed stops all further writes where the witness is not this process's any more.
func (l *Ledger) stillWitnessed() error {
	err := l.witness.still()
	if err == nil {
		return nil
	}
	r := &refusal{state: StateMoved, cause: "its witness was written or replaced by something else while the ledger was open"}
	l.log.Error("ledger: the witness cannot be relied on", "error", err)
	l.refuseWrites(r)
	return r.err()
}
