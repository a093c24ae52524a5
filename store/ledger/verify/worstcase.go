package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Guarantee is the worst case for one customer, of every dataset: what budgets guarantee, and what charges so far add up to.
// It is worked out from the log alone, in arithmetic of its own, and is written as guarantee.json of an export is
// (store/FORMAT.md, "Export").
type Guarantee struct {
	Format   string             `json:"format"`
	Ledger   string             `json:"ledger"`
	Size     uint64             `json:"size"`
	Datasets []DatasetGuarantee `json:"datasets"`
}

// DatasetGuarantee is that of one dataset: of all consumers together first, then of each by name.
type DatasetGuarantee struct {
	Dataset       string           `json:"dataset"`
	PolicyVersion uint64           `json:"policy_version"`
	Block         string           `json:"block"`
	Population    int64            `json:"population"`
	Linked        []string         `json:"linked"`
	Owners        []OwnerGuarantee `json:"owners"`
}

// OwnerGuarantee is that of one consumer, or of all together, whose name is empty.
type OwnerGuarantee struct {
	Consumer  string    `json:"consumer"`
	InForce   Amount    `json:"in_force"`
	Certified Amount    `json:"certified"`
	ByCap     bool      `json:"by_cap"`
	Promises  []Promise `json:"promises"`
	Spent     []Spent   `json:"spent"`
}

// Amount is a budget or a loss, as exact decimal text.
type Amount struct {
	Epsilon string `json:"epsilon"`
	Delta   string `json:"delta"`
}

// Promise is a guarantee over so many blocks. Epsilon is empty where it does not fit.
type Promise struct {
	Scope   string `json:"scope"`
	Blocks  int64  `json:"blocks"`
	Epsilon string `json:"epsilon"`
	Delta   string `json:"delta"`
	Vacuous bool   `json:"vacuous"`
}

// Spent is what charges add up to in the block or year where that is most.
type Spent struct {
	Scope        string  `json:"scope"`
	Name         string  `json:"name"`
	Blocks       int64   `json:"blocks"`
	Charges      int64   `json:"charges"`
	Conservative int64   `json:"conservative"`
	Basic        Amount  `json:"basic"`
	Rho          string  `json:"rho"`
	DeltaZ       string  `json:"delta_z"`
	Zero         *Amount `json:"zcdp"`
	Epsilon      string  `json:"epsilon"`
	By           string  `json:"by"`
}

// guarantee works out the worst case from what was replayed.
func (c *chain) guarantee(ctx context.Context, f *figures) (*Guarantee, error) {
	w := &worst{chain: c, ctx: ctx, figures: f, drawings: map[string]*drawing{}}
	g := &Guarantee{Format: "discreet-guarantee/1", Ledger: strings.ToLower(fmt.Sprintf("%x", c.count.ID)), Size: c.count.Entries, Datasets: []DatasetGuarantee{}}
	for _, name := range slices.Sorted(maps.Keys(c.datasets)) {
		d, err := w.dataset(name)
		if err != nil {
			return nil, fmt.Errorf("working out the worst case of dataset %s: %w", name, err)
		}
		g.Datasets = append(g.Datasets, d)
	}
	return g, nil
}

// JSON writes a guarantee as the file of an export.
func (g *Guarantee) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encoding the guarantee: %w", err)
	}
	return append(text, '\n'), nil
}

// mostRemembered is how many drawings are remembered, which several charges and places ask for.
const mostRemembered = 1 << 12

type worst struct {
	*chain
	ctx      context.Context
	figures  *figures
	drawings map[string]*drawing // by release
}

// statement is the worst case of one dataset while it is worked out.
type statement struct {
	*worst
	names  []string                    // of the dataset, and of those linked with it
	blocks map[string]map[string]bool  // of each: loaded or charged
	totals map[string]map[place]*total // by consumer; what caps paid by the empty name
	known  map[accountID]loss          // what charges explain of accounts
	owners map[string]bool             // who has an allotment or a charge on the dataset
}

