package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// retirementRecord says which blocks of a dataset are retired: all that end before a month begins, with rows or without. The
// month never goes back, whatever becomes of policy and clock.
type retirementRecord struct {
	Before        string
	At            time.Time
	PolicyVersion uint64
	Gone          string // the month that rows have left the files up to
	GoneAt        time.Time
}

// Retire retires the blocks of all datasets whose time is over by more than their policies retain, by the ledger's clock, and
// returns what is retired. From then on no charge and no load touches such a block. While the ledger refuses it does not
// tell: a better copy may know of more.
func (l *Ledger) Retire(ctx context.Context) (list []dp.Retirement, err error) {
	if r := l.refusal.Load(); r != nil {
		return nil, r.err()
	}
	var due []string
	err = l.read(ctx, func(v view) error {
		return v.walk([]byte{kindDataset}, nil, ascending, func(key, _ []byte) (bool, error) {
			dataset := partsOf(key)[0]
			_, more, err := dueRetirement(v, dataset, l.clock())
			if more {
				due = append(due, dataset)
			}
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	for _, dataset := range due {
		err := l.write(ctx, func(t *tx) error {
			t.kind = entryRetire
			r, more, err := dueRetirement(t, dataset, t.now)
			if err != nil || !more {
				return err
			}
			return save(t, retirementKey(dataset), r)
		})
		if err != nil {
			return nil, fmt.Errorf("retiring blocks of dataset %s: %w", dataset, err)
		}
	}
	err = l.read(ctx, func(v view) error {
		return v.walk([]byte{kindRetired}, nil, ascending, func(key, value []byte) (bool, error) {
			r, err := decode[retirementRecord](value)
			list = append(list, r.of(partsOf(key)[0]))
			return true, err
		})
	})
	return list, err
}

// dueRetirement is what the policy in force retires by now; more tells whether that is more than before.
func dueRetirement(r reader, dataset string, now time.Time) (retired retirementRecord, more bool, err error) {
	d, err := mustLoad[datasetRecord](r, datasetKey(dataset))
	if err != nil {
		return retired, false, err
	}
	if retired, _, err = load[retirementRecord](r, retirementKey(dataset)); err != nil {
		return retired, false, err
	}
	p, err := mustLoad[dp.VersionedPolicy](r, policyKey(dataset, d.PolicyVersion))
	if err != nil {
		return retired, false, err
	}
	before, err := rows.RetiredBefore(&p.Policy, now)
	if err != nil || before <= retired.Before {
		return retired, false, err
	}
	retired.Before, retired.At, retired.PolicyVersion = before, now.UTC().Round(0), p.Version
	return retired, true, nil
}

// EndRetirement records that no file holds a row any more of what was retired before a month. To end it again changes
// nothing.
func (l *Ledger) EndRetirement(ctx context.Context, dataset, before string) error {
	return l.write(ctx, func(t *tx) error {
		t.kind = entryRetireEnd
		r, err := mustLoad[retirementRecord](t, retirementKey(dataset))
		if err != nil || before <= r.Gone {
			return err
		}
		if before > r.Before {
			return errors.New("rows are gone of what was never retired")
		}
		r.Gone, r.GoneAt = before, t.now
		return save(t, retirementKey(dataset), r)
	})
}

// Retirement says which blocks of a dataset are retired.
func (l *Ledger) Retirement(ctx context.Context, dataset string) (retired dp.Retirement, err error) {
	err = l.read(ctx, func(v view) error {
		r, _, err := load[retirementRecord](v, retirementKey(dataset))
		retired = r.of(dataset)
		return err
	})
	return retired, err
}

// Retention says which blocks of a dataset are retired, and before which month blocks end that are to be, by the policy in
// force and the ledger's clock: the next run retires them. Empty: none are.
func (l *Ledger) Retention(ctx context.Context, dataset string) (retired dp.Retirement, next string, err error) {
	err = l.read(ctx, func(v view) error {
		r, _, err := load[retirementRecord](v, retirementKey(dataset))
		if err != nil {
			return err
		}
		due, more, err := dueRetirement(v, dataset, l.clock())
		if more {
			next = due.Before
		}
		retired = r.of(dataset)
		return err
	})
	return retired, next, err
}

// RetiredBefore is the month before whose beginning the retired blocks of a dataset end; empty: none is retired.
func (l *Ledger) RetiredBefore(ctx context.Context, dataset string) (month string, err error) {
	r, err := l.Retirement(ctx, dataset)
	return r.Before, err
}

func (r retirementRecord) of(dataset string) dp.Retirement {
	return dp.Retirement{Dataset: dataset, Before: r.Before, At: r.At, PolicyVersion: r.PolicyVersion, Gone: r.Gone, GoneAt: r.GoneAt}
}

// CheckRetired implements answer.Ledger.
func (l *Ledger) CheckRetired(ctx context.Context, dataset string, blocks []string, also ...dp.Touched) error {
	parts := withParts(dp.Touched{Dataset: dataset, Blocks: blocks}, also)
	return l.read(ctx, func(v view) error { return checkRetired(v, parts) })
}

// checkRetired refuses a question that touches a block that is retired, whatever its rows would be read for.
func checkRetired(r reader, parts []dp.Touched) error {
	for _, p := range parts {
		gone, retired, err := retiredOf(r, p.Dataset, p.Blocks)
		if err != nil {
			return err
		}
		if len(gone) == 0 {
			continue
		}
		path, on := "from", ""
		if p.Dataset != parts[0].Dataset {
			path, on = "cohorts", " of the dataset "+p.Dataset
		}
		first, err := firstKept(r, p.Dataset, retired.Before)
		if err != nil {
			return err
		}
		e := &dp.Error{Code: dp.CodeInvalidQuery, Message: "rows that the question is about are not kept any more, and nothing was charged: change what its locations name"}
		e.Locations = []dp.Location{{Path: path, Message: fmt.Sprintf("reaches into %s%s, retired since %s: ask from %s on, or read a release that you hold", namesOf(gone), on, retired.At.Format(time.DateOnly), first)}}
		return e
	}
	return nil
}

// checkRetiredLoad refuses rows of blocks that are retired.
func checkRetiredLoad(r reader, dataset string, blocks []string) error {
	gone, retired, err := retiredOf(r, dataset, blocks)
	if err != nil || len(gone) == 0 {
		return err
	}
	first, err := firstKept(r, dataset, retired.Before)
	if err != nil {
		return err
	}
	return refuse(dp.CodeInvalidInput, "no row is kept of %s, retired since %s: load from %s on", namesOf(gone), retired.At.Format(time.DateOnly), first)
}

// retiredOf gives those of some blocks that are retired.
func retiredOf(r reader, dataset string, blocks []string) (gone []string, retired retirementRecord, err error) {
	retired, found, err := load[retirementRecord](r, retirementKey(dataset))
	if err != nil || !found {
		return nil, retired, err
	}
	for _, block := range blocks {
		if rows.IsRetired(block, retired.Before) {
			gone = append(gone, block)
		}
	}
	return gone, retired, nil
}

// firstKept is the first day of the first block that is not retired.
func firstKept(r reader, dataset, before string) (string, error) {
	d, err := mustLoad[datasetRecord](r, datasetKey(dataset))
	if err != nil {
		return "", err
	}
	p, err := mustLoad[dp.VersionedPolicy](r, policyKey(dataset, d.PolicyVersion))
	if err != nil {
		return "", err
	}
	first, err := rows.FirstKept(before, p.Unit.Block)
	return first.String(), err
}

// namesOf lists blocks for a person.
func namesOf(blocks []string) string {
	const most = 4
	if more := len(blocks) - most; more > 0 {
		return fmt.Sprintf("the blocks %s and %d more", strings.Join(blocks[:most], ", "), more)
	}
	if len(blocks) == 1 {
		return "the block " + blocks[0]
	}
	return "the blocks " + strings.Join(slices.Clip(blocks[:len(blocks)-1]), ", ") + " and " + blocks[len(blocks)-1]
}
