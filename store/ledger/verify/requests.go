package verify

// The states in which a request ends.
const (
	granted   = "granted"
	denied    = "denied"
	withdrawn = "withdrawn"
)

// The versions of a request that a change names.
const (
	requestMade  = 1
	requestEnded = 2
)

// requests replays what consumers asked officers for: each request is made once and ends once, a consumer has one open
// on a dataset at a time, and nobody decides on their own. A grant and the version of the allotment that it gives are
// one entry; no other end changes an allotment. It looks at the allotments of before the entry.
func (s *step) requests() error {
	made, ends := s.of(kindRequest), s.of(kindRequestEnd)
	if len(made)+len(ends) == 0 {
		return nil
	}
	for _, kind := range []byte{kindPolicy, kindConsumer, kindKey} {
		if len(s.of(kind)) > 0 {
			return misfitf("it makes or ends a budget request, and changes %s besides", words[kind])
		}
	}
	if len(made)+len(ends) > 1 {
		return misfitf("it makes or ends several budget requests")
	}
	if len(made) == 1 {
		return s.newRequest(made[0])
	}
	return s.endRequest(ends[0])
}

func (s *step) newRequest(w *write) error {
	names, _, err := split(w.key)
	if err != nil {
		return err
	}
	r, err := putOnce[requestRecord](s, w, whole)
	if err != nil {
		return err
	}
	id := names[0]
	switch {
	case id == "" || s.consumers[r.Consumer].Version == 0 || s.datasets[r.Dataset] == nil:
		return misfitf("a budget request names a dataset or a consumer that does not exist")
	case r.Asked.Budget.Epsilon <= 0 || r.Asked.Budget.Delta < 0 || r.Asked.MaxEpsilonPerQuery < 0:
		return misfitf("budget request %s asks for nothing, or for less than nothing", id)
	case len(s.of(kindAllotment)) > 0:
		return misfitf("an allotment changes where budget request %s is made, and not where it is granted", id)
	case s.holds(key(kindRequestOn, r.Consumer, r.Dataset)):
		return misfitf("%s makes a second budget request on dataset %s while one is open", r.Consumer, r.Dataset)
	}
	s.numbers = append(s.numbers, r.Number)
	for _, k := range [][]byte{
		numberedKey(r.Number, kindRequests), numberedKey(r.Number, kindRequestOf, r.Consumer), numberedKey(r.Number, kindRequestOpen), key(kindRequestOn, r.Consumer, r.Dataset),
	} {
		if err := s.want(k, []byte(id)); err != nil {
			return err
		}
	}
	s.changed = append(s.changed, changedObject{"request", id, requestMade})
	return s.actedBy(r.Consumer)
}

func (s *step) endRequest(w *write) error {
	names, _, err := split(w.key)
	if err != nil {
		return err
	}
	id := names[0]
	if s.holds(w.key) {
		return misfitf("budget request %s has ended already, and is decided once", id)
	}
	end, err := put[requestEndRecord](s, w, whole)
	if err != nil {
		return err
	}
	text, still, err := s.stands(key(kindRequest, id))
	if err != nil || !still {
		return err
	}
	r, err := decodeRecord[requestRecord](text, whole)
	if err != nil {
		return err
	}
	if err := s.decision(id, &r, &end); err != nil {
		return err
	}
	for _, k := range [][]byte{numberedKey(r.Number, kindRequestOpen), key(kindRequestOn, r.Consumer, r.Dataset)} {
		if err := s.wantGone(k); err != nil {
			return err
		}
	}
	s.changed = append(s.changed, changedObject{"request", id, requestEnded})
	s.decides = s.decides || end.State != withdrawn
	return s.actedBy(end.By)
}

// decision holds an end to who made it, to the allotment that it was decided on, and to what it gives.
func (s *step) decision(id string, r *requestRecord, end *requestEndRecord) error {
	before := s.allotments[allotmentID{r.Consumer, r.Dataset}]
	switch end.State {
	case withdrawn:
		if end.By != r.Consumer {
			return misfitf("budget request %s is withdrawn by somebody else than who made it", id)
		}
	case granted, denied:
		if end.By == "" || end.By == r.Consumer {
			return misfitf("budget request %s is decided by who made it, or by nobody", id)
		}
		if end.Seen != before.Version {
			return misfitf("budget request %s is decided on version %d of the allotment, and version %d stands", id, end.Seen, before.Version)
		}
	default:
		return misfitf("budget request %s ends in a state that there is not", id)
	}
	changes := s.of(kindAllotment)
	if end.State != granted {
		if end.Granted != nil || end.Allotment != 0 || len(changes) > 0 {
			return misfitf("budget request %s is %s, and gives an allotment", id, end.State)
		}
		return nil
	}
	k := key(kindAllotment, r.Consumer, r.Dataset)
	if end.Granted == nil || len(changes) != 1 || string(changes[0].key) != string(k) {
		return misfitf("budget request %s is granted without the change of its allotment, and of no other, in the same entry", id)
	}
	text, found, err := s.content(changes[0])
	if err != nil {
		return err
	}
	if !found {
		return misfitf("%s that it wrote is not what the database holds", describe(k))
	}
	after, err := decodeRecord[allotmentRecord](text, whole)
	if err != nil {
		return err
	}
	if end.Granted.Budget.Epsilon <= 0 || !end.Granted.of(after) || after.Version != end.Allotment || after.Paused != before.Paused {
		return misfitf("the allotment that budget request %s is granted is not the one that it says", id)
	}
	return nil
}
