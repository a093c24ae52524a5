package answer_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// memory keeps policies, accounts and releases in maps, with the contracts that the walk relies on, and a
// journal of the order in which it was called.
type memory struct {
	mu         sync.Mutex
	policy     dp.VersionedPolicy
	others     []dp.VersionedPolicy // of further datasets
	lookups    int                  // of policies
	earlier    map[uint64]dp.VersionedPolicy
	budget     dp.Budget
	version    uint64 // of every block
	spent      map[string]dp.Loss
	charges    map[string]*record
	keys       map[string]string
	releases   []dp.Release
	holders    map[string][]string // release -> consumers
	journal    []string
	credential string // of the last charge that was asked for
	changes    int    // how many charges still meet a changed policy
	unkept     error  // of publishing a release
	renewals   int
	lost       bool   // another attempt has begun
	retired    string // blocks before this one
}

type record struct {
	charged answer.Charged
	body    [32]byte
}

func newMemory(p dp.VersionedPolicy, b dp.Budget) *memory {
	return &memory{policy: p, budget: b, version: 1, spent: map[string]dp.Loss{}, charges: map[string]*record{}, keys: map[string]string{}, holders: map[string][]string{}}
}

func (m *memory) note(step string) { m.journal = append(m.journal, step) }

func (m *memory) Policy(_ context.Context, dataset string) (dp.VersionedPolicy, error) {
	m.mu.Lock()
	m.lookups++
	m.mu.Unlock()
	if at := slices.IndexFunc(m.others, func(p dp.VersionedPolicy) bool { return p.Name == dataset }); at >= 0 {
		return m.others[at], nil
	}
	if dataset != m.policy.Name {
		return dp.VersionedPolicy{}, &dp.Error{Code: dp.CodeNotFound, Message: "no such dataset here"}
	}
	return m.policy, nil
}

func (m *memory) PolicyAt(ctx context.Context, dataset string, version uint64) (dp.VersionedPolicy, error) {
	p, err := m.Policy(ctx, dataset)
	if err == nil && version != p.Version {
		p = m.earlier[version]
	}
	return p, err
}

func (m *memory) Allotment(context.Context, string, string) (dp.Allotment, error) {
	return dp.Allotment{Budget: m.budget}, nil
}

func (m *memory) Charge(_ context.Context, r answer.ChargeRequest) (answer.Charged, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("charge")
	m.credential = r.Credential
	if m.changes > 0 {
		m.changes--
		m.policy.Version++
		return answer.Charged{}, answer.ErrPolicyChanged
	}
	if id := m.keys[r.Consumer+r.Key]; r.Key != "" && id != "" {
		earlier := m.charges[id]
		if earlier.body != r.Body {
			return answer.Charged{}, &dp.Error{Code: dp.CodeConflict, Message: "another body"}
		}
		earlier.charged.Attempt++
		return earlier.charged, nil
	}
	if m.retiredIn(r.Blocks) {
		return answer.Charged{}, errRetired()
	}
	for _, account := range []string{"cap", r.Consumer} {
		if account == "cap" && r.Source != "" {
			continue
		}
		if !accounting.Admit(m.budget, m.spent[account], r.Loss) {
			left := dp.Left{Account: account, Epsilon: accounting.Room(m.budget, m.spent[account])}
			loss := r.Loss
			return answer.Charged{}, &dp.Error{Code: dp.CodeBudgetExhausted, Message: "spent", Required: &loss, Left: &left}
		}
	}
	m.spent[r.Consumer] = accounting.Add(m.spent[r.Consumer], r.Loss)
	c := answer.Charged{Attempt: 1, Charge: dp.Charge{ID: fmt.Sprintf("chg_%d", len(m.charges)), Consumer: r.Consumer, Loss: r.Loss, Blocks: r.Blocks}}
	for _, b := range r.Blocks {
		c.Snapshot.Blocks = append(c.Snapshot.Blocks, dp.BlockVersion{Block: b, Version: m.version})
	}
	if r.Source == "" {
		m.spent["cap"] = accounting.Add(m.spent["cap"], r.Loss)
		c.Charge.CapLoss = r.Loss
	} else {
		for i := range m.releases {
			if m.releases[i].ID == r.Source {
				c.Outcome = &answer.Outcome{Release: &m.releases[i]}
				m.holders[r.Source] = append(m.holders[r.Source], r.Consumer)
			}
		}
	}
	m.charges[c.Charge.ID] = &record{charged: c, body: r.Body}
	m.keys[r.Consumer+r.Key] = c.Charge.ID
	return c, nil
}

