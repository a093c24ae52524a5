package answer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Comparison asks how one figure differs from another, or each of one release from that of the same key in another.
type Comparison struct {
	From, To   Cell
	Ratio      bool   // To over From, instead of To less From
	Confidence string // decimal text; empty means 0.95
}

// Cell is a figure of a release, or all of them.
type Cell struct {
	Release string
	Key     map[string]string // by the names of the key's parts; nil for all groups
	Metric  string            // empty for all
}

// Compared is what became of a comparison.
type Compared struct {
	Confidence string
	Ratio      bool
	Cells      []ComparedCell
	Missing    int // groups that only one of the releases has
	Notes      []string
}

// ComparedCell is one figure beside another, at the comparison's confidence each by itself.
type ComparedCell struct {
	FromKey, ToKey       map[string]string
	FromMetric, ToMetric string
	From, To             dp.Value
	Change               dp.Value
	Unbounded            bool // the interval of a ratio has no ends: what is divided by may be 0
	Verdict              Verdict
}

// Verdict says whether a change is more than noise explains, at the comparison's confidence.
type Verdict string

// The verdicts.
const (
	Up      Verdict = "up"
	Down    Verdict = "down"
	Unclear Verdict = "unclear"
)

// mostCompared is how many figures one comparison has.
const mostCompared = 10_000

// Compare says how figures differ that the asker holds. It is post-processing of what is published: free, and no row is
// read. Intervals and verdicts are about noise alone.
func (s *Service) Compare(ctx context.Context, asker dp.Consumer, c Comparison) (Compared, error) {
	text := c.Confidence
	if text == "" {
		text = mechanism.DefaultConfidence.String()
	}
	confidence, err := mechanism.ParseConfidence(text)
	if err != nil {
		return Compared{}, refused("confidence", err.Error())
	}
	from, err := s.side(ctx, asker, "from", c.From, confidence)
	if err != nil {
		return Compared{}, err
	}
	to, err := s.side(ctx, asker, "to", c.To, confidence)
	if err != nil {
		return Compared{}, err
	}
	pairs, missing, err := pair(from, to)
	if err != nil {
		return Compared{}, err
	}
	out := Compared{Confidence: confidence.String(), Ratio: c.Ratio, Missing: missing, Notes: comparisonNotes(from, to, len(pairs))}
	for _, p := range pairs {
		if err := ctx.Err(); err != nil {
			return Compared{}, fmt.Errorf("comparing: %w", err)
		}
		cell, err := p.compare(c.Ratio, confidence)
		if err != nil {
			return Compared{}, err
		}
		out.Cells = append(out.Cells, cell)
	}
	return out, nil
}

// pairing is two figures that are compared.
type pairing struct {
	from, to             *side
	fromGroup, toGroup   int
	fromMetric, toMetric int
}

// pair finds what is compared with what: two figures that are named, or those of the same keys and metrics. missing is the
// number of groups that only one side has.
func pair(from, to *side) (pairs []pairing, missing int, err error) {
	fromMetrics, err := from.metrics()
	if err != nil {
		return nil, 0, err
	}
	toMetrics, err := to.metrics()
	if err != nil {
		return nil, 0, err
	}
	fromGroups, err := from.groups()
	if err != nil {
		return nil, 0, err
	}
	toGroups, err := to.groups()
	if err != nil {
		return nil, 0, err
	}
	named := from.isOneGroup() && to.isOneGroup()
	if from.isOneGroup() != to.isOneGroup() {
		return nil, 0, refused("to.key", "is missing, or that of from: name a group of both, or of neither to compare all groups of the same key")
	}
	if !named && !slices.Equal(from.release.By, to.release.By) {
		return nil, 0, refused("to.release", "is grouped by other keys than the first: name a group of both, or compare releases that are grouped alike")
	}
	if (from.cell.Metric == "") != (to.cell.Metric == "") {
		return nil, 0, refused("to.metric", "is missing, or that of from: name a metric of both, or of neither to compare all that have the same name")
	}
	var metrics [][2]int
	if from.cell.Metric != "" {
		metrics = [][2]int{{fromMetrics[0], toMetrics[0]}}
	} else {
		for _, i := range fromMetrics {
			if j := slices.Index(to.release.Metrics, from.release.Metrics[i]); j >= 0 {
				metrics = append(metrics, [2]int{i, j})
			}
		}
	}
	if len(metrics) == 0 {
		return nil, 0, refused("to.release", "has none of the first release's metrics: name a metric of both")
	}
	var groups [][2]int
	if named {
		groups = [][2]int{{fromGroups[0], toGroups[0]}}
	} else {
		position := make(map[string]int, len(toGroups))
		for _, j := range toGroups {
			position[nameOf(to.release.Groups[j])] = j
		}
		for _, i := range fromGroups {
			if j, ok := position[nameOf(from.release.Groups[i])]; ok {
				groups = append(groups, [2]int{i, j})
			}
		}
		missing = len(fromGroups) + len(toGroups) - 2*len(groups)
	}
	if len(groups)*len(metrics) > mostCompared {
		return nil, 0, &dp.Error{Code: dp.CodeTooLarge, Message: fmt.Sprintf("a comparison has at most %d figures: name a metric, or compare groups one by one", mostCompared)}
	}
	for _, g := range groups {
		for _, m := range metrics {
			pairs = append(pairs, pairing{from, to, g[0], g[1], m[0], m[1]})
		}
	}
	return pairs, missing, nil
}