type place struct{ scope, name string }

// The scopes of a statement.
const (
	ofBlock         = "block"
	ofYear          = "year"
	ofHistory       = "history"
	ofLinkedBlock   = "linked-block"
	ofLinkedYear    = "linked-year"
	ofLinkedHistory = "linked-history"
)

// exposed is a charge, or what was written off, as it counts in a statement.
type exposed struct {
	consumer string
	caps     bool
	parts    []touched
	release  string
}

func (w *worst) dataset(name string) (DatasetGuarantee, error) {
	of := w.datasets[name]
	out := DatasetGuarantee{Dataset: name, PolicyVersion: of.record.PolicyVersion, Block: of.policy.Unit.Block, Population: of.policy.Population, Linked: []string{}, Owners: []OwnerGuarantee{}}
	s := &statement{worst: w, names: []string{name}, blocks: map[string]map[string]bool{}, totals: map[string]map[place]*total{}, known: map[accountID]loss{}, owners: map[string]bool{}}
	for _, other := range slices.Sorted(maps.Keys(w.datasets)) {
		if other != name && of.linked && w.datasets[other].linked {
			s.names = append(s.names, other)
		}
	}
	for _, one := range s.names {
		s.blocks[one] = map[string]bool{}
		for block := range w.datasets[one].blocks {
			s.blocks[one][block] = true
		}
	}
	if err := s.addCharges(); err != nil {
		return out, err
	}
	out.Linked = append(out.Linked, s.names[1:]...)
	if err := s.addUnexplained(); err != nil {
		return out, err
	}
	all, err := s.owner("")
	if err != nil {
		return out, err
	}
	out.Owners = append(out.Owners, all)
	for _, consumer := range slices.Sorted(maps.Keys(s.owners)) {
		o, err := s.owner(consumer)
		if err != nil {
			return out, err
		}
		out.Owners = append(out.Owners, o)
	}
	return out, nil
}

// addCharges adds up every charge that touches one of the datasets.
func (s *statement) addCharges() error {
	for _, id := range *s.charged {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		value, err := s.from.get(key(kindCharge, id))
		if err != nil {
			return err
		}
		c, err := decodeRecord[chargeRecord](value, parts)
		if err != nil {
			return fmt.Errorf("reading charge %s: %w", id, err)
		}
		one := exposed{consumer: c.Charge.Consumer, caps: c.Source == "", release: c.Release}
		ours := false
		for _, p := range c.parts() {
			one.parts = append(one.parts, p.touched)
			ours = ours || slices.Contains(s.names, p.Dataset)
		}
		if !ours {
			continue
		}
		for _, p := range one.parts {
			if !slices.Contains(s.names, p.Dataset) {
				continue
			}
			for _, block := range p.Blocks {
				s.blocks[p.Dataset][block] = true
				s.explain(accountID{p.Dataset, block, one.consumer}, p.Loss)
				if one.caps {
					s.explain(accountID{p.Dataset, block, ""}, p.Loss)
				}
			}
			if p.Dataset == s.names[0] {
				s.owners[one.consumer] = true
			}
		}
		if err := s.add(one); err != nil {
			return fmt.Errorf("adding up charge %s: %w", id, err)
		}
	}
	for id := range s.allotments {
		if id.dataset == s.names[0] {
			s.owners[id.consumer] = true
		}
	}
	return nil
}

func (s *statement) explain(id accountID, l loss) { s.known[id] = add(s.known[id], l) }

