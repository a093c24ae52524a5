package verify

import (
	"bytes"
	"encoding/json"
	"time"
)

// The states in which a proposal ends; it can be withdrawn, too.
const (
	confirmed = "confirmed"
	rejected  = "rejected"
	stale     = "stale"
	expired   = "expired"
)

// The versions of a proposal that a change names.
const (
	proposalMade  = 1
	proposalEnded = 2
)

// proposalLife is for how long a proposal can be confirmed, at most.
const proposalLife = 7 * 24 * time.Hour

// maxOpenProposals is how many proposals are open at a time.
const maxOpenProposals = 100

const officer = "officer"

// proposals replays what takes two officers, and holds everything else to what one may do. It looks at the state of before
// the entry: a policy that asks for two persons is not set aside by the entry that changes it.
func (s *step) proposals() error {
	if err := s.acting(); err != nil {
		return err
	}
	made, ends := s.of(kindProposal), s.of(kindProposalEnd)
	if len(made) > 1 {
		return misfitf("it makes several proposals")
	}
	var agreed *proposalRecord
	for _, w := range ends {
		p, err := s.endProposal(w)
		if err != nil {
			return err
		}
		if p == nil {
			continue
		}
		if agreed != nil || len(made) > 0 {
			return misfitf("it confirms a proposal, and makes or confirms another one")
		}
		agreed = p
	}
	if len(made) == 1 {
		if err := s.newProposal(made[0]); err != nil {
			return err
		}
	}
	if agreed != nil {
		return s.madeAsProposed(agreed)
	}
	if len(made)+len(ends) > 0 {
		for _, kind := range []byte{kindPolicy, kindConsumer, kindKey, kindAllotment, kindRequest, kindRequestEnd} {
			if len(s.of(kind)) > 0 {
				return misfitf("it makes or ends a proposal without confirming it, and changes %s besides", words[kind])
			}
		}
		return nil
	}
	return s.byOne()
}

func (s *step) newProposal(w *write) error {
	names, _, err := split(w.key)
	if err != nil {
		return err
	}
	p, err := putOnce[proposalRecord](s, w, whole)
	if err != nil {
		return err
	}
	id := names[0]
	kinds := 0
	for _, there := range []bool{p.Change.Policy != nil, p.Change.Allotment != nil, p.Change.Consumer != nil, p.Change.Key != nil} {
		if there {
			kinds++
		}
	}
	switch {
	case id == "" || kinds != 1:
		return misfitf("a proposal is for no change, or for several")
	case !s.isOfficer(p.By):
		return misfitf("proposal %s is made by somebody who is no officer", id)
	case !p.Expires.After(p.Made) || p.Expires.Sub(p.Made) > proposalLife:
		return misfitf("proposal %s can be confirmed for longer than any", id)
	case s.openProposals >= maxOpenProposals:
		return misfitf("it makes a proposal while as many are open as there may be")
	}
	if fits, err := s.standing(&p); err != nil || !fits {
		if err == nil {
			err = misfitf("proposal %s is for a change of something else than stands", id)
		}
		return err
	}
	s.openProposals++
	s.numbers = append(s.numbers, p.Number)
	for _, k := range [][]byte{numberedKey(p.Number, kindProposals), numberedKey(p.Number, kindProposalOpen)} {
		if err := s.want(k, []byte(id)); err != nil {
			return err
		}
	}
	s.changed = append(s.changed, changedObject{"proposal", id, proposalMade})
	return s.actedBy(p.By)
}

// endProposal replays how a proposal ended, and gives it where it was confirmed.
func (s *step) endProposal(w *write) (*proposalRecord, error) {
	names, _, err := split(w.key)
	if err != nil {
		return nil, err
	}
	id := names[0]
	if s.holds(w.key) {
		return nil, misfitf("proposal %s has ended already, and ends once", id)
	}
	end, err := put[proposalEndRecord](s, w, whole)
	if err != nil {
		return nil, err
	}
	text, still, err := s.stands(key(kindProposal, id))
	if err != nil {
		return nil, err
	}
	if !still { // a proposal is written once
		return nil, misfitf("proposal %s is not what it was when it was made", id)
	}
	p, err := decodeRecord[proposalRecord](text, whole)
	if err != nil {
		return nil, err
	}
	p.id = id
	switch end.State {
	case withdrawn:
		if end.By != p.By {
			return nil, misfitf("proposal %s is withdrawn by somebody else than who made it", id)
		}
	case expired:
		if end.At.Before(p.Expires) {
			return nil, misfitf("proposal %s ends as expired before it is", id)
		}
	case confirmed, rejected, stale:
		if end.By == p.By || !s.isOfficer(end.By) {
			return nil, misfitf("proposal %s is %s by who made it, or by somebody who is no officer", id, end.State)
		}
	default:
		return nil, misfitf("proposal %s ends in a state that there is not", id)
	}
	if end.State == confirmed || end.State == stale {
		fits, err := s.standing(&p)
		if err != nil {
			return nil, err
		}
		fits = fits && s.isOfficer(p.By)
		switch {
		case end.State == stale && fits:
			return nil, misfitf("proposal %s ends as stale, and nothing that it is about had changed", id)
		case end.State == confirmed && !fits:
			return nil, misfitf("proposal %s is confirmed though what it is about had changed, or who made it was no officer any more", id)
		case end.State == confirmed && (!end.At.Before(p.Expires) || end.At.Before(p.Made)):
			return nil, misfitf("proposal %s is confirmed after it had expired", id)
		}
	}
	if err := s.wantGone(numberedKey(p.Number, kindProposalOpen)); err != nil {
		return nil, err
	}
	s.openProposals--
	s.changed = append(s.changed, changedObject{"proposal", id, proposalEnded})
	if err := s.actedBy(end.By); err != nil || end.State != confirmed {
		return nil, err
	}
	return &p, nil
}