// nameOf tells the groups of a release apart.
func nameOf(g dp.Group) string {
	return string(rows.AppendKey([]byte(fmt.Sprint(g.Level, " ")), g.Key))
}

// compare computes the change between two figures.
func (p pairing) compare(ratio bool, c mechanism.Confidence) (ComparedCell, error) {
	from, to := p.from, p.to
	sameRelease := from.release.ID == to.release.ID
	if sameRelease && p.fromGroup == p.toGroup && p.fromMetric == p.toMetric {
		return ComparedCell{}, refused("to", "is the figure of from itself: it differs from itself by exactly 0")
	}
	cell := ComparedCell{
		FromKey: from.key(p.fromGroup), ToKey: to.key(p.toGroup), FromMetric: from.release.Metrics[p.fromMetric], ToMetric: to.release.Metrics[p.toMetric],
		From: from.figure(single, p.fromGroup, p.fromMetric), To: to.figure(single, p.toGroup, p.toMetric),
	}
	if !ratio && unitOf(from, p.fromMetric) != unitOf(to, p.toMetric) {
		return ComparedCell{}, refused("to.metric", "is in another unit than the first, so that they cannot be subtracted: ask for a ratio, or for a metric of the same measure")
	}
	a, fromDrawn := from.drawn(p.fromMetric)
	b, toDrawn := to.drawn(p.toMetric)
	switch {
	case !fromDrawn || !toDrawn: // by their intervals
		if err := p.bounded(&cell, ratio, c); err != nil {
			return ComparedCell{}, err
		}
	case ratio:
		x, y := to.integer(p.toGroup, p.toMetric), from.integer(p.fromGroup, p.fromMetric)
		if y < 0 { // noise has no sign: the ratio is that of both turned
			x, y = -x, -y
		}
		value, low, high, sd := mechanism.RatioInterval(x, y, b, a, c)
		unit := math.Pow10(to.plan.Metrics[p.toMetric].Scale - from.plan.Metrics[p.fromMetric].Scale)
		cell.Change = dp.Value{Value: value / unit, Low: low / unit, High: high / unit, SD: sd / unit}
	default:
		// Two datasets can keep one unit at two scales: both count in steps of the finer one.
		fromScale, toScale := from.plan.Metrics[p.fromMetric].Scale, to.plan.Metrics[p.toMetric].Scale
		finer := max(fromScale, toScale)
		a.Weight, b.Weight = math.Pow10(finer-fromScale), math.Pow10(finer-toScale)
		unit := math.Pow10(finer)
		half, sd := mechanism.SumHalfWidth(c, a, b)/unit, mechanism.SumSD(a, b)/unit
		value := cell.To.Value - cell.From.Value
		cell.Change = dp.Value{Value: value, Low: value - half, High: value + half, SD: sd}
	}
	cell.Verdict = verdict(cell.Change, 0)
	if ratio { // to what may not be above 0 it says nothing
		if cell.Verdict = verdict(cell.Change, 1); cell.Unbounded || from.figure(jointly, p.fromGroup, p.fromMetric).Low <= 0 {
			cell.Verdict = Unclear
		}
	}
	return cell, nil
}

