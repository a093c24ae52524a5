package policyfile

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// object reads the fields of one mapping. A field that is absent or wrong reads as absent; what is wrong is
// noted.
type object struct {
	r      *reader
	at     position
	field  string // path of the mapping, empty for the file
	values map[string]*node
}

// object takes a mapping whose keys are among known. Where n is none, ok is false and a problem is noted.
func (r *reader) object(n *node, field string, known ...string) (o object, ok bool) {
	o = object{r: r, at: n.at, field: field, values: map[string]*node{}}
	if n.kind != mapping {
		r.problem(n.at, field, "write a mapping with %s", strings.Join(known, ", "))
		return o, false
	}
	for _, e := range n.entries {
		if e.key == "" || !contains(known, e.key) {
			r.problem(e.at, field, "unknown key: %s", suggestion(e.key, known))
			continue
		}
		o.values[e.key] = e.value
		if e.value.kind == null {
			r.blanks = append(r.blanks, blank{e.value, o.path(e.key)})
		}
	}
	return o, true
}

// blank is a key without value, which is a mistake unless it was already noted as missing.
type blank struct {
	value *node
	field string
}

func (r *reader) checkBlanks() {
	for _, b := range r.blanks {
		if !b.value.noted {
			r.problem(b.value.at, b.field, "no value: write one, or leave the key out")
		}
	}
}

// has says whether a key is there with any value.
func (o object) has(key string) bool { return o.values[key] != nil && o.values[key].kind != null }

// where is the place of a key's value, or of the mapping where the key is absent.
func (o object) where(key string) position {
	if n := o.values[key]; n != nil {
		return n.at
	}
	return o.at
}

func (o object) path(key string) string { return join(o.field, key) }

// problem notes what is wrong with a key.
func (o object) problem(key, format string, args ...any) {
	o.r.problem(o.where(key), o.path(key), format, args...)
}

// require notes a problem where a key has no value.
func (o object) require(key, instead string) bool {
	if o.has(key) {
		return true
	}
	o.problem(key, "missing: %s", instead)
	if n := o.values[key]; n != nil {
		n.noted = true
	}
	return false
}

// text gives a scalar as it was written; instead says what should stand there.
func (o object) text(key, instead string) (string, bool) {
	if !o.has(key) {
		return "", false
	}
	return o.r.text(o.values[key], o.path(key), instead)
}

// number gives the text of an unquoted scalar that looks like a number.
func (o object) number(key, instead string) (string, bool) {
	if !o.has(key) {
		return "", false
	}
	n := o.values[key]
	if n.kind != scalar || n.quoted {
		o.problem(key, "write a number without quotes, %s", instead)
		return "", false
	}
	return n.text, true
}

// integer gives a whole number of at least least.
func (o object) integer(key string, least int64, instead string) (int64, bool) {
	text, ok := o.number(key, instead)
	if !ok {
		return 0, false
	}
	v, err := rows.ParseInt(text)
	if err != nil {
		o.problem(key, "%v: %s", err, instead)
		return 0, false
	}
	if v < least {
		o.problem(key, "must be at least %d: %s", least, instead)
		return 0, false
	}
	return v, true
}

// choice gives one of the offered words.
func (o object) choice(key string, offered ...string) (string, bool) {
	instead := "write " + either(offered)
	text, ok := o.text(key, instead)
	if ok && !contains(offered, text) {
		o.problem(key, "not a choice: %s", suggestion(text, offered))
		return "", false
	}
	return text, ok
}

// header gives the name of a column.
func (o object) header(key string) (string, bool) {
	text, ok := o.text(key, "write the header of a column")
	if ok {
		ok = o.r.label(o.values[key], o.path(key), text)
	}
	return text, ok
}

// objects gives the items of a list, at most limit, that are mappings with the known keys.
func (o object) objects(key string, limit int, known ...string) []object {
	var out []object
	for i, item := range o.list(key, limit, "write a list of mappings, one per line, each beginning with -") {
		if item, ok := o.r.object(item, fmt.Sprintf("%s[%d]", o.path(key), i), known...); ok {
			out = append(out, item)
		}
	}
	return out
}

// list gives the items of a list, nil where it is longer than limit.
func (o object) list(key string, limit int, instead string) []*node {
	if !o.has(key) {
		return nil
	}
	n := o.values[key]
	if n.kind != list {
		o.problem(key, "%s", instead)
		return nil
	}
	if len(n.items) > limit {
		o.problem(key, "%d entries, of at most %d: shorten the list", len(n.items), limit)
		return nil
	}
	return n.items
}

func (r *reader) text(n *node, field, instead string) (string, bool) {
	if n.kind != scalar {
		r.problem(n.at, field, "wrong type: %s", instead)
		return "", false
	}
	return n.text, true
}

// label refuses texts that cannot be told apart by eye or are too long for a label or a header.
func (r *reader) label(n *node, field, text string) bool {
	switch {
	case text == "":
		r.problem(n.at, field, "empty text: write at least one character")
	case len(text) > r.limits.LabelBytes:
		r.problem(n.at, field, "longer than %d bytes: shorten it", r.limits.LabelBytes)
	case strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsGraphic(c) }):
		r.problem(n.at, field, "has a character that cannot be seen: write visible characters in one line")
	default:
		return true
	}
	return false
}

func contains(list []string, text string) bool {
	for _, candidate := range list {
		if candidate == text {
			return true
		}
	}
	return false
}

// suggestion names the offered word that was probably meant, else all of them.
func suggestion(got string, offered []string) string {
	for _, candidate := range offered {
		slips := 1
		if len(candidate) > 5 {
			slips = 2
		}
		if editDistance(strings.ToLower(got), candidate) <= slips {
			return fmt.Sprintf("did you mean %s?", candidate)
		}
	}
	return "write " + either(offered)
}

func either(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// editDistance counts the slips between two words: letters inserted, left out, changed, or swapped with their
// neighbour (optimal string alignment). Long words are not compared: nothing in a policy is near them.
func editDistance(a, b string) int {
	const longest = 32
	if len(a) > longest || len(b) > longest {
		return longest
	}
	distance := make([][]int, len(a)+1)
	for i := range distance {
		distance[i] = make([]int, len(b)+1)
		for j := range distance[i] {
			switch {
			case i == 0 || j == 0:
				distance[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				distance[i][j] = distance[i-1][j-1]
				continue
			}
			least := min(distance[i-1][j-1], distance[i-1][j], distance[i][j-1])
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				least = min(least, distance[i-2][j-2])
			}
			distance[i][j] = least + 1
		}
	}
	return distance[len(a)][len(b)]
}
