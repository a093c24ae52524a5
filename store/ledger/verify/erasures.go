package verify

import "time"

type erasureRecord struct {
	By    string
	At    time.Time
	Units int64
}

type erasureEndRecord struct {
	At time.Time
}

// erasures replays what was asked to be erased, and that it was: each once, in this order. Who it was about is nowhere.
func (s *step) erasures() error {
	for _, w := range s.of(kindErasure) {
		e, err := putOnce[erasureRecord](s, w, whole)
		if err != nil {
			return err
		}
		names, _, err := split(w.key)
		if err != nil {
			return err
		}
		if s.datasets[names[0]] == nil || names[1] == "" || e.By == "" || e.Units < 1 {
			return misfitf("an erasure is of a dataset that does not exist, or does not say who asked for it and for how many")
		}
		s.done = append(s.done, "erasure")
	}
	for _, w := range s.of(kindErasureEnd) {
		if _, err := putOnce[erasureEndRecord](s, w, whole); err != nil {
			return err
		}
		names, _, err := split(w.key)
		if err != nil {
			return err
		}
		if !s.holds(key(kindErasure, names...)) {
			return misfitf("an erasure ends that nobody asked for")
		}
		s.done = append(s.done, "erasure-end")
	}
	return nil
}