// addUnexplained counts what accounts have spent beyond all charges, because it was written off, as one charge more of each
// owner, of which nothing is known.
func (s *statement) addUnexplained() error {
	rest := map[string][]touched{}
	for _, name := range s.names {
		owners := map[string]bool{"": true}
		for id := range s.allotments {
			if id.dataset == name {
				owners[id.consumer] = true
			}
		}
		for id := range s.accounts {
			if id.dataset == name {
				owners[id.consumer] = true
			}
		}
		for _, block := range slices.Sorted(maps.Keys(s.blocks[name])) {
			for consumer := range owners {
				id := accountID{name, block, consumer}
				if beyond := beyond(s.spent(id), s.known[id]); beyond != (loss{}) {
					rest[consumer] = append(rest[consumer], touched{Dataset: name, Blocks: []string{block}, Loss: beyond})
				}
			}
		}
	}
	for consumer, parts := range rest {
		if err := s.add(exposed{consumer: consumer, caps: consumer == "", parts: parts}); err != nil {
			return err
		}
	}
	return nil
}

func beyond(a, b loss) loss {
	rho := max(0, a.Rho-b.Rho)
	if a.Rho == unbounded && b.Rho != unbounded {
		rho = unbounded
	}
	return loss{max(0, a.Epsilon-b.Epsilon), max(0, a.Delta-b.Delta), rho, max(0, a.DeltaZ-b.DeltaZ)}
}

// total is what charges add up to in a place.
type total struct {
	loss         loss
	charges      int64
	conservative int64
	blocks       map[[2]string]bool
}

// add adds a charge to every place that it touches, of the consumer and of the caps. A block of all time has rows of every
// year, so that it counts in each: in those that the charge touches besides here, in others in a place of its own.
func (s *statement) add(c exposed) error {
	chosen := map[place][]touched{}
	put := func(at place, p touched, block string) {
		list := chosen[at]
		if last := len(list) - 1; last < 0 || list[last].Dataset != p.Dataset || list[last].Loss != p.Loss || list[last].PolicyVersion != p.PolicyVersion {
			list = append(list, touched{Dataset: p.Dataset, PolicyVersion: p.PolicyVersion, Loss: p.Loss})
		}
		last := &list[len(list)-1]
		last.Blocks = append(last.Blocks, block)
		chosen[at] = list
	}
	years := func(scope string, ours func(dataset string) bool, p touched, block string) {
		names := map[string]bool{}
		for _, other := range c.parts {
			if ours(other.Dataset) {
				for _, b := range other.Blocks {
					names[yearOf(b)] = true
				}
			}
		}
		year := yearOf(block)
		for name := range names {
			if year == name || year == everyYear {
				put(place{scope, name}, p, block)
			}
			if year == everyYear && name != everyYear {
				put(place{scope + " besides", name}, p, block)
			}
		}
	}
	own := func(dataset string) bool { return dataset == s.names[0] }
	linked := func(dataset string) bool { return slices.Contains(s.names, dataset) }
	for _, p := range c.parts {
		if !linked(p.Dataset) {
			continue
		}
		for _, block := range p.Blocks {
			if own(p.Dataset) {
				put(place{ofBlock, block}, p, block)
				put(place{ofHistory, ""}, p, block)
				years(ofYear, own, p, block)
			}
			if len(s.names) > 1 {
				put(place{ofLinkedHistory, ""}, p, block)
				years(ofLinkedYear, linked, p, block)
			}
		}
	}
	for at, list := range chosen {
		cost, conservative, err := s.over(c, list)
		if err != nil {
			return err
		}
		if c.consumer != "" {
			s.count(c.consumer, at, list, cost, conservative)
		}
		if c.caps {
			s.count("", at, list, cost, conservative)
		}
	}
	return nil
}

// placed are a consumer's totals of every place that is told of: a year has what was charged of all time besides.
func (s *statement) placed(consumer string) map[place]*total {
	of := s.totals[consumer]
	out := map[place]*total{}
	for at, t := range of {
		if strings.HasSuffix(at.scope, " besides") {
			continue
		}
		every := of[place{at.scope, everyYear}]
		if at.scope != ofYear && at.scope != ofLinkedYear || at.name == everyYear || every == nil {
			out[at] = t
			continue
		}
		already := of[place{at.scope + " besides", at.name}]
		if already == nil {
			already = &total{}
		}
		whole := &total{
			loss: add(t.loss, beyond(every.loss, already.loss)), charges: t.charges + every.charges - already.charges,
			conservative: t.conservative + every.conservative - already.conservative, blocks: maps.Clone(t.blocks),
		}
		maps.Copy(whole.blocks, every.blocks)
		out[at] = whole
	}
	return out
}