// actedBy notes who must have made the change of this entry.
func (s *step) actedBy(name string) error {
	if s.actor != "" && s.actor != name {
		return misfitf("it is the act of several")
	}
	s.actor = name
	return nil
}

// isOfficer tells whether a consumer could decide before this entry.
func (s *step) isOfficer(name string) bool {
	c := s.consumers[name]
	return c.Role == officer && !c.Suspended
}

// standing tells whether a proposal is for the version after the one that stands, and knows that one as it is.
func (s *step) standing(p *proposalRecord) (bool, error) {
	switch c := p.Change; {
	case c.Policy != nil:
		after, err := inJSON[policyRecord](c.Policy.After, parts)
		d := s.datasets[after.Name]
		return d != nil && after.Version == d.record.PolicyVersion+1, err
	case c.Allotment != nil:
		after, err := inJSON[allotmentRecord](c.Allotment.After, whole)
		if err != nil {
			return false, err
		}
		before, known := s.allotments[allotmentID{after.Consumer, after.Dataset}]
		if known != (c.Allotment.Before != nil) || after.Version != before.Version+1 {
			return false, nil
		}
		if known {
			shown, err := inJSON[allotmentRecord](c.Allotment.Before, whole)
			if err != nil || !shown.equal(before) {
				return false, err
			}
		}
		if c.Allotment.Request == "" {
			return true, nil
		}
		return s.holds(key(kindRequest, c.Allotment.Request)) && !s.holds(key(kindRequestEnd, c.Allotment.Request)), nil
	case c.Consumer != nil:
		after, err := inJSON[consumerRecord](c.Consumer.After, parts)
		if err != nil {
			return false, err
		}
		before, known := s.consumers[after.Name]
		return known == (c.Consumer.Before != nil) && after.Version == before.Version+1 && bytes.Equal(c.Consumer.Before, before.text), nil
	default:
		k, err := inJSON[keyRecord](c.Key, whole)
		_, known := s.keys[k.ID]
		return !known && s.consumers[k.Consumer].Version > 0, err
	}
}

// madeAsProposed holds an entry that confirms a proposal to making exactly that change.
func (s *step) madeAsProposed(p *proposalRecord) error {
	c := p.Change
	kinds := map[byte]json.RawMessage{}
	switch {
	case c.Policy != nil:
		kinds[kindPolicy] = c.Policy.After
	case c.Allotment != nil:
		kinds[kindAllotment] = c.Allotment.After
	case c.Consumer != nil:
		kinds[kindConsumer] = c.Consumer.After
	default:
		kinds[kindKey] = c.Key
	}
	for _, kind := range []byte{kindPolicy, kindAllotment, kindConsumer, kindKey} {
		writes := s.of(kind)
		shown := kinds[kind]
		if shown == nil && len(writes) == 0 {
			continue
		}
		if shown == nil || len(writes) != 1 {
			return misfitf("proposal %s is confirmed, and the entry changes %s otherwise than was proposed", p.id, words[kind])
		}
		text, err := s.text(writes[0])
		if err != nil {
			return err
		}
		same := bytes.Equal(text, shown)
		// When they were created is when that was confirmed.
		if kind == kindKey || kind == kindConsumer && c.Consumer.Before == nil {
			if same, err = sameBut(text, shown, "Created"); err != nil {
				return err
			}
		}
		if !same {
			return misfitf("proposal %s is confirmed, and %s that the entry writes is not what was proposed", p.id, word(writes[0].key))
		}
	}
	granted := ""
	for _, w := range s.of(kindRequestEnd) {
		names, _, err := split(w.key)
		if err != nil {
			return err
		}
		granted = names[0]
	}
	if len(s.of(kindRequest)) > 0 || c.Allotment == nil && granted != "" || c.Allotment != nil && c.Allotment.Request != granted {
		return misfitf("proposal %s is confirmed, and the entry decides on another budget request than was proposed", p.id)
	}
	if c.Consumer != nil {
		return s.unseenKeys(s.of(kindConsumer)[0])
	}
	return nil
}

