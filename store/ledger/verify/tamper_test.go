package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// forger holds the entries of a ledger, to change them and to write a ledger in which every number, hash and
// value fits again: only the meaning is wrong then.
type forger struct {
	t       *testing.T
	entries []*entry
	long    map[[sha256.Size]byte][]byte // values that the chain has by digest
}

// read reads the entries of a ledger that is closed.
func read(t *testing.T, dir string) *forger {
	t.Helper()
	db, err := openDatabase(t.Context(), dir, nil)
	must(t, err)
	defer func() { must(t, db.close()) }()
	g := &forger{t: t, long: map[[sha256.Size]byte][]byte{}}
	must(t, db.walk(t.Context(), nil, func(k, value []byte) error {
		if k[0] != kindEntry {
			g.long[sha256.Sum256(value)] = slices.Clone(value)
			return nil
		}
		e, err := parseEntry(value)
		g.entries = append(g.entries, e)
		return err
	}))
	return g
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write writes the ledger anew, consistent in itself.
func (g *forger) write() (dir string) {
	g.t.Helper()
	dir = g.t.TempDir()
	state := map[string][]byte{}
	var previous [sha256.Size]byte
	var grown tree
	for i, e := range g.entries {
		e.number, e.previous = uint64(i)+1, previous
		text := g.encode(e)
		previous = sha256.Sum256(text)
		state[string(numberedKey(e.number, kindEntry))] = text
		state[string(numberedKey(e.number, kindHashes))] = grown.add(text)
		for _, w := range e.writes {
			switch {
			case w.deleted:
				delete(state, string(w.key))
			case w.value != nil:
				state[string(w.key)] = w.value
			default:
				state[string(w.key)] = g.long[w.digest]
			}
		}
	}
	g.save(dir, state)
	return dir
}

func (g *forger) save(dir string, state map[string][]byte) {
	g.t.Helper()
	db, err := badger.Open(engineOptions(dir))
	must(g.t, err)
	batch := db.NewWriteBatch()
	for k, value := range state {
		must(g.t, batch.Set([]byte(k), value))
	}
	must(g.t, batch.Flush())
	must(g.t, db.Close())
}

func (g *forger) encode(e *entry) []byte {
	slices.SortFunc(e.writes, func(a, b *write) int { return strings.Compare(string(a.key), string(b.key)) })
	return g.encodeAsIs(e)
}

func (g *forger) encodeAsIs(e *entry) []byte {
	text := []byte{entryVersion}
	text = binary.BigEndian.AppendUint64(text, e.number)
	text = binary.BigEndian.AppendUint64(text, uint64(e.at.UnixMicro()))
	text = append(text, e.previous[:]...)
	text = binary.AppendUvarint(text, uint64(len(e.name)))
	text = append(text, e.name...)
	text = binary.AppendUvarint(text, uint64(len(e.writes)))
	for _, w := range e.writes {
		text = binary.AppendUvarint(text, uint64(len(w.key)))
		text = append(text, w.key...)
		switch {
		case w.deleted:
			text = append(text, opDelete)
		case w.value != nil && !w.byDigest():
			text = append(text, opValue)
			text = binary.AppendUvarint(text, uint64(len(w.value)))
			text = append(text, w.value...)
		default:
			text = append(text, opDigest)
			text = binary.AppendUvarint(text, w.length)
			text = append(text, w.digest[:]...)
		}
	}
	return text
}

// the gives the n-th entry of a name.
func (g *forger) the(name string, n int) *entry {
	g.t.Helper()
	for _, e := range g.entries {
		if e.name == name {
			if n--; n == 0 {
				return e
			}
		}
	}
	g.t.Fatalf("there are not so many entries called %s", name)
	return nil
}

// from gives the entries from one on.
func (g *forger) from(e *entry) []*entry { return g.entries[slices.Index(g.entries, e):] }

// revocation gives the entry that revokes a key.
func (g *forger) revocation() *entry {
	g.t.Helper()
	for _, e := range g.entries {
		for _, w := range e.writes {
			if k, err := decodeRecord[keyRecord](w.value, parts); w.key[0] == kindKey && err == nil && !k.Revoked.IsZero() {
				return e
			}
		}
	}
	g.t.Fatal("no key is revoked")
	return nil
}

// insert puts a new entry behind another.
func (g *forger) insert(after *entry, name string, writes ...*write) *entry {
	e := &entry{name: name, at: after.at, writes: writes}
	g.entries = slices.Insert(g.entries, slices.Index(g.entries, after)+1, e)
	return e
}

// find gives the write of a key in an entry; nil where there is none.
func (e *entry) find(k []byte) *write {
	for _, w := range e.writes {
		if string(w.key) == string(k) {
			return w
		}
	}
	return nil
}

// first gives the first write of a kind of key in an entry.
func (g *forger) first(e *entry, kind byte) *write {
	g.t.Helper()
	for _, w := range e.writes {
		if w.key[0] == kind {
			return w
		}
	}
	g.t.Fatalf("entry %d, %s, writes no key of kind %c", e.number, e.name, kind)
	return nil
}

func (w *write) set(value []byte) {
	w.value, w.length, w.digest, w.deleted = value, uint64(len(value)), sha256.Sum256(value), false
}

func (g *forger) value(w *write) []byte {
	if w.value != nil {
		return w.value
	}
	return g.long[w.digest]
}

// edit changes the record of a write.
func edit[T any](g *forger, w *write, change func(*T)) {
	g.t.Helper()
	r, err := decodeRecord[T](g.value(w), parts)
	must(g.t, err)
	change(&r)
	text, err := encodeRecord(r)
	must(g.t, err)
	w.set(text)
}

// editJSON changes a record whose type here leaves fields out.
func (g *forger) editJSON(w *write, change func(map[string]any)) {
	edit(g, w, func(m *map[string]any) { change(*m) })
}

// adjust moves an account by an amount, in an entry and in all that follow.
func (g *forger) adjust(since *entry, id accountID, change func(*accountRecord)) {
	g.t.Helper()
	k, touched := key(kindAccount, id.dataset, id.block, id.consumer), false
	for _, e := range g.from(since) {
		if w := e.find(k); w != nil {
			a, err := decodeAccount(w.value)
			must(g.t, err)
			change(&a)
			w.set(encodeAccount(a))
			touched = true
		}
	}
	if !touched {
		g.t.Fatalf("%s is not charged", id)
	}
}

func encodeAccount(a accountRecord) []byte {
	text := []byte{recordVersion}
	for _, n := range []int64{a.spent.Epsilon, a.spent.Delta, a.spent.Rho, a.spent.DeltaZ, int64(a.charges)} {
		text = binary.BigEndian.AppendUint64(text, uint64(n))
	}
	return text
}

// charged changes a charge in every entry that writes it.
func (g *forger) charged(since *entry, change func(*chargeRecord)) {
	g.t.Helper()
	k := g.first(since, kindCharge).key
	for _, e := range g.from(since) {
		if w := e.find(k); w != nil {
			edit(g, w, change)
		}
	}
}

// scene is an honest ledger with one of everything.
func scene(t *testing.T) *fixture {
	f := newFixture(t)
	ctx := t.Context()
	f.policy("cards", dp.Budget{Epsilon: dp.EpsilonOne, Delta: 1e9}, nil)
	for _, name := range []string{"alice", "bob"} {
		f.hire(name)
		f.allot(name, "cards", func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: dp.EpsilonOne} })
	}
	f.load("cards", "first", []string{"2026-01", "2026-02"})

	one := f.charge(f.ask("alice", "cards", "plan one", pure(300), "2026-01", "2026-02")) // charge 1
	f.publish(one, "rel_1", "plan one", 0)                                                // outcome 1
	keyed := f.ask("alice", "cards", "plan two", pure(200), "2026-01")
	keyed.Key, keyed.Body = "key", [32]byte{1}
	two := f.charge(keyed) // charge 2
	f.must(f.Abandon(ctx, two.Charge.ID, 1))
	f.wait(time.Second)
	two = f.charge(keyed) // attempt 1
	f.must(f.Renew(ctx, two.Charge.ID, two.Attempt))
	f.publish(two, "rel_2", "plan two", 600_000) // outcome 2
	handed := f.ask("bob", "cards", "plan one", pure(300), "2026-01", "2026-02")
	handed.Source = "rel_1"
	f.charge(handed)                                                            // charge 3
	f.fail(f.charge(f.ask("bob", "cards", "plan three", pure(100), "2026-02"))) // charge 4, outcome 3
	f.charge(f.ask("alice", "cards", "plan four", pure(100), "2026-01"))        // charge 5, open when something is written off

	again := f.begin("cards", "first", []string{"2026-01", "2026-02"})
	f.must(f.RepeatLoad(ctx, again))
	version := uint64(1)
	f.policy("cards", dp.Budget{Epsilon: 2 * dp.EpsilonOne, Delta: 1e9}, &version)
	_, k, err := f.office.IssueKey(ctx, "root", office.NewKey{Consumer: "bob"}, "a test")
	f.must(err)
	_, err = f.office.RevokeKey(ctx, "root", "bob", k.ID, "a test")
	f.must(err)
	f.must(f.WriteOff(ctx, "root", "a test", &dp.Budget{Epsilon: 3 * dp.EpsilonOne}))
	f.load("cards", "second", []string{"2026-03"})
	f.allot("alice", "cards", func(a *dp.Allotment) { a.Budget.Epsilon = 20 * dp.EpsilonOne })
	f.charge(f.ask("alice", "cards", "plan five", pure(100), months(40, 20)...)) // charge 6, long and open
	f.policy("later", dp.Budget{Epsilon: dp.EpsilonOne}, nil)
	f.must(f.RecordErasure(ctx, dp.Erasure{ID: "era_1", Dataset: "cards", By: "warehouse", At: f.clock(), Units: 2}))
	f.must(f.EndErasure(ctx, "cards", "era_1"))
	f.must(f.RecordErasure(ctx, dp.Erasure{ID: "era_2", Dataset: "cards", By: "warehouse", At: f.clock(), Units: 1}))
	f.reopen()
	f.close()
	return f
}

