package verify

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// people is an honest ledger in which tokens sign in, and keys are rotated and made by who holds them.
func people(t *testing.T) *fixture {
	f := newFixture(t)
	ctx := t.Context()
	f.hire("alice") // change 1
	f.hire("bob")
	subject := func(name, of string) {
		now, err := f.Consumer(ctx, name)
		f.must(err)
		_, err = f.office.PatchConsumer(ctx, "root", name, office.ConsumerPatch{Subject: &of}, &now.Version, "a test")
		f.must(err)
	}
	subject("alice", "one")                                                                                                             // change 3
	subject("alice", "two")                                                                                                             // change 4
	subject("bob", "one")                                                                                                               // change 5
	subject("bob", "")                                                                                                                  // change 6
	_, first, err := f.office.IssueKey(ctx, "root", office.NewKey{Consumer: "alice", Expires: f.clock().Add(48 * time.Hour)}, "a test") // change 7
	f.must(err)
	hour := time.Hour
	_, own, _, err := f.office.IssueOwnKey(ctx, "alice", first.ID, &hour, time.Time{}) // change 8
	f.must(err)
	_, further, _, err := f.office.IssueOwnKey(ctx, "alice", own.ID, nil, time.Time{}) // change 9
	f.must(err)
	_, err = f.office.RevokeOwnKey(ctx, "alice", own.ID) // change 10
	f.must(err)
	_, err = f.office.RevokeKey(ctx, "root", "alice", first.ID, "leaked") // change 11: further, too
	f.must(err)
	if keys, err := f.Keys(ctx, "alice"); err != nil || slices.ContainsFunc(keys, func(k dp.Key) bool { return k.ID == further.ID && k.Revoked.IsZero() }) {
		t.Fatalf("%v %v", keys, err)
	}
	f.must(func() error {
		_, _, _, err := f.office.RotateKey(ctx, "root", "alice", time.Hour, time.Time{}, "a test") // change 12
		return err
	}())
	f.must(func() error {
		_, _, _, err := f.office.RotateKey(ctx, "root", "alice", time.Hour, time.Time{}, "a test") // change 13
		return err
	}())
	f.reopen()
	f.close()
	return f
}

func TestLedgerWithSubjectsAndRotatedKeysFits(t *testing.T) {
	f := people(t)
	fits(t, f.dir, Options{Witness: f.witness})
	fits(t, read(t, f.dir).write(), Options{})
}

