package verify

import (
	"crypto/sha256"
	"slices"
	"time"
)

const (
	maxAttempts = 3
	// blink is what the time of an entry leaves out of the writer's.
	blink = time.Microsecond
	// maxParts is how many prices a charge may have.
	maxParts = 8
)

// charges replays what happens to charges: at most one of them in an entry, but for those of a report.
func (s *step) charges() error {
	for _, w := range s.of(kindCharge) {
		if w.deleted {
			return misfitf("it deletes a charge, which is kept for ever")
		}
		parts, _, err := split(w.key)
		if err != nil {
			return err
		}
		if s.holds(w.key) {
			err = s.continueCharge(w, parts[0])
		} else {
			err = s.newCharge(w, parts[0])
		}
		if err != nil {
			return err
		}
	}
	if err := s.settleAccounts(); err != nil {
		return err
	}
	return s.idempotencyKeys()
}

// newCharge replays an admission: every account of the blocks takes the whole loss of its part, and had room for it.
func (s *step) newCharge(w *write, id string) error {
	s.done = append(s.done, "charge")
	s.count.Charges++
	if s.charged != nil {
		*s.charged = append(*s.charged, id)
	}
	c, seen, err := s.begun(w)
	if err != nil {
		return err
	}
	w.claimed, s.made[id] = true, c
	if err := s.wellFormed(&c, id); err != nil {
		return err
	}
	if s.consumers[c.Charge.Consumer].Suspended {
		return misfitf("charge %s was admitted while its consumer was suspended", id)
	}
	for _, p := range c.parts() {
		if err := s.allowed(&c, p); err != nil {
			return err
		}
	}
	if c.Source == "" {
		err = s.newDraw(&c)
	} else {
		err = s.handOut(&c)
	}
	if err != nil {
		return err
	}
	s.spend(&c)

	s.numbers = append(s.numbers, c.Number)
	if err := s.want(numberedKey(c.Number, kindChargeOf, c.Charge.Consumer), []byte(id)); err != nil {
		return err
	}
	if c.ended() {
		return nil
	}
	if err := s.want(numberedKey(c.Number, kindOpen), []byte(id)); err != nil {
		return err
	}
	identity, err := c.identity()
	if err != nil {
		return err
	}
	o := &openCharge{identity: identity, digest: w.digest}
	if seen {
		o.last = &c
		if lease := c.Lease.Sub(c.Charge.At); !c.waits() && !slices.Contains(s.leases, lease) {
			s.leases = append(s.leases, lease)
		}
	}
	s.open[id] = o
	return nil
}

// begun reads a new charge. Where its record was too long for the chain and changed since, it is what the record
// is now without what came later; seen tells whether that is, to the byte, what was written.
func (s *step) begun(w *write) (c chargeRecord, seen bool, err error) {
	value, found, err := s.content(w)
	if err != nil {
		return c, false, err
	}
	if found {
		c, err = decodeRecord[chargeRecord](value, whole)
		return c, true, err
	}
	if value, err = s.from.get(w.key); err != nil {
		return c, false, err
	}
	if value == nil {
		return c, false, misfitf("a charge that it wrote is not in the database")
	}
	if c, err = decodeRecord[chargeRecord](value, whole); err != nil {
		return c, false, err
	}
	c = c.unended()
	now := c.Lease
	c.Attempts, c.Opening = 1, s.meta.Openings
	if c.waits() {
		c.Attempts, c.Lease = 0, time.Time{}
		text, err := encodeRecord(c)
		if err == nil && sha256.Sum256(text) == w.digest {
			return c, true, nil
		}
		s.count.Unseen++
		return c, false, err
	}
	for _, lease := range append(s.leases, now.Sub(c.Charge.At)) {
		c.Lease = c.Charge.At.Add(lease)
		text, err := encodeRecord(c)
		if err != nil {
			return c, false, err
		}
		if sha256.Sum256(text) == w.digest {
			return c, true, nil
		}
	}
	s.count.Unseen++
	return c, false, nil
}