func capOf(block string) accountID { return accountID{"cards", block, ""} }

func TestFirstEntryThatDoesNotFitIsNamed(t *testing.T) {
	f := scene(t)
	fits(t, f.dir, Options{Witness: f.witness})
	if r := fits(t, read(t, f.dir).write(), Options{}); r.Charges != 6 || r.Releases != 2 || r.Open != 1 || r.Datasets[0].Cap.Account == "" {
		t.Fatalf("what was written anew without a change is %+v", r)
	}

	fewer := func(units int64) func(*accountRecord) {
		return func(a *accountRecord) { a.spent.Epsilon -= units }
	}
	forgeries := map[string]struct {
		forge func(g *forger) *entry // gives the entry that must be named
		why   string
	}{
		"under-charged allotment": {func(g *forger) *entry {
			e := g.the("charge", 2)
			g.adjust(e, accountID{"cards", "2026-01", "alice"}, fewer(1))
			return e
		}, "does not go up by exactly"},
		"under-charged rho": {func(g *forger) *entry {
			e := g.the("charge", 1)
			g.adjust(e, capOf("2026-02"), func(a *accountRecord) { a.spent.Rho-- })
			return e
		}, "does not go up by exactly"},
		"over-charged account": {func(g *forger) *entry {
			e := g.the("charge", 1)
			g.adjust(e, capOf("2026-02"), fewer(-1))
			return e
		}, "does not go up by exactly"},
		"charge not counted": {func(g *forger) *entry {
			e := g.the("charge", 2)
			g.adjust(e, capOf("2026-01"), func(a *accountRecord) { a.charges-- })
			return e
		}, "does not go up by exactly"},
		"cap left out": {func(g *forger) *entry {
			e := g.the("charge", 4)
			k := key(kindAccount, "cards", "2026-02", "")
			e.writes = slices.DeleteFunc(e.writes, func(w *write) bool { return string(w.key) == string(k) })
			return e
		}, "does not charge cap/cards/2026-02"},
		"account of another block charged too": {func(g *forger) *entry {
			e := g.the("charge", 4)
			w := &write{key: key(kindAccount, "cards", "2026-09", "bob")}
			w.set(encodeAccount(accountRecord{loss{Epsilon: 1, Rho: 1}, 1}))
			e.writes = append(e.writes, w)
			return e
		}, "writes the account allotment/cards/2026-09 of bob"},
		"charge above the budget": {func(g *forger) *entry {
			e, more := g.the("charge", 2), int64(9e11)
			g.charged(e, func(c *chargeRecord) { c.Charge.Loss.Epsilon += more; c.Charge.CapLoss.Epsilon += more })
			for _, id := range []accountID{{"cards", "2026-01", "alice"}, capOf("2026-01")} {
				g.adjust(e, id, fewer(-more))
			}
			return e
		}, "neither certificate"},
		"budget that was not in force yet": {func(g *forger) *entry {
			// The first policy had no room: only the second one does.
			edit(g, g.first(g.the("change", 1), kindDataset), func(d *datasetRecord) { d.Cap.Epsilon = 2e11 })
			g.editJSON(g.first(g.the("change", 1), kindPolicy), func(p map[string]any) { p["Cap"].(map[string]any)["Epsilon"] = int64(2e11) })
			for _, e := range g.entries {
				for _, w := range e.writes {
					if w.key[0] == kindDataset && strings.HasPrefix(e.name, "load") && e.number < g.the("write-off", 1).number {
						edit(g, w, func(d *datasetRecord) {
							if d.PolicyVersion == 1 {
								d.Cap.Epsilon = 2e11
							}
						})
					}
				}
			}
			return g.the("charge", 1)
		}, "neither certificate holds for cap/cards/2026-01"},
		"paused allotment": {func(g *forger) *entry {
			edit(g, g.first(g.the("change", 3), kindAllotment), func(a *allotmentRecord) { a.Paused = true })
			return g.the("charge", 1)
		}, "paused"},
		"column of customers changed after rows": {func(g *forger) *entry {
			e := g.the("change", 6)
			g.editJSON(g.first(e, kindPolicy), func(p map[string]any) { p["Unit"].(map[string]any)["Column"] = "account" })
			return e
		}, "changes its unit"},
		"scale of a measure changed after rows": {func(g *forger) *entry {
			e := g.the("change", 6)
			g.editJSON(g.first(e, kindPolicy), func(p map[string]any) { p["Measures"].([]any)[0].(map[string]any)["Scale"] = 1 })
			return e
		}, "the scale of a measure"},
		"purpose that the policy does not list": {func(g *forger) *entry {
			e := g.the("charge", 1)
			g.charged(e, func(c *chargeRecord) { c.Purpose = "marketing" })
			return e
		}, "does not list"},
		"purpose that the consumer does not hold": {func(g *forger) *entry {
			g.editJSON(g.first(g.the("change", 2), kindConsumer), func(c map[string]any) { c["Purposes"] = []string{"r"} })
			return g.the("charge", 1)
		}, "does not hold"},
		"audience that the policy does not list": {func(g *forger) *entry {
			g.editJSON(g.first(g.the("change", 2), kindConsumer), func(c map[string]any) { c["Audience"] = "third-party" })
			return g.the("charge", 1)
		}, "an audience that the policy of dataset cards does not list"},
		"expired allotment": {func(g *forger) *entry {
			edit(g, g.first(g.the("change", 3), kindAllotment), func(a *allotmentRecord) { a.Expires = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) })
			return g.the("charge", 1)
		}, "expired"},
		"suspended consumer": {func(g *forger) *entry {
			for _, e := range g.entries {
				for _, w := range e.writes {
					if string(w.key) == string(key(kindConsumer, "alice")) {
						g.editJSON(w, func(c map[string]any) { c["Suspended"] = true })
					}
				}
			}
			return g.the("charge", 1)
		}, "while its consumer was suspended"},
		"query above its maximum": {func(g *forger) *entry {
			edit(g, g.first(g.the("change", 3), kindAllotment), func(a *allotmentRecord) { a.MaxEpsilonPerQuery = 3e11 - 1 })
			return g.the("charge", 1)
		}, "allows for one query"},
		"negative loss": {func(g *forger) *entry {
			e := g.the("charge", 4)
			g.charged(e, func(c *chargeRecord) { c.Charge.Loss.Delta = -1; c.Charge.CapLoss.Delta = -1 })
			return e
		}, "negative"},
		"charge over an older snapshot": {func(g *forger) *entry {
			e := g.the("charge", 4)
			g.charged(e, func(c *chargeRecord) { c.Snapshot.Blocks[0].Version = 0 })
			return e
		}, "another version of block 2026-02"},
		"charge under an older policy": {func(g *forger) *entry {
			e := g.the("charge", 4)
			g.charged(e, func(c *chargeRecord) { c.Snapshot.PolicyVersion = 2 })
			return e
		}, "not in force"},
		"loss lowered later": {func(g *forger) *entry {
			e := g.the("outcome", 1)
			edit(g, g.first(e, kindCharge), func(c *chargeRecord) { c.Charge.Loss.Epsilon /= 2 })
			return e
		}, "its loss"},
		"blocks taken off later": {func(g *forger) *entry {
			e := g.the("attempt", 1)
			edit(g, g.first(e, kindCharge), func(c *chargeRecord) { c.Charge.Blocks = []string{"2025-01"} })
			return e
		}, "its blocks"},
		"attempt lowered": {func(g *forger) *entry {
			e := g.the("renew", 1)
			edit(g, g.first(e, kindCharge), func(c *chargeRecord) { c.Attempts = 1 })
			return e
		}, "go from 2 to 1"},
		"fourth attempt": {func(g *forger) *entry {
			e := g.the("attempt", 1)
			edit(g, g.first(e, kindCharge), func(c *chargeRecord) { c.Attempts = 4 })
			return e
		}, "at most 3"},
		"attempt while another runs": {func(g *forger) *entry {
			e := g.the("abandon", 1)
			g.entries = slices.DeleteFunc(g.entries, func(x *entry) bool { return x == e })
			return g.the("attempt", 1)
		}, "while the one before it may run"},
		"outcome that changes the attempts": {func(g *forger) *entry {
			e := g.the("outcome", 2)
			edit(g, g.first(e, kindCharge), func(c *chargeRecord) { c.Attempts = 3 })
			return e
		}, "more than its outcome"},
		"second outcome": {func(g *forger) *entry {
			w := &write{key: g.first(g.the("outcome", 1), kindCharge).key}
			w.set(g.value(g.first(g.the("outcome", 1), kindCharge)))
			edit(g, w, func(c *chargeRecord) { c.Release, c.Metrics, c.Failure = "", nil, []byte(`{"Code":"internal"}`) })
			return g.insert(g.the("outcome", 3), "outcome", w)
		}, "has an outcome already"},
		"outcome without a charge": {func(g *forger) *entry {
			e := g.the("charge", 4)
			g.entries = slices.DeleteFunc(g.entries, func(x *entry) bool { return x == e })
			return g.the("outcome", 3)
		}, "first attempt"},
		"release swapped": {func(g *forger) *entry {
			e := g.the("outcome", 1)
			pieces := g.first(e, kindBlob)
			text := []byte(strings.Replace(string(g.value(pieces)), `"Plan":"plan one"`, `"Plan":"plan ten"`, 1))
			pieces.set(text)
			sum := sha256.Sum256(text)
			edit(g, g.first(e, kindRelease), func(r *releaseRecord) {
				r.Sum = sum[:]
				r.Summary = []byte(strings.Replace(string(r.Summary), `"Plan":"plan one"`, `"Plan":"plan ten"`, 1))
			})
			return e
		}, "its plan differs"},
		"figures of a release changed": {func(g *forger) *entry {
			e := g.the("outcome", 1)
			pieces := g.first(e, kindBlob)
			pieces.set([]byte(strings.Replace(string(g.value(pieces)), `"High":23`, `"High":24`, 1)))
			return e
		}, "are not those that were published"},
		"summary of a release changed": {func(g *forger) *entry {
			e := g.the("outcome", 1)
			edit(g, g.first(e, kindRelease), func(r *releaseRecord) {
				r.Summary = []byte(strings.Replace(string(r.Summary), `"Confidence":"0.95"`, `"Confidence":"0.99"`, 1))
			})
			return e
		}, "summary"},
		"piece of a release changed": {func(g *forger) *entry {
			e := g.the("piece", 2)
			w := g.first(e, kindBlob)
			text := slices.Clone(g.value(w))
			text[1000] ^= 1
			g.long[sha256.Sum256(text)] = text
			w.set(text)
			return g.the("outcome", 2)
		}, "are not those that were published"},
		"release held without a charge": {func(g *forger) *entry {
			w := &write{key: key(kindHolder, "bob", "rel_2")}
			text, err := encodeRecord(holderRecord{99, "chg"})
			must(g.t, err)
			w.set(text)
			return g.insert(g.the("outcome", 2), "outcome", w)
		}, "who holds a release"},
		"hand-out that costs the cap nothing but less to the allotment": {func(g *forger) *entry {
			e, less := g.the("charge", 3), int64(1e11)
			g.charged(e, func(c *chargeRecord) { c.Charge.Loss.Epsilon -= less })
			for _, b := range []string{"2026-01", "2026-02"} {
				g.adjust(e, accountID{"cards", b, "bob"}, fewer(less))
			}
			return e
		}, "does not cost what the release"},
		"hand-out of a release that nobody drew": {func(g *forger) *entry {
			e := g.the("charge", 3)
			g.charged(e, func(c *chargeRecord) { c.Source, c.Release = "rel_9", "rel_9" })
			return e
		}, "no entry wrote"},
		"new draw that costs the cap nothing": {func(g *forger) *entry {
			e := g.the("charge", 4)
			g.charged(e, func(c *chargeRecord) { c.Charge.CapLoss = loss{} })
			return e
		}, "costs the cap something else"},
		"account refunded": {func(g *forger) *entry {
			w := &write{key: key(kindAccount, "cards", "2026-01", "alice")}
			w.set(encodeAccount(accountRecord{loss{Epsilon: 1, Rho: 1}, 9}))
			return g.insert(g.the("charge", 4), "change", w)
		}, "writes the account allotment/cards/2026-01 of alice, and nothing"},
		"account deleted": {func(g *forger) *entry {
			return g.insert(g.the("charge", 4), "clear", &write{key: key(kindAccount, "cards", "2026-01", "alice"), deleted: true})
		}, "deletes an account"},
		"charge deleted": {func(g *forger) *entry {
			return g.insert(g.the("outcome", 1), "clear", &write{key: g.first(g.the("charge", 1), kindCharge).key, deleted: true})
		}, "deletes a charge"},
		"policy version skipped": {func(g *forger) *entry {
			for _, e := range g.entries {
				if e.name != "change" {
					continue
				}
				for _, w := range e.writes {
					if w.key[0] == kindPolicy && number(w.key[len(w.key)-8:]) == 2 {
						w.key = numberedKey(3, kindPolicy, "cards")
						g.editJSON(w, func(p map[string]any) { p["Version"] = 3 })
						edit(g, g.first(e, kindDataset), func(d *datasetRecord) { d.PolicyVersion = 3 })
						edit(g, g.first(e, kindChange), func(x *changeRecord) { x.Changed[0].Version = 3 })
						return e
					}
				}
			}
			return nil
		}, "goes from version 1 to 3"},
		"cap raised without a policy": {func(g *forger) *entry {
			e := g.the("load-begin", 2)
			edit(g, g.first(e, kindDataset), func(d *datasetRecord) { d.Cap.Epsilon *= 9 })
			return e
		}, "the record of dataset cards"},
		"change without a record": {func(g *forger) *entry {
			e := g.the("change", 3)
			x := g.first(e, kindChange)
			e.writes = slices.DeleteFunc(e.writes, func(w *write) bool { return w == x || w.key[0] == kindNumber })
			return e
		}, "without one record of who did it"},
		"consumer created again": {func(g *forger) *entry {
			w := &write{key: key(kindConsumer, "bob")}
			w.set(slices.Clone(g.value(g.first(g.the("change", 4), kindConsumer))))
			g.editJSON(w, func(c map[string]any) { c["Version"] = 2; c["Created"] = "2027-01-01T00:00:00Z" })
			return g.insert(g.the("charge", 4), "change", w)
		}, "names are never reused"},
		"key comes back": {func(g *forger) *entry {
			e := g.revocation()
			w := &write{key: g.first(e, kindKey).key}
			w.set(slices.Clone(g.first(e, kindKey).value))
			edit(g, w, func(k *keyRecord) { k.Revoked = time.Time{} })
			return g.insert(e, "change", w)
		}, "comes back"},
		"key with another secret": {func(g *forger) *entry {
			e := g.revocation()
			edit(g, g.first(e, kindKey), func(k *keyRecord) { k.Hash[0] ^= 1 })
			return e
		}, "more than being revoked"},
		"block version jumps": {func(g *forger) *entry {
			e := g.the("load-repeat", 1)
			g.first(e, kindBlock).set(encodeNumber(3))
			return e
		}, "does not go up by exactly one"},
		"block version without a load": {func(g *forger) *entry {
			w := &write{key: key(kindBlock, "cards", "2026-01")}
			w.set(encodeNumber(9))
			return g.insert(g.the("load-repeat", 1), "load-repeat", w)
		}, "the version of a block"},
		"load of other blocks than it declared": {func(g *forger) *entry {
			edit(g, g.first(g.the("load-begin", 1), kindPending), func(p *pendingRecord) { p.Blocks = []string{"2026-01"} })
			return g.the("load-commit", 1)
		}, "as another than it began"},
		"idempotency key of another consumer": {func(g *forger) *entry {
			e := g.the("charge", 2)
			w := g.first(e, kindIdempotency)
			w.key = append(key(kindIdempotency, "bob"), w.key[len(w.key)-32:]...)
			return e
		}, "charge of another consumer"},
		"number given twice": {func(g *forger) *entry {
			e := g.the("charge", 2)
			g.charged(e, func(c *chargeRecord) { c.Number-- })
			w := g.first(e, kindChargeOf)
			w.key = numberedKey(number(w.key[len(w.key)-8:])-1, kindChargeOf, "alice")
			o := g.first(e, kindOpen)
			o.key = numberedKey(number(o.key[len(o.key)-8:])-1, kindOpen)
			return e
		}, "numbers that it gives"},
		"write-off that leaves room": {func(g *forger) *entry {
			e := g.the("write-off", 1)
			edit(g, g.first(e, kindDataset), func(d *datasetRecord) { d.WrittenOff[0].Cap.Epsilon-- })
			return e
		}, "another loss to dataset cards"},
		"write-off that ends too early": {func(g *forger) *entry {
			e := g.the("write-off", 1)
			edit(g, g.first(e, kindDataset), func(d *datasetRecord) { d.WrittenOff[0].Through = "2026-03" })
			return e
		}, "ends before block 2026-04"},
		"answer after a write-off": {func(g *forger) *entry {
			w := &write{key: g.first(g.the("charge", 5), kindCharge).key}
			w.set(g.value(g.first(g.the("charge", 5), kindCharge)))
			edit(g, w, func(c *chargeRecord) { c.Attempts = 2 })
			return g.insert(g.the("write-off", 1), "attempt", w)
		}, "answered after a write-off"},
		"write-off that datasets declared later do not see": {func(g *forger) *entry {
			e := g.the("write-off", 1)
			edit(g, g.first(e, kindWriteOff), func(o *writeOffRecord) { o.Through = "2026-03" })
			return e
		}, "ends before 2026-04 for datasets"},
		"dataset declared after a write-off that begins fresh": {func(g *forger) *entry {
			e := g.from(g.the("charge", 6))[1]
			edit(g, g.first(e, kindDataset), func(d *datasetRecord) { d.WrittenOff = nil })
			return e
		}, "dataset later changes in more"},
		"write-off taken back": {func(g *forger) *entry {
			e := g.the("load-begin", 3)
			edit(g, g.first(e, kindDataset), func(d *datasetRecord) { d.WrittenOff = nil })
			return e
		}, "what was written off"},
		"another id": {func(g *forger) *entry {
			e := g.the("open", 1)
			edit(g, g.first(e, kindMeta), func(m *metaRecord) { m.ID = strings.Repeat("0", 32) })
			return e
		}, "id changes"},
		"other secrets": {func(g *forger) *entry {
			e := g.the("open", 1)
			edit(g, g.first(e, kindMeta), func(m *metaRecord) { m.Secrets[0] ^= 1 })
			return e
		}, "own record changes"},
		"entry called something else": {func(g *forger) *entry {
			e := g.the("charge", 1)
			e.name = "load-end"
			return e
		}, "not what its name says"},
		"erasure of nobody": {func(g *forger) *entry {
			e := g.the("erasure", 2)
			edit(g, g.first(e, kindErasure), func(r *erasureRecord) { r.Units = 0 })
			return e
		}, "an erasure is of a dataset"},
		"erasure in no dataset": {func(g *forger) *entry {
			e := g.the("erasure", 2)
			g.first(e, kindErasure).key = key(kindErasure, "cars", "era_2")
			return e
		}, "an erasure is of a dataset"},
		"erasure that is recorded again": {func(g *forger) *entry {
			w := &write{key: key(kindErasure, "cards", "era_1")}
			w.set(g.value(g.first(g.the("erasure", 2), kindErasure)))
			return g.insert(g.the("erasure", 2), "erasure", w)
		}, "written before and never changes"},
		"end of an erasure that nobody asked for": {func(g *forger) *entry {
			e := g.the("erasure-end", 1)
			g.first(e, kindErasureEnd).key = key(kindErasureEnd, "cards", "era_2")
			return e
		}, "ends that nobody asked for"},
		"erasure that is forgotten": {func(g *forger) *entry {
			w := &write{key: key(kindErasure, "cards", "era_2"), deleted: true}
			return g.insert(g.the("erasure", 2), "erasure", w)
		}, "never changes"},
		"kind of key that nobody knows": {func(g *forger) *entry {
			w := &write{key: []byte("?")}
			w.set([]byte{1})
			return g.insert(g.the("charge", 1), "charge", w)
		}, "does not know"},
	}
	for i, name := range slices.Sorted(maps.Keys(forgeries)) {
		if i%thin != 0 {
			continue
		}
		c := forgeries[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := read(t, f.dir)
			want := c.forge(g)
			r := verify(t, g.write(), Options{})
			switch {
			case r.Finding == nil:
				t.Fatal("it fits")
			case r.Finding.Entry != want.number || !strings.Contains(r.Finding.Why, c.why):
				t.Errorf("found %q, want entry %d and %q", r.Finding, want.number, c.why)
			}
		})
	}
}

