package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// Publish implements answer.Releases. A large release is written in pieces that nobody can see; the
// transaction that joins it to its charge makes all of it visible at once. Only the newest attempt may
// publish: another one gets what was published, or CodeUnavailable while the newest still runs.
//
// What it returns was read back from the bytes that are stored, so that every later reading is the same.
func (l *Ledger) Publish(ctx context.Context, charge string, attempt int, o answer.Outcome) (answer.Outcome, error) {
	if (o.Release == nil) == (o.Failure == nil) {
		return answer.Outcome{}, errors.New("an outcome is either a release or a failure")
	}
	var content blob
	if o.Release != nil {
		var err error
		if content, err = l.writeRelease(ctx, o.Release); err != nil {
			return answer.Outcome{}, fmt.Errorf("storing a release: %w", err)
		}
	}
	var c chargeRecord
	published := false
	write := l.write
	if o.Failure != nil { // so that a charge ends where its release cannot be written
		write = l.writeAlways
	}
	err := write(ctx, func(t *tx) (err error) {
		t.kind = entryOutcome
		c, published, err = l.decideOutcome(t, charge, attempt, o, content)
		return err
	})
	if err != nil {
		l.clear(ctx, content)
		return answer.Outcome{}, err
	}
	if !c.ended() {
		return answer.Outcome{}, &dp.Error{Code: dp.CodeUnavailable, RetryAfter: time.Second,
			Message: "another attempt at this question has begun: ask again with the same Idempotency-Key, which costs nothing more"}
	}
	if published && o.Release != nil { // saves reading a large release again
		content.release.Charge = c.Charge
		return answer.Outcome{Release: &content.release}, nil
	}
	return l.outcome(ctx, &c)
}

// decideOutcome ends a charge, unless it has ended or a newer attempt runs: then what was brought is dropped.
func (l *Ledger) decideOutcome(t *tx, charge string, attempt int, o answer.Outcome, content blob) (c chargeRecord, published bool, err error) {
	c, found, err := load[chargeRecord](t, chargeKey(charge))
	if err != nil {
		return c, false, err
	}
	if !found {
		return c, false, errors.New("an outcome names a charge that does not exist")
	}
	if c.ended() || attempt != c.Attempts {
		content.remove(t)
		return c, false, nil
	}
	if c.Number < l.lost.Load() {
		content.remove(t)
		c.Failure = l.settled(&c, t.now)
		return c, false, saveCharge(t, &c)
	}
	if o.Failure != nil {
		failure := *o.Failure
		failure.Err = nil // is for the log of the process
		c.Failure = &failure
		return c, true, saveCharge(t, &c)
	}
	if err := matches(o.Release, &c); err != nil {
		return c, false, err
	}
	_, taken, err := load[releaseRecord](t, releaseKey(o.Release.ID))
	if err != nil {
		return c, false, err
	}
	if taken {
		return c, false, errors.New("a release of this id exists: ids are never reused")
	}
	number, err := nextNumber(t)
	if err != nil {
		return c, false, err
	}
	content.publish(t)
	record := releaseRecord{Number: number, Charge: charge, Blob: content.name, Bytes: int64(len(content.data)), Sum: content.sum[:], Summary: summary(*o.Release)}
	if err := save(t, releaseKey(o.Release.ID), record); err != nil {
		return c, false, err
	}
	versions := digestVersions(c.Snapshot)
	t.put(drawKey(c.Plan, versions, number), []byte(o.Release.ID))
	c.Release, c.Metrics = o.Release.ID, o.Release.Metrics
	if err := hold(t, &c); err != nil {
		return c, false, err
	}
	return c, true, saveCharge(t, &c)
}

// matches asserts that a release is the answer to what was charged.
func matches(r *dp.Release, c *chargeRecord) error {
	for _, part := range []struct {
		name string
		same bool
	}{
		{"id", r.ID != ""},
		{"charge", r.Charge.ID == c.Charge.ID},
		{"dataset", r.Dataset == c.Charge.Dataset},
		{"plan", r.Plan == c.Plan},
		{"policy version", r.PolicyVersion == c.Snapshot.PolicyVersion},
		{"block versions", slices.Equal(r.Blocks, c.Snapshot.Blocks)},
		{"further blocks", slices.EqualFunc(r.Also, c.Snapshot.Also, sameSnapshot)},
	} {
		if !part.same {
			return fmt.Errorf("a release does not match its charge: its %s differs", part.name)
		}
	}
	return nil
}