// wellFormed holds a new charge to what every charge is.
func (s *step) wellFormed(c *chargeRecord, id string) error {
	switch {
	case c.Charge.ID != id || id == "":
		return misfitf("a charge has another id than its key")
	case c.Charge.Consumer == "" || c.Plan == "":
		return misfitf("charge %s has no consumer or no plan", id)
	case !c.begins() || c.Opening != s.meta.Openings || c.failed():
		return misfitf("charge %s does not begin with its first attempt", id)
	case len(c.Snapshot.Also) != len(c.Charge.Also) || len(c.Charge.Also) >= maxParts:
		return misfitf("charge %s has a snapshot of other blocks, or too many prices", id)
	}
	type place struct{ dataset, block string }
	named := map[place]bool{}
	for _, p := range c.parts() {
		l := p.Loss
		switch {
		case p.at.Dataset != p.Dataset:
			return misfitf("charge %s has a snapshot of another dataset", id)
		case p.at.PolicyVersion != p.PolicyVersion:
			return misfitf("charge %s has a snapshot under another version of the policy", id)
		case l.Epsilon <= 0 || l.Delta < 0 || l.Rho <= 0 || l.DeltaZ < 0:
			return misfitf("charge %s has no loss, or a negative one", id)
		case len(p.Blocks) == 0 || len(p.at.Blocks) != len(p.Blocks) || len(p.at.Also) > 0:
			return misfitf("charge %s has no blocks, or a snapshot of others", id)
		}
		for i, b := range p.Blocks {
			if b == "" || i > 0 && p.Blocks[i-1] >= b || p.at.Blocks[i].Block != b {
				return misfitf("charge %s does not name each of its blocks once, in order", id)
			}
			if named[place{p.Dataset, b}] {
				return misfitf("charge %s touches block %s of dataset %s at two prices", id, b, p.Dataset)
			}
			named[place{p.Dataset, b}] = true
		}
	}
	return nil
}

// allowed holds a part of a charge to its dataset's policy, to what its consumer may ask for, and to the officer's
// conditions on the consumer there.
func (s *step) allowed(c *chargeRecord, p part) error {
	who := s.consumers[c.Charge.Consumer]
	id, d, a := c.Charge.ID, s.datasets[p.Dataset], s.allotments[allotmentID{c.Charge.Consumer, p.Dataset}]
	switch {
	case d == nil:
		return misfitf("it charges a dataset that does not exist")
	case p.PolicyVersion != d.record.PolicyVersion:
		return misfitf("charge %s was admitted under a version of the policy that is not in force", id)
	case !slices.Contains(d.policy.Purposes, c.Purpose):
		return misfitf("charge %s is for a purpose that the policy of dataset %s does not list", id, p.Dataset)
	case who.Version == 0:
		return misfitf("charge %s is a consumer's who does not exist", id)
	case !slices.Contains(who.Purposes, c.Purpose):
		return misfitf("charge %s is for a purpose that its consumer does not hold", id)
	case !slices.Contains(d.policy.Audiences, who.Audience):
		return misfitf("charge %s is for an audience that the policy of dataset %s does not list", id, p.Dataset)
	case slices.ContainsFunc(p.Blocks, d.isRetired):
		return misfitf("charge %s touches a block of dataset %s that is retired", id, p.Dataset)
	case a.Paused:
		return misfitf("charge %s was admitted while the allotment was paused", id)
	case !a.Expires.IsZero() && !c.Charge.At.Before(a.Expires):
		return misfitf("charge %s was admitted after the allotment had expired", id)
	case a.MaxEpsilonPerQuery > 0 && p.Loss.Epsilon > a.MaxEpsilonPerQuery:
		return misfitf("charge %s costs more than the allotment allows for one query", id)
	}
	return nil
}

// newDraw holds the charge of a new draw: the caps pay what the allotments pay, over the rows of the moment.
func (s *step) newDraw(c *chargeRecord) error {
	if c.Charge.CapLoss != c.Charge.Loss {
		return misfitf("charge %s costs the cap something else than the allotment", c.Charge.ID)
	}
	if c.Release != "" || c.Metrics != nil {
		return misfitf("charge %s has a release before it was answered", c.Charge.ID)
	}
	for _, p := range c.parts() {
		for _, b := range p.at.Blocks {
			if b.Version != s.datasets[p.Dataset].blocks[b.Block] {
				return misfitf("charge %s is over another version of block %s of dataset %s than the current one", c.Charge.ID, b.Block, p.Dataset)
			}
		}
	}
	return nil
}

