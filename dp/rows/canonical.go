package rows

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/discreet-analytics/discreet/dp"
)

var errKeyBytes = errors.New("bytes are not a sequence of netstrings")

// AppendKey appends the canonical bytes of a partition key: each part as a netstring "length:bytes", one
// after the other. The length is in bytes, so different keys never share bytes whatever the parts hold,
// and an engine can write the same in SQL. A key without parts has no bytes.
func AppendKey(buf []byte, parts []string) []byte {
	for _, part := range parts {
		buf = appendNetstring(buf, part)
	}
	return buf
}

// ParseKey gives back the parts of a key that AppendKey wrote. It accepts no other bytes.
func ParseKey(key []byte) ([]string, error) {
	var parts []string
	for len(key) > 0 {
		length, rest, err := netstringLength(key)
		if err != nil {
			return nil, fmt.Errorf("reading part %d of a key: %w", len(parts)+1, err)
		}
		parts = append(parts, string(rest[:length]))
		key = rest[length:]
	}
	return parts, nil
}

// AppendRow appends the canonical bytes of a row of a dataset with policy p: its dimensions, then its
// measures in policy order, then its event time. A value is a netstring (of the raw text, of the decimal
// units of 10^-Scale, of the decimal milliseconds), an absent one is "-". The customer is not part of it:
// bounding orders the rows of one customer. Identical rows have identical bytes and are interchangeable.
func AppendRow(buf []byte, p *dp.Policy, r *Row) []byte {
	for i := range p.Dimensions {
		if text := r.Dimensions[i]; text.Valid {
			buf = appendNetstring(buf, text.Value)
		} else {
			buf = append(buf, '-')
		}
	}
	for i := range p.Measures {
		if number := r.Measures[i]; number.Valid {
			buf = appendInteger(buf, number.Value)
		} else {
			buf = append(buf, '-')
		}
	}
	return appendInteger(buf, r.Time)
}

func appendNetstring(buf []byte, text string) []byte {
	buf = strconv.AppendInt(buf, int64(len(text)), 10)
	buf = append(buf, ':')
	return append(buf, text...)
}

// appendInteger appends the netstring of v's decimal text.
func appendInteger(buf []byte, v int64) []byte {
	var scratch [20]byte
	text := strconv.AppendInt(scratch[:0], v, 10)
	buf = strconv.AppendInt(buf, int64(len(text)), 10)
	buf = append(buf, ':')
	return append(buf, text...)
}

// netstringLength reads "length:" and gives the length and what follows, which is at least as long.
func netstringLength(b []byte) (length int, rest []byte, err error) {
	i := 0
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		length = length*10 + int(b[i]-'0')
		if length > len(b) { // also keeps length from overflowing
			return 0, nil, errKeyBytes
		}
		i++
	}
	leadingZero := i > 1 && b[0] == '0'
	if i == 0 || leadingZero || i == len(b) || b[i] != ':' || len(b)-i-1 < length {
		return 0, nil, errKeyBytes
	}
	return length, b[i+1:], nil
}
