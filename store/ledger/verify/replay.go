package verify

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"
)

// misfit is why an entry does not fit. It names datasets, blocks, consumers and identifiers of the ledger, and
// never a row, a customer or a figure.
type misfit string

func (m misfit) Error() string { return string(m) }

func misfitf(format string, values ...any) error { return misfit(fmt.Sprintf(format, values...)) }

// replay is what the entries so far leave behind. Of each key it holds a digest; of what later entries build on,
// the content. That is bounded by datasets, accounts, consumers and keys, and charges that are open, not by how
// much was ever asked.
type replay struct {
	from source
	salt [16]byte // of held, so that nobody can look for collisions beforehand
	held map[digest]holding

	meta       metaRecord
	number     uint64 // the last that was given
	datasets   map[string]*dataset
	accounts   map[accountID]accountRecord
	allotments map[allotmentID]allotmentRecord
	consumers  map[string]consumerRecord
	subjects   map[string]string // subject -> the consumer that has it
	keys       map[string]keyRecord
	open       map[string]*openCharge
	pending    map[loadID]*pendingRecord // nil where its record was too long for the chain
	unfinished map[string]int            // blob -> pieces
	lost       []lostPart                // by each write-off
	leases     []time.Duration           // for how long attempts were given
	largest    map[allotmentID]budget    // of both parts the largest that an allotment ever had
	charged    *[]string                 // ids of all charges; nil where nobody asks what they add up to

	openProposals int

	certificates *certificates
	count        Counts
}

type (
	digest      [16]byte
	accountID   struct{ dataset, block, consumer string } // consumer is empty for the cap
	allotmentID struct{ consumer, dataset string }
	loadID      struct {
		dataset string
		number  uint64
	}
)

// holding is the value of a key after the entries so far.
type holding struct {
	value digest
	entry uint64 // that wrote it
	kind  byte
}

// dataset is what charges and loads need of a dataset.
type dataset struct {
	record datasetRecord
	policy policyRecord
	// versions are all policies that there were, without their text: the rows are read by one of them.
	versions []policyRecord
	blocks   map[string]uint64 // current versions
	// largest is of both parts the largest cap that a policy ever had, and linked says that one let rows be joined.
	largest budget
	linked  bool

	retired retirementRecord
}

// openCharge is a charge without an outcome.
type openCharge struct {
	identity [sha256.Size]byte
	last     *chargeRecord     // as it was last written; nil where that was too long for the chain, and is gone
	digest   [sha256.Size]byte // of what was last written
	lost     bool              // something was written off since it was made
}

func newReplay(from source) *replay {
	r := &replay{
		from: from, held: map[digest]holding{},
		datasets: map[string]*dataset{}, accounts: map[accountID]accountRecord{}, allotments: map[allotmentID]allotmentRecord{},
		consumers: map[string]consumerRecord{}, subjects: map[string]string{}, keys: map[string]keyRecord{}, open: map[string]*openCharge{},
		pending: map[loadID]*pendingRecord{}, unfinished: map[string]int{}, largest: map[allotmentID]budget{},
		certificates: newCertificates(),
	}
	// Read never fails: it ends the process when the system has no randomness.
	_, _ = rand.Read(r.salt[:])
	return r
}

func (r *replay) digest(of []byte) digest {
	sum := sha256.Sum256(append(r.salt[:], of...))
	return digest(sum[:len(digest{})])
}

// step is one entry while it is replayed.
type step struct {
	*replay
	entry    *entry
	writes   map[string]*write
	numbers  []uint64 // given in this entry
	changed  []changedObject
	actor    string                  // who must have made the change; empty: anybody
	by       actor                   // who says that they did
	decides  bool                    // what is an officer's
	acts     bool                    // about keys, requests or proposals
	touched  []string                // keys that it makes or changes, by id
	done     []string                // what its writes amount to, as names of entries
	answers  *Mark                   // the witness that a write-off was made over
	made     map[string]chargeRecord // charges that it makes
	spends   map[accountID]*spending // by these, of each account
	spenders []accountID             // in order
}

// actor is who made a change.
type actor struct {
	name   string
	before consumerRecord // as they stood before the entry; of no version where they are no consumer
}