// A database that was changed behind the back of the chain.
func TestDatabaseThatDoesNotMatchItsEntriesIsFound(t *testing.T) {
	f := scene(t)
	g := read(t, f.dir)
	wrote := func(kind byte) (last uint64) {
		for _, e := range g.entries {
			for _, w := range e.writes {
				if w.key[0] == kind {
					last = e.number
				}
			}
		}
		return last
	}
	account := key(kindAccount, "cards", "2026-01", "alice")
	entryOf := func(n uint64) []byte { return numberedKey(n, kindEntry) }
	hashesOf := func(n uint64) []byte { return numberedKey(n, kindHashes) }
	e := *g.entries[6]
	e.at = e.at.Add(time.Second)
	changed := g.encode(&e)
	for name, c := range map[string]struct {
		change func(txn *badger.Txn) error
		entry  uint64
		why    string
	}{
		"account lowered": {func(txn *badger.Txn) error {
			return txn.Set(account, encodeAccount(accountRecord{loss{Epsilon: 1, Rho: 1}, 2}))
		}, g.the("charge", 5).number, "the account allotment/cards/2026-01 of alice that it wrote is not what the database holds"},
		"account lost":        {func(txn *badger.Txn) error { return txn.Delete(account) }, g.the("charge", 5).number, "lost an account"},
		"key without a trace": {func(txn *badger.Txn) error { return txn.Set(key(kindHolder, "bob", "rel_2"), mark) }, 0, "no entry wrote"},
		"long charge changed": {func(txn *badger.Txn) error {
			return txn.Set(g.first(g.the("charge", 6), kindCharge).key, []byte("\x01{}"))
		}, g.the("charge", 6).number, ""},
		"release lost":        {func(txn *badger.Txn) error { return txn.Delete(g.first(g.the("outcome", 2), kindRelease).key) }, g.the("outcome", 2).number, ""},
		"last number lowered": {func(txn *badger.Txn) error { return txn.Set(key(kindNumber), encodeNumber(1)) }, wrote(kindNumber), "the last number"},
		"entry lost":          {func(txn *badger.Txn) error { return txn.Delete(entryOf(7)) }, 7, "missing"},
		"last entry lost":     {func(txn *badger.Txn) error { return txn.Delete(entryOf(uint64(len(g.entries)))) }, 0, ""},
		"entry changed":       {func(txn *badger.Txn) error { return txn.Set(entryOf(7), changed) }, 7, "not those of the tree"},
		"entry changed, and its own hash": {func(txn *badger.Txn) error {
			sum := leafHash(changed)
			return errors.Join(txn.Set(entryOf(7), changed), txn.Set(hashesOf(7), append([]byte{recordVersion}, sum[:]...)))
		}, 8, "does not follow on entry 7"},
		"hashes changed":        {func(txn *badger.Txn) error { return txn.Set(hashesOf(8), make([]byte, 1+4*sha256.Size)) }, 8, "not those of the tree"},
		"hashes lost":           {func(txn *badger.Txn) error { return txn.Delete(hashesOf(5)) }, 5, "not those of the tree"},
		"hashes of no entry":    {func(txn *badger.Txn) error { return txn.Set(hashesOf(1<<40), mark) }, 0, "belong to no entry"},
		"hashes in front of it": {func(txn *badger.Txn) error { return txn.Set(hashesOf(0), mark) }, 0, "belong to no entry"},
		"entry cut": {func(txn *badger.Txn) error {
			text := g.encode(g.entries[6])
			return txn.Set(entryOf(7), text[:len(text)-1])
		}, 7, "not those of an entry"},
		"entry of another ledger in front": {func(txn *badger.Txn) error { return txn.Set(entryOf(0), g.encode(g.entries[0])) }, 1, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copyOf(t, f.dir)
			db, err := badger.Open(engineOptions(dir))
			must(t, err)
			must(t, db.Update(c.change))
			must(t, db.Close())
			r := verify(t, dir, Options{})
			if r.Finding == nil {
				t.Fatal("it fits")
			}
			if name == "last entry lost" { // what it wrote is there, and says so
				return
			}
			if r.Finding.Entry != c.entry || !strings.Contains(r.Finding.Why, c.why) {
				t.Errorf("found %q, want entry %d and %q", r.Finding, c.entry, c.why)
			}
		})
	}
}