// handOut makes a charge pay for a release that another consumer's charge drew: the same plan at the same
// price, which only the allotments pay.
func handOut(t *tx, r answer.ChargeRequest, c *chargeRecord) error {
	source, found, err := load[releaseRecord](t, releaseKey(r.Source))
	if err != nil {
		return err
	}
	if !found {
		return errors.New("a charge names a source that does not exist")
	}
	paid, err := mustLoad[chargeRecord](t, chargeKey(source.Charge))
	if err != nil {
		return err
	}
	switch {
	case paid.Plan != r.Plan || paid.Charge.Dataset != r.Dataset || paid.Snapshot.PolicyVersion != r.PolicyVersion:
		return errors.New("a charge names a source that answers another plan")
	case paid.Charge.Loss != r.Loss || !slices.Equal(paid.Charge.Blocks, r.Blocks) || !slices.EqualFunc(paid.Charge.Also, r.Also, sameTouched):
		return errors.New("a charge does not cost what its source did")
	}
	c.Source, c.Release, c.Metrics = r.Source, r.Source, source.Summary.Metrics
	c.Snapshot = paid.Snapshot
	c.Charge.CapLoss = dp.Loss{}
	return nil
}

// hold makes the consumer of an ended charge a holder of its release.
func hold(t *tx, c *chargeRecord) error {
	number, err := nextNumber(t)
	if err != nil {
		return err
	}
	consumer := c.Charge.Consumer
	if err := save(t, holderKey(consumer, c.Release), holderRecord{Number: number, Charge: c.Charge.ID}); err != nil {
		return err
	}
	t.put(heldKey(consumer, number), []byte(c.Release))
	versions := digestVersions(c.Snapshot)
	return save(t, drawOfKey(consumer, c.Plan, number), drawRecord{Release: c.Release, Versions: versions[:]})
}

// Find implements answer.Releases. Of several draws that the consumer holds, the one they came to hold last
// is found.
func (l *Ledger) Find(ctx context.Context, consumer, plan, dataset string, blocks []string, also ...dp.Touched) (found answer.Found, err error) {
	parts := withParts(dp.Touched{Dataset: dataset, Blocks: blocks}, also)
	err = l.read(ctx, func(v view) error {
		current, err := snapshotOf(v, parts)
		if err != nil {
			return err
		}
		versions := digestVersions(current)
		err = v.walk(makeKey(kindDrawOf, consumer, plan), nil, descending, func(_, value []byte) (bool, error) {
			draw, err := decode[drawRecord](value)
			if err != nil {
				return false, err
			}
			switch {
			case bytes.Equal(draw.Versions, versions[:]):
				found.Held = draw.Release
			case found.Stale == "":
				found.Stale = draw.Release
			}
			return found.Held == "", nil
		})
		if err != nil {
			return err
		}
		return v.walk(drawsKey(plan, versions), nil, ascending, func(_, value []byte) (bool, error) {
			found.Other = string(value)
			return false, nil
		})
	})
	return found, err
}

// HeldOver implements answer.Releases.
func (l *Ledger) HeldOver(ctx context.Context, consumer, dataset string, blocks []string, most int) (list []dp.Release, err error) {
	err = l.read(ctx, func(v view) error {
		current, err := blockVersions(v, dataset, blocks)
		if err != nil {
			return err
		}
		return v.walk(makeKey(kindHeld, consumer), nil, descending, func(_, value []byte) (bool, error) {
			if most--; most < 0 {
				return false, nil
			}
			r, err := l.summaries.of(v, string(value))
			// Of one whose rows were chosen by what other blocks hold, nothing is a sum of parts.
			if err == nil && r.Dataset == dataset && len(r.Also) == 0 && holdsAll(r.Blocks, current) {
				list = append(list, r)
			}
			return true, err
		})
	})
	return list, err
}

// summaries keeps what releases say of themselves, which never changes: to decode one takes 40 microseconds.
type summaries struct {
	mu    sync.Mutex
	byID  map[string]dp.Release
	bytes int
}

// summaryBytes bounds the text of the summaries that are kept; as they are kept they take a few times as much.
const summaryBytes = 8 << 20

