package policyfile

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/discreet-analytics/discreet/dp"
)

// Draft proposes a policy file for a CSV with the given header. It is made from the headers only, never from
// values: a domain or a bound read off the rows would itself be an answer about customers. Every decision
// that only a person can take is left blank with a comment that says what to fill in, so that Parse refuses
// the draft until then. Errors have code invalid-input.
func Draft(header []string, name string) ([]byte, error) {
	limits := DefaultLimits()
	if !datasetName.MatchString(name) {
		return nil, invalidInput("the dataset's name must be lower-case letters, digits, _ and -, beginning with a letter, at most 63 characters")
	}
	if err := checkHeader(header, limits); err != nil {
		return nil, err
	}
	c := classify(header)
	var out bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }

	line("# A draft made from the headers of a file, not from its rows. Fill in every blank; %s", `"dataset apply" says which are left.`)
	line("# What is public knowledge may be declared; do not read domains or bounds off the data.")
	line("name: %s", name)
	line("kind: %-12s # engagement, transactions or custom: which built-in metrics it brings", c.kind())
	line("population:        # about how many customers the dataset is about, rounded down; bounds delta")
	c.writeUnit(line)
	c.writeTime(line)
	c.writeDimensions(line)
	c.writeMeasures(line)
	line("bounds:")
	line("  max_partitions:  # in how many groups one customer may count within a block")
	line("  max_rows:        # with how many rows in each group")
	line("cap:               # the most that anyone can ever learn of one customer within one block")
	line("  epsilon:         # such as 6")
	line("  delta:           # such as 1e-9, at most 1/(10*population); 0 excludes Gaussian noise and private groups")
	line("default:           # the price of a question that names neither an exactness nor a price")
	line("  epsilon:         # such as 0.1")
	line("  delta:           # such as 1e-11")
	line("purposes:          # what questions may be asked for, such as [product-analytics]")
	line("audiences: [internal] # add third-party where answers may leave the house")
	return out.Bytes(), nil
}

func checkHeader(header []string, limits Limits) error {
	if len(header) == 0 {
		return invalidInput("the file has no header: its first line must name the columns")
	}
	if most := limits.Dimensions + limits.Measures; len(header) > most {
		return invalidInput(fmt.Sprintf("the header has more than %d columns: keep those that questions are asked about", most))
	}
	seen := map[string]bool{}
	for i, h := range header {
		switch {
		case h == "":
			return invalidInput(fmt.Sprintf("column %d of the header has no name: give it one", i+1))
		case len(h) > limits.LabelBytes:
			return invalidInput(fmt.Sprintf("the name of column %d is longer than %d bytes: shorten it", i+1, limits.LabelBytes))
		case strings.ContainsFunc(h, func(c rune) bool { return c == unicode.ReplacementChar || !unicode.IsGraphic(c) }):
			return invalidInput(fmt.Sprintf("the name of column %d has a character that cannot be seen or is not UTF-8: save the file as UTF-8, one line per header", i+1))
		case seen[h]:
			return invalidInput(fmt.Sprintf("the name of column %d is used twice: rename one of them", i+1))
		}
		seen[h] = true
	}
	return nil
}

func invalidInput(message string) error {
	return &dp.Error{Code: dp.CodeInvalidInput, Message: message}
}

// columns are the headers by what their names suggest.
type columns struct {
	unit, time string // empty: none was recognised
	measures   []string
	dimensions []string
	names      map[string]string // header -> name
}

// Words by which headers are recognised, after splitting them at other signs and at capitals.
var (
	unitWords    = regexp.MustCompile(`^(customer|client|user|visitor|member|household|account|person|patient|subscriber|device|pid|uid|uuid|guid)$`)
	timeWords    = regexp.MustCompile(`^(time|timestamp|datetime|date|at|ts)$`)
	measureWords = regexp.MustCompile(`^(amount|value|price|cost|spend|spent|revenue|sales|total|balance|income|salary|fee|tax|discount|disc|duration|minutes|seconds|hours|quantity|qty|score|euros?|eur|dollars?|usd)$`)
	// what is neither counted nor measured though it begins like a customer
	otherWords = regexp.MustCompile(`^(type|kind|name|status|segment|group|country|city|region|age|size)$`)
)

