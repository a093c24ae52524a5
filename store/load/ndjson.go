package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/discreet-analytics/discreet/dp"
)

// jsonRecords splits NDJSON: one object per line, empty lines skipped. An absent key and null are absent
// values, numbers keep the text in which they are written, and true and false are those words.
type jsonRecords struct {
	lines    *bufio.Reader
	line     int64
	most     int // bytes of a line
	names    []string
	position map[string]int // in names
	seen     []bool         // any record had it, by position in names
	given    []bool         // this record has it
	any      bool           // a record was an object
}

func newJSONRecords(in *input, names []string, l Limits) *jsonRecords {
	j := &jsonRecords{
		lines: bufio.NewReaderSize(in, l.Record+1), most: l.Record, names: names,
		position: make(map[string]int, len(names)), seen: make([]bool, len(names)), given: make([]bool, len(names)),
	}
	for i, name := range names {
		j.position[name] = i
	}
	return j
}

func (j *jsonRecords) next(cells []cell) (line int64, reason string, err error) {
	for {
		text, tooLong, err := j.readLine()
		if err == io.EOF {
			return 0, "", j.checkSeen()
		}
		if err != nil {
			return 0, "", err
		}
		if tooLong {
			return j.line, fmt.Sprintf("longer than %d bytes", j.most), nil
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			return j.line, j.readObject(text, cells), nil
		}
	}
}

// readLine gives the next line without its end; it is valid until the next call. After the last it is io.EOF.
func (j *jsonRecords) readLine() (text []byte, tooLong bool, err error) {
	text, err = j.lines.ReadSlice('\n')
	for err == bufio.ErrBufferFull {
		tooLong = true
		_, err = j.lines.ReadSlice('\n')
	}
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	if err == io.EOF && len(text) == 0 && !tooLong {
		return nil, false, io.EOF
	}
	j.line++
	return bytes.TrimSuffix(text, []byte("\n")), tooLong, nil
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
	w := walk{text: string(line), at: 1}
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
func (j *jsonRecords) checkSeen() error {
	var missing []dp.Location
	for i, seen := range j.seen {
		if !seen {
			missing = append(missing, dp.Location{Path: j.names[i], Message: "is in no record"})
		}
	}
	if j.any && len(missing) > 0 {
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
		return cell{nested: true}
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