// of is the summary of a release that is there, without the charge: by whose it was drawn is not for other holders.
func (s *summaries) of(r reader, id string) (dp.Release, error) {
	s.mu.Lock()
	known, ok := s.byID[id]
	s.mu.Unlock()
	if ok {
		return known, nil
	}
	record, err := mustLoad[releaseRecord](r, releaseKey(id))
	if err != nil {
		return dp.Release{}, err
	}
	known = record.Summary
	known.Charge = dp.Charge{}
	size := len(known.CanonicalQuery)
	for _, note := range known.Notes {
		size += len(note)
	}
	size += 1024 + 64*len(known.Blocks)
	for _, part := range known.Also {
		size += 128 + 64*len(part.Blocks)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil || s.bytes+size > summaryBytes {
		s.byID, s.bytes = make(map[string]dp.Release), 0
	}
	if _, ok := s.byID[id]; !ok {
		s.byID[id] = known
		s.bytes += size
	}
	return known, nil
}

// holdsAll tells whether every version is among those of a release. Both are in calendar order.
func holdsAll(of, versions []dp.BlockVersion) bool {
	for _, have := range of {
		if len(versions) > 0 && have == versions[0] {
			versions = versions[1:]
		}
	}
	return len(versions) == 0
}

// Release implements answer.Releases. One that the consumer may not read any more is refused as MayRead says, or is not
// there. The charge that it states is the one by which this consumer holds it.
func (l *Ledger) Release(ctx context.Context, consumer, id string) (r dp.Release, err error) {
	err = l.read(ctx, func(v view) error {
		holder, found, err := load[holderRecord](v, holderKey(consumer, id))
		if err != nil {
			return err
		}
		if !found {
			return errNoRelease()
		}
		c, err := mustLoad[chargeRecord](v, chargeKey(holder.Charge))
		if err != nil {
			return err
		}
		if r, err = readRelease(v, &c); err == nil {
			err = l.readable(v, consumer, r)
		}
		return err
	})
	if err != nil {
		return dp.Release{}, err
	}
	return r, nil
}

// Held lists the releases that a consumer holds and may read, the last one first, of one dataset or (empty) of all, without
// groups and coordinates. Next is empty after the last page; an unknown cursor is CodeInvalidInput.
func (l *Ledger) Held(ctx context.Context, consumer, dataset, cursor string, limit int) (list []dp.Release, next string, err error) {
	hidden := map[string]bool{} // by datasets
	next, err = l.page(ctx, makeKey(kindHeld, consumer), descending, cursor, limit, func(v view, _, value []byte) (bool, error) {
		id := string(value)
		r, err := mustLoad[releaseRecord](v, releaseKey(id))
		if err != nil {
			return false, err
		}
		if dataset != "" && r.Summary.Dataset != dataset {
			return false, nil
		}
		from := strings.Join(answer.DatasetsOf(r.Summary), " ")
		if _, known := hidden[from]; !known {
			err := l.readable(v, consumer, r.Summary)
			var refused *dp.Error
			if err != nil && !errors.As(err, &refused) {
				return false, err
			}
			hidden[from] = err != nil
		}
		if hidden[from] {
			return false, nil
		}
		holder, err := mustLoad[holderRecord](v, holderKey(consumer, id))
		if err != nil {
			return false, err
		}
		c, err := mustLoad[chargeRecord](v, chargeKey(holder.Charge))
		if err != nil {
			return false, err
		}
		r.Summary.Charge = c.Charge
		list = append(list, r.Summary)
		return true, nil
	})
	return list, next, err
}

// outcome reads how a charge ended, as far as its consumer may read it.
func (l *Ledger) outcome(ctx context.Context, c *chargeRecord) (o answer.Outcome, err error) {
	if c.Failure != nil {
		return answer.Outcome{Failure: c.Failure}, nil
	}
	err = l.read(ctx, func(v view) error {
		r, err := readRelease(v, c)
		if err == nil {
			err = l.readable(v, c.Charge.Consumer, r)
		}
		o.Release = &r
		return err
	})
	if err != nil {
		return answer.Outcome{}, err
	}
	return o, nil
}

// readRelease reads the release that a charge paid for, and asserts that it is the one that was published.
func readRelease(v view, c *chargeRecord) (dp.Release, error) {
	record, err := mustLoad[releaseRecord](v, releaseKey(c.Release))
	if err != nil {
		return dp.Release{}, err
	}
	data := make([]byte, 0, record.Bytes)
	err = v.walk(makeKey(kindBlob, record.Blob), nil, ascending, func(_, value []byte) (bool, error) {
		data = append(data, value...)
		return true, nil
	})
	if err != nil {
		return dp.Release{}, err
	}
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], record.Sum) {
		return dp.Release{}, fmt.Errorf("reading a release: %w", errDamaged)
	}
	r, err := decode[dp.Release](data)
	if err != nil {
		return dp.Release{}, fmt.Errorf("reading a release: %w", err)
	}
	r.Charge = c.Charge
	return r, nil
}

// summary is a release without its figures.
func summary(r dp.Release) dp.Release {
	r.Groups, r.NoisedCoordinates = nil, nil
	return r
}
