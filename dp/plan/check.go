package plan

import (
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/metrics"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// CheckMetric says what is wrong with a metric of a policy beyond what its aggregate needs: whose values it reads, and its
// own conditions. Paths are those of its fields, such as where[0].eq.
func CheckMetric(p *dp.Policy, m dp.Metric) []dp.Location {
	// Fields of the customer need dates to be refused as such.
	r := &reader{query: dp.Query{From: rows.FirstDate().String()}, policy: p, limits: DefaultLimits(), location: time.UTC}
	a := askedMetric{parts: metrics.Parts(m)}
	_ = r.readPer("", m, question{}, &a) && r.readOwnTests("", m, &a)
	for i := range r.problems {
		r.problems[i].Path = strings.TrimPrefix(r.problems[i].Path, ".")
	}
	return r.problems
}
