package verify

import (
	"crypto/sha256"
	"slices"
)

// loads replays loads: they begin under the next number, and end by being committed, by repeating a committed
// one, or without a trace.
func (s *step) loads() error {
	for _, w := range s.of(kindPending) {
		names, suffix, err := split(w.key)
		if err != nil {
			return err
		}
		id := loadID{names[0], number(suffix)}
		if s.datasets[id.dataset] == nil {
			return misfitf("it loads into a dataset that does not exist")
		}
		if w.deleted {
			err = s.endLoad(w, id)
		} else {
			err = s.beginLoad(w, id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *step) beginLoad(w *write, id loadID) error {
	s.done = append(s.done, "load-begin")
	d := s.datasets[id.dataset]
	if id.number != d.record.Loads+1 {
		return misfitf("a load of dataset %s has number %d and not the next one", id.dataset, id.number)
	}
	record := d.record
	record.Loads = id.number
	if err := s.putDataset(id.dataset, record); err != nil {
		return err
	}
	w.claimed = true
	value, found, err := s.content(w)
	if err != nil {
		return err
	}
	if !found { // it ended since, and its record is gone
		s.pending[id] = nil
		return nil
	}
	p, err := decodeRecord[pendingRecord](value, whole)
	if err != nil {
		return err
	}
	if p.PolicyVersion < 1 || p.PolicyVersion > d.record.PolicyVersion {
		return misfitf("load %d of dataset %s is read by a policy that was never in force", id.number, id.dataset)
	}
	for _, b := range p.Blocks {
		if d.isRetired(b) {
			return misfitf("load %d of dataset %s begins for block %s, which is retired", id.number, id.dataset, b)
		}
	}
	s.pending[id] = &p
	return nil
}

func (s *step) endLoad(w *write, id loadID) error {
	began, known := s.pending[id]
	if !known {
		return misfitf("load %d of dataset %s ends and is not under way", id.number, id.dataset)
	}
	w.claimed = true
	delete(s.pending, id)
	if committed := s.writes[string(numberedKey(id.number, kindLoad, id.dataset))]; committed != nil {
		s.done = append(s.done, "load-commit")
		return s.commitLoad(committed, id, began)
	}
	versions := s.of(kindBlockVersion)
	if len(versions) == 0 {
		s.done = append(s.done, "load-end")
		return nil
	}
	s.done = append(s.done, "load-repeat")
	return s.repeatLoad(versions, id, began)
}

// commitLoad holds that a load becomes visible as it was declared: each of its blocks goes up by one version.
func (s *step) commitLoad(w *write, id loadID, began *pendingRecord) error {
	l, err := putOnce[loadRecord](s, w, whole)
	if err != nil {
		return err
	}
	if l.ID != id.number || l.Dataset != id.dataset || l.Name == "" || len(l.Blocks) == 0 {
		return misfitf("load %d of dataset %s is committed under another number or dataset, without a name or without blocks", id.number, id.dataset)
	}
	if began != nil && (began.Name != "" && began.Name != l.Name || !slices.Equal(began.Blocks, l.Blocks)) {
		return misfitf("load %d of dataset %s is committed as another than it began", id.number, id.dataset)
	}
	if err := s.want(key(kindLoadName, id.dataset, l.Name), encodeNumber(id.number)); err != nil {
		return err
	}
	if err := s.readAsNow(id, began); err != nil {
		return err
	}
	if err := s.loadedUnder(id, began); err != nil {
		return err
	}
	return s.bump(id.dataset, l.Blocks, blockVersionRecord{Load: id.number})
}

// loadedUnder keeps the oldest policy by which committed rows were read.
func (s *step) loadedUnder(id loadID, began *pendingRecord) error {
	record := s.datasets[id.dataset].record
	if began == nil { // the version was in the record that is gone: it is one of these
		w := s.writes[string(key(kindDataset, id.dataset))]
		if w == nil && record.LoadedUnder != 0 {
			return nil
		}
		for v := uint64(1); v <= record.PolicyVersion && (record.LoadedUnder == 0 || v < record.LoadedUnder); v++ {
			one := record
			one.LoadedUnder = v
			text, err := encodeRecord(one)
			if err != nil {
				return err
			}
			if w != nil && w.digest == sha256.Sum256(text) {
				return s.putDataset(id.dataset, one)
			}
		}
		return misfitf("the oldest policy that rows of dataset %s were read by is not kept", id.dataset)
	}
	if record.LoadedUnder != 0 && record.LoadedUnder <= began.PolicyVersion {
		return nil
	}
	record.LoadedUnder = began.PolicyVersion
	return s.putDataset(id.dataset, record)
}

// readAsNow holds that rows mean what they were read as under the policies that came since.
func (s *step) readAsNow(id loadID, began *pendingRecord) error {
	if began == nil {
		return nil
	}
	d := s.datasets[id.dataset]
	if what := d.policy.contradicts(d.versions[began.PolicyVersion-1]); what != "" {
		return misfitf("load %d of dataset %s is committed after its policy changed %s", id.number, id.dataset, what)
	}
	return nil
}

// repeatLoad holds that the content of a committed load was sent again: each of its blocks goes up by one version.
func (s *step) repeatLoad(versions []*write, id loadID, began *pendingRecord) error {
	var blocks []string
	for _, w := range versions {
		names, _, err := split(w.key)
		if err != nil {
			return err
		}
		if names[0] == id.dataset {
			blocks = append(blocks, names[1])
		}
	}
	if began != nil && !slices.Equal(sorted(began.Blocks), sorted(blocks)) {
		return misfitf("load %d of dataset %s repeats other blocks than it declared", id.number, id.dataset)
	}
	if began != nil && began.Name != "" {
		if err := s.checkRepeated(id, began); err != nil {
			return err
		}
	}
	return s.bump(id.dataset, blocks, blockVersionRecord{Repeat: id.number})
}

// checkRepeated holds that a load repeats a committed one of the same blocks.
func (s *step) checkRepeated(id loadID, began *pendingRecord) error {
	value, still, err := s.stands(key(kindLoadName, id.dataset, began.Name))
	if err != nil || !still {
		return err
	}
	n, err := decodeNumber(value)
	if err != nil {
		return err
	}
	if value, still, err = s.stands(numberedKey(n, kindLoad, id.dataset)); err != nil || !still {
		return err
	}
	earlier, err := decodeRecord[loadRecord](value, whole)
	if err != nil {
		return err
	}
	if !slices.Equal(earlier.Blocks, began.Blocks) {
		return misfitf("load %d of dataset %s repeats a load of other blocks", id.number, id.dataset)
	}
	return nil
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// bump holds that each block goes up by exactly one version, and why.
func (s *step) bump(name string, blocks []string, why blockVersionRecord) error {
	d := s.datasets[name]
	for i, block := range blocks {
		if block == "" || i > 0 && blocks[i-1] >= block {
			return misfitf("a load of dataset %s does not name each of its blocks once, in order", name)
		}
		if d.isRetired(block) {
			return misfitf("a load of dataset %s covers block %s, which is retired", name, block)
		}
		next := d.blocks[block] + 1
		if err := s.wantAgain(key(kindBlock, name, block), encodeNumber(next)); err != nil {
			return misfitf("the version of block %s of dataset %s does not go up by exactly one", block, name)
		}
		if err := s.wantRecord(numberedKey(next, kindBlockVersion, name, block), why); err != nil {
			return err
		}
		d.blocks[block] = next
	}
	return nil
}
