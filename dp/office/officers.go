package office

import (
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// keyMargin is for how long a key must be in force yet, so that its officer counts among those who remain: a proposal can
// wait so long.
const keyMargin = ProposalLife

// working counts the officers who can act: not suspended, with a key that stays in force for a while.
func working(tx Tx, now time.Time) (int, error) {
	officers, err := tx.Officers()
	if err != nil {
		return 0, err
	}
	count := 0
	for _, c := range officers {
		if c.Suspended {
			continue
		}
		keys, err := tx.Keys(c.Name)
		if err != nil {
			return 0, err
		}
		if slices.ContainsFunc(keys, func(k dp.Key) bool { return k.InForce(now.Add(keyMargin)) }) {
			count++
		}
	}
	return count, nil
}

// keepOfficers makes a change that may take an officer away, and refuses it where nobody, or nobody to agree with, would
// remain: no consumer could let one in again.
func keepOfficers(tx Tx, now time.Time, change func() error) error {
	before, err := working(tx, now)
	if err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	after, err := working(tx, now)
	if err != nil || after >= before {
		return err
	}
	two, err := twoAsked(tx)
	switch {
	case err != nil:
		return err
	case two && after < 2:
		return refuse(dp.CodeConflict, "fewer than two officers would remain who can act, and a dataset takes two: make another officer first, with a key that is in force for a week at least")
	case after < 1:
		return refuse(dp.CodeConflict, "no officer would remain who can act, and nobody could make one: make another officer first, or give this one a further key, that is in force for a week at least")
	}
	return nil
}

// enoughOfficers refuses to ask for two persons where there are not two.
func enoughOfficers(tx Tx, now time.Time) error {
	count, err := working(tx, now)
	if err == nil && count < 2 {
		err = refuse(dp.CodeConflict, "two_person takes two officers, each with a key that is in force for a week at least: make another officer first")
	}
	return err
}
