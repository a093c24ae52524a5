package ledger

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// The bytes of an entry are those of store/FORMAT.md.
func TestEntryKeepsItsBytes(t *testing.T) {
	long := bytes.Repeat([]byte{7}, inlineValue+1)
	sum := sha256.Sum256(long)
	previous := head{length: 0x0102, hash: [32]byte{0xaa, 31: 0xbb}}
	got := encodeEntry(previous, time.UnixMicro(0x0304), "open", map[string][]byte{"b": long, "a": {5, 6}, "c": nil, "d": {}})
	want := "\x01" + "\x00\x00\x00\x00\x00\x00\x01\x03" + "\x00\x00\x00\x00\x00\x00\x03\x04" + string(previous.hash[:]) +
		"\x04open" + "\x04" + "\x01a\x01\x02\x05\x06" + "\x01b\x02\x81\x08" + string(sum[:]) + "\x01c\x00" + "\x01d\x01\x00"
	if string(got) != want {
		t.Fatalf("an entry is written as\n%x, not\n%x", got, want)
	}
	e, err := decodeEntry(got)
	check(t, err)
	if e.number != 0x0103 || e.kind != "open" || len(e.writes) != 4 || e.previous != previous.hash || !e.at.Equal(time.UnixMicro(0x0304)) {
		t.Fatalf("read back as %+v", e)
	}
	for n := range got {
		if _, err := decodeEntry(got[:n]); err == nil {
			t.Fatalf("the first %d bytes are read as an entry", n)
		}
	}
	if _, err := decodeEntry(append(got, 0)); err == nil {
		t.Fatal("an entry is read with something after it")
	}
}

// Entries hold pieces of releases by their digest, however short: who may read all entries reads no figure.
func TestEntriesHoldNoFigureOfAnAnswer(t *testing.T) {
	short := []byte(`{"Value":4711}`)
	entry := encodeEntry(head{}, time.UnixMicro(1), entryOutcome, map[string][]byte{string(blobKey("x", 0)): short})
	if bytes.Contains(entry, short) {
		t.Fatalf("the entry holds a piece of a release: %q", entry)
	}
	e, err := decodeEntry(entry)
	check(t, err)
	if w := e.writes[0]; w.op != opDigest || w.length != uint64(len(short)) || sha256.Sum256(short) != [32]byte(w.digest) {
		t.Fatalf("the piece is read back as %+v", w)
	}
	inline := encodeEntry(head{}, time.UnixMicro(1), entryOutcome, map[string][]byte{string(makeKey('B', "x")): short})
	if _, err := decodeEntry(inline); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeEntry(bytes.Replace(inline, makeKey('B', "x"), makeKey(kindBlob, "x"), 1)); err == nil {
		t.Fatal("an entry that holds a piece of a release itself is read")
	}

	f := newFixture(t)
	charged := f.charge(ask(alice, "plan"))
	r := release(charged, "rel_1", "")
	r.Plan = "plan"
	r.Groups = []dp.Group{{Key: []string{"DE"}, Values: []dp.Value{{Value: 471147.11, Low: 1, High: 2, SD: 3}}}}
	_, err = f.Publish(ctx, charged.Charge.ID, charged.Attempt, answer.Outcome{Release: r})
	check(t, err)
	kept := 0
	for key, value := range f.dump() {
		switch {
		case key[0] == kindBlob && strings.Contains(value, "471147.11"):
			kept++
		case strings.Contains(value, "471147.11"):
			t.Errorf("a key of kind %c holds a figure", key[0])
		}
	}
	if kept != 1 {
		t.Errorf("%d pieces hold the figure, want 1", kept)
	}
}

