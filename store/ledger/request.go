package ledger

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// requestRecord is a request for an allotment. It is written once.
type requestRecord struct {
	Number   uint64
	Consumer string
	Dataset  string
	Asked    dp.Terms
	Reason   string
	Query    *dp.WantedQuery `json:",omitempty"`
	Made     time.Time
}

// The versions of a request that a change names.
const (
	requestMade  = 1
	requestEnded = 2
)

// requestOf reads a request with how it ended.
func requestOf(r reader, id string) (dp.BudgetRequest, bool, error) {
	record, found, err := load[requestRecord](r, requestKey(id))
	if err != nil || !found {
		return dp.BudgetRequest{}, false, err
	}
	out := dp.BudgetRequest{ID: id, Number: record.Number, Consumer: record.Consumer, Dataset: record.Dataset,
		Asked: record.Asked, Reason: record.Reason, Query: record.Query, Made: record.Made}
	d, ended, err := load[dp.RequestDecision](r, requestEndKey(id))
	if ended {
		out.Decision = &d
	}
	return out, err == nil, err
}

func mustRequest(r reader, id string) (dp.BudgetRequest, error) {
	request, found, err := requestOf(r, id)
	if err == nil && !found {
		err = errDamaged
	}
	return request, err
}

func (b *bookTx) Request(id string) (dp.BudgetRequest, bool, error) { return requestOf(b.tx, id) }

func (b *bookTx) OpenRequests(consumer string) (list []dp.BudgetRequest, err error) {
	err = b.tx.each(makeKey(kindRequestOn, consumer), func(_, id []byte) error {
		r, err := mustRequest(b.tx, string(id))
		list = append(list, r)
		return err
	})
	return list, err
}

func (b *bookTx) RequestsSince(consumer string, since time.Time) (list []time.Time, err error) {
	// Those of this transaction are not among them: it makes one.
	err = view{b.tx.txn}.walk(makeKey(kindRequestOf, consumer), nil, descending, func(_, id []byte) (bool, error) {
		r, err := mustLoad[requestRecord](b.tx, requestKey(string(id)))
		if err != nil || !r.Made.After(since) {
			return false, err
		}
		list = append(list, r.Made)
		return true, nil
	})
	return list, err
}

func (b *bookTx) AddRequest(r dp.BudgetRequest) (dp.BudgetRequest, error) {
	if r.ID == "" || r.Consumer == "" || r.Dataset == "" || r.Decision != nil {
		return r, errors.New("a request names itself, its consumer and its dataset, and is open")
	}
	for _, key := range [][]byte{requestKey(r.ID), requestOnKey(r.Consumer, r.Dataset)} {
		if known, err := b.tx.get(key); err != nil || known != nil {
			return r, errors.Join(err, errors.New("the request exists, or another one is open on its dataset"))
		}
	}
	var err error
	if r.Number, err = nextNumber(b.tx); err != nil {
		return r, err
	}
	for _, key := range [][]byte{requestOfKey(r.Consumer, r.Number), requestsKey(r.Number), requestOpenKey(r.Number), requestOnKey(r.Consumer, r.Dataset)} {
		b.tx.put(key, []byte(r.ID))
	}
	b.note("request", r.ID, requestMade)
	return r, save(b.tx, requestKey(r.ID), requestRecord{Number: r.Number, Consumer: r.Consumer, Dataset: r.Dataset, Asked: r.Asked, Reason: r.Reason, Query: r.Query, Made: r.Made})
}

func (b *bookTx) EndRequest(id string, d dp.RequestDecision) error {
	r, err := mustRequest(b.tx, id)
	if err != nil {
		return err
	}
	if r.Decision != nil || (d.State == dp.RequestGranted) != (d.Granted != nil) || d.State == dp.RequestOpen {
		return errors.New("a request ends once, and gives what it grants")
	}
	b.tx.delete(requestOpenKey(r.Number))
	b.tx.delete(requestOnKey(r.Consumer, r.Dataset))
	b.note("request", id, requestEnded)
	return save(b.tx, requestEndKey(id), d)
}

