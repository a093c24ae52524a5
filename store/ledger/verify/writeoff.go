package verify

import (
	"crypto/sha256"
	"maps"
	"slices"
	"time"
)

type writeOffRecord struct {
	At            time.Time
	Actor         string
	Reason        string
	State         string
	Cause         string
	Amount        budget
	WitnessLength uint64
	WitnessHead   []byte
	Length        uint64
	Head          []byte
	Through       string
}

// writeOff replays what an officer wrote off: every dataset counts as spent at least all that its budgets in force
// allow, up to a block that no account and no row lies beyond.
func (s *step) writeOff() error {
	for _, w := range s.of(kindWriteOff) {
		o, err := putOnce[writeOffRecord](s, w, whole)
		if err != nil {
			return err
		}
		s.done = append(s.done, "write-off")
		_, suffix, err := split(w.key)
		if err != nil {
			return err
		}
		s.numbers = append(s.numbers, number(suffix))
		if o.Length != s.entry.number-1 || string(o.Head) != string(s.entry.previous[:]) {
			return misfitf("a write-off names another head of the ledger than it was made over")
		}
		if o.Amount.Epsilon < 0 || o.Amount.Delta < 0 || o.Actor == "" || o.Reason == "" {
			return misfitf("a write-off is negative, or does not say who made it and why")
		}
		if month := blockOf(s.latest(), "month"); endsBefore(o.Through, month) {
			return misfitf("a write-off ends before %s for datasets that are declared later", month)
		}
		s.lost = append(s.lost, lostPart{o.Through, o.Amount})
		for _, name := range slices.Sorted(maps.Keys(s.datasets)) {
			if err := s.writeOffDataset(name, o.Amount); err != nil {
				return err
			}
		}
		for _, o := range s.open {
			o.lost = true
		}
		s.answers = o.answers()
	}
	return nil
}

// answers is what the witness said that was written off, nil where it said nothing.
func (o *writeOffRecord) answers() *Mark {
	if len(o.WitnessHead) != sha256.Size {
		return nil
	}
	return &Mark{o.WitnessLength, [sha256.Size]byte(o.WitnessHead)}
}

// answeredBy is the same of an entry that is not replayed.
func (r *replay) answeredBy(e *entry) (*Mark, error) {
	s := &step{replay: r, entry: e}
	offs := s.of(kindWriteOff)
	if len(offs) == 0 {
		return nil, nil
	}
	o, err := put[writeOffRecord](s, offs[0], whole)
	if err != nil {
		return nil, err
	}
	return o.answers(), nil
}

// lostLoads is how far a write-off moves the numbers of loads on: those that were lost had some.
const lostLoads = 1 << 20

func (s *step) writeOffDataset(name string, amount budget) error {
	record := s.datasets[name].record
	k := key(kindDataset, name)
	w := s.writes[string(k)]
	if w == nil || w.deleted {
		return misfitf("a write-off leaves out dataset %s", name)
	}
	value, found, err := s.content(w)
	if err == nil && !found { // it was written over since; what was written off stays in its place
		value, err = s.from.get(k)
	}
	if err != nil {
		return err
	}
	now, err := decodeRecord[datasetRecord](value, whole)
	if err != nil {
		return err
	}
	place := len(record.WrittenOff)
	if len(now.WrittenOff) <= place {
		return misfitf("a write-off adds nothing to dataset %s", name)
	}
	added := now.WrittenOff[place]
	if added.Cap != all(larger(record.Cap, amount)) || added.Allotments != all(larger(s.largestAllotment(name), amount)) {
		return misfitf("a write-off adds another loss to dataset %s than its budgets in force", name)
	}
	if through := s.lastBlock(name); endsBefore(added.Through, through) {
		return misfitf("a write-off of dataset %s ends before block %s", name, through)
	}
	record.WrittenOff = append(slices.Clone(record.WrittenOff), added)
	record.Loads += lostLoads
	s.changed = append(s.changed, changedObject{"write-off", name, 0})
	return s.putDataset(name, record)
}

// all is the loss that leaves nothing of a budget.
func all(b budget) loss { return loss{b.Epsilon, b.Delta, unbounded, b.Delta} }

func larger(a, b budget) budget {
	return budget{max(a.Epsilon, b.Epsilon), max(a.Delta, b.Delta)}
}

func (s *step) largestAllotment(name string) (largest budget) {
	for id, a := range s.allotments {
		if id.dataset == name {
			largest = larger(largest, a.Budget)
		}
	}
	return largest
}

// lostPart is what was written off for datasets that the ledger does not know.
type lostPart struct {
	through string
	amount  budget
}

// declared is what a dataset with this first policy starts with, because one of its name may have been lost.
func (r *replay) declared(p *policyRecord) (list []writtenOff) {
	for _, l := range r.lost {
		spent := all(larger(p.Cap, l.amount))
		list = append(list, writtenOff{l.through, spent, spent})
	}
	return list
}

// latest is the time of the writer's clock where days begin first.
func (s *step) latest() time.Time { return s.entry.at.UTC().Add(14 * time.Hour) }

// lastBlock is the block of a dataset that ends last: of those that have an account or a version, and that of the
// writer's clock.
func (s *step) lastBlock(name string) string {
	last := blockOf(s.latest(), s.datasets[name].policy.Unit.Block)
	further := func(block string) {
		if endsBefore(last, block) {
			last = block
		}
	}
	for id := range s.accounts {
		if id.dataset == name {
			further(id.block)
		}
	}
	for block := range s.datasets[name].blocks {
		further(block)
	}
	return last
}