// Nothing that a finding says comes from a record's content.
func TestFindingNeverQuotesARecord(t *testing.T) {
	f := scene(t)
	for _, kind := range []byte{kindRelease, kindCharge, kindHolder} {
		g := read(t, f.dir)
		e := g.the("outcome", 2)
		g.first(e, kind).set([]byte("\x01{\"Number\": \"4711"))
		r := verify(t, g.write(), Options{})
		if r.Finding == nil || r.Finding.Entry != e.number || strings.Contains(r.Finding.String(), "4711") {
			t.Errorf("found %v", r.Finding)
		}
	}
}

func TestEntryIsReadInOneWayOnly(t *testing.T) {
	f := scene(t)
	g := read(t, f.dir)
	whole := g.encode(g.the("outcome", 2))
	if _, err := parseEntry(whole); err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if _, err := parseEntry(whole[:n]); err == nil {
			t.Fatalf("an entry cut to %d bytes is read", n)
		}
	}
	if _, err := parseEntry(append(slices.Clone(whole), 0)); err == nil {
		t.Error("an entry with a byte behind it is read")
	}
	inline := &entry{name: "outcome", writes: []*write{{key: key(kindBlock, "d", "b"), value: []byte("figures"), length: 7}}}
	text := g.encodeAsIs(inline)
	if _, err := parseEntry(text); err != nil {
		t.Fatal(err)
	}
	if _, err := parseEntry(bytes.Replace(text, []byte("Bd"), []byte("bd"), 1)); err == nil {
		t.Error("an entry that holds a piece of a release itself is read")
	}
	e := g.the("outcome", 2)
	e.writes[0], e.writes[1] = e.writes[1], e.writes[0]
	slices.Reverse(e.writes)
	if _, err := parseEntry(g.encodeAsIs(e)); err == nil {
		t.Error("an entry whose keys are out of order is read")
	}
}
