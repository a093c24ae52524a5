package ledger

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/dp"
)

// rootOf is the root of a tree as RFC 6962, section 2.1, defines it: by recursion over all leaves.
func rootOf(leaves []tlog.Hash) tlog.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	left := 1
	for 2*left < len(leaves) {
		left *= 2
	}
	return tlog.NodeHash(rootOf(leaves[:left]), rootOf(leaves[left:]))
}

// leaves are the leaf hashes of the entries of a ledger.
func (f *fixture) leaves() (list []tlog.Hash) {
	dump := f.dump()
	for n := uint64(1); ; n++ {
		entry, ok := dump[string(entryKey(n))]
		if !ok {
			return list
		}
		list = append(list, tlog.RecordHash([]byte(entry)))
	}
}

func hashesIn(plain [][32]byte) (hashes []tlog.Hash) {
	for _, h := range plain {
		hashes = append(hashes, h)
	}
	return hashes
}

// Every proof holds against a tree that was computed from the entries alone, and none of another entry, place or size.
func TestProofsHoldAgainstATreeOfTheEntriesAlone(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	f := newFixture(t)
	f.wander(random, 80)
	leaves := f.leaves()
	size, root, err := f.Tree(ctx)
	check(t, err)
	if size != uint64(len(leaves)) || root != rootOf(leaves) {
		t.Fatalf("the tree has size %d and root %x, its %d entries have root %x", size, root, len(leaves), rootOf(leaves))
	}
	for range 400 {
		of := 1 + random.Uint64N(size)
		index := random.Uint64N(of)
		p, err := f.AuditProof(ctx, index, of)
		check(t, err)
		whole := rootOf(leaves[:of])
		if p.Index != index || p.Size != of || tlog.RecordHash(p.Entry) != leaves[index] {
			t.Fatalf("the proof of entry %d of %d is of entry %d of %d", index, of, p.Index, p.Size)
		}
		check(t, tlog.CheckRecord(hashesIn(p.Hashes), int64(of), whole, int64(index), leaves[index]))
		if of > 1 {
			other := (index + 1 + random.Uint64N(of-1)) % of
			if tlog.CheckRecord(hashesIn(p.Hashes), int64(of), whole, int64(index), leaves[other]) == nil {
				t.Fatalf("entry %d passes for entry %d", other, index)
			}
			if tlog.CheckRecord(hashesIn(p.Hashes), int64(of), whole, int64(other), leaves[index]) == nil {
				t.Fatalf("entry %d passes for one at %d", index, other)
			}
			if tlog.CheckRecord(hashesIn(p.Hashes), int64(of), rootOf(leaves[:of-1]), int64(index), leaves[index]) == nil {
				t.Fatalf("the proof of entry %d of %d holds against a smaller tree", index, of)
			}
		}
		from := 1 + random.Uint64N(of)
		c, _, err := f.AuditConsistency(ctx, from, of)
		check(t, err)
		check(t, tlog.CheckTree(hashesIn(c), int64(of), whole, int64(from), rootOf(leaves[:from])))
		swapped := append([]tlog.Hash{}, leaves[:of]...)
		swapped[random.IntN(int(from))][0] ^= 1
		if tlog.CheckTree(hashesIn(c), int64(of), whole, int64(from), rootOf(swapped[:from])) == nil {
			t.Fatalf("a tree of %d entries, one of them changed, is consistent with one of %d", from, of)
		}
	}
	for _, bad := range [][2]uint64{{size, size}, {size, 0}, {0, size + 1}, {1 << 63, 1<<63 + 1}} {
		wantCode(t, "not-found", func() error { _, err := f.AuditProof(ctx, bad[0], bad[1]); return err }())
	}
	for _, bad := range [][2]uint64{{0, 1}, {2, 1}, {1, size + 1}, {1 << 63, 1<<63 + 1}} {
		wantCode(t, "invalid-input", func() error { _, _, err := f.AuditConsistency(ctx, bad[0], bad[1]); return err }())
	}
}

// testSigner signs under a key of its own.
type testSigner struct {
	note.Signer
	verifier string
}

func (s testSigner) Verifier() string { return s.verifier }

func newTestSigner(t testing.TB, name string) testSigner {
	t.Helper()
	private, public, err := note.GenerateKey(nil, name)
	check(t, err)
	signer, err := note.NewSigner(private)
	check(t, err)
	return testSigner{signer, public}
}

// What is signed while others write is what the witness has seen already, and each checkpoint continues the ones before.
func TestCheckpointsSignOnlyWhatIsDurable(t *testing.T) {
	f := newFixture(t)
	signer := newTestSigner(t, f.LogName())
	verifier, err := note.NewVerifier(signer.Verifier())
	check(t, err)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					f.Note(dp.AuditEvent{Kind: dp.AuditSignIn, Consumer: alice})
					_, _ = f.Charge(ctx, keyed(ask(alice, "plan"), fmt.Sprint(i, n), 1)) // refused ones, too
					f.WriteEvents()
				}
			}
		})
	}
	var last dp.AuditCheckpoint
	for range 50 {
		c, err := f.Checkpoint(ctx, signer)
		check(t, err)
		n, err := note.Open(c.Note, note.VerifierList(verifier))
		check(t, err)
		if want := fmt.Sprintf("%s\n%d\n%s\n", f.LogName(), c.Size, tlog.Hash(c.Root)); n.Text != want || c.Key != signer.Verifier() || c.Log != f.LogName() {
			t.Fatalf("signed %q, want %q", n.Text, want)
		}
		if saw := f.witnessed(); saw < c.Size {
			t.Fatalf("%d entries are signed, and the witness saw %d", c.Size, saw)
		}
		if last.Size > 0 {
			hashes, _, err := f.AuditConsistency(ctx, last.Size, c.Size)
			check(t, err)
			check(t, tlog.CheckTree(hashesIn(hashes), int64(c.Size), c.Root, int64(last.Size), last.Root))
		}
		last = c
	}
	close(stop)
	clients.Wait()
}

