package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// Policy implements answer.Policies.
func (l *Ledger) Policy(ctx context.Context, dataset string) (p dp.VersionedPolicy, err error) {
	err = l.read(ctx, func(v view) error {
		d, found, err := load[datasetRecord](v, datasetKey(dataset))
		if err != nil {
			return err
		}
		if !found {
			return errNoDataset()
		}
		p, err = mustLoad[dp.VersionedPolicy](v, policyKey(dataset, d.PolicyVersion))
		return err
	})
	return p, err
}

// PolicyAt implements answer.Policies.
func (l *Ledger) PolicyAt(ctx context.Context, dataset string, version uint64) (p dp.VersionedPolicy, err error) {
	err = l.read(ctx, func(v view) error {
		found := false
		if p, found, err = load[dp.VersionedPolicy](v, policyKey(dataset, version)); err == nil && !found {
			err = errNoDataset()
		}
		return err
	})
	return p, err
}

// Policies returns all policies in force, sorted by name.
func (l *Ledger) Policies(ctx context.Context) (list []dp.VersionedPolicy, err error) {
	err = l.read(ctx, func(v view) error {
		return v.walk([]byte{kindDataset}, nil, ascending, func(key, value []byte) (bool, error) {
			d, err := decode[datasetRecord](value)
			if err != nil {
				return false, err
			}
			p, err := mustLoad[dp.VersionedPolicy](v, policyKey(partsOf(key)[0], d.PolicyVersion))
			list = append(list, p)
			return true, err
		})
	})
	return list, err
}

// maxLoadName is the longest name of a load, in bytes.
const maxLoadName = 200

// BeginLoad gives a load its number, which is never given again. The policy version is that of the policy which
// the caller reads the rows by; blocks are those that the load declares. Where a load of that name was committed,
// it returns that one too: the same content is then to be repeated (RepeatLoad), and other content needs another
// name. A load that begins without a name ends under one (LoadNamed tells whether it is free).
//
// A load that began is pending until CommitLoad, RepeatLoad or AbandonLoad ends it.
func (l *Ledger) BeginLoad(ctx context.Context, dataset string, policyVersion uint64, name string, blocks []string) (begun dp.Load, earlier *dp.Load, err error) {
	if len(name) > maxLoadName {
		return begun, nil, refuse(dp.CodeInvalidInput, "the name of the load is too long: use at most %d bytes", maxLoadName)
	}
	if err := l.checkLoadBlocks(blocks); err != nil {
		return begun, nil, err
	}
	err = l.write(ctx, func(t *tx) error {
		t.kind = entryLoadBegin
		d, found, err := load[datasetRecord](t, datasetKey(dataset))
		if err != nil {
			return err
		}
		if !found {
			return errNoDataset()
		}
		if policyVersion == 0 || policyVersion > d.PolicyVersion {
			return errors.New("a load begins under a policy that was never in force")
		}
		if err := checkRetiredLoad(t, dataset, blocks); err != nil {
			return err
		}
		if earlier, err = loadNamed(t, dataset, name); err != nil {
			return err
		}
		d.Loads++
		if err := save(t, datasetKey(dataset), d); err != nil {
			return err
		}
		begun = dp.Load{ID: d.Loads, Dataset: dataset, Name: name, Blocks: blocks}
		return save(t, pendingKey(dataset, d.Loads), pendingRecord{Name: name, Blocks: blocks, PolicyVersion: policyVersion, At: t.now})
	})
	if err != nil {
		return dp.Load{}, nil, err
	}
	return begun, earlier, nil
}

// CommitLoad makes a load visible whose segments are durable: it bumps the version of every declared block
// once, and records the load. To commit the same load again changes nothing.
//
// Errors: CodeConflict where its name was committed meanwhile, or where the policy changed in what loaded rows
// fix. Nothing is visible then, and the segments can be removed.
func (l *Ledger) CommitLoad(ctx context.Context, loaded dp.Load) error {
	if err := l.checkLoadBlocks(loaded.Blocks); err != nil {
		return err
	}
	return l.write(ctx, func(t *tx) error {
		t.kind = entryLoadCommit
		if done, found, err := load[dp.Load](t, loadKey(loaded.Dataset, loaded.ID)); err != nil {
			return err
		} else if found {
			return sameLoad(done, loaded)
		}
		d, began, err := endLoad(t, loaded)
		if err != nil {
			return err
		}
		earlier, err := loadNamed(t, loaded.Dataset, loaded.Name)
		if err != nil {
			return err
		}
		if earlier != nil {
			if earlier.Digest != loaded.Digest {
				return errNameTaken()
			}
			return refuse(dp.CodeConflict, "a load of this name and content was committed meanwhile: send it again, which adds nothing")
		}
		if err := checkPolicySince(t, d, loaded.Dataset, began.PolicyVersion); err != nil {
			return err
		}
		loaded.Committed = t.now
		if err := save(t, loadKey(loaded.Dataset, loaded.ID), loaded); err != nil {
			return err
		}
		saveNumber(t, loadNameKey(loaded.Dataset, loaded.Name), loaded.ID)
		if d.LoadedUnder == 0 || began.PolicyVersion < d.LoadedUnder {
			d.LoadedUnder = began.PolicyVersion
			if err := save(t, datasetKey(loaded.Dataset), d); err != nil {
				return err
			}
		}
		return bump(t, loaded.Dataset, loaded.Blocks, blockVersionRecord{Load: loaded.ID})
	})
}