// apply replays one entry. Every rule claims the writes that it calls for; what nobody claims does not fit.
// A write-off gives the witness that it was made over.
func (r *replay) apply(e *entry) (answers *Mark, err error) {
	s := &step{replay: r, entry: e, writes: make(map[string]*write, len(e.writes)), made: map[string]chargeRecord{}, spends: map[accountID]*spending{}}
	for _, w := range e.writes {
		if _, _, err := split(w.key); err != nil {
			return nil, err
		}
		s.writes[string(w.key)] = w
	}
	for _, rule := range []func() error{s.ownRecord, s.writeOff, s.proposals, s.requests, s.policies, s.people, s.loads, s.erasures, s.retirements, s.charges, s.reports, s.pieces, s.events, s.change, s.counter} {
		if err := rule(); err != nil {
			return nil, err
		}
	}
	for _, w := range e.writes {
		switch {
		case w.claimed:
		case w.deleted:
			return nil, misfitf("it deletes %s, and nothing in it calls for that", word(w.key))
		default:
			return nil, misfitf("it writes %s, and nothing in it calls for that", describe(w.key))
		}
	}
	if err := s.named(); err != nil {
		return nil, err
	}
	for _, w := range e.writes {
		id := r.digest(w.key)
		if w.deleted {
			delete(r.held, id)
		} else {
			r.held[id] = holding{r.digest(w.digest[:]), e.number, w.key[0]}
		}
	}
	r.count.Entries = e.number
	return s.answers, nil
}

// describe names a key, and an account by its name.
func describe(k []byte) string {
	if parts, _, err := split(k); err == nil && k[0] == kindAccount {
		return "the account " + accountID{parts[0], parts[1], parts[2]}.String()
	}
	return word(k)
}

func (a accountID) compare(b accountID) int {
	return cmp.Or(cmp.Compare(a.dataset, b.dataset), cmp.Compare(a.block, b.block), cmp.Compare(a.consumer, b.consumer))
}

func (a accountID) String() string {
	if a.consumer == "" {
		return "cap/" + a.dataset + "/" + a.block
	}
	return "allotment/" + a.dataset + "/" + a.block + " of " + a.consumer
}

// meanings are the names that an entry may have whose writes amount to something: what a request was for, and
// what it came to.
var meanings = map[string][]string{
	"create": {"create"}, "open": {"open"}, "pair": {"pair"},
	"charge": {"charge"}, "key": {"charge"}, "attempt": {"attempt", "charge"}, "renew": {"renew"}, "abandon": {"abandon"},
	"failure": {"outcome", "settle", "charge", "attempt"}, "outcome": {"outcome"},
	"piece": {"piece"}, "clear": {"clear", "outcome"},
	"change": {"change"}, "write-off": {"write-off"}, "erasure": {"erasure"}, "erasure-end": {"erasure-end"}, "retire": {"retire"}, "retire-end": {"retire-end"},
	"load-begin": {"load-begin"}, "load-commit": {"load-commit"}, "load-repeat": {"load-repeat"}, "load-end": {"load-end"},
	"report": {"report"}, "run": {"run"}, "report-end": {"report-end"}, "restore": {"restore"}, "events": {"events"},
}

// named holds that an entry is called what it is, and is one thing.
func (s *step) named() error {
	s.done = slices.Compact(s.done)
	if slices.Equal(s.done, []string{"failure", "clear"}) { // an answer that came too late
		s.done = s.done[:1]
	}
	if len(s.done) != 1 {
		return misfitf("it holds %d requests and should hold one", len(s.done))
	}
	if !slices.Contains(meanings[s.done[0]], s.entry.name) {
		return misfitf("what it writes is not what its name says")
	}
	return nil
}

// of gives the writes of a kind of key in the order of the keys, those claimed already left out.
func (s *step) of(kind byte) (list []*write) {
	for _, w := range s.entry.writes {
		if w.key[0] == kind && !w.claimed {
			list = append(list, w)
		}
	}
	return list
}

// holds tells whether a key stood before this entry.
func (r *replay) holds(k []byte) bool {
	_, ok := r.held[r.digest(k)]
	return ok
}

// stands reads the value that a key had before this entry, where it still has it, as keys do that are written once.
// Where it has not, a later entry wrote over it or the database does not fit, which is found there: what would
// build on it is left unchecked.
func (r *replay) stands(k []byte) (value []byte, still bool, err error) {
	h, ok := r.held[r.digest(k)]
	if !ok {
		return nil, false, misfitf("it builds on %s that no entry wrote", word(k))
	}
	if value, err = r.from.get(k); err != nil {
		return nil, false, err
	}
	sum := sha256.Sum256(value)
	return value, r.digest(sum[:]) == h.value, nil
}

// content is the value of a write, if the chain or what lies beside it has it.
func (s *step) content(w *write) ([]byte, bool, error) {
	if w.value != nil {
		return w.value, true, nil
	}
	value, err := s.from.held(w)
	return value, value != nil, err
}

// put claims a write of a record that must be readable.
func put[T any](s *step, w *write, r reading) (record T, err error) {
	if w.deleted {
		return record, misfitf("it deletes %s, which is kept for ever", word(w.key))
	}
	value, found, err := s.content(w)
	if err != nil {
		return record, err
	}
	if !found {
		return record, misfitf("%s that it wrote is not what the database holds", describe(w.key))
	}
	w.claimed = true
	return decodeRecord[T](value, r)
}

