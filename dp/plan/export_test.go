package plan

import "github.com/discreet-analytics/discreet/dp/mechanism"

// Reach is what a touched block is priced by.
type Reach struct {
	Dataset string
	Blocks  []string
	Times   int64
}

// Reaches are those of all touched blocks.
func (p *Plan) Reaches() (all []Reach) {
	for _, r := range p.reaches {
		all = append(all, Reach{r.dataset, r.blocks, r.times})
	}
	return all
}

// BoundsOver is what a block that reaches so far changes of a metric.
func (p *Plan) BoundsOver(m Metric, times int64) mechanism.Vector { return p.boundsOver(m, times) }
