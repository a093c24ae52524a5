// Package verify checks a ledger from outside: it replays the chain of entries, compares what it leads to with
// what the database holds, and holds every entry to what it means. Each charge adds exactly its loss to exactly
// the accounts of its blocks, and was admitted by one of the two certificates under the budgets in force at its
// place in the log; nothing gives budget back.
//
// The package is an implementation of its own, so that a mistake in the ledger is not repeated here. It shares
// store/FORMAT.md with store/ledger and dp/accounting, and no code: it decodes entries and records itself, and
// computes the certificates in exact and in high-precision arithmetic. It never changes a file, and what it says
// never holds a row, a customer or a figure of an answer.
package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Report is what a ledger holds, as far as it fits.
type Report struct {
	Counts
	Head     [sha256.Size]byte // hash of the last entry; zeros without entries
	Root     [sha256.Size]byte // of the tree over all entries
	Last     time.Time         // of the last entry
	Datasets []Dataset         // sorted by name
	Witness  *Witness          // nil where none was named
	// Finding is the first entry that does not fit, nil where all do. What the report counts then ends before it.
	Finding *Finding
	// Guarantee is what follows from the log for one customer; nil unless it was asked for, and all fits.
	Guarantee *Guarantee
}

// Counts are how many there are of what a ledger keeps.
type Counts struct {
	ID       [16]byte
	Entries  uint64
	Datasets int
	Accounts int
	Charges  int
	Releases int
	Open     int // charges without an outcome
	Restores int // from a backup
	// Unseen counts states in which a charge was for a while, and of which nothing but the digest is left: long
	// records that were written over. What charges cost is never among them.
	Unseen int
}

// Dataset is a dataset's accounts.
type Dataset struct {
	Name          string
	PolicyVersion uint64
	Accounts      int
	// Cap and Allotment are the accounts with the largest share spent of the budget in force, nil where there are none.
	Cap, Allotment *Share
}

// Share is how much of an account's budget is spent: above 1 where the budget was lowered or its loss written off.
type Share struct {
	Account string
	Spent   float64
}

// Finding is why a ledger does not fit.
type Finding struct {
	Entry uint64 // 0: no single entry
	Why   string
}

func (f Finding) String() string {
	if f.Entry == 0 {
		return f.Why
	}
	return fmt.Sprintf("entry %d does not fit: %s", f.Entry, f.Why)
}

// Mark is a length and a head that a ledger is known to have had.
type Mark struct {
	Length uint64
	Head   [sha256.Size]byte
}

// Tree is a size and a root that the tree over the entries is known to have had, as a checkpoint states them.
type Tree struct {
	Size uint64
	Root [sha256.Size]byte
}

// Options are what a ledger is compared with besides.
type Options struct {
	AtLeast []Mark // heads that were seen: the ledger must have them at these lengths
	Signed  []Tree // of checkpoints: the ledger must extend them
	Witness string // path of the witness; empty: the witness is not looked at
	// WorstCase asks for what is guaranteed about one customer, and what charges so far add up to.
	WorstCase bool
	Key       []byte // 32 bytes, of an installation that is encrypted; nil where it is not
}

// Ledger checks the ledger in dir, the directory of its database. It changes nothing there.
//
// Errors: what kept it from checking, such as ErrServed. A ledger that does not fit is no error but a finding.
func Ledger(ctx context.Context, dir string, o Options) (report Report, err error) {
	defer func() {
		if p := recover(); p != nil { // Badger's, over some damages
			report.Finding = &Finding{Why: "the files of the database are damaged: restore the ledger from a backup"}
		}
	}()
	db, err := openDatabase(ctx, dir, o.Key)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, db.close()) }()

	c := &chain{replay: newReplay(db), marks: o.AtLeast, roots: o.Signed}
	if o.Witness != "" {
		if err := c.hear(o.Witness, witnessKey(dir, o.Key)); err != nil {
			return Report{}, err
		}
	}
	if o.WorstCase {
		c.charged = new([]string)
	}
	finding, err := c.run(ctx)
	if err != nil {
		return Report{}, err
	}
	report = c.report()
	report.Finding = finding
	if o.WorstCase && finding == nil {
		report.Guarantee, err = c.guarantee(ctx, newFigures(c.certificates))
	}
	return report, err
}

// witnessKey is what a witness is read with. That of a ledger that was restored and not opened since may be of before it
// was encrypted, or of another key.
func witnessKey(dir string, installation []byte) []byte {
	if _, err := os.Stat(filepath.Join(dir, "restored")); err == nil {
		return nil
	}
	return installation
}

// chain walks the entries.
type chain struct {
	*replay
	head    [sha256.Size]byte
	last    time.Time
	tree    tree
	marks   []Mark
	roots   []Tree
	witness *Witness
	answers *Mark // the witness that the last entry, a write-off, was made over; nil where it is none
}

// run replays every entry, then compares the end with the database and with the marks, and gives the first thing
// that does not fit.
func (c *chain) run(ctx context.Context) (*Finding, error) {
	err := c.from.entries(ctx, c.next)
	var why misfit
	if errors.As(err, &why) {
		return &Finding{Entry: c.count.Entries + 1, Why: string(why)}, nil
	}
	if err != nil {
		return nil, err
	}
	if c.count.Entries == 0 {
		return &Finding{Why: "the ledger has no entry: everything was lost, or it was written by a version of discreet before the chain"}, nil
	}
	for _, m := range c.marks {
		if m.Length > c.count.Entries {
			return &Finding{Why: fmt.Sprintf("the ledger has %d entries, and had %d when its head was seen: entries were lost, or an older copy was restored", c.count.Entries, m.Length)}, nil
		}
	}
	for _, r := range c.roots {
		if r.Size > c.count.Entries {
			return &Finding{Why: fmt.Sprintf("the ledger has %d entries, and had %d when its checkpoint was signed: entries were lost, or an older copy was restored", c.count.Entries, r.Size)}, nil
		}
		if r.Size == 0 && r.Root != (&tree{}).root() {
			return &Finding{Why: "the checkpoint of an empty ledger has another root than an empty tree"}, nil
		}
	}
	if f := c.compareWitness(); f != nil {
		return f, nil
	}
	if db, ok := c.from.(*database); ok {
		return c.compare(ctx, db)
	}
	return nil, nil
}

// next replays one entry of the chain.
func (c *chain) next(k, value []byte) error {
	number := c.count.Entries + 1
	if !bytes.Equal(k, numberedKey(number, kindEntry)) {
		return misfitf("it is missing")
	}
	e, err := parseEntry(value)
	if err != nil {
		return err
	}
	if e.number != number {
		return misfitf("it has another number than its key")
	}
	if e.previous != c.head {
		return misfitf("it does not follow on entry %d: one of them was changed", number-1)
	}
	for _, m := range c.marks {
		if m.Length == number && m.Head != e.hash {
			return misfitf("it is not the entry whose hash was seen: the ledger is another one up to here, or was rewritten")
		}
	}
	c.checkWitness(e)
	if err := c.grow(number, value); err != nil {
		return err
	}
	if c.answers, err = c.apply(e); err != nil {
		return err
	}
	c.head, c.last = e.hash, e.at
	return nil
}