func (m *memory) Recall(_ context.Context, consumer, key string, body [32]byte) (answer.Charged, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.keys[consumer+key]
	if id == "" {
		return answer.Charged{}, false, nil
	}
	if m.charges[id].body != body {
		return answer.Charged{}, false, &dp.Error{Code: dp.CodeConflict, Message: "another body"}
	}
	return m.charges[id].charged, true, nil
}

func (m *memory) Renew(_ context.Context, charge string, attempt int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.renewals++
	if m.lost {
		return answer.ErrAttemptLost
	}
	return nil
}

func (m *memory) Abandon(_ context.Context, charge string, attempt int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("abandon")
	return nil
}

func (m *memory) CheckRetired(_ context.Context, _ string, blocks []string, _ ...dp.Touched) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.retiredIn(blocks) {
		return errRetired()
	}
	return nil
}

func (m *memory) retiredIn(blocks []string) bool {
	return slices.ContainsFunc(blocks, func(b string) bool { return b < m.retired })
}

func errRetired() error {
	return &dp.Error{Code: dp.CodeInvalidQuery, Message: "retired", Locations: []dp.Location{{Path: "from", Message: "reaches into what is retired"}}}
}

func (m *memory) Left(_ context.Context, consumer, _ string, _ []string, loss dp.Loss, _ ...dp.Touched) (dp.Left, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return dp.Left{Account: "allotment", Epsilon: accounting.Room(m.budget, m.spent[consumer]), SimilarQueries: accounting.Similar(m.budget, m.spent[consumer], loss, 1000)}, nil
}

func (m *memory) Find(_ context.Context, consumer, plan, _ string, _ []string, _ ...dp.Touched) (answer.Found, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var f answer.Found
	for _, r := range m.releases {
		if r.Plan != plan {
			continue
		}
		current, holds := r.Blocks[0].Version == m.version, slices.Contains(m.holders[r.ID], consumer)
		switch {
		case current && holds:
			f.Held = r.ID
		case holds:
			f.Stale = r.ID
		case current && f.Other == "":
			f.Other = r.ID
		}
	}
	return f, nil
}

func (m *memory) HeldOver(_ context.Context, consumer, dataset string, blocks []string, most int) (list []dp.Release, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range slices.Backward(m.releases) {
		current := !slices.ContainsFunc(blocks, func(b string) bool {
			return !slices.Contains(r.Blocks, dp.BlockVersion{Block: b, Version: m.version})
		})
		if r.Dataset == dataset && current && slices.Contains(m.holders[r.ID], consumer) && len(list) < most {
			r.Groups, r.NoisedCoordinates, r.Charge = nil, nil, dp.Charge{}
			list = append(list, r)
		}
	}
	return list, nil
}

func (m *memory) Publish(ctx context.Context, charge string, attempt int, o answer.Outcome) (answer.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note("publish")
	if err := ctx.Err(); err != nil {
		return answer.Outcome{}, err
	}
	if m.unkept != nil && o.Release != nil {
		return answer.Outcome{}, m.unkept
	}
	r := m.charges[charge]
	if r.charged.Outcome != nil {
		return *r.charged.Outcome, nil
	}
	if attempt != r.charged.Attempt {
		return answer.Outcome{}, &dp.Error{Code: dp.CodeConflict, Message: "a newer attempt runs"}
	}
	r.charged.Outcome = &o
	if o.Release != nil {
		m.releases = append(m.releases, *o.Release)
		m.holders[o.Release.ID] = []string{r.charged.Charge.Consumer}
	}
	return o, nil
}

func (m *memory) Release(_ context.Context, consumer, id string) (dp.Release, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.releases {
		if r.ID == id && slices.Contains(m.holders[id], consumer) {
			return r, nil
		}
	}
	return dp.Release{}, &dp.Error{Code: dp.CodeNotFound, Message: "no such release"}
}

// engine returns fixed partitions, or fails.
type engine struct {
	m          *memory
	partitions []bounding.Partition
	err        error
	delay      time.Duration
	untilDone  bool // aggregates until its context ends
}

func (e *engine) Aggregate(ctx context.Context, p *plan.Plan, _ dp.Snapshot, each func(bounding.Partition) error) error {
	e.m.mu.Lock()
	e.m.note("aggregate")
	e.m.mu.Unlock()
	time.Sleep(e.delay)
	if e.untilDone {
		<-ctx.Done()
		return ctx.Err()
	}
	if e.err != nil {
		return e.err
	}
	for _, part := range e.partitions {
		if err := each(bounding.Partition{Key: part.Key, Totals: slices.Clone(part.Totals)}); err != nil {
			return err
		}
	}
	return nil
}

// exact is the noise-free double.
type exact struct{}

func (exact) Add(x int64, d mechanism.Draw) (int64, error) { return x, d.Validate() }
