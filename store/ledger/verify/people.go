package verify

import (
	"reflect"
	"slices"
	"time"
)

// maxOwnKeys are in force at a time of those that a consumer made itself.
const maxOwnKeys = 10

// subject replays whom tokens sign in: no two consumers have one subject, and the list of subjects says what the
// records say.
func (s *step) subject(before string, c *consumerRecord) error {
	if c.Subject == before {
		return nil
	}
	if before != "" {
		if err := s.wantGone(key(kindSubject, before)); err != nil {
			return err
		}
		delete(s.subjects, before)
	}
	if c.Subject == "" {
		return nil
	}
	if s.subjects[c.Subject] != "" {
		return misfitf("the subject of consumer %s is that of another one, too", c.Name)
	}
	s.subjects[c.Subject] = c.Name
	return s.want(key(kindSubject, c.Subject), []byte(c.Name))
}

// putKeys replays new keys, and then keys that end: a new one may be made under one that ends in the same entry.
func (s *step) putKeys() error {
	for _, fresh := range []bool{true, false} {
		for _, w := range s.of(kindKey) {
			names, _, err := split(w.key)
			if err != nil {
				return err
			}
			if _, known := s.keys[names[0]]; known == fresh {
				continue
			}
			k, err := put[keyRecord](s, w, whole)
			if err != nil {
				return err
			}
			if names[0] != k.ID {
				return misfitf("a key has another id than where it is kept")
			}
			if fresh {
				err = s.newKey(&k)
			} else {
				err = s.endKey(s.keys[k.ID], k)
			}
			if err != nil {
				return err
			}
			s.keys[k.ID] = k
			s.touched = append(s.touched, k.ID)
			s.changed = append(s.changed, changedObject{"key", k.ID, 0})
		}
	}
	return nil
}

// acting notes who left the record of a change, as they stood before the entry, and of what.
func (s *step) acting() error {
	for _, w := range s.of(kindChange) {
		text, err := s.text(w)
		if err != nil {
			return err
		}
		x, err := inJSON[changeRecord](text, whole)
		if err != nil {
			return err
		}
		s.by.name, s.by.before = x.Actor, s.consumers[x.Actor]
	}
	for _, kind := range []byte{kindPolicy, kindConsumer, kindAllotment} {
		s.decides = s.decides || len(s.of(kind)) > 0
	}
	for _, kind := range []byte{kindKey, kindRequest, kindRequestEnd, kindProposalEnd} {
		s.acts = s.acts || len(s.of(kind)) > 0
	}
	return nil
}

// mayAct holds that nobody acts who is suspended, and that who decides what officers decide is one. Who is no consumer, as
// at the first start, has no role.
func (s *step) mayAct() error {
	decides := s.decides || slices.ContainsFunc(s.touched, func(id string) bool { return s.keys[id].Consumer != s.by.name })
	switch c := s.by.before; {
	case c.Version == 0 || !decides && !s.acts:
		return nil
	case c.Suspended:
		return misfitf("%s makes a change, who is suspended", s.by.name)
	case decides && c.Role != officer:
		return misfitf("%s makes a change that is an officer's, who is none", s.by.name)
	}
	return nil
}

// newKey holds a key that a consumer made itself to the one under which it did.
func (s *step) newKey(k *keyRecord) error {
	switch {
	case s.consumers[k.Consumer].Version == 0:
		return misfitf("key %s belongs to a consumer that does not exist", k.ID)
	case !k.Revoked.IsZero():
		return misfitf("key %s is made and revoked at once", k.ID)
	}
	if k.Under != "" {
		under, known := s.keys[k.Under]
		switch {
		case !known || under.Consumer != k.Consumer || !under.Revoked.IsZero():
			return misfitf("key %s is made under one that its consumer does not hold", k.ID)
		case !under.Expires.IsZero() && (k.Expires.IsZero() || k.Expires.After(under.Expires)):
			return misfitf("key %s ends later than the one under which it is made", k.ID)
		}
		s.actor = k.Consumer
	} else {
		s.decides = true
	}
	if err := s.want(key(kindKeyOf, k.Consumer, k.ID), []byte(k.ID)); err != nil {
		return err
	}
	return s.want(append(key(kindKeyHash), k.Hash[:]...), []byte(k.ID))
}

// endKey holds that a key changes in nothing but being revoked, once, or in ending sooner.
func (s *step) endKey(before, k keyRecord) error {
	revoked, expires := k.Revoked, k.Expires
	k.Revoked, k.Expires = before.Revoked, before.Expires
	switch {
	case !reflect.DeepEqual(k, before):
		return misfitf("key %s changes in more than being revoked or ending sooner", k.ID)
	case !before.Revoked.IsZero() && !revoked.Equal(before.Revoked):
		return misfitf("key %s was revoked and comes back, or is revoked again", k.ID)
	case expires.Equal(before.Expires):
		return nil
	case expires.IsZero() || !before.Expires.IsZero() && expires.After(before.Expires):
		return misfitf("key %s is to end later than it was", k.ID)
	case !revoked.IsZero():
		return misfitf("key %s is revoked, and ends at another time besides", k.ID)
	}
	return nil
}

// keysBy holds the keys that an entry makes and ends to who did that, and when: who revokes another's key revokes
// those that were made under it, and nobody makes more of their own than may be in force.
func (s *step) keysBy(x *changeRecord) error {
	for _, id := range s.touched {
		k := s.keys[id]
		if k.Under != "" && s.owned(k.Consumer, x.At) > maxOwnKeys {
			return misfitf("%s has more keys in force that it made itself than there may be", k.Consumer)
		}
		if k.Revoked.IsZero() || x.Actor == k.Consumer {
			continue
		}
		for _, other := range s.keys {
			if other.Revoked.IsZero() && s.madeUnder(other, id) {
				return misfitf("key %s is revoked, and key %s, which was made under it, is not", id, other.ID)
			}
		}
	}
	return nil
}

// owned counts the keys in force that a consumer made itself.
func (s *step) owned(consumer string, now time.Time) (n int) {
	for _, k := range s.keys {
		if k.Under != "" && k.Consumer == consumer && k.Revoked.IsZero() && (k.Expires.IsZero() || now.Before(k.Expires)) {
			n++
		}
	}
	return n
}

// madeUnder tells whether a key was made under one, or under one that was, and so on.
func (s *step) madeUnder(k keyRecord, id string) bool {
	for ; k.Under != ""; k = s.keys[k.Under] { // which was there before it
		if k.Under == id {
			return true
		}
	}
	return false
}