// witnessed is the length that the witness's file holds at least: its slots as they are, one of which may be torn.
func (f *fixture) witnessed() (length uint64) {
	f.t.Helper()
	data, err := os.ReadFile(f.witnessPath)
	check(f.t, err)
	for place := range 2 {
		if saw, whole := decodeSlot(data[place*slotDistance:][:slotBytes], place); whole {
			length = max(length, saw.head.length)
		}
	}
	return length
}

// The tree goes on where it was when the ledger was closed.
func TestTreeGoesOnAfterReopening(t *testing.T) {
	f := newFixture(t)
	random := rand.New(rand.NewPCG(3, 4))
	for range 4 {
		f.wander(random, 7)
		before := len(f.leaves())
		f.reopen()
		size, root, err := f.Tree(ctx)
		check(t, err)
		if leaves := f.leaves(); size < uint64(before) || root != rootOf(leaves) {
			t.Fatalf("after reopening the tree of %d entries has another root", size)
		}
	}
	f.verified()
}

// What is kept of the tree is compared when the ledger is opened.
func TestLedgerWhoseTreeDoesNotFitDoesNotOpen(t *testing.T) {
	for name, change := range map[string]func(txn *badger.Txn) error{
		"a changed hash":     func(txn *badger.Txn) error { return txn.Set(hashesKey(4), make([]byte, 1+3*tlog.HashSize)) },
		"a cut one":          func(txn *badger.Txn) error { return txn.Set(hashesKey(3), make([]byte, tlog.HashSize)) },
		"a missing one":      func(txn *badger.Txn) error { return txn.Delete(hashesKey(2)) },
		"one before all":     func(txn *badger.Txn) error { return txn.Set(hashesKey(0), make([]byte, 1+tlog.HashSize)) },
		"one after all":      func(txn *badger.Txn) error { return txn.Set(hashesKey(1000), make([]byte, 1+tlog.HashSize)) },
		"one of another key": func(txn *badger.Txn) error { return txn.Set([]byte("mm"), []byte{1}) },
	} {
		f := newFixture(t)
		check(t, f.db.Update(change))
		check(t, f.Ledger.Close())
		l, err := Open(f.dir, Options{Clock: f.clock})
		if err == nil {
			t.Errorf("%s: opened", name)
			check(t, l.Close())
		} else if !strings.Contains(err.Error(), "restore") {
			t.Errorf("%s: the error names no way out: %v", name, err)
		}
	}
}

// A long chain is replayed in stretches, whose trees are put together.
func TestTreeIsComparedAcrossStretches(t *testing.T) {
	const length = 2*entriesAtOnce + 5
	db, err := badger.Open(engineOptions(t.TempDir(), Options{}.withDefaults().Log).WithSyncWrites(false))
	check(t, err)
	defer func() { check(t, db.Close()) }()
	batch := db.NewWriteBatch()
	h, e := head{}, edge(nil)
	for h.length < length {
		k := binary.BigEndian.AppendUint64([]byte{kindCharge}, h.length)
		entry := encodeEntry(h, firstDay, entryOpen, map[string][]byte{string(k): {1}})
		var hashes []tlog.Hash
		e, hashes, err = e.add(h.length, tlog.RecordHash(entry))
		check(t, err)
		h = h.after(entry)
		check(t, batch.Set(entryKey(h.length), entry))
		check(t, batch.Set(hashesKey(h.length), encodeHashes(hashes)))
		check(t, batch.Set(k, []byte{1}))
	}
	check(t, batch.Flush())

	r, err := replay(db, nil)
	check(t, err)
	check(t, viewing(db, func(v view) error {
		root, err := tlog.TreeHash(length, tree{v})
		fromEdge := r.edge[len(r.edge)-1]
		for i := len(r.edge) - 2; i >= 0; i-- {
			fromEdge = tlog.NodeHash(r.edge[i], fromEdge)
		}
		if fromEdge != root || r.head != h {
			t.Error("the edge that replay found is not that of the tree")
		}
		return err
	}))
	for _, at := range []uint64{1, 2 * entriesAtOnce, length} {
		flip := func() {
			check(t, db.Update(func(txn *badger.Txn) error {
				value, err := get(txn, hashesKey(at))
				check(t, err)
				value[len(value)-1] ^= 1 // of the highest subtree that it completes
				return txn.Set(hashesKey(at), value)
			}))
		}
		flip()
		if _, err := replay(db, nil); err == nil {
			t.Errorf("a wrong hash kept with entry %d is not noticed", at)
		}
		flip()
	}
}