// RepeatLoad records that the content of a committed load was sent again under its name: the versions of its
// blocks are bumped as by any load, so that a repeat cannot be told from a first delivery by who asks
// questions, and nothing is added. To repeat the same load number again changes nothing.
//
// Errors: CodeConflict where name, content or blocks are not those of a committed load.
func (l *Ledger) RepeatLoad(ctx context.Context, repeated dp.Load) error {
	if err := l.checkLoadBlocks(repeated.Blocks); err != nil {
		return err
	}
	return l.write(ctx, func(t *tx) error {
		t.kind = entryLoadRepeat
		earlier, err := loadNamed(t, repeated.Dataset, repeated.Name)
		if err != nil {
			return err
		}
		if earlier == nil {
			return errors.New("a load repeats one that was not committed")
		}
		if earlier.Digest != repeated.Digest {
			return errNameTaken()
		}
		if !slices.Equal(earlier.Blocks, repeated.Blocks) {
			return refuse(dp.CodeConflict, "this content was loaded before for other blocks: repeat it for the same ones, or give it another name")
		}
		if _, _, err := endLoad(t, repeated); err != nil {
			return err
		}
		return bump(t, repeated.Dataset, repeated.Blocks, blockVersionRecord{Repeat: repeated.ID})
	})
}

// AbandonLoad ends a load that began and will never be committed: it is no longer pending. Its number is not
// given again. To abandon a load that has ended changes nothing.
func (l *Ledger) AbandonLoad(ctx context.Context, abandoned dp.Load) error {
	return l.write(ctx, func(t *tx) error {
		t.kind = entryLoadEnd
		key := pendingKey(abandoned.Dataset, abandoned.ID)
		if _, found, err := load[pendingRecord](t, key); err != nil || !found {
			return err
		}
		t.delete(key)
		return nil
	})
}

// PendingLoads returns the loads that began and have not ended, of one dataset or (empty) of all.
func (l *Ledger) PendingLoads(ctx context.Context, dataset string) (list []dp.Load, err error) {
	prefix := []byte{kindPending}
	if dataset != "" {
		prefix = makeKey(kindPending, dataset)
	}
	err = l.read(ctx, func(v view) error {
		return v.walk(prefix, nil, ascending, func(key, value []byte) (bool, error) {
			p, err := decode[pendingRecord](value)
			list = append(list, dp.Load{ID: numberOf(key), Dataset: partsOf(key)[0], Name: p.Name, Blocks: p.Blocks})
			return true, err
		})
	})
	return list, err
}

// LoadNamed returns the committed load of a name, or nil.
func (l *Ledger) LoadNamed(ctx context.Context, dataset, name string) (named *dp.Load, err error) {
	err = l.read(ctx, func(v view) error {
		named, err = loadNamed(v, dataset, name)
		return err
	})
	return named, err
}

// Loads returns the committed loads of a dataset in the order in which they began.
func (l *Ledger) Loads(ctx context.Context, dataset string) (list []dp.Load, err error) {
	err = l.read(ctx, func(v view) error {
		if _, found, err := load[datasetRecord](v, datasetKey(dataset)); err != nil {
			return err
		} else if !found {
			return errNoDataset()
		}
		return v.walk(makeKey(kindLoad, dataset), nil, ascending, func(_, value []byte) (bool, error) {
			one, err := decode[dp.Load](value)
			list = append(list, one)
			return true, err
		})
	})
	return list, err
}

// CommittedLoads returns the numbers of the loads whose segments of a block are visible at a version, in the
// order of their commits. While the ledger refuses it does not tell: a better copy may know of more, and
// segments that nobody knows of are removed.
func (l *Ledger) CommittedLoads(ctx context.Context, dataset, block string, version uint64) (loads []uint64, err error) {
	if r := l.refusal.Load(); r != nil {
		return nil, r.err()
	}
	err = l.read(ctx, func(v view) error {
		prefix := makeKey(kindBlockVersion, dataset, block)
		return v.walk(prefix, nil, ascending, func(key, value []byte) (bool, error) {
			if numberOf(key) > version {
				return false, nil
			}
			b, err := decode[blockVersionRecord](value)
			if b.Load != 0 {
				loads = append(loads, b.Load)
			}
			return true, err
		})
	})
	return loads, err
}