// byOne holds what an entry changes without a proposal to what one officer may change.
func (s *step) byOne() error {
	for _, w := range s.of(kindPolicy) {
		names, _, err := split(w.key)
		if err != nil {
			return err
		}
		d := s.datasets[names[0]]
		if d == nil || !d.policy.TwoPerson {
			continue
		}
		after, err := s.text(w)
		if err != nil {
			return err
		}
		narrows, err := policyNarrows(d.policy.text, after)
		if err != nil {
			return err
		}
		if !narrows {
			return misfitf("the policy of dataset %s, which takes two officers, is changed by one, in more than narrowing it", names[0])
		}
	}
	for _, w := range s.of(kindAllotment) {
		text, err := s.text(w)
		if err != nil {
			return err
		}
		a, err := inJSON[allotmentRecord](text, whole)
		if err != nil {
			return err
		}
		d := s.datasets[a.Dataset]
		if d == nil || !d.policy.TwoPerson {
			continue
		}
		if before, known := s.allotments[allotmentID{a.Consumer, a.Dataset}]; !known || !allotmentNarrows(before, a) {
			return misfitf("the allotment of %s on %s, which takes two officers, is changed by one, in more than narrowing it", a.Consumer, a.Dataset)
		}
	}
	if !s.twoAsked() {
		return nil
	}
	for _, w := range s.of(kindConsumer) {
		text, err := s.text(w)
		if err != nil {
			return err
		}
		c, err := inJSON[consumerRecord](text, parts)
		if err != nil {
			return err
		}
		before, known := s.consumers[c.Name]
		narrows := c.Role != officer // of a new one
		if known {
			if narrows, err = consumerNarrows(before.text, text); err != nil {
				return err
			}
		}
		if !narrows {
			return misfitf("one officer makes %s an officer, or changes that consumer in more than narrowing it, while a dataset takes two", c.Name)
		}
	}
	return s.keysByOne()
}

// keysByOne holds that nobody gives another officer a key alone.
func (s *step) keysByOne() error {
	for _, w := range s.of(kindKey) {
		text, err := s.text(w)
		if err != nil {
			return err
		}
		k, err := inJSON[keyRecord](text, whole)
		if err != nil {
			return err
		}
		if _, known := s.keys[k.ID]; known || s.consumers[k.Consumer].Role != officer {
			continue
		}
		if s.by.name != "" && s.by.name != k.Consumer {
			return misfitf("one officer gives another one, %s, a key, while a dataset takes two", k.Consumer)
		}
	}
	return nil
}

// unseenKeys holds that who becomes an officer holds no key, which somebody else may have seen.
func (s *step) unseenKeys(w *write) error {
	text, err := s.text(w)
	if err != nil {
		return err
	}
	c, err := inJSON[consumerRecord](text, parts)
	if err != nil || c.Role != officer || s.consumers[c.Name].Role == officer {
		return err
	}
	if c.Subject != "" && c.Subject == s.consumers[c.Name].Subject {
		return misfitf("%s becomes an officer with a subject that one officer chose, while a dataset takes two", c.Name)
	}
	for _, k := range s.keys {
		if k.Consumer == c.Name && k.Revoked.IsZero() && (k.Expires.IsZero() || s.entry.at.Before(k.Expires)) {
			return misfitf("%s becomes an officer with a key that others may have seen, while a dataset takes two", c.Name)
		}
	}
	return nil
}

// twoAsked tells whether any dataset takes two officers.
func (s *step) twoAsked() bool {
	for _, d := range s.datasets {
		if d.policy.TwoPerson {
			return true
		}
	}
	return false
}

// text is the JSON of a record that this entry writes.
func (s *step) text(w *write) ([]byte, error) {
	if w.deleted {
		return nil, misfitf("it deletes %s, which is kept for ever", word(w.key))
	}
	value, found, err := s.content(w)
	if err != nil {
		return nil, err
	}
	if !found || len(value) == 0 || value[0] != recordVersion {
		return nil, misfitf("%s that it wrote is not what the database holds", describe(w.key))
	}
	return value[1:], nil
}

// inJSON reads a record that stands in another one.
func inJSON[T any](text json.RawMessage, r reading) (T, error) {
	return decodeRecord[T](append([]byte{recordVersion}, text...), r)
}