func errNoRequest() error {
	return refuse(dp.CodeNotFound, "there is no such request among those that you may see: list them")
}

// Request returns a request, or CodeNotFound.
func (l *Ledger) Request(ctx context.Context, id string) (r dp.BudgetRequest, err error) {
	err = l.read(ctx, func(v view) error {
		var found bool
		if r, found, err = requestOf(v, id); err == nil && !found {
			err = errNoRequest()
		}
		return err
	})
	return r, err
}

// Requests lists the requests that a filter admits, the newest first. Next is empty after the last page; an unknown
// cursor is CodeInvalidInput.
func (l *Ledger) Requests(ctx context.Context, f dp.RequestFilter, cursor string, limit int) (list []dp.BudgetRequest, next string, err error) {
	// Each of these lists ends its keys with the number, so that a cursor of one is one of all.
	prefix := makeKey(kindRequests)
	switch {
	case f.Consumer != "":
		prefix = makeKey(kindRequestOf, f.Consumer)
	case f.State == dp.RequestOpen:
		prefix = makeKey(kindRequestOpen)
	}
	next, err = l.page(ctx, prefix, descending, cursor, limit, func(v view, _, value []byte) (bool, error) {
		r, err := mustRequest(v, string(value))
		if err != nil || !f.Admits(r) {
			return false, err
		}
		list = append(list, r)
		return true, nil
	})
	return list, next, err
}

// Grounds tells what a request is decided on, all of one moment.
func (l *Ledger) Grounds(ctx context.Context, id string) (g office.Grounds, err error) {
	err = l.read(ctx, func(v view) error {
		g, err = grounds(v, id)
		return err
	})
	return g, err
}

func grounds(v view, id string) (g office.Grounds, err error) {
	var found bool
	if g.Request, found, err = requestOf(v, id); err != nil {
		return g, err
	}
	if !found {
		return g, errNoRequest()
	}
	consumer, dataset := g.Request.Consumer, g.Request.Dataset
	if g.Allotment, err = allotmentOf(v, consumer, dataset); err != nil {
		return g, err
	}
	d, err := mustLoad[datasetRecord](v, datasetKey(dataset))
	if err != nil {
		return g, err
	}
	p, err := mustLoad[dp.VersionedPolicy](v, policyKey(dataset, d.PolicyVersion))
	if err != nil {
		return g, err
	}
	g.Cap, g.Default = d.Cap, p.Default
	blocks, err := blocksOfRequest(v, g.Request)
	if err != nil {
		return g, err
	}
	for _, block := range blocks {
		own, err := accountOf(v, dataset, block, consumer)
		if err != nil {
			return g, err
		}
		limit, err := accountOf(v, dataset, block, "")
		if err != nil {
			return g, err
		}
		g.Blocks = append(g.Blocks, office.BlockGrounds{Block: block, Spent: own.Spent, CapSpent: limit.Spent})
	}
	return g, nil
}

// blocksOfRequest are the newest blocks that matter to a request, in order.
func blocksOfRequest(v view, r dp.BudgetRequest) (blocks []string, err error) {
	for _, list := range []struct {
		prefix []byte
		part   int
	}{{makeKey(kindBlock, r.Dataset), 1}, {makeKey(kindAccountOf, r.Consumer, r.Dataset), 2}} {
		err := v.walk(list.prefix, nil, ascending, func(key, _ []byte) (bool, error) {
			blocks = append(blocks, partsOf(key)[list.part])
			return true, nil
		})
		if err != nil {
			return nil, err
		}
	}
	if r.Query != nil {
		for _, part := range r.Query.Price {
			blocks = append(blocks, part.Blocks...)
		}
	}
	slices.Sort(blocks)
	blocks = slices.Compact(blocks)
	return blocks[max(0, len(blocks)-office.MaxGrounds):], nil
}