func FuzzEntryIsReadAsItIsWritten(f *testing.F) {
	f.Add(encodeEntry(head{}, time.UnixMicro(1), "open", map[string][]byte{"a": {1}, "b": nil, "c": make([]byte, inlineValue+1)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeEntry(data)
		if err != nil {
			return
		}
		writes := map[string][]byte{}
		for _, w := range e.writes {
			if w.op == opDigest {
				return // the value itself is not there
			}
			writes[string(w.key)] = w.value
			if w.op == opValue && w.value == nil {
				writes[string(w.key)] = []byte{}
			}
		}
		again := encodeEntry(head{length: e.number - 1, hash: e.previous}, e.at, e.kind, writes)
		if !bytes.Equal(again, data) {
			t.Fatalf("%x is read, and %x would be written", data, again)
		}
	})
}

// wander does things at random, refused ones among them.
func (f *fixture) wander(random *rand.Rand, steps int) {
	var open []answer.Charged
	for range steps {
		step := f.Status().Length // no other step's, if this one writes anything
		who := []string{alice, bob}[random.IntN(2)]
		switch random.IntN(8) {
		case 0, 1, 2:
			r := ask(who, fmt.Sprint("plan ", step))
			r.Blocks, r.Loss = [][]string{january, quarter}[random.IntN(2)], pure(int64(1+random.IntN(40)))
			if random.IntN(2) == 0 {
				r = keyed(r, fmt.Sprint("key ", random.IntN(steps)), byte(random.IntN(2)))
			}
			if c, err := f.Charge(ctx, r); err == nil && c.Outcome == nil {
				open = append(open, c)
			}
		case 3, 4:
			if len(open) > 0 {
				c := open[0]
				open = open[1:]
				o := answer.Outcome{Failure: &dp.Error{Code: dp.CodeInternal, Message: "failed"}}
				switch random.IntN(4) {
				case 0:
					check(f.t, f.Abandon(ctx, c.Charge.ID, c.Attempt))
					continue
				case 1:
				case 2:
					o = answer.Outcome{Release: large(c, fmt.Sprint("rel_", step), 8_000)}
				default:
					o = answer.Outcome{Release: release(c, fmt.Sprint("rel_", step), "")}
				}
				if o.Release != nil {
					o.Release.Plan = f.planOf(c)
				}
				_, err := f.Publish(ctx, c.Charge.ID, c.Attempt, o)
				check(f.t, err)
			}
		case 5:
			f.load(fmt.Sprint("load ", step), byte(step), quarter[:1+random.IntN(3)])
		case 6:
			f.allot(who, func(a *dp.Allotment) { a.Budget.Epsilon += dp.EpsilonOne / 10 })
		case 7:
			f.advance(time.Duration(random.IntN(3)) * lease / 2)
			check(f.t, f.settle(ctx))
		}
	}
}

func (f *fixture) planOf(c answer.Charged) string {
	var record chargeRecord
	check(f.t, f.read(ctx, func(v view) (err error) {
		record, err = mustLoad[chargeRecord](v, chargeKey(c.Charge.ID))
		return err
	}))
	return record.Plan
}

func TestReplayingTheChainGivesTheState(t *testing.T) {
	long := 0 // values that entries hold the digest of
	for seed := range uint64(3) {
		f := newFixture(t)
		f.wander(rand.New(rand.NewPCG(seed, 3)), 60)
		if seed%2 == 0 {
			f.reopen()
		}
		dump := f.dump()
		values, digests, last := map[string]string{}, map[string][32]byte{}, head{}
		for n := uint64(1); ; n++ {
			data, ok := dump[string(entryKey(n))]
			if !ok {
				break
			}
			e, err := decodeEntry([]byte(data))
			check(t, err)
			if e.number != n || e.previous != last.hash {
				t.Fatalf("entry %d calls itself %d", n, e.number)
			}
			for _, w := range e.writes {
				delete(values, string(w.key))
				delete(digests, string(w.key))
				switch w.op {
				case opValue:
					values[string(w.key)] = string(w.value)
				case opDigest:
					digests[string(w.key)] = [32]byte(w.digest)
				}
			}
			last = last.after([]byte(data))
		}
		maps.DeleteFunc(dump, func(key, _ string) bool { return key[0] == kindEntry || key[0] == kindHashes })
		if last.length < 30 || len(dump) != len(values)+len(digests) {
			t.Fatalf("seed %d: %d entries lead to %d values and %d digests, the ledger has %d keys", seed, last.length, len(values), len(digests), len(dump))
		}
		long += len(digests)
		for key, value := range dump {
			sum, digested := digests[key]
			if digested && sum != sha256.Sum256([]byte(value)) || !digested && values[key] != value {
				t.Fatalf("seed %d: a key of kind %c differs from what the chain leads to", seed, key[0])
			}
		}
		if s := f.Status(); s.Length != last.length || s.Head != last.hash || s.State != StateOK {
			t.Fatalf("the status is %+v, the head %v", s, last)
		}
	}
	if long == 0 {
		t.Fatal("no value was long enough for a digest")
	}
}

// Whatever is changed behind the chain's back keeps the ledger from opening, and the error says where it is.
func TestLedgerThatDoesNotFitItsChainDoesNotOpen(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *fixture, txn *badger.Txn) error
		names  string
	}{
		"an account that shrank": {func(f *fixture, txn *badger.Txn) error {
			less, err := f.accountBytes(pure(1))
			return errors.Join(err, txn.Set(accountKey(dataset, "2026-01", ""), less))
		}, "kind A"},
		"an account that is gone": {func(f *fixture, txn *badger.Txn) error { return txn.Delete(accountKey(dataset, "2026-01", alice)) }, "is missing"},
		"an account from nowhere": {func(f *fixture, txn *badger.Txn) error {
			more, err := f.accountBytes(pure(1))
			return errors.Join(err, txn.Set(accountKey(dataset, "2026-02", alice), more))
		}, "no entry wrote"},
		"a piece of a release": {func(f *fixture, txn *badger.Txn) error {
			for key := range f.dump() {
				if key[0] == kindBlob {
					return txn.Set([]byte(key), make([]byte, 3000))
				}
			}
			return errors.New("no piece")
		}, "kind b"},
		"an entry that is gone": {func(f *fixture, txn *badger.Txn) error { return txn.Delete(entryKey(7)) }, "entry 7"},
		"a changed entry": {func(f *fixture, txn *badger.Txn) error {
			return txn.Set(entryKey(7), []byte(strings.Replace(f.dump()[string(entryKey(7))], "charge", "change", 1)))
		}, "entry 8"},
		"a cut entry": {func(f *fixture, txn *badger.Txn) error {
			value := f.dump()[string(entryKey(7))]
			return txn.Set(entryKey(7), []byte(value[:len(value)-1]))
		}, "entry 7"},
		"everything": {func(f *fixture, txn *badger.Txn) error {
			for key := range f.dump() {
				if err := txn.Delete([]byte(key)); err != nil {
					return err
				}
			}
			return nil
		}, "every entry"},
	} {
		f := newFixture(t)
		charged := f.charge(ask(alice, "plan"))
		f.publish(charged, "rel_1", "plan")
		check(t, f.db.Update(func(txn *badger.Txn) error { return c.change(f, txn) }))
		check(t, f.Ledger.Close())
		l, err := Open(f.dir, Options{Clock: f.clock})
		if err == nil {
			t.Errorf("%s: opened", name)
			check(t, l.Close())
			continue
		}
		if !strings.Contains(err.Error(), c.names) || !strings.Contains(err.Error(), "restore") {
			t.Errorf("%s: the error neither names %q nor a way out: %v", name, c.names, err)
		}
	}
}

// accountBytes is the record of an account that was charged once.
func (f *fixture) accountBytes(spent dp.Loss) ([]byte, error) {
	t := &tx{staged: map[string][]byte{}}
	err := saveAccount(t, []byte("k"), accountRecord{}, accountRecord{Spent: spent, Charges: 1})
	return t.staged["k"], err
}
