package ledger

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// events gathers what changed nothing and is to be in the log all the same, for a moment, so that however often
// something happens there is one entry for all of it. Nobody waits for it: what is gathered when the power is cut is
// lost, and what the ledger does not take is counted and dropped.
type events struct {
	every time.Duration

	mu     sync.Mutex
	counts map[dp.AuditEvent]int64 // by what happened, with a count of 0
	since  time.Time               // of the first
	lost   int64                   // since something was written last
	armed  bool
	ended  bool
	warned time.Time

	flushing sync.Mutex
}

const (
	// maxEvents is how many different events are taken down within one gathering; of further ones only the kind and
	// the consumer, until there are maxCoarse in all; beyond that they are counted as lost.
	maxEvents = 128
	maxCoarse = 256
	// maxEventText is the length of any of an event's texts in bytes.
	maxEventText = 128
)

// eventsRecord is what happened since a moment.
type eventsRecord struct {
	Since  time.Time
	Events []dp.AuditEvent // no two of which differ in nothing but their count
	Lost   int64           // that came to be in no record, since the one before
}

// Note takes down that something happened, for the entry of this second. It never waits and never fails. Of names, only
// those that the ledger knows are written.
func (l *Ledger) Note(e dp.AuditEvent) {
	n := max(e.Count, 1)
	e.Count = 0
	for _, text := range []*string{&e.Consumer, &e.Operation, &e.Dataset, &e.Release, &e.Key, &e.Object, (*string)(&e.Code)} {
		if !isPlain(*text) {
			*text = ""
		}
	}
	s := &l.events
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if _, known := s.counts[e]; !known {
		if len(s.counts) >= maxEvents {
			e = dp.AuditEvent{Kind: e.Kind, Consumer: e.Consumer, Further: true}
		}
		if _, known := s.counts[e]; !known && len(s.counts) >= maxCoarse {
			s.lost += n
			return
		}
	}
	if len(s.counts) == 0 {
		s.counts, s.since = make(map[dp.AuditEvent]int64), l.clock().UTC().Round(0)
	}
	s.counts[e] += n
	if !s.armed {
		s.armed = true
		time.AfterFunc(s.every, l.flushEvents)
	}
}

// isPlain tells whether a text is one that names have.
func isPlain(text string) bool {
	return len(text) <= maxEventText && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:/=+", r)
	})
}

// WriteEvents writes down what was gathered so far, and returns once it is durable or counted: for whoever takes the
// ledger as it stands, so that it lacks nothing that had happened.
func (l *Ledger) WriteEvents() { l.flushEvents() }

// flushEvents writes down what was gathered.
func (l *Ledger) flushEvents() {
	s := &l.events
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	gathered, since, lost := s.counts, s.since, s.lost
	s.counts, s.lost, s.armed = nil, 0, false
	s.mu.Unlock()
	if len(gathered) == 0 {
		s.lose(lost)
		return
	}
	total := lost
	for _, n := range gathered {
		total += n
	}
	err := l.writeEvents(context.Background(), gathered, since, lost)
	if err == nil {
		return
	}
	s.lose(total)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.warned) >= time.Minute {
		s.warned = now
		l.log.Warn("ledger: events are not written into the log, and are only counted", "lost", s.lost, "error", err)
	}
}

func (s *events) lose(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost += n
}

// endEvents writes down what was gathered, and takes nothing more.
func (l *Ledger) endEvents() {
	l.events.mu.Lock()
	l.events.ended = true
	l.events.mu.Unlock()
	l.flushEvents()
}

// writeEvents writes one entry. What names a consumer or a release that is not there is counted as lost; a dataset that
// is not there is not named.
func (l *Ledger) writeEvents(ctx context.Context, gathered map[dp.AuditEvent]int64, since time.Time, lost int64) error {
	record := eventsRecord{Since: since, Lost: lost}
	known := make(map[dp.AuditEvent]int64, len(gathered))
	// Nothing of this ever ceases to be there: it can be asked before the writer's turn.
	err := l.read(ctx, func(v view) error {
		for e, n := range gathered {
			there, err := namesKnown(v, &e)
			if err != nil {
				return err
			}
			if there {
				known[e] += n
			} else {
				record.Lost += n
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for e, n := range known {
		e.Count = n
		record.Events = append(record.Events, e)
	}
	slices.SortFunc(record.Events, func(a, b dp.AuditEvent) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Consumer, b.Consumer), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Release, b.Release), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Object, b.Object))
	})
	if len(record.Events) == 0 {
		l.events.lose(record.Lost)
		return nil
	}
	return l.write(ctx, func(t *tx) error {
		t.kind = entryEvents
		number, err := nextNumber(t)
		if err != nil {
			return err
		}
		return save(t, eventsKey(number), record)
	})
}

// namesKnown tells whether an event can be written down, with names of nothing but what is there.
func namesKnown(v view, e *dp.AuditEvent) (bool, error) {
	stands := func(key []byte) (bool, error) {
		value, err := v.get(key)
		return value != nil, err
	}
	if e.Dataset != "" {
		there, err := stands(datasetKey(e.Dataset))
		if err != nil {
			return false, err
		}
		if !there {
			e.Dataset = ""
		}
	}
	if e.Key != "" {
		k, there, err := load[dp.Key](v, keyKey(e.Key))
		if err != nil {
			return false, err
		}
		if !there || k.Consumer != e.Consumer {
			e.Key = ""
		}
	}
	if e.Release != "" {
		if held, err := stands(holderKey(e.Consumer, e.Release)); err != nil || !held {
			return false, err
		}
	}
	if e.Consumer == "" {
		return e.Kind == dp.AuditFailedSignIn, nil
	}
	return stands(consumerKey(e.Consumer))
}
