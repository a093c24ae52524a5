package synth

import (
	"strconv"
	"strings"
)

// record is one row as a line of CSV. No field of a bank's own tables needs a quote, and none that needs none begins with
// one.
type record struct {
	line []byte // every field with the comma or the line feed behind it
	ends []int  // where the fields end in it
}

func (r *record) begin() { r.line, r.ends = r.line[:0], r.ends[:0] }

// end is called when all fields are there.
func (r *record) end() *record {
	r.line[len(r.line)-1] = '\n'
	return r
}

// close ends the field that was appended to the line.
func (r *record) close() {
	r.ends = append(r.ends, len(r.line))
	r.line = append(r.line, ',')
}

func (r *record) text(s string) {
	r.line = append(r.line, s...)
	r.close()
}

// quoted writes text that may need quotes.
func (r *record) quoted(s string) {
	r.line = appendQuoted(r.line, s)
	r.close()
}

// appendQuoted appends a field as RFC 4180 has it, and in quotes too where spaces at its ends could get lost.
func appendQuoted(line []byte, s string) []byte {
	if s == "" || !strings.ContainsAny(s, ",\"\r\n") && s[0] > ' ' && s[len(s)-1] > ' ' {
		return append(line, s...)
	}
	line = append(line, '"')
	line = append(line, strings.ReplaceAll(s, `"`, `""`)...)
	return append(line, '"')
}

func (r *record) int(n int) {
	r.line = strconv.AppendInt(r.line, int64(n), 10)
	r.close()
}

// cents writes hundredths of a unit.
func (r *record) cents(n int64) {
	r.line = strconv.AppendInt(r.line, n/100, 10)
	r.line = append(r.line, '.', byte('0'+n/10%10), byte('0'+n%10))
	r.close()
}

// customer writes an id of 16 hexadecimal digits.
func (r *record) customer(id uint64) {
	const digits = "0123456789abcdef"
	r.line = append(r.line, 'c')
	for shift := 60; shift >= 0; shift -= 4 {
		r.line = append(r.line, digits[id>>shift&15])
	}
	r.close()
}

// fields gives the record as texts of their own, in a slice that is reused.
func (r *record) fields(into []string) []string {
	into = into[:0]
	text, start := string(r.line), 0
	for _, end := range r.ends {
		field := text[start:end]
		if strings.HasPrefix(field, `"`) {
			field = strings.ReplaceAll(field[1:len(field)-1], `""`, `"`)
		}
		into = append(into, field)
		start = end + 1
	}
	return into
}