// putOnce claims a write of a record that nothing may write again.
func putOnce[T any](s *step, w *write, r reading) (record T, err error) {
	if s.holds(w.key) {
		return record, misfitf("it writes %s that was written before and never changes", word(w.key))
	}
	return put[T](s, w, r)
}

// want claims the write of exactly this value, to a key that was not written before.
func (s *step) want(k, value []byte) error {
	if s.holds(k) {
		return misfitf("it writes %s that was written before and never changes", word(k))
	}
	return s.wantAgain(k, value)
}

// wantAgain claims the write of exactly this value.
func (s *step) wantAgain(k, value []byte) error {
	w := s.writes[string(k)]
	switch {
	case w == nil || w.deleted:
		return misfitf("it should write %s and does not", describe(k))
	case w.digest != sha256.Sum256(value):
		return misfitf("%s that it writes is not what follows from the rest of it", describe(k))
	}
	w.claimed = true
	return nil
}

// wantRecord claims the write of exactly this record.
func (s *step) wantRecord(k []byte, record any) error {
	value, err := encodeRecord(record)
	if err != nil {
		return err
	}
	return s.want(k, value)
}

// wantGone claims the deletion of a key that stood.
func (s *step) wantGone(k []byte) error {
	w := s.writes[string(k)]
	if w == nil || !w.deleted || !s.holds(k) {
		return misfitf("it should delete %s and does not", word(k))
	}
	w.claimed = true
	return nil
}

// mark is the value of keys that only stand.
var mark = []byte{recordVersion}

// counter holds that numbers are given one after the other and each to one thing.
func (s *step) counter() error {
	k := key(kindNumber)
	if len(s.numbers) == 0 {
		return nil
	}
	slices.Sort(s.numbers)
	for i, n := range s.numbers {
		if n != s.number+uint64(i)+1 {
			return misfitf("the numbers that it gives do not follow those given before")
		}
	}
	s.number = s.numbers[len(s.numbers)-1]
	return s.wantAgain(k, encodeNumber(s.number))
}

// ownRecord is what the ledger keeps about itself.
func (s *step) ownRecord() error {
	w := s.writes[string(key(kindMeta))]
	if w == nil {
		if s.entry.number == 1 {
			return misfitf("the first entry should make the ledger's own record and does not")
		}
		return nil
	}
	before := s.meta
	m, err := put[metaRecord](s, w, whole)
	if err != nil {
		return err
	}
	if m.Format != format {
		return misfitf("the ledger has format %d, and this version of discreet reads %d", m.Format, format)
	}
	id, err := parseID(m.ID)
	if err != nil {
		return err
	}
	s.meta = m
	switch {
	case s.entry.number == 1:
		s.done = append(s.done, "create")
		s.count.ID = id
		if m.Openings > 1 || len(m.Secrets) > 0 {
			return misfitf("the ledger begins with openings or secrets")
		}
	case m.ID != before.ID:
		return misfitf("the ledger's id changes")
	case m.Openings == before.Openings+1 && slices.Equal(m.Secrets, before.Secrets):
		// Where the ledger refused until now, the write-off is what counts the opening.
		what := "open"
		if restored, err := s.restore(); err != nil {
			return err
		} else if restored {
			what = "restore"
		}
		if len(s.of(kindWriteOff)) == 0 {
			s.done = append(s.done, what)
		}
	case m.Openings == before.Openings && len(before.Secrets) == 0 && len(m.Secrets) == sha256.Size:
		s.done = append(s.done, "pair")
	default:
		return misfitf("the ledger's own record changes in another way than by an opening or by pairing the secrets")
	}
	return nil
}

// add adds two losses. A sum that does not fit stays at the largest number.
func add(a, b loss) loss {
	return loss{sum(a.Epsilon, b.Epsilon), sum(a.Delta, b.Delta), sum(a.Rho, b.Rho), sum(a.DeltaZ, b.DeltaZ)}
}

func sum(a, b int64) int64 {
	total := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
	if total.Cmp(big.NewInt(math.MaxInt64)) > 0 {
		return math.MaxInt64
	}
	return total.Int64()
}

// spent is what an account has spent: its charges, and what was written off.
func (r *replay) spent(id accountID) loss {
	total := r.accounts[id].spent
	for _, w := range r.datasets[id.dataset].record.WrittenOff {
		switch {
		case !covered(id.block, w.Through):
		case id.consumer == "":
			total = add(total, w.Cap)
		default:
			total = add(total, w.Allotments)
		}
	}
	return total
}