// handOut holds the charge for another consumer's draw: the same price over the same rows, to the allotment alone,
// for a release that the consumer did not hold.
func (s *step) handOut(c *chargeRecord) error {
	id := c.Charge.ID
	text, still, err := s.stands(key(kindRelease, c.Source))
	if err != nil {
		return err
	}
	if !still {
		return s.hold(c)
	}
	source, err := decodeRecord[releaseRecord](text, whole)
	if err != nil {
		return err
	}
	answer, err := summaryOf(source)
	if err != nil {
		return err
	}
	if text, still, err = s.stands(key(kindCharge, source.Charge)); err != nil {
		return err
	}
	if !still {
		return s.hold(c)
	}
	drawn, err := decodeRecord[chargeRecord](text, whole)
	if err != nil {
		return err
	}
	switch {
	case c.Charge.CapLoss != loss{}:
		return misfitf("charge %s costs the cap something, though its draw was paid", id)
	case c.Release != c.Source || !slices.Equal(c.Metrics, answer.Metrics):
		return misfitf("charge %s ends with another release than it was handed", id)
	case drawn.Plan != c.Plan || drawn.Charge.Dataset != c.Charge.Dataset:
		return misfitf("charge %s was handed the answer to another plan", id)
	case drawn.Charge.Loss != c.Charge.Loss || !slices.Equal(drawn.Charge.Blocks, c.Charge.Blocks) || !slices.EqualFunc(drawn.Charge.Also, c.Charge.Also, touched.equal):
		return misfitf("charge %s does not cost what the release it was handed did", id)
	case !drawn.Snapshot.equal(c.Snapshot):
		return misfitf("charge %s has another snapshot than the release it was handed", id)
	}
	return s.hold(c)
}

// spending is what the charges of an entry cost an account.
type spending struct {
	loss    loss
	charges uint64
	budget  budget
	by      string // one of the charges
}

// spend takes down what a charge costs exactly the accounts of its blocks: each what its part costs, and the caps
// nothing where a draw was handed out.
func (s *step) spend(c *chargeRecord) {
	for _, p := range c.parts() {
		allotment := s.allotments[allotmentID{c.Charge.Consumer, p.Dataset}]
		for _, block := range p.Blocks {
			s.spendOn(accountID{p.Dataset, block, c.Charge.Consumer}, p.Loss, allotment.Budget, c)
			if c.Source == "" {
				s.spendOn(accountID{p.Dataset, block, ""}, p.Loss, s.datasets[p.Dataset].record.Cap, c)
			}
		}
	}
}

func (s *step) spendOn(id accountID, l loss, b budget, c *chargeRecord) {
	sum := s.spends[id]
	if sum == nil {
		sum = &spending{budget: b, by: c.Charge.ID}
		s.spends[id], s.spenders = sum, append(s.spenders, id)
	}
	sum.loss, sum.charges = add(sum.loss, l), sum.charges+1
}

// settleAccounts holds that exactly the accounts of the charges' blocks take exactly their losses, and that each had
// room. A certificate that holds after all of them held after each, for losses are never negative.
func (s *step) settleAccounts() error {
	for _, id := range s.spenders {
		sum := s.spends[id]
		before, charged := s.accounts[id]
		w := s.writes[string(key(kindAccount, id.dataset, id.block, id.consumer))]
		if w == nil || w.deleted || w.value == nil {
			return misfitf("charge %s does not charge %s", sum.by, id)
		}
		w.claimed = true
		after, err := decodeAccount(w.value)
		if err != nil {
			return err
		}
		if want := (accountRecord{add(before.spent, sum.loss), before.charges + sum.charges}); after != want {
			return misfitf("%s does not go up by exactly what charge %s costs", id, sum.by)
		}
		s.accounts[id] = after
		if !s.certificates.hold(sum.budget, s.spent(id)) {
			return misfitf("charge %s was admitted though neither certificate holds for %s after it", sum.by, id)
		}
		if charged {
			continue
		}
		s.count.Accounts++
		if id.consumer != "" {
			if err := s.want(key(kindAccountOf, id.consumer, id.dataset, id.block), mark); err != nil {
				return err
			}
		}
	}
	return nil
}

// idempotencyKeys holds that a key is bound once, to a charge of its consumer.
func (s *step) idempotencyKeys() error {
	for _, w := range s.of(kindIdempotency) {
		r, err := putOnce[idempotencyRecord](s, w, whole)
		if err != nil {
			return err
		}
		parts, _, err := split(w.key)
		if err != nil {
			return err
		}
		if len(s.done) == 0 {
			s.done = append(s.done, "key")
		}
		consumer, known, err := s.payer(r.Charge)
		if err != nil {
			return err
		}
		if known && consumer != parts[0] || len(r.Body) != sha256.Size {
			return misfitf("an idempotency key stands for a charge of another consumer, or for no question")
		}
	}
	return nil
}

