package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// A charge has parts: the blocks that its question is about, at one price, and then those whose rows decide which
// rows of these count, each part at its own price and in its own dataset. Every part is admitted under its own
// dataset's cap and the consumer's allotment there, and all of them or none.

// maxParts is how many parts one charge may have.
const maxParts = 8

// partsOfRequest lists what a request touches, what it is about first.
func partsOfRequest(r answer.ChargeRequest) []dp.Touched {
	return withParts(dp.Touched{Dataset: r.Dataset, PolicyVersion: r.PolicyVersion, Blocks: r.Blocks, Loss: r.Loss}, r.Also)
}

// parts lists what a charge touches, what it is about first.
func (c *chargeRecord) parts() []dp.Touched {
	p := c.Charge
	return withParts(dp.Touched{Dataset: p.Dataset, PolicyVersion: c.Snapshot.PolicyVersion, Blocks: p.Blocks, Loss: p.Loss}, p.Also)
}

func withParts(about dp.Touched, also []dp.Touched) []dp.Touched {
	return append([]dp.Touched{about}, also...)
}

// checkParts asserts that every part has a loss and names blocks, and that no block of a dataset is in two parts:
// its account would be charged for one of them alone.
func (l *Ledger) checkParts(parts []dp.Touched) error {
	if len(parts) > maxParts {
		return refuse(dp.CodeTooLarge, "a query may touch blocks at %d prices at most: ask for fewer conditions at once", maxParts)
	}
	type place struct{ dataset, block string }
	named := map[place]bool{}
	count := 0
	for _, p := range parts {
		s := p.Loss
		switch {
		case p.Dataset == "":
			return errors.New("a charge names the dataset of all blocks that it touches")
		case s.Epsilon <= 0 || s.Delta < 0 || s.Rho <= 0 || s.DeltaZ < 0:
			return errors.New("a charge has a loss above 0 in every part that has to have one")
		case len(p.Blocks) == 0:
			return errors.New("a charge touches at least one block")
		}
		if count += len(p.Blocks); count > l.limits.ChargeBlocks {
			return refuse(dp.CodeTooLarge, "a query may touch at most %d blocks: ask for a shorter time", l.limits.ChargeBlocks)
		}
		if err := checkBlocks(p.Blocks); err != nil {
			return err
		}
		if len(parts) == 1 {
			break
		}
		for _, b := range p.Blocks {
			at := place{p.Dataset, b}
			if named[at] {
				return errors.New("a charge touches no block of a dataset at two prices")
			}
			named[at] = true
		}
	}
	return nil
}

// checkBlocks asserts that no block is named twice, for its account would be charged once.
func checkBlocks(blocks []string) error {
	for i, b := range blocks {
		if b == "" || i > 0 && blocks[i-1] >= b {
			return errors.New("blocks are named once each, in calendar order")
		}
	}
	return nil
}

// ceiling is what holds for a consumer's charges in one dataset.
type ceiling struct {
	dataset   datasetRecord
	allotment dp.Allotment
}

// ceilingsOf reads the ceilings of every part.
func ceilingsOf(r reader, consumer string, parts []dp.Touched) ([]ceiling, error) {
	ceilings := make([]ceiling, len(parts))
	for i, p := range parts {
		c := &ceilings[i]
		var found bool
		var err error
		if c.dataset, found, err = load[datasetRecord](r, datasetKey(p.Dataset)); err != nil {
			return nil, err
		}
		if !found {
			return nil, errNoDataset()
		}
		if c.allotment, err = allotmentOf(r, consumer, p.Dataset); err != nil {
			return nil, err
		}
	}
	return ceilings, nil
}

// touch reads every account that a charge touches: of each block the allotment and, where withCaps, the cap.
func touch(r reader, parts []dp.Touched, ceilings []ceiling, withCaps bool) ([]account, error) {
	var accounts []account
	for i, p := range parts {
		d, allotment := ceilings[i].dataset, ceilings[i].allotment
		for _, block := range p.Blocks {
			accounts = append(accounts, account{owner: allotment.Consumer, dataset: p.Dataset, block: block,
				budget: allotment.Budget, base: d.writtenOff(block, false), loss: p.Loss})
			if withCaps {
				accounts = append(accounts, account{dataset: p.Dataset, block: block,
					budget: d.Cap, base: d.writtenOff(block, true), loss: p.Loss})
			}
		}
	}
	for i := range accounts {
		a := &accounts[i]
		a.key = accountKey(a.dataset, a.block, a.owner)
		var err error
		if a.before, err = loadAccount(r, a.key); err != nil {
			return nil, fmt.Errorf("reading an account: %w", err)
		}
	}
	return accounts, nil
}

// snapshotOf reads the current versions of all blocks that are touched.
func snapshotOf(r reader, parts []dp.Touched) (s dp.Snapshot, err error) {
	for i, p := range parts {
		part := dp.Snapshot{Dataset: p.Dataset, PolicyVersion: p.PolicyVersion}
		if part.Blocks, err = blockVersions(r, p.Dataset, p.Blocks); err != nil {
			return dp.Snapshot{}, err
		}
		if i == 0 {
			s = part
		} else {
			s.Also = append(s.Also, part)
		}
	}
	return s, nil
}

// touches tells whether a charge touches blocks of a dataset.
func touches(c dp.Charge, dataset string) bool {
	return c.Dataset == dataset || slices.ContainsFunc(c.Also, func(t dp.Touched) bool { return t.Dataset == dataset })
}

func sameTouched(a, b dp.Touched) bool {
	return a.Dataset == b.Dataset && a.PolicyVersion == b.PolicyVersion && a.Loss == b.Loss && slices.Equal(a.Blocks, b.Blocks)
}

func sameSnapshot(a, b dp.Snapshot) bool {
	return a.Dataset == b.Dataset && a.PolicyVersion == b.PolicyVersion && slices.Equal(a.Blocks, b.Blocks) && slices.EqualFunc(a.Also, b.Also, sameSnapshot)
}

// fits tells whether a snapshot is of exactly the blocks that the charge pays for.
func (c *chargeRecord) fits(s dp.Snapshot) bool {
	return ofBlocks(s.Blocks, c.Charge.Blocks) && slices.EqualFunc(s.Also, c.Charge.Also, func(s dp.Snapshot, p dp.Touched) bool {
		return s.Dataset == p.Dataset && s.PolicyVersion == p.PolicyVersion && len(s.Also) == 0 && ofBlocks(s.Blocks, p.Blocks)
	})
}

func ofBlocks(versions []dp.BlockVersion, blocks []string) bool {
	return slices.EqualFunc(versions, blocks, func(v dp.BlockVersion, b string) bool { return v.Block == b })
}
