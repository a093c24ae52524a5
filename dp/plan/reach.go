package plan

import (
	"cmp"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// reach is blocks of one dataset of which each (customer, block) changes, if it is left out, no more than what times
// blocks add by themselves (dp/PRIVACY.md, "Several blocks of one customer").
type reach struct {
	dataset string
	version uint64 // of its policy
	blocks  []string
	times   int64
}

// reach finds every touched block and how far each reaches. Of the question's own dataset the farthest come first.
//
// With m measured blocks: a block of a cohort decides whether the customer counts in any of them, so that what it changes
// is what m blocks add; one that decides where the customer counts, as a first appearance does, what 2m-1 blocks add: all
// go out of where they were, and all but itself come in elsewhere. A funnel has one place for a customer, whatever the
// number of blocks.
func (p *Plan) reach(q question, mostBlocks int) error {
	type touched struct{ dataset, block string }
	times := make(map[touched]int64)
	versions := map[string]uint64{q.dataset: p.Policy.Version}
	measured := int64(len(q.blocks))
	own, cohort := int64(1), measured
	if q.profile != nil {
		switch {
		case q.profile.Funnel != nil:
			cohort = 1
		case q.profile.First != nil:
			own = 2*measured - 1
		}
	}
	for _, block := range q.blocks {
		times[touched{q.dataset, block}] = own
	}
	if q.profile != nil {
		for _, c := range q.profile.Cohorts {
			versions[c.Policy.Name] = c.Policy.Version
			for _, block := range c.Input.Input.Blocks {
				at := touched{c.Policy.Name, block}
				times[at] = max(times[at], cohort)
			}
		}
	}
	if len(times) > mostBlocks {
		return refuseAt("cohorts", "make the query touch more blocks than one may: ask for shorter ranges")
	}

	for at, n := range times {
		i := slices.IndexFunc(p.reaches, func(r reach) bool { return r.dataset == at.dataset && r.times == n })
		if i < 0 {
			i = len(p.reaches)
			p.reaches = append(p.reaches, reach{dataset: at.dataset, version: versions[at.dataset], times: n})
		}
		p.reaches[i].blocks = append(p.reaches[i].blocks, at.block)
	}
	slices.SortFunc(p.reaches, func(a, b reach) int {
		foreign := func(r reach) int {
			if r.dataset == q.dataset {
				return 0
			}
			return 1
		}
		return cmp.Or(foreign(a)-foreign(b), cmp.Compare(a.dataset, b.dataset), cmp.Compare(b.times, a.times))
	})
	for i := range p.reaches {
		slices.Sort(p.reaches[i].blocks)
	}
	p.Blocks = p.reaches[0].blocks
	p.apart = q.keepsBlocksApart() && (q.profile == nil || q.profile.First == nil)
	return nil
}

// keepsBlocksApart tells whether a key is a period that no two measured blocks share.
func (q question) keepsBlocksApart() bool {
	return slices.ContainsFunc(q.keys, func(k Key) bool {
		return k.Field.Kind == TimeField && k.Field.Moment == OfRow && k.Field.Unit != rows.Hour && !sharesBlocks(k.Field.Unit, q.blocks, q.block)
	})
}

// mostTimes is that of the blocks that reach farthest: by it noise is made.
func (p *Plan) mostTimes() (most int64) {
	for _, r := range p.reaches {
		most = max(most, r.times)
	}
	return max(1, most)
}

// counted is in how many partitions the number of customers changes, by 1, where what times blocks add changes.
func (p *Plan) counted(times int64) int64 {
	partitions := product(times, p.Tree.Input.Partitions)
	if profile := p.Tree.Input.Input.Profile; profile != nil && profile.Funnel != nil && profile.First != nil {
		partitions = 2 * p.Tree.Input.Partitions // out of the steps here, into those there
	}
	if p.groups.groups > 0 && times > 1 {
		partitions = min(partitions, p.groups.groups)
	}
	return partitions
}

// priceReaches gives every touched block its price: that of the noise, as it was made for the blocks that reach farthest,
// for one that reaches as far as this.
func (p *Plan) priceReaches() {
	for i, r := range p.reaches {
		loss := p.lossOver(r.times)
		if i == 0 {
			p.Loss = loss
			continue
		}
		p.Also = append(p.Also, dp.Touched{Dataset: r.dataset, PolicyVersion: r.version, Blocks: r.blocks, Loss: loss})
	}
}

func (p *Plan) lossOver(times int64) (loss dp.Loss) {
	for i, m := range p.Metrics {
		if m.Drawn != i || p.SelectedBy == i {
			continue
		}
		if times == p.mostTimes() {
			loss = accounting.Add(loss, m.Vector.Loss())
		} else {
			loss = accounting.Add(loss, m.Vector.LossOver(p.boundsOver(m, times)))
		}
	}
	if p.Selection != nil {
		loss = accounting.Add(loss, p.Selection.LossOver(p.counted(times)))
	}
	return loss
}

// MostLoss is what a block pays that pays most.
func (p *Plan) MostLoss() dp.Loss {
	most := p.Loss
	for _, t := range p.Also {
		if t.Loss.Epsilon > most.Epsilon {
			most = t.Loss
		}
	}
	return most
}

// Joined are the policies of the other datasets that the plan reads.
func (p *Plan) Joined() (others []dp.VersionedPolicy) {
	if !p.isSeveral() {
		return nil
	}
	for _, c := range p.Tree.Input.Input.Profile.Cohorts {
		if c.Policy.Name != p.Policy.Name && !slices.ContainsFunc(others, func(o dp.VersionedPolicy) bool { return o.Name == c.Policy.Name }) {
			others = append(others, c.Policy)
		}
	}
	return others
}

// isSeveral tells whether the question reads several blocks of a customer together.
func (p *Plan) isSeveral() bool { return p.Tree.Input.Input.Profile != nil }