func (s *statement) count(owner string, at place, list []touched, cost loss, conservative bool) {
	if s.totals[owner] == nil {
		s.totals[owner] = map[place]*total{}
	}
	t := s.totals[owner][at]
	if t == nil {
		t = &total{blocks: map[[2]string]bool{}}
		s.totals[owner][at] = t
	}
	t.loss = add(t.loss, cost)
	t.charges++
	if conservative {
		t.conservative++
	}
	for _, p := range list {
		for _, block := range p.Blocks {
			t.blocks[[2]string{p.Dataset, block}] = true
		}
	}
}

// everyYear is the year of a block that is of all time.
const everyYear = "all"

// yearOf is the year that a block lies in, or everyYear.
func yearOf(block string) string {
	if len(block) >= 4 && block[0] >= '0' && block[0] <= '9' {
		return block[:4]
	}
	return everyYear
}

// over is what a charge costs a customer of whom these blocks are left out together (dp/PRIVACY.md, "Several blocks, as
// accounting"). conservative says that how it was drawn is not known, and would have mattered.
func (s *statement) over(c exposed, list []touched) (sum loss, conservative bool, err error) {
	blocks := int64(0)
	for _, p := range list {
		for range p.Blocks {
			sum = add(sum, p.Loss)
			blocks++
		}
	}
	if blocks == 1 {
		return sum, false, nil
	}
	d, err := s.drawing(c.release)
	if err != nil {
		return sum, false, err
	}
	cost := sum
	if d == nil || !d.apart {
		cost.Rho = times(sum.Rho, blocks)
	}
	if sum.Delta == 0 {
		return cost, d == nil, nil
	}
	if d != nil {
		reached, farthest := int64(0), int64(0)
		for _, p := range list {
			for _, block := range p.Blocks {
				far := d.reach(p.Dataset, block)
				if far == 0 {
					reached = 1 << 40 // it is none of the release's
				}
				reached += far
			}
		}
		for _, p := range c.parts {
			if d.reach(p.Dataset, p.Blocks[0]) == d.most() {
				farthest = p.Loss.Delta
			}
		}
		if b, ok := d.over(s.figures, reached, farthest); ok {
			cost.Epsilon, cost.Delta = b.Epsilon, b.Delta
			return cost, false, nil
		}
	}
	var links []link
	for _, p := range list {
		links = append(links, link{budget{p.Loss.Epsilon, p.Loss.Delta}, int64(len(p.Blocks))})
	}
	group, _ := s.figures.chained(links)
	cost.Epsilon, cost.Delta = group.Epsilon, group.Delta
	return cost, true, nil
}

// drawing finds how a release was drawn; nil where there is none, or it does not say.
func (s *statement) drawing(release string) (*drawing, error) {
	if release == "" {
		return nil, nil
	}
	if known, ok := s.drawings[release]; ok {
		return known, nil
	}
	value, err := s.from.get(key(kindRelease, release))
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord[releaseRecord](value, whole)
	if err != nil {
		return nil, err
	}
	var of drawnRecord
	if json.Unmarshal(r.Summary, &of) != nil {
		return nil, errMalformed
	}
	if value, err = s.from.get(numberedKey(of.PolicyVersion, kindPolicy, of.Dataset)); err != nil {
		return nil, err
	}
	p, err := decodeRecord[policyRecord](value, parts)
	if err != nil {
		return nil, err
	}
	if len(s.drawings) >= mostRemembered {
		clear(s.drawings)
	}
	d := readDrawing(of, p.Unit.Block)
	s.drawings[release] = d
	return d, nil
}