func classify(header []string) columns {
	c := columns{names: map[string]string{}}
	taken := map[string]bool{"time": true, "customers": true, "rows": true, "active_users": true, "events": true, "mean_session": true,
		"time_spent": true, "average_ticket": true, "spend": true, "transactions": true}
	for _, h := range header {
		w := words(h)
		has := func(pattern *regexp.Regexp) bool { return slices.ContainsFunc(w, pattern.MatchString) }
		switch {
		case c.unit == "" && has(unitWords) && !has(otherWords) && !has(measureWords):
			c.unit = h
			continue
		case c.time == "" && has(timeWords) && !has(measureWords):
			c.time = h
			continue
		case has(measureWords) && len(c.measures) < DefaultLimits().Measures:
			c.measures = append(c.measures, h)
		default:
			c.dimensions = append(c.dimensions, h)
		}
		c.names[h] = fieldNameFor(w, taken)
	}
	return c
}

// words splits a header at signs and at capitals after small letters, in lower case.
func words(header string) []string {
	var b strings.Builder
	small := false
	for _, r := range header {
		switch {
		case r > unicode.MaxASCII || !(unicode.IsLetter(r) || unicode.IsDigit(r)):
			r = ' '
		case unicode.IsUpper(r):
			if small {
				b.WriteByte(' ')
			}
		}
		small = unicode.IsLower(r)
		b.WriteRune(unicode.ToLower(r))
	}
	return strings.Fields(b.String())
}

// fieldNameFor makes a name from a header's words that no other field has.
func fieldNameFor(words []string, taken map[string]bool) string {
	const longest = 60 // leaves room for a number
	name := strings.Join(words, "_")
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = strings.TrimSuffix("column_"+name, "_")
	}
	name = strings.TrimSuffix(name[:min(len(name), longest)], "_")
	base := name
	for n := 2; taken[name]; n++ {
		name = base + "_" + strconv.Itoa(n)
	}
	taken[name] = true
	return name
}

// kind looks for what rows of engagement are about before what transactions also have.
func (c columns) kind() dp.Kind {
	said := map[string]bool{}
	for header := range c.names {
		for _, word := range words(header) {
			said[word] = true
		}
	}
	switch {
	case said["event"] || said["session"] || said["screen"] || said["url"] || said["page"] || said["duration"]:
		return dp.Engagement
	case said["merchant"] || said["transaction"] || said["amount"] || said["basket"] || said["payment"]:
		return dp.Transactions
	}
	return dp.Custom
}

func (c columns) writeUnit(line func(string, ...any)) {
	block := ""
	if c.time == "" {
		block = "all"
	}
	line("unit:")
	if c.unit != "" {
		line("  column: %s # check: the column that names the customer; it is replaced by a keyed pseudonym at load", quote(c.unit))
	} else {
		line("  column:          # the column that names the customer; or replace these lines by unit: {row: true}")
	}
	line("  block: %-9s # %s", block, "month, quarter, year or all: the period within which a customer's rows are protected together")
}

func (c columns) writeTime(line func(string, ...any)) {
	if c.time == "" {
		line("# time: {column: , timezone: , format: } # where rows have a time; block may then be month, quarter or year")
		return
	}
	line("time:")
	line("  column: %s # check: the column that says when it happened", quote(c.time))
	line("  timezone:        # such as Europe/Berlin or UTC: the zone whose calendar you report in; fixed once rows are loaded")
	line("  format:          # rfc3339, date, unix, unix_ms or a layout such as \"YYYY-MM-DD hh:mm:ss\"")
}

func (c columns) writeDimensions(line func(string, ...any)) {
	if len(c.dimensions) == 0 {
		line("dimensions: []")
		return
	}
	line("dimensions:        # delete what nobody asks about: it is then ignored and never stored")
	line("# where the domain is public knowledge, write values: [a, b] or {from: 0, to: 90, step: 10} instead of selection: private,")
	line("# with other and missing as labels of the rest; private groups with few customers stay hidden")
	for i, h := range c.dimensions {
		if i == DefaultLimits().Dimensions {
			line("# further columns are left out: a policy has at most %d dimensions", i)
			break
		}
		line("  - {name: %s%s, selection: private}", c.names[h], c.columnField(h))
	}
}

func (c columns) writeMeasures(line func(string, ...any)) {
	if len(c.measures) == 0 {
		line("measures: []")
		return
	}
	line("measures:          # delete what nobody asks about; kind: level for balances")
	for _, h := range c.measures {
		line("  - name: %s", c.names[h])
		if c.names[h] != h {
			line("    column: %s", quote(h))
		}
		line("    scale:         # decimal places that count: 2 for cents, 0 for whole numbers; fixed once rows are loaded")
		line("    lower:         # the smallest value that a row may count with, often 0")
		line("    upper:         # the largest; the noise grows with it, what is above counts as it")
		line("    kind: flow")
	}
}

func (c columns) columnField(header string) string {
	if c.names[header] == header {
		return ""
	}
	return ", column: " + quote(header)
}
