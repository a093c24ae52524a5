package verify

import (
	"strings"
	"time"
)

// eventsRecord is what happened and changed nothing.
type eventsRecord struct {
	Since  time.Time
	Events []eventRecord
	Lost   int64
}

type eventRecord struct {
	Kind      string
	Consumer  string `json:",omitempty"`
	Operation string `json:",omitempty"`
	Code      string `json:",omitempty"`
	Dataset   string `json:",omitempty"`
	Release   string `json:",omitempty"`
	Key       string `json:",omitempty"`
	Object    string `json:",omitempty"`
	Further   bool   `json:",omitempty"`
	Count     int64
}

// maxEvents is how many events one entry has at most.
const maxEvents = 256

// events replays events: they name what there is, and say of each kind what it says.
func (s *step) events() error {
	for _, w := range s.of(kindEvents) {
		_, suffix, err := split(w.key)
		if err != nil {
			return err
		}
		r, err := putOnce[eventsRecord](s, w, whole)
		if err != nil {
			return err
		}
		s.numbers = append(s.numbers, number(suffix))
		if len(r.Events) == 0 || len(r.Events) > maxEvents || r.Lost < 0 {
			return misfitf("it has no events, too many, or lost fewer than none")
		}
		seen := make(map[eventRecord]bool, len(r.Events))
		for _, e := range r.Events {
			if e.Count < 1 {
				return misfitf("an event of it never happened")
			}
			if err := s.happened(e); err != nil {
				return err
			}
			e.Count = 0
			if seen[e] {
				return misfitf("an event of it is there twice")
			}
			seen[e] = true
		}
		s.done = append(s.done, "events")
	}
	return nil
}

// happened holds an event to what there is.
func (s *step) happened(e eventRecord) error {
	if (e.Consumer == "") != (e.Kind == "failed-sign-in") {
		return misfitf("an event of it says of nobody that it acted, or of somebody that it did not sign in")
	}
	if e.Consumer != "" && s.consumers[e.Consumer].Version == 0 {
		return misfitf("an event of it names a consumer that does not exist")
	}
	if e.Dataset != "" && s.datasets[e.Dataset] == nil {
		return misfitf("an event of it names a dataset that does not exist")
	}
	if e.Release != "" && !s.holds(key(kindHolder, e.Consumer, e.Release)) {
		return misfitf("an event of it has %s read a release that it does not hold", e.Consumer)
	}
	if k, known := s.keys[e.Key]; e.Key != "" && (!known || k.Consumer != e.Consumer) {
		return misfitf("an event of it has a key sign in somebody else than whose it is")
	}
	// Which particulars an event of each kind can have; those of further ones were left out.
	can, known := particulars[e.Kind]
	if e.Further {
		can = ""
	}
	for _, p := range []struct {
		letter rune
		text   string
	}{{'o', e.Operation}, {'c', e.Code}, {'d', e.Dataset}, {'r', e.Release}, {'k', e.Key}, {'b', e.Object}} {
		if p.text != "" && !strings.ContainsRune(can, p.letter) {
			return misfitf("an event of it says what no event of its kind says")
		}
	}
	if !known || e.Kind == "reading" && e.Release == "" && !e.Further {
		return misfitf("an event of it is of no kind that this version of discreet knows, or does not say what was read")
	}
	return nil
}

// particulars are what events say by their kind: operation, code, dataset, release, key, object.
var particulars = map[string]string{
	"refusal": "ocd", "reading": "or", "view": "od", "sign-in": "k", "failed-sign-in": "c", "load": "od", "export": "ob", "backup": "ob",
}
