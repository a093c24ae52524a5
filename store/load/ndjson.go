package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/discreet-analytics/discreet/dp"
)

// jsonRecords splits a chunk of NDJSON: one object per line, empty lines skipped. An absent key and null are
// absent values, numbers keep the text in which they are written, and true and false are those words.
type jsonRecords struct {
	most     int            // bytes of a line
	position map[string]int // of the wanted names
	seen     []bool         // any record had it, by position
	given    []bool         // this record has it
	any      bool           // a record was an object

	text []byte // what is left of the chunk
	line int64
}

func newJSONRecords(names []string, l Limits) *jsonRecords {
	j := &jsonRecords{
		most: l.Record, position: make(map[string]int, len(names)),
		seen: make([]bool, len(names)), given: make([]bool, len(names)),
	}
	for i, name := range names {
		j.position[name] = i
	}
	return j
}

func (j *jsonRecords) open(c *chunk) { j.text, j.line = c.text, c.line }

func (j *jsonRecords) next(cells []cell) (line int64, reason string, err error) {
	for len(j.text) > 0 {
		text, rest, _ := bytes.Cut(j.text, newline)
		line, j.text = j.line, rest
		j.line++
		if len(text) > j.most {
			return line, fmt.Sprintf("longer than %d bytes", j.most), nil
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			clear(cells)
			return line, j.readObject(text, cells), nil
		}
	}
	return 0, "", io.EOF
}

func (j *jsonRecords) readObject(line []byte, cells []cell) (reason string) {
	switch {
	case !utf8.Valid(line):
		return reasonUTF8 // encoding/json would replace what is invalid, and make different values equal
	case !json.Valid(line):
		return "not JSON: write one object per line"
	case line[0] != '{':
		return "not a JSON object"
	}
	clear(j.given)
	w := walk{text: textOf(line), at: 1}
	for w.next() {
		at, wanted := j.position[w.key]
		if !wanted {
			continue
		}
		if j.given[at] {
			return "a field that the policy names is there twice"
		}
		j.given[at] = true
		j.seen[at] = true
		cells[at] = w.value
	}
	j.any = true
	return ""
}

// checkSeen ends the input. A field that no record ever had is most likely misspelt in the policy or in the
// file; rows loaded without it could not be mended later.
func checkSeen(names []string, all []*jsonRecords) error {
	var missing []dp.Location
	objects := false
	for i, name := range names {
		seen := false
		for _, j := range all {
			seen = seen || j.seen[i]
			objects = objects || j.any
		}
		if !seen {
			missing = append(missing, dp.Location{Path: name, Message: "is in no record"})
		}
	}
	if objects && len(missing) > 0 {
		return &dp.Error{Code: dp.CodeInvalidInput, Message: "fields that the policy names are missing: add them to the records (as null where a record has no value), or name the records' fields in the policy", Locations: missing}
	}
	return io.EOF
}

// walk steps through the members of an object that is known to be valid JSON.
type walk struct {
	text  string
	at    int
	key   string
	value cell
}

func (w *walk) next() bool {
	w.skip(" \t\r\n,")
	if w.text[w.at] == '}' {
		return false
	}
	w.key = w.readString()
	w.skip(" \t\r\n:")
	w.value = w.readValue()
	return true
}

func (w *walk) skip(set string) {
	for strings.IndexByte(set, w.text[w.at]) >= 0 {
		w.at++
	}
}

func (w *walk) readValue() cell {
	switch w.text[w.at] {
	case '"':
		return cell{text: w.readString()}
	case '{', '[':
		w.skipNested()
		return cell{kind: nested}
	}
	start := w.at
	for strings.IndexByte(" \t\r\n,}", w.text[w.at]) < 0 {
		w.at++
	}
	if text := w.text[start:w.at]; text != "null" {
		return cell{text: text}
	}
	return cell{}
}

func (w *walk) readString() string {
	start := w.at
	escaped := w.skipString()
	if !escaped {
		return w.text[start+1 : w.at-1]
	}
	var text string
	if err := json.Unmarshal([]byte(w.text[start:w.at]), &text); err != nil {
		return "" // cannot be: the whole line is valid
	}
	return text
}

func (w *walk) skipString() (escaped bool) {
	for w.at++; w.text[w.at] != '"'; w.at++ {
		if w.text[w.at] == '\\' {
			escaped = true
			w.at++
		}
	}
	w.at++
	return escaped
}

func (w *walk) skipNested() {
	for depth := 0; ; {
		switch w.text[w.at] {
		case '"':
			w.skipString()
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		w.at++
		if depth == 0 {
			return
		}
	}
}