// Versions returns the current versions of blocks, 0 for a block that no load covered yet.
func (l *Ledger) Versions(ctx context.Context, dataset string, blocks []string) (versions []dp.BlockVersion, err error) {
	err = l.read(ctx, func(v view) error {
		versions, err = blockVersions(v, dataset, blocks)
		return err
	})
	return versions, err
}

func blockVersions(r reader, dataset string, blocks []string) ([]dp.BlockVersion, error) {
	versions := make([]dp.BlockVersion, len(blocks))
	for i, block := range blocks {
		version, err := loadNumber(r, blockKey(dataset, block))
		if err != nil {
			return nil, fmt.Errorf("reading a block's version: %w", err)
		}
		versions[i] = dp.BlockVersion{Block: block, Version: version}
	}
	return versions, nil
}

// bump gives every block its next version.
func bump(t *tx, dataset string, blocks []string, b blockVersionRecord) error {
	for _, block := range blocks {
		key := blockKey(dataset, block)
		version, err := loadNumber(t, key)
		if err != nil {
			return err
		}
		saveNumber(t, key, version+1)
		if err := save(t, blockVersionKey(dataset, block, version+1), b); err != nil {
			return err
		}
	}
	return nil
}

// endLoad takes a load off those that began, and asserts that it is the one that began.
func endLoad(t *tx, ended dp.Load) (datasetRecord, pendingRecord, error) {
	d, found, err := load[datasetRecord](t, datasetKey(ended.Dataset))
	if err != nil {
		return d, pendingRecord{}, err
	}
	if !found {
		return d, pendingRecord{}, errNoDataset()
	}
	if err := checkRetiredLoad(t, ended.Dataset, ended.Blocks); err != nil { // since it began
		return d, pendingRecord{}, err
	}
	key := pendingKey(ended.Dataset, ended.ID)
	began, found, err := load[pendingRecord](t, key)
	if err != nil {
		return d, began, err
	}
	if !found || began.Name != "" && began.Name != ended.Name || !slices.Equal(began.Blocks, ended.Blocks) {
		return d, began, errors.New("a load ends that did not begin, or that began as another")
	}
	if ended.Name == "" {
		return d, began, errors.New("a load ends without a name")
	}
	t.delete(key)
	return d, began, nil
}

// checkPolicySince refuses rows that were read under a policy under which they meant something else.
func checkPolicySince(t *tx, d datasetRecord, dataset string, version uint64) error {
	if version == d.PolicyVersion {
		return nil
	}
	then, err := mustLoad[dp.VersionedPolicy](t, policyKey(dataset, version))
	if err != nil {
		return err
	}
	now, err := mustLoad[dp.VersionedPolicy](t, policyKey(dataset, d.PolicyVersion))
	if err != nil {
		return err
	}
	if office.CheckFixed(then.Policy, now.Policy) != nil {
		return refuse(dp.CodeConflict, "the policy changed while these rows were read: load them again")
	}
	return nil
}

// loadNamed returns the committed load of a name, or nil; none has the empty name.
func loadNamed(r reader, dataset, name string) (*dp.Load, error) {
	if name == "" {
		return nil, nil
	}
	id, err := loadNumber(r, loadNameKey(dataset, name))
	if err != nil || id == 0 {
		return nil, err
	}
	named, err := mustLoad[dp.Load](r, loadKey(dataset, id))
	return &named, err
}

// sameLoad accepts that a load is committed twice, as it happens when the first reply was lost.
func sameLoad(done, again dp.Load) error {
	again.Committed = done.Committed
	if done.ID != again.ID || done.Name != again.Name || done.Digest != again.Digest || !slices.Equal(done.Blocks, again.Blocks) {
		return errors.New("a load is committed twice with different content")
	}
	return nil
}

func errNameTaken() error {
	return refuse(dp.CodeConflict, "a load of this name was committed with other content: give this one another name")
}

func (l *Ledger) checkLoadBlocks(blocks []string) error {
	if len(blocks) == 0 {
		return errors.New("a load declares no block")
	}
	if len(blocks) > l.limits.LoadBlocks {
		return refuse(dp.CodeTooLarge, "a load may cover at most %d blocks: split it", l.limits.LoadBlocks)
	}
	return checkBlocks(blocks)
}