func TestForgedSubjectsAndKeysAreNamed(t *testing.T) {
	f := people(t)
	// keyIn gives the write of the key that fits in an entry.
	keyIn := func(g *forger, e *entry, fits func(keyRecord) bool) *write {
		for _, w := range e.writes {
			if w.key[0] == kindKey {
				if k, err := decodeRecord[keyRecord](g.value(w), whole); err == nil && fits(k) {
					return w
				}
			}
		}
		t.Fatalf("entry %d writes no such key", e.number)
		return nil
	}
	own := func(k keyRecord) bool { return k.Under != "" }
	officers := func(k keyRecord) bool { return k.Under == "" }
	for name, c := range map[string]struct {
		forge func(g *forger) *entry
		why   string
	}{
		"two consumers of a subject": {func(g *forger) *entry {
			e := g.the("change", 5)
			edit(g, g.first(e, kindConsumer), func(c *consumerRecord) { c.Subject = "two" })
			g.first(e, kindSubject).key = key(kindSubject, "two")
			return e
		}, "is that of another one, too"},
		"subject listed of another": {func(g *forger) *entry {
			e := g.the("change", 3)
			g.first(e, kindSubject).set([]byte("bob"))
			return e
		}, "the subject of a consumer's tokens"},
		"subject listed under another": {func(g *forger) *entry {
			e := g.the("change", 3)
			g.first(e, kindSubject).key = key(kindSubject, "three")
			return e
		}, "the subject of a consumer's tokens"},
		"old subject stays": {func(g *forger) *entry {
			e := g.the("change", 4)
			e.writes = slices.DeleteFunc(e.writes, func(w *write) bool { return w.key[0] == kindSubject && w.deleted })
			return e
		}, "it should delete the subject"},
		"subject out of nothing": {func(g *forger) *entry {
			w := &write{key: key(kindSubject, "three")}
			w.set([]byte("bob"))
			e := g.the("change", 7)
			e.writes = append(e.writes, w)
			return e
		}, "nothing in it calls for that"},
		"key lives longer": {func(g *forger) *entry {
			e := g.the("change", 8)
			edit(g, keyIn(g, e, officers), func(k *keyRecord) { k.Expires = k.Expires.Add(1000 * time.Hour) })
			return e
		}, "to end later than it was"},
		"revoked and ended otherwise": {func(g *forger) *entry {
			e := g.the("change", 8)
			edit(g, keyIn(g, e, officers), func(k *keyRecord) { k.Revoked = k.Created })
			return e
		}, "ends at another time besides"},
		"key outlives the one under which it is made": {func(g *forger) *entry {
			e := g.the("change", 8)
			edit(g, keyIn(g, e, own), func(k *keyRecord) { k.Expires = k.Expires.Add(time.Second) })
			return e
		}, "ends later than the one under which it is made"},
		"key under one of nobody": {func(g *forger) *entry {
			e := g.the("change", 8)
			edit(g, keyIn(g, e, own), func(k *keyRecord) { k.Under = "key_none" })
			return e
		}, "its consumer does not hold"},
		"key under a revoked one": {func(g *forger) *entry {
			nine, ten := g.the("change", 9), g.the("change", 10)
			i, j := slices.Index(g.entries, nine), slices.Index(g.entries, ten)
			nine.writes, ten.writes = ten.writes, nine.writes
			for _, kind := range []byte{kindChange, kindNumber} { // numbers and records of changes stay in order
				a, b := g.first(g.entries[i], kind), g.first(g.entries[j], kind)
				a.key, b.key = b.key, a.key
				if kind == kindNumber {
					*a, *b = *b, *a
				}
			}
			return g.entries[j]
		}, "its consumer does not hold"},
		"key made by somebody else": {func(g *forger) *entry {
			e := g.the("change", 8)
			edit(g, g.first(e, kindChange), func(x *changeRecord) { x.Actor = "bob" })
			return e
		}, "made itself a key"},
		"who is no officer changes a consumer": {func(g *forger) *entry {
			e := g.the("change", 3)
			edit(g, g.first(e, kindChange), func(x *changeRecord) { x.Actor = "bob" })
			return e
		}, "an officer's, who is none"},
		"who is no officer makes keys of others": {func(g *forger) *entry {
			e := g.the("change", 13)
			edit(g, g.first(e, kindChange), func(x *changeRecord) { x.Actor = "bob" })
			return e
		}, "an officer's, who is none"},
		"who is no officer makes a key of their own under none": {func(g *forger) *entry {
			e := g.the("change", 13)
			edit(g, g.first(e, kindChange), func(x *changeRecord) { x.Actor = "alice" })
			return e
		}, "an officer's, who is none"},
		"who is suspended makes a key": {func(g *forger) *entry {
			for _, n := range []int{1, 3, 4} {
				edit(g, g.first(g.the("change", n), kindConsumer), func(c *consumerRecord) { c.Suspended = true })
			}
			return g.the("change", 8)
		}, "who is suspended"},
		"what was made under a revoked key goes on": {func(g *forger) *entry {
			e := g.the("change", 11)
			w := keyIn(g, e, own)
			id := string(w.key[1 : len(w.key)-2])
			e.writes = slices.DeleteFunc(e.writes, func(o *write) bool { return o == w })
			edit(g, g.first(e, kindChange), func(x *changeRecord) {
				x.Changed = slices.DeleteFunc(x.Changed, func(o changedObject) bool { return o.Name == id })
			})
			return e
		}, "which was made under it, is not"},
	} {
		t.Run(name, func(t *testing.T) {
			g := read(t, f.dir)
			e := c.forge(g)
			r := verify(t, g.write(), Options{})
			if r.Finding == nil || r.Finding.Entry != e.number || !strings.Contains(r.Finding.Why, c.why) {
				t.Errorf("entry %d: %v", e.number, r.Finding)
			}
		})
	}
}
