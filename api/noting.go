package api

import (
	"errors"
	"sync"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// What is noted here becomes part of the audit log within a second. Nothing waits for it.

// noteSignIn notes who signed in, for the first time in a while, or that somebody could not.
func (v *Server) noteSignIn(who caller, err error) {
	if who.Name != "" {
		if v.seen.first(occasion{what: string(dp.AuditSignIn), consumer: who.Name, on: who.key}) {
			v.services.Audit.Note(dp.AuditEvent{Kind: dp.AuditSignIn, Consumer: who.Name, Key: who.key})
		}
		return
	}
	var refused *dp.Error
	if errors.As(err, &refused) && refused.Code == dp.CodeUnauthenticated {
		fault := dp.KeyFault("refused")
		errors.As(err, &fault)
		v.services.Audit.Note(dp.AuditEvent{Kind: dp.AuditFailedSignIn, Code: dp.Code(fault)})
	}
}

// noteProblem notes the problem that a consumer was answered with.
func (v *Server) noteProblem(r *request) {
	if r.consumer != "" && r.problem != "" {
		v.services.Audit.Note(dp.AuditEvent{Kind: dp.AuditRefusal, Consumer: r.consumer, Operation: r.operation, Code: r.problem, Dataset: r.dataset})
	}
}

// noteReading notes that figures of releases were handed out once more.
func (v *Server) noteReading(consumer, operation string, releases ...string) {
	for _, id := range releases {
		if id != "" {
			v.services.Audit.Note(dp.AuditEvent{Kind: dp.AuditReading, Consumer: consumer, Operation: operation, Release: id})
		}
	}
}

// noteView notes that somebody looked at what an operation shows, once in a while.
func (v *Server) noteView(r *request) {
	if v.seen.first(occasion{what: r.operation, consumer: r.consumer, on: r.dataset}) {
		v.services.Audit.Note(dp.AuditEvent{Kind: dp.AuditView, Consumer: r.consumer, Operation: r.operation, Dataset: r.dataset})
	}
}

// seen remembers what happened within the last hour.
type seen struct {
	mu   sync.Mutex
	last map[occasion]time.Time
}

type occasion struct{ what, consumer, on string }

const (
	// again is after how long the same occasion is noted once more.
	again = time.Hour
	// maxSeen is how many occasions are remembered; then it begins anew.
	maxSeen = 1 << 14
)

// first tells whether something happens for the first time in an hour, and remembers that it does.
func (s *seen) first(o occasion) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, known := s.last[o]; known && now.Sub(last) < again {
		return false
	}
	if s.last == nil || len(s.last) >= maxSeen {
		s.last = make(map[occasion]time.Time)
	}
	s.last[o] = now
	return true
}