// payer is the consumer of a charge that this entry or one before it made.
func (s *step) payer(id string) (consumer string, known bool, err error) {
	if c, ok := s.made[id]; ok {
		return c.Charge.Consumer, true, nil
	}
	if o := s.open[id]; o != nil {
		if o.last == nil {
			return "", false, nil
		}
		return o.last.Charge.Consumer, true, nil
	}
	value, still, err := s.stands(key(kindCharge, id))
	if err != nil || !still {
		return "", false, err
	}
	c, err := decodeRecord[chargeRecord](value, whole)
	return c.Charge.Consumer, true, err
}

// continueCharge replays a further attempt, a lease renewed or given up, or the outcome of an open charge.
func (s *step) continueCharge(w *write, id string) error {
	o := s.open[id]
	if o == nil {
		return misfitf("charge %s has an outcome already, and changes", id)
	}
	w.claimed = true
	before := o.last
	value, found, err := s.content(w)
	if err != nil {
		return err
	}
	if !found {
		s.done = append(s.done, s.unseen())
		s.count.Unseen++
		o.last, o.digest = nil, w.digest
		return nil
	}
	after, err := decodeRecord[chargeRecord](value, whole)
	if err != nil {
		return err
	}
	identity, err := after.identity()
	if err != nil {
		return err
	}
	if identity != o.identity {
		return misfitf("charge %s changes in what never changes about a charge: its loss, its blocks, its plan or its consumer", id)
	}
	if after.Attempts < 1 && !(after.waits() && after.failed()) || after.Attempts > maxAttempts {
		return misfitf("charge %s has %d attempts; there are at most %d", id, after.Attempts, maxAttempts)
	}
	if o.lost && (after.Release != "" || before != nil && after.Attempts > before.Attempts) {
		return misfitf("charge %s is answered after a write-off: it may have been answered in what was lost, by other noise", id)
	}
	if after.ended() {
		return s.end(o, &after, id)
	}
	s.done = append(s.done, s.continued(before, &after))
	if before != nil {
		if err := s.follows(before, &after, id); err != nil {
			return err
		}
	}
	o.last, o.digest = &after, w.digest
	return nil
}

// unseen takes the entry's word for what it did to a charge whose record is gone.
func (s *step) unseen() string {
	switch s.entry.name {
	case "charge": // which can be a further attempt
		return "attempt"
	default:
		return s.entry.name
	}
}

// continued names what happened to an open charge.
func (s *step) continued(before, after *chargeRecord) string {
	switch {
	case before == nil:
		return s.unseen()
	case after.Attempts != before.Attempts:
		return "attempt"
	case s.entry.name == "renew" && after.Lease.After(s.entry.at.Add(blink)): // earlier than before where the clock went back
		return "renew"
	}
	return "abandon"
}

// follows holds an open charge to how it may change.
func (s *step) follows(before, after *chargeRecord, id string) error {
	switch after.Attempts {
	case before.Attempts:
		if after.Opening != before.Opening {
			return misfitf("charge %s moves to another opening of the ledger without a further attempt", id)
		}
	case before.Attempts + 1:
		if after.Opening != s.meta.Openings {
			return misfitf("an attempt at charge %s belongs to another opening of the ledger than the current one", id)
		}
		if before.Opening == s.meta.Openings && s.entry.at.Add(blink).Before(before.Lease) {
			return misfitf("an attempt at charge %s begins while the one before it may run", id)
		}
	default:
		return misfitf("the attempts at charge %s go from %d to %d", id, before.Attempts, after.Attempts)
	}
	return nil
}

// end replays the outcome of a charge: it is the only thing that changes then.
func (s *step) end(o *openCharge, after *chargeRecord, id string) error {
	unended, err := encodeRecord(after.unended())
	if err != nil {
		return err
	}
	if sha256.Sum256(unended) != o.digest {
		return misfitf("charge %s changes in more than its outcome when it ends", id)
	}
	if after.failed() && (after.Release != "" || after.Metrics != nil) {
		return misfitf("charge %s has two outcomes", id)
	}
	delete(s.open, id)
	if err := s.wantGone(numberedKey(after.Number, kindOpen)); err != nil {
		return err
	}
	if after.failed() {
		s.done = append(s.done, "failure")
		return nil
	}
	s.done = append(s.done, "outcome")
	return s.publish(after)
}