// verdict is up or down where the whole interval is on that side of no change.
func verdict(change dp.Value, none float64) Verdict {
	switch {
	case change.Low > none:
		return Up
	case change.High < none:
		return Down
	}
	return Unclear
}

// bounded compares two figures of which nothing is known but intervals: where both hold, what follows from them does. They
// hold together with the asked confidence, whether or not their noises are independent.
func (p pairing) bounded(cell *ComparedCell, ratio bool, c mechanism.Confidence) error {
	from, to := p.from.figure(jointly, p.fromGroup, p.fromMetric), p.to.figure(jointly, p.toGroup, p.toMetric)
	if miss := p.from.miss(c) + p.to.miss(c); miss > c.Miss()*(1+1e-9) {
		return refused("confidence", fmt.Sprintf("is more than the releases' own intervals give together: ask for at most %s", mechanism.Confidence(math.Floor((1-miss)*1e4)/1e4)))
	}
	sd := func(x, y float64) float64 { return x + y }
	if p.independent() {
		sd = math.Hypot
	}
	if !ratio {
		cell.Change = dp.Value{Value: to.Value - from.Value, Low: to.Low - from.High, High: to.High - from.Low, SD: sd(to.SD, from.SD)}
		return nil
	}
	if from.High < 0 { // of both signs turned
		from, to = negative(from), negative(to)
	}
	if from.Low <= 0 {
		cell.Unbounded = true
		if from.Value != 0 {
			cell.Change.Value = to.Value / from.Value
		}
		return nil
	}
	least, most := to.Low/from.High, to.High/from.Low
	if to.Low < 0 {
		least = to.Low / from.Low
	}
	if to.High < 0 {
		most = to.High / from.High
	}
	value := to.Value / from.Value
	cell.Change = dp.Value{Value: value, Low: least, High: most, SD: sd(to.SD, math.Abs(value)*from.SD) / from.Value}
	return nil
}

func negative(v dp.Value) dp.Value {
	return dp.Value{Value: -v.Value, Low: -v.High, High: -v.Low, SD: v.SD}
}

// independent says that the noises of two figures are, as far as is simple to see: of two releases they are.
func (p pairing) independent() bool {
	if p.from.release.ID != p.to.release.ID {
		return true
	}
	shares := func(s *side, metric int) bool { return s.plan == nil || s.plan.Metrics[metric].Aggregate == dp.Share }
	return p.fromGroup != p.toGroup && !shares(p.from, p.fromMetric) && !shares(p.to, p.toMetric)
}

// comparisonNotes say what else may be the cause of a change.
func comparisonNotes(from, to *side, figures int) (notes []string) {
	a, b := from.release, to.release
	if a.Privacy.MaxPartitions != b.Privacy.MaxPartitions || a.Privacy.MaxRows != b.Privacy.MaxRows || !sameClamps(a.Privacy, b.Privacy) {
		notes = append(notes, "The two were drawn under different bounds: a change can come from what these leave out or clamp.")
	}
	if a.Dataset == b.Dataset && a.PolicyVersion != b.PolicyVersion {
		notes = append(notes, "The dataset's policy changed between the two: a change can come from that.")
	}
	if figures > 1 {
		notes = append(notes, fmt.Sprintf("Each interval holds by itself: of %d comparisons, some can be up or down by chance.", figures))
	}
	return notes
}

// sameClamps compares the clamps of metrics that both have.
func sameClamps(a, b dp.Privacy) bool {
	for metric, clamp := range a.Clamp {
		if other, both := b.Clamp[metric]; both && other != clamp {
			return false
		}
	}
	return true
}

// refused is a refusal with one location.
func refused(path, message string) error {
	return &dp.Error{Code: dp.CodeInvalidQuery, Message: "this cannot be compared: change what its locations name", Locations: []dp.Location{{Path: path, Message: message}}}
}
