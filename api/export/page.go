package export

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

//go:embed page.html
var pages embed.FS

// The sizes beyond which a page shows no more, and says so: the other exports have everything.
const (
	maxRows     = 40   // of a chart of dots
	maxPanels   = 24   // of a chart over time
	maxLines    = 1000 // of a table
	maxSections = 500  // answers: the last ones
)

// Page writes a report as one HTML page that loads nothing and runs nothing. A dot is a figure; the bands around it are
// a third, two thirds and all of its interval. Over time, the bands are ribbons. Answers are read and written one by one.
func Page(w io.Writer, r Report) error {
	t, err := template.New("page.html").Funcs(template.FuncMap{"px": px}).ParseFS(pages, "page.html")
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	earlier := max(0, len(r.Answers)-maxSections)
	if err := t.ExecuteTemplate(w, "head", head{r, earlier}); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	for _, a := range r.Answers[earlier:] {
		release, err := r.Read(a.Release)
		if err != nil {
			return fmt.Errorf("reading the answer to %s: %w", a.Question, err)
		}
		if err := t.ExecuteTemplate(w, "section", sectionOf(a, release)); err != nil {
			return fmt.Errorf("writing the page: %w", err)
		}
	}
	if err := t.ExecuteTemplate(w, "foot", nil); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

// head is what stands before the answers.
type head struct {
	Report
	Earlier int // answers that are left out
}

// section is one answer.
type section struct {
	Title, Release, Dataset, AsOf string
	Price, Protects, Confidence   string
	Stale                         bool
	Notes                         []string
	Charts                        []chart
	Columns                       []string
	Lines                         [][]string
	More                          int // lines that are left out
}

// chart is a metric at one level: dots, or panels over time.
type chart struct {
	Title         string
	Width, Height float64
	Ticks         []tick
	Rows          []dotRow
	Panels        []panel
	More          int // groups that are left out
}

type tick struct {
	At    float64
	Label string
	Zero  bool
}

// dotRow is a figure with its graded interval, on a horizontal line.
type dotRow struct {
	Label, Figure string
	Y, Dot        float64
	Bands         []band // widest first
}

type band struct{ From, Width, Y, Height float64 }

// panel is a series over time, with ribbons.
type panel struct {
	Title, First, Last string
	X, Y               float64
	Ribbons            []string // polygons, widest first
	Line               string
	Dots               []point
	Ticks              []tick
	Width, Height      float64
}

type point struct {
	X, Y  float64
	Label string
}

// priceOf is what each of some blocks paid.
func priceOf(loss dp.Loss, blocks []string) string {
	if len(blocks) == 1 {
		return "epsilon " + loss.Epsilon.String() + " on " + blocks[0]
	}
	return "epsilon " + loss.Epsilon.String() + " on each of " + strconv.Itoa(len(blocks)) + " blocks"
}

func blockNames(versions []dp.BlockVersion) (names []string) {
	for _, v := range versions {
		names = append(names, v.Block)
	}
	return names
}

func sectionOf(a Answer, rel dp.Release) section {
	s := section{
		Title: a.Question, Release: rel.ID, Dataset: rel.Dataset, AsOf: rel.AsOf.UTC().Format("2006-01-02 15:04Z"), Notes: rel.Notes, Stale: a.Stale,
		Price:    priceOf(rel.Charge.Loss, blockNames(rel.Blocks)),
		Protects: protects(rel.Privacy), Confidence: percent(rel.Confidence),
	}
	if a.Run != "1" {
		s.Title += ", " + a.Run
	}
	for _, also := range rel.Charge.Also {
		s.Price += "; and " + priceOf(also.Loss, also.Blocks) + " of " + also.Dataset
	}
	for level := range len(rel.Levels) + 1 {
		for i := range rel.Metrics {
			if c := chartOf(rel, level, i); c != nil {
				s.Charts = append(s.Charts, *c)
			}
		}
	}
	s.Columns = append(s.Columns, rel.By...)
	for _, m := range rel.Metrics {
		s.Columns = append(s.Columns, m, "from", "to")
	}
	for n, g := range rel.Groups {
		if n == maxLines {
			s.More = len(rel.Groups) - n
			break
		}
		line := slices.Clone(g.Key)
		if g.Level > 0 {
			for i, name := range rel.By {
				if !slices.Contains(rel.Levels[g.Level-1], name) {
					line[i] = "all"
				}
			}
		}
		for _, v := range g.Values {
			line = append(line, number(v.Value, v), number(v.Low, v), number(v.High, v))
		}
		s.Lines = append(s.Lines, line)
	}
	return s
}

func protects(p dp.Privacy) string {
	switch {
	case p.Unit == "row":
		return "any one row"
	case p.Block == dp.All:
		return "all rows of any one " + p.Unit
	}
	return "all rows of any one " + p.Unit + " within one " + string(p.Block)
}

func percent(confidence string) string {
	f, err := strconv.ParseFloat(confidence, 64)
	if err != nil {
		return ""
	}
	return strconv.FormatFloat(100*f, 'g', 6, 64) + " %"
}

// number writes a figure with the digits that its interval deserves.
func number(f float64, v dp.Value) string {
	width := v.High - v.Low
	digits := 0
	if width > 0 && width < 100 {
		digits = min(9, 2-int(math.Floor(math.Log10(width))))
	}
	return strconv.FormatFloat(f, 'f', digits, 64)
}

// px writes a coordinate.
func px(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

// chartOf draws one metric of one level; nil where there is nothing to compare.
func chartOf(r dp.Release, level, metric int) *chart {
	names := r.By
	title := r.Metrics[metric]
	if level > 0 {
		names = r.Levels[level-1]
	}
	if len(names) > 0 {
		title += " by " + strings.Join(names, ", ")
	}
	var groups []dp.Group
	for _, g := range r.Groups {
		if g.Level == level {
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return nil
	}
	c := &chart{Title: title}
	if at := finestTime(r.By, names); at >= 0 {
		c.overTime(r.By, names, groups, metric, at)
	} else {
		c.dots(r.By, names, groups, metric)
	}
	return c
}

// finestTime is the position of the narrowest calendar key among those of a level, or -1.
func finestTime(by, names []string) int {
	for _, unit := range []rows.TimeUnit{rows.Day, rows.Week, rows.Month, rows.Quarter, rows.Year} {
		if at := slices.Index(by, unit.Field()); at >= 0 && slices.Contains(names, unit.Field()) {
			return at
		}
	}
	return -1
}

// scale maps figures to a stretch of the page.
type scale struct{ low, high, from, to float64 }

// scaleOf covers all intervals, and 0.
func scaleOf(groups []dp.Group, metric int, from, to float64) scale {
	s := scale{from: from, to: to}
	for _, g := range groups {
		v := g.Values[metric]
		s.low, s.high = min(s.low, v.Low, v.Value), max(s.high, v.High, v.Value)
	}
	if s.low == s.high {
		s.high = s.low + 1
	}
	return s
}

func (s scale) at(f float64) float64 { return s.from + (f-s.low)/(s.high-s.low)*(s.to-s.from) }

// ticks are round numbers.
func (s scale) ticks(about float64) (list []tick) {
	step := math.Pow(10, math.Floor(math.Log10((s.high-s.low)/about)))
	for _, times := range []float64{1, 2, 5, 10} {
		if (s.high-s.low)/(step*times) <= about {
			step *= times
			break
		}
	}
	for n := math.Ceil(s.low/step) + 0; n*step <= s.high*(1+1e-9); n++ {
		list = append(list, tick{At: s.at(n * step), Label: short(n*step + 0), Zero: n == 0})
	}
	return list
}

// short writes a round number: 2.5M for 2,500,000.
func short(f float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(f) >= unit.size {
			return strconv.FormatFloat(f/unit.size, 'g', 4, 64) + unit.name
		}
	}
	return strconv.FormatFloat(f, 'g', 4, 64)
}

// thirds are the shares of an interval that bands show, widest first.
var thirds = [3]float64{1, 2. / 3, 1. / 3}

func within(v dp.Value, share float64) (low, high float64) {
	return v.Value + share*(v.Low-v.Value), v.Value + share*(v.High-v.Value)
}

func label(by, names, key []string, without int) string {
	var parts []string
	for i, name := range by {
		if i != without && slices.Contains(names, name) {
			parts = append(parts, strings.ToValidUTF8(key[i], "\uFFFD"))
		}
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, " · ")
}

const (
	labelWidth  = 190.0
	figureWidth = 90.0
	plotWidth   = 520.0
	rowHeight   = 22.0
)

// dots puts groups below each other.
func (c *chart) dots(by, names []string, groups []dp.Group, metric int) {
	if len(groups) > maxRows {
		c.More, groups = len(groups)-maxRows, groups[:maxRows]
	}
	s := scaleOf(groups, metric, labelWidth, labelWidth+plotWidth)
	c.Width, c.Height = labelWidth+plotWidth+figureWidth, rowHeight*float64(len(groups))+26
	c.Ticks = s.ticks(6)
	for i, g := range groups {
		v := g.Values[metric]
		y := rowHeight * (float64(i) + 0.5)
		r := dotRow{Label: label(by, names, g.Key, -1), Figure: number(v.Value, v), Y: y, Dot: s.at(v.Value)}
		for n, share := range thirds {
			low, high := within(v, share)
			height := 4 + 3*float64(n)
			r.Bands = append(r.Bands, band{From: s.at(low), Width: s.at(high) - s.at(low), Y: y - height/2, Height: height})
		}
		c.Rows = append(c.Rows, r)
	}
}

const (
	panelWidth  = 256.0
	panelHeight = 92.0
	panelGap    = 10.0
	panelTop    = 18.0
	panelFoot   = 16.0
	panelLeft   = 40.0
	perLine     = 3
)

// overTime puts a panel for each series, all on one scale.
func (c *chart) overTime(by, names []string, groups []dp.Group, metric, at int) {
	series := map[string][]dp.Group{}
	var order []string
	for _, g := range groups {
		// Coarser calendar keys follow from the finest: they name no series of their own.
		name := label(by, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return strings.HasPrefix(n, "time.") && n != "time.hour" }), g.Key, -1)
		if series[name] == nil {
			order = append(order, name)
		}
		series[name] = append(series[name], g)
	}
	if len(order) > maxPanels {
		c.More, order = len(order)-maxPanels, order[:maxPanels]
	}
	shown := []dp.Group{}
	for _, name := range order {
		shown = append(shown, series[name]...)
	}
	columns, width := min(perLine, len(order)), panelWidth
	if len(order) == 1 {
		width = plotWidth + labelWidth
	}
	cell := panelTop + panelHeight + panelFoot + panelGap
	c.Width, c.Height = float64(columns)*(panelLeft+width+panelGap), math.Ceil(float64(len(order))/float64(columns))*cell
	for i, name := range order {
		list := series[name]
		slices.SortStableFunc(list, func(a, b dp.Group) int { return strings.Compare(a.Key[at], b.Key[at]) })
		s := scaleOf(shown, metric, panelHeight, 0)
		p := panel{Title: name, First: list[0].Key[at], Last: list[len(list)-1].Key[at], Width: width, Height: panelHeight,
			X: panelLeft + float64(i%columns)*(panelLeft+width+panelGap), Y: panelTop + float64(i/columns)*cell, Ticks: s.ticks(3)}
		if len(list) == 1 {
			p.Last = ""
		}
		x := func(n int) float64 { return (float64(n) + 0.5) / float64(len(list)) * width }
		for _, share := range thirds {
			var upper, lower []string
			for n, g := range list {
				low, high := within(g.Values[metric], share)
				upper = append(upper, px(x(n))+","+px(s.at(high)))
				lower = append(lower, px(x(n))+","+px(s.at(low)))
			}
			slices.Reverse(lower)
			p.Ribbons = append(p.Ribbons, strings.Join(append(upper, lower...), " "))
		}
		var line []string
		for n, g := range list {
			v := g.Values[metric]
			line = append(line, px(x(n))+","+px(s.at(v.Value)))
			p.Dots = append(p.Dots, point{X: x(n), Y: s.at(v.Value), Label: g.Key[at] + ": " + number(v.Value, v) + " (" + number(v.Low, v) + " to " + number(v.High, v) + ")"})
		}
		p.Line = strings.Join(line, " ")
		c.Panels = append(c.Panels, p)
	}
}
