package ledger

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// request is one write that waits for the writer.
type request struct {
	decide func(*tx) error
	state  atomic.Int32 // waiting, then taken or withdrawn
	done   chan struct{}
	err    error // valid once done is closed
}

const (
	waiting int32 = iota
	taken
	withdrawn
)

// write has the writer run decide over the state that all earlier writes left, and returns once what it wrote
// is durable. If decide fails, nothing is written and its error is returned. If ctx ends first, the write is
// withdrawn and nothing is written; once the writer has taken it, it stands whatever becomes of ctx. Decide
// runs once, must be quick, and must not call the ledger.
func (l *Ledger) write(ctx context.Context, decide func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{decide: decide, done: make(chan struct{})}
	select {
	case <-l.quit:
		return errClosed()
	default:
	}
	select {
	case l.queue <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.quit:
		return errClosed()
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, withdrawn) {
			return ctx.Err()
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
// refusal: it may rest on an earlier request of the same batch.
func (l *Ledger) commitWaiting(first *request) {
	b := l.newBatch()
	for r, more := first, true; more; r, more = l.next() {
		if !r.state.CompareAndSwap(waiting, taken) {
			continue
		}
		staged, err := l.decide(b, r)
		if len(b.requests) == maxGroup || b.bytes > 0 && b.bytes+staged.bytes > maxBatch {
			// What was decided stays true over a batch that has been committed.
			l.finish(b)
			b = l.newBatch()
		}
		b.add(r, staged, err)
	}
	l.finish(b)
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
	requests []*request
	bytes    int
	full     error // why nothing may be written
	err      error // a failure that concerns the whole batch
}

func (l *Ledger) newBatch() *batch {
	b := &batch{txn: l.db.NewTransaction(true), now: l.clock().UTC().Round(0)}
	if l.opened.Load() {
		b.full = l.room()
	}
	return b
}

// decide runs a request over the batch so far. What it writes is kept aside until it has succeeded.
func (l *Ledger) decide(b *batch, r *request) (staged *tx, err error) {
	staged = &tx{txn: b.txn, now: b.now, staged: map[string][]byte{}}
	if l.broken.Load() || b.err != nil {
		return staged, errBroken()
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("deciding a write: %v\n%s", p, debug.Stack())
		}
	}()
	if err := r.decide(staged); err != nil {
		return staged, err
	}
	if staged.bytes > maxRequest || staged.long {
		return staged, errTooLarge()
	}
	if b.full != nil && len(staged.staged) > 0 { // what writes nothing, such as a repeat or a refusal, goes on
		return staged, b.full
	}
	return staged, nil
}

// add puts a decided request into the batch: its writes, or its refusal, which leaves nothing.
func (b *batch) add(r *request, staged *tx, err error) {
	r.err = err
	b.requests = append(b.requests, r)
	if err != nil || b.err != nil {
		return
	}
	for key, value := range staged.staged {
		if value == nil {
			err = b.txn.Delete([]byte(key))
		} else {
			err = b.txn.Set([]byte(key), value)
		}
		if err != nil { // nothing of the batch is committed
			b.err = fmt.Errorf("adding a write to its batch: %w", err)
			return
		}
	}
	b.bytes += staged.bytes
}

// finish commits a batch and then answers its requests. A failed commit may or may not be on disk: the ledger
// stops, and opening it again shows what stands.
func (l *Ledger) finish(b *batch) {
	defer b.txn.Discard()
	if b.err == nil && l.broken.Load() { // what was decided rests on a batch that may not be on disk
		b.err = errBroken()
	}
	if b.err == nil && b.bytes > 0 {
		l.durable.Lock()
		b.err = b.txn.Commit()
		if b.err == nil {
			b.err = l.dir.sync()
		}
		if b.err != nil {
			l.broken.Store(true)
			l.log.Error("ledger: a commit failed, no further ones are made", "error", b.err)
			b.err = errBroken()
		}
		l.durable.Unlock()
	}
	for _, r := range b.requests {
		if b.err != nil {
			r.err = b.err
		}
		close(r.done)
	}
}
