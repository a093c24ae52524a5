package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// reports replays batches of questions: a report is written once and cancelled at most once, each of its runs is written
// once, and the charges that an entry makes for a run are exactly those that the run names. They replace, in what the
// entry amounts to, the charges and the outcomes that belong to it.
func (s *step) reports() error {
	var does []string
	for _, w := range s.of(kindReport) {
		parts, _, err := split(w.key)
		if err != nil {
			return err
		}
		if err := s.newReport(w, parts[0]); err != nil {
			return err
		}
		does = append(does, "report")
	}
	for _, w := range s.of(kindReportEnd) {
		parts, _, err := split(w.key)
		if err != nil {
			return err
		}
		if err := s.endReport(w, parts[0]); err != nil {
			return err
		}
		does = append(does, "report-end")
	}
	named := map[string]bool{}
	for _, w := range s.of(kindRun) {
		if err := s.newRun(w, named); err != nil {
			return err
		}
		if !slices.Contains(does, "report") {
			does = append(does, "run")
		}
	}
	for id, c := range s.made {
		if named[id] != (c.Report != "") {
			return misfitf("charge %s is of a report that does not ask for it in this entry", id)
		}
	}
	if len(s.made) > 1 && len(named) != len(s.made) {
		return misfitf("it makes several charges that no report ties together")
	}
	if len(does) > 0 {
		s.done = slices.DeleteFunc(s.done, func(what string) bool { return what == "charge" || what == "failure" })
		s.done = append(s.done, does...)
	}
	return nil
}

func (s *step) newReport(w *write, id string) error {
	r, err := putOnce[reportRecord](s, w, whole)
	if err != nil {
		return err
	}
	if id == "" || r.Consumer == "" || len(r.Body) != sha256.Size {
		return misfitf("a report begins without a consumer or a question")
	}
	s.numbers = append(s.numbers, r.Number)
	if err := s.want(numberedKey(r.Number, kindReportOf, r.Consumer), []byte(id)); err != nil {
		return err
	}
	if r.Scheduled {
		return s.want(numberedKey(r.Number, kindScheduled), []byte(id))
	}
	if s.writes[string(numberedKey(1, kindRun, id))] == nil {
		return misfitf("report %s has neither a run nor a schedule", id)
	}
	return nil
}

// endReport holds that a report is cancelled once, and has no runs after it.
func (s *step) endReport(w *write, id string) error {
	if _, err := putOnce[reportEndRecord](s, w, whole); err != nil {
		return err
	}
	text, still, err := s.stands(key(kindReport, id))
	if err != nil || !still {
		return err
	}
	r, err := decodeRecord[reportRecord](text, whole)
	if err != nil {
		return err
	}
	if r.Scheduled {
		return s.wantGone(numberedKey(r.Number, kindScheduled))
	}
	return nil
}

// newRun holds that a run follows on the one before it, and that its charges are made with it.
func (s *step) newRun(w *write, named map[string]bool) error {
	parts, suffix, err := split(w.key)
	if err != nil {
		return err
	}
	r, err := putOnce[runRecord](s, w, whole)
	if err != nil {
		return err
	}
	id, n := parts[0], binary.BigEndian.Uint64(suffix)
	report := key(kindReport, id)
	if !s.holds(report) && s.writes[string(report)] == nil {
		return misfitf("a run belongs to a report that does not exist")
	}
	if s.holds(key(kindReportEnd, id)) {
		return misfitf("report %s has a run after it was cancelled", id)
	}
	if n == 0 || n > 1 && !s.holds(numberedKey(n-1, kindRun, id)) {
		return misfitf("the runs of report %s do not follow each other", id)
	}
	for _, p := range r.Parts {
		if (p.Charge == "") == (p.Release == "") {
			return misfitf("a question of report %s has neither charge nor answer, or both", id)
		}
		if p.Charge == "" {
			if !s.holds(key(kindRelease, p.Release)) {
				return misfitf("a question of report %s has an answer that was never given", id)
			}
			continue
		}
		if c, ok := s.made[p.Charge]; !ok || c.Report != id || named[p.Charge] {
			return misfitf("a question of report %s has a charge that is not made with it", id)
		}
		named[p.Charge] = true
	}
	return nil
}
