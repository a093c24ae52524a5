package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// Consumer returns a consumer, or CodeNotFound.
func (l *Ledger) Consumer(ctx context.Context, name string) (c dp.Consumer, err error) {
	err = l.read(ctx, func(v view) error {
		found := false
		if c, found, err = load[dp.Consumer](v, consumerKey(name)); err == nil && !found {
			err = errNoConsumer()
		}
		return err
	})
	return c, err
}

// Consumers returns every consumer, sorted by name.
func (l *Ledger) Consumers(ctx context.Context) ([]dp.Consumer, error) {
	return all(ctx, l, []byte{kindConsumer}, func(_ view, value []byte) (dp.Consumer, error) {
		return decode[dp.Consumer](value)
	})
}

// Keys returns every key of a consumer, revoked ones included, oldest first.
func (l *Ledger) Keys(ctx context.Context, consumer string) ([]dp.Key, error) {
	keys, err := all(ctx, l, makeKey(kindKeyOf, consumer), func(v view, value []byte) (dp.Key, error) {
		return mustLoad[dp.Key](v, keyKey(string(value)))
	})
	slices.SortFunc(keys, func(a, b dp.Key) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return keys, err
}

// Allotments returns every allotment of a consumer, sorted by dataset.
func (l *Ledger) Allotments(ctx context.Context, consumer string) ([]dp.Allotment, error) {
	return all(ctx, l, makeKey(kindAllotment, consumer), func(_ view, value []byte) (dp.Allotment, error) {
		return decode[dp.Allotment](value)
	})
}

// all reads every record under a prefix, in the order of their keys.
func all[T any](ctx context.Context, l *Ledger, prefix []byte, one func(v view, value []byte) (T, error)) (list []T, err error) {
	err = l.read(ctx, func(v view) error {
		return v.walk(prefix, nil, ascending, func(_, value []byte) (bool, error) {
			item, err := one(v, value)
			list = append(list, item)
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Accounts lists the allotment accounts of a consumer that were charged, of one dataset or (empty) of all,
// under the budgets in force, sorted by dataset and block. Next is empty after the last page; an unknown
// cursor is CodeInvalidInput.
func (l *Ledger) Accounts(ctx context.Context, consumer, dataset, cursor string, limit int) (list []dp.Account, next string, err error) {
	prefix := makeKey(kindAccountOf, consumer)
	if dataset != "" {
		prefix = makeKey(kindAccountOf, consumer, dataset)
	}
	next, err = l.page(ctx, prefix, ascending, cursor, limit, func(v view, key, _ []byte) (bool, error) {
		parts := partsOf(key) // consumer, dataset, block
		a, err := accountOf(v, parts[1], parts[2], consumer)
		list = append(list, a)
		return true, err
	})
	return list, next, err
}

// DatasetAccounts lists the accounts of a dataset that were charged, caps and every consumer's allotments, under
// the budgets in force, sorted by block with the cap first. Next is empty after the last page; an unknown
// cursor is CodeInvalidInput.
func (l *Ledger) DatasetAccounts(ctx context.Context, dataset, cursor string, limit int) (list []dp.Account, next string, err error) {
	next, err = l.page(ctx, makeKey(kindAccount, dataset), ascending, cursor, limit, func(v view, key, _ []byte) (bool, error) {
		parts := partsOf(key) // dataset, block, consumer
		a, err := accountOf(v, dataset, parts[1], parts[2])
		list = append(list, a)
		return true, err
	})
	return list, next, err
}

// accountOf reads an account under the budget in force; a cap's consumer is empty.
func accountOf(v view, dataset, block, consumer string) (dp.Account, error) {
	a := dp.Account{Name: accountName(consumer, dataset, block), Consumer: consumer, Dataset: dataset, Block: block}
	record, err := loadAccount(v, accountKey(dataset, block, consumer))
	if err != nil {
		return a, err
	}
	d, err := mustLoad[datasetRecord](v, datasetKey(dataset))
	if err != nil {
		return a, err
	}
	a.Spent = accounting.Add(d.writtenOff(block, consumer == ""), record.Spent)
	if consumer == "" {
		a.Budget = d.Cap
		return a, nil
	}
	allotment, err := allotmentOf(v, consumer, dataset)
	a.Budget, a.Paused, a.Expires = allotment.Budget, allotment.Paused, allotment.Expires
	return a, err
}

// Entries lists what a consumer was charged, the last first, on one dataset or (empty) on all. A charge that touches
// blocks of several datasets is listed for each of them. Next is empty
// after the last page; an unknown cursor is CodeInvalidInput.
func (l *Ledger) Entries(ctx context.Context, consumer, dataset, cursor string, limit int) (list []dp.Entry, next string, err error) {
	next, err = l.page(ctx, makeKey(kindChargeOf, consumer), descending, cursor, limit, func(v view, _, value []byte) (bool, error) {
		c, err := mustLoad[chargeRecord](v, chargeKey(string(value)))
		if err != nil || dataset != "" && !touches(c.Charge, dataset) {
			return false, err
		}
		list = append(list, entry(c))
		return true, nil
	})
	return list, next, err
}

func entry(c chargeRecord) dp.Entry {
	e := dp.Entry{
		Charge: c.Charge, Purpose: c.Purpose, PolicyVersion: c.Snapshot.PolicyVersion, Plan: c.Plan,
		Metrics: c.Metrics, Release: c.Release, Source: c.Source, Attempts: c.Attempts, Report: c.Report,
	}
	if c.Failure != nil {
		e.Failure = c.Failure.Code
	}
	return e
}

// page walks a list from its beginning, or from where a cursor says, and calls take with each key and value
// until it took as many as the limit allows.
func (l *Ledger) page(ctx context.Context, prefix []byte, o order, cursor string, limit int, take func(v view, key, value []byte) (bool, error)) (next string, err error) {
	if limit <= 0 || limit > l.limits.Page {
		limit = l.limits.Page
	}
	var last []byte
	if cursor != "" {
		rest, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil || len(rest) > maxKey {
			return "", refuse(dp.CodeInvalidInput, "this cursor is not one that was handed out: begin again without it")
		}
		last = slices.Concat(prefix, rest)
	}
	took := 0
	err = l.read(ctx, func(v view) error {
		return v.walk(prefix, last, o, func(key, value []byte) (bool, error) {
			if took == limit {
				next = base64.RawURLEncoding.EncodeToString(last[len(prefix):])
				return false, nil
			}
			if bytes.Equal(key, last) {
				return true, nil
			}
			ok, err := take(v, key, value)
			if ok {
				took, last = took+1, slices.Clone(key)
			}
			return true, err
		})
	})
	return next, err
}
