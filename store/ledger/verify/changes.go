package verify

import (
	"crypto/sha256"
	"math/big"
	"reflect"
	"slices"
	"strings"
)

// putDataset claims the write of a dataset's record, which must be exactly this.
func (s *step) putDataset(name string, want datasetRecord) error {
	text, err := encodeRecord(want)
	if err != nil {
		return err
	}
	if w := s.writes[string(key(kindDataset, name))]; w != nil && w.digest != sha256.Sum256(text) {
		return misfitf("the record of dataset %s changes in more than follows from the rest of it: its cap, its loads, or what was written off", name)
	}
	if err := s.wantAgain(key(kindDataset, name), text); err != nil {
		return err
	}
	s.datasets[name].record = want
	return nil
}

// policies replays new versions of policies: they count up by one, and bring their cap into force.
func (s *step) policies() error {
	for _, w := range s.of(kindPolicy) {
		names, suffix, err := split(w.key)
		if err != nil {
			return err
		}
		p, err := putOnce[policyRecord](s, w, parts)
		if err != nil {
			return err
		}
		if p.text, err = s.text(w); err != nil {
			return err
		}
		name := names[0]
		if p.Name != name || p.Version != number(suffix) {
			return misfitf("a policy of dataset %s has another name or version than its key", name)
		}
		d := s.datasets[name]
		if d == nil {
			d = &dataset{blocks: map[string]uint64{}, record: datasetRecord{WrittenOff: s.declared(&p)}}
			s.datasets[name] = d
			s.count.Datasets++
		}
		if p.Version != d.record.PolicyVersion+1 {
			return misfitf("the policy of dataset %s goes from version %d to %d; versions count up by one", name, d.record.PolicyVersion, p.Version)
		}
		if err := checkCap(&p); err != nil {
			return err
		}
		if d.record.LoadedUnder > 0 {
			for _, since := range d.versions[d.record.LoadedUnder-1:] {
				if what := p.contradicts(since); what != "" {
					return misfitf("the policy of dataset %s changes %s after rows were loaded", name, what)
				}
			}
		}
		record := d.record
		record.PolicyVersion, record.Cap = p.Version, p.Cap
		if err := s.putDataset(name, record); err != nil {
			return err
		}
		d.policy = p
		kept := p
		kept.text = nil
		d.versions = append(d.versions, kept)
		d.largest, d.linked = larger(d.largest, p.Cap), d.linked || p.Link != nil
		s.changed = append(s.changed, changedObject{"policy", name, p.Version})
	}
	return nil
}

// contradicts says in what a policy gives another meaning to rows that were read by an earlier one; empty: in nothing.
func (p policyRecord) contradicts(earlier policyRecord) string {
	if p.Unit != earlier.Unit || !reflect.DeepEqual(p.Time, earlier.Time) {
		return "its unit, block, or time zone"
	}
	for _, m := range p.Measures {
		for _, was := range earlier.Measures {
			if m.Name == was.Name && m.Scale != was.Scale {
				return "the scale of a measure"
			}
		}
	}
	for _, d := range p.Dimensions {
		for _, was := range earlier.Dimensions {
			if d.Name == was.Name && d.Type != was.Type {
				return "the type of a dimension"
			}
		}
	}
	return ""
}

// checkCap holds a cap to its bound: a delta of at most one tenth of a customer.
func checkCap(p *policyRecord) error {
	tenfold := new(big.Int).Mul(big.NewInt(10*p.Cap.Delta), big.NewInt(p.Population))
	if p.Population < 1 || p.Cap.Epsilon < 0 || p.Cap.Delta < 0 || p.Cap.Delta > 1e17 || tenfold.Cmp(big.NewInt(1e18)) > 0 {
		return misfitf("version %d of the policy of dataset %s has a cap that no policy may have", p.Version, p.Name)
	}
	return nil
}

// people replays consumers, their allotments and their keys: versions count up by one, and nothing comes back.
func (s *step) people() error {
	for _, w := range s.of(kindConsumer) {
		c, err := put[consumerRecord](s, w, parts)
		if err != nil {
			return err
		}
		if c.text, err = s.text(w); err != nil {
			return err
		}
		before, exists := s.consumers[c.Name]
		switch {
		case string(w.key) != string(key(kindConsumer, c.Name)):
			return misfitf("a consumer has another name than its key")
		case c.Version != before.Version+1:
			return misfitf("consumer %s goes from version %d to %d; versions count up by one", c.Name, before.Version, c.Version)
		case exists && !c.Created.Equal(before.Created):
			return misfitf("consumer %s is created again; names are never reused", c.Name)
		}
		if err := s.subject(before.Subject, &c); err != nil {
			return err
		}
		s.consumers[c.Name] = c
		s.changed = append(s.changed, changedObject{"consumer", c.Name, c.Version})
	}
	for _, w := range s.of(kindAllotment) {
		a, err := put[allotmentRecord](s, w, whole)
		if err != nil {
			return err
		}
		id := allotmentID{a.Consumer, a.Dataset}
		before := s.allotments[id]
		switch {
		case string(w.key) != string(key(kindAllotment, a.Consumer, a.Dataset)):
			return misfitf("an allotment has another owner or dataset than its key")
		case a.Version != before.Version+1:
			return misfitf("the allotment of %s on %s goes from version %d to %d; versions count up by one", a.Consumer, a.Dataset, before.Version, a.Version)
		case a.Budget.Epsilon < 0 || a.Budget.Delta < 0 || a.MaxEpsilonPerQuery < 0:
			return misfitf("the allotment of %s on %s is negative", a.Consumer, a.Dataset)
		case s.datasets[a.Dataset] == nil || s.consumers[a.Consumer].Version == 0:
			return misfitf("an allotment names a dataset or a consumer that does not exist")
		}
		s.allotments[id] = a
		s.largest[id] = larger(s.largest[id], a.Budget)
		s.changed = append(s.changed, changedObject{"allotment", a.Consumer + "/" + a.Dataset, a.Version})
	}
	return s.putKeys()
}

// change holds that whoever changed policies, consumers, allotments, keys or requests left a record of exactly that.
func (s *step) change() error {
	records := s.of(kindChange)
	switch {
	case len(s.changed) == 0 && len(records) == 0:
		return nil
	case len(records) != 1:
		return misfitf("it changes a policy, a consumer, an allotment, a key, a request or a proposal without one record of who did it and why")
	}
	w := records[0]
	x, err := putOnce[changeRecord](s, w, whole)
	if err != nil {
		return err
	}
	_, suffix, err := split(w.key)
	if err != nil {
		return err
	}
	if n := number(suffix); !slices.Contains(s.numbers, n) { // a write-off and its change have one
		s.numbers = append(s.numbers, n)
	}
	compare := func(a, b changedObject) int {
		if a.Kind != b.Kind {
			return strings.Compare(a.Kind, b.Kind)
		}
		return strings.Compare(a.Name, b.Name)
	}
	slices.SortFunc(s.changed, compare)
	slices.SortFunc(x.Changed, compare)
	if !slices.Equal(s.changed, x.Changed) || x.Actor == "" {
		return misfitf("the record of a change names other things than those that changed")
	}
	if s.actor != "" && x.Actor != s.actor {
		return misfitf("the record of a change names somebody else than who made or decided the request, or made itself a key")
	}
	if err := s.keysBy(&x); err != nil {
		return err
	}
	if err := s.mayAct(); err != nil {
		return err
	}
	if !slices.Contains(s.done, "write-off") {
		s.done = append(s.done, "change")
	}
	return nil
}
