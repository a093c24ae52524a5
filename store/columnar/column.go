package columnar

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// numbers are a column of integers as they are stored: offsets from the least one, in 0, 1, 2, 4 or 8 bytes.
type numbers struct {
	count   int
	base    int64
	width   int
	present []byte // one bit per number, lowest first; nil: all are
	offsets []byte // little-endian
}

// appendNumbers writes uvarint count, base (8), width (1), whether a bitmap follows (1), bitmap, offsets. Absent
// numbers have offset 0.
func appendNumbers(buf []byte, values []int64, valid []bool) []byte {
	least, most, absent := int64(math.MaxInt64), int64(math.MinInt64), false
	for i, v := range values {
		if valid != nil && !valid[i] {
			absent = true
			continue
		}
		least, most = min(least, v), max(most, v)
	}
	if least > most { // none
		least, most = 0, 0
	}
	width := widthOf(uint64(most) - uint64(least))
	buf = binary.AppendUvarint(buf, uint64(len(values)))
	buf = binary.LittleEndian.AppendUint64(buf, uint64(least))
	buf = append(buf, byte(width))
	if absent {
		buf = append(buf, 1)
		at := len(buf)
		buf = append(buf, make([]byte, (len(values)+7)/8)...)
		for i := range values {
			if valid[i] {
				buf[at+i/8] |= 1 << (i % 8)
			}
		}
	} else {
		buf = append(buf, 0)
	}
	for i, v := range values {
		var offset uint64
		if valid == nil || valid[i] {
			offset = uint64(v) - uint64(least)
		}
		switch width {
		case 1:
			buf = append(buf, byte(offset))
		case 2:
			buf = binary.LittleEndian.AppendUint16(buf, uint16(offset))
		case 4:
			buf = binary.LittleEndian.AppendUint32(buf, uint32(offset))
		case 8:
			buf = binary.LittleEndian.AppendUint64(buf, offset)
		}
	}
	return buf
}

func widthOf(largest uint64) int {
	switch n := bits.Len64(largest); {
	case n == 0:
		return 0
	case n <= 8:
		return 1
	case n <= 16:
		return 2
	case n <= 32:
		return 4
	}
	return 8
}

// readNumbers keeps body's memory. rest is what follows.
func readNumbers(body []byte) (n numbers, rest []byte, err error) {
	count, used := binary.Uvarint(body)
	if used <= 0 || count > math.MaxInt32 || len(body) < used+10 {
		return n, nil, errDamaged
	}
	n.count = int(count)
	n.base = int64(binary.LittleEndian.Uint64(body[used:]))
	n.width = int(body[used+8])
	bitmap := body[used+9]
	body = body[used+10:]
	if bitmap > 1 || n.width != 0 && n.width != 1 && n.width != 2 && n.width != 4 && n.width != 8 {
		return n, nil, errDamaged
	}
	if bitmap == 1 {
		size := (n.count + 7) / 8
		if len(body) < size {
			return n, nil, errDamaged
		}
		n.present, body = body[:size], body[size:]
	}
	size := n.count * n.width
	if len(body) < size {
		return n, nil, errDamaged
	}
	n.offsets = body[:size]
	return n, body[size:], nil
}

// at gives number i, and whether it is present.
func (n *numbers) at(i int) (v int64, ok bool) {
	if n.present != nil && n.present[i/8]&(1<<(i%8)) == 0 {
		return 0, false
	}
	var offset uint64
	switch n.width {
	case 1:
		offset = uint64(n.offsets[i])
	case 2:
		offset = uint64(binary.LittleEndian.Uint16(n.offsets[2*i:]))
	case 4:
		offset = uint64(binary.LittleEndian.Uint32(n.offsets[4*i:]))
	case 8:
		offset = binary.LittleEndian.Uint64(n.offsets[8*i:])
	}
	return int64(uint64(n.base) + offset), true
}

// texts are a column of a dimension: the codes of the dataset's dictionary that the segment has, ascending, and for
// each row its position among those, counted from 1. Position 0 is an absent value.
type texts struct {
	used      []uint32
	positions numbers
}

// appendTexts writes uvarint number of codes, the first code and the distances of the others as uvarints, and the
// positions as numbers.
func appendTexts(buf []byte, used []uint32, positions []int64) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(used)))
	last := uint32(0)
	for _, code := range used {
		buf = binary.AppendUvarint(buf, uint64(code-last))
		last = code
	}
	return appendNumbers(buf, positions, nil)
}

// readTexts checks that codes ascend and that no position is beyond them, so that what is looked up is there.
func readTexts(body []byte) (t texts, err error) {
	count, used := binary.Uvarint(body)
	if used <= 0 || count > uint64(len(body)) {
		return t, errDamaged
	}
	body = body[used:]
	t.used = make([]uint32, count)
	code := uint64(0)
	for i := range t.used {
		distance, used := binary.Uvarint(body)
		if code += distance; used <= 0 || distance == 0 || code > mostEntries {
			return t, errDamaged
		}
		t.used[i] = uint32(code)
		body = body[used:]
	}
	if t.positions, body, err = readNumbers(body); err != nil || len(body) > 0 || t.positions.present != nil {
		return t, errDamaged
	}
	if t.positions.base < 0 || t.positions.most() > count {
		return t, errDamaged
	}
	return t, nil
}

// most is the largest number of a column without absent or negative ones.
func (n *numbers) most() (most uint64) {
	if n.count == 0 {
		return 0
	}
	switch n.width {
	case 1:
		for _, v := range n.offsets {
			most = max(most, uint64(v))
		}
	case 2:
		for i := 0; i+2 <= len(n.offsets); i += 2 {
			most = max(most, uint64(binary.LittleEndian.Uint16(n.offsets[i:])))
		}
	default:
		for i := range n.count {
			v, _ := n.at(i)
			most = max(most, uint64(v)-uint64(n.base))
		}
	}
	return most + uint64(n.base)
}

// code gives the dictionary's code of row i.
func (t *texts) code(i int) uint32 {
	position, _ := t.positions.at(i)
	if position == 0 {
		return 0
	}
	return t.used[position-1]
}

// narrow gives what a table by code has for each position.
func (t *texts) narrow(table []int64) ([]int64, error) {
	short := make([]int64, len(t.used)+1)
	short[0] = table[0]
	for i, code := range t.used {
		if int(code) >= len(table) {
			return nil, errDamaged
		}
		short[i+1] = table[code]
	}
	return short, nil
}

// lookUp gives what a table has for the numbers of the rows from one on, or adds it to what is there.
func (n *numbers) lookUp(into []int64, from int, table []int64, first bool) {
	switch base := int(n.base); {
	case n.width == 1 && first:
		table = table[base:]
		for i, at := range n.offsets[from : from+len(into)] {
			into[i] = table[at]
		}
	case n.width == 1:
		table = table[base:]
		for i, at := range n.offsets[from : from+len(into)] {
			into[i] = added(into[i], table[at])
		}
	case n.width == 2:
		table = table[base:]
		offsets := n.offsets[2*from : 2*(from+len(into))]
		for i := range into {
			v := table[binary.LittleEndian.Uint16(offsets[2*i:])]
			if !first {
				v = added(into[i], v)
			}
			into[i] = v
		}
	default:
		for i := range into {
			at, _ := n.at(from + i)
			v := table[at]
			if !first {
				v = added(into[i], v)
			}
			into[i] = v
		}
	}
}

// decode gives the numbers of the rows from one on; those that are absent are any.
func (n *numbers) decode(into []int64, from int) {
	base := n.base
	switch n.width {
	case 0:
		for i := range into {
			into[i] = base
		}
	case 1:
		for i, v := range n.offsets[from : from+len(into)] {
			into[i] = base + int64(v)
		}
	case 2:
		offsets := n.offsets[2*from : 2*(from+len(into))]
		for ; len(into) >= 4 && len(offsets) >= 8; into, offsets = into[4:], offsets[8:] { // which needs no further checks
			into[0] = base + int64(binary.LittleEndian.Uint16(offsets[0:]))
			into[1] = base + int64(binary.LittleEndian.Uint16(offsets[2:]))
			into[2] = base + int64(binary.LittleEndian.Uint16(offsets[4:]))
			into[3] = base + int64(binary.LittleEndian.Uint16(offsets[6:]))
		}
		for i := range into {
			into[i] = base + int64(binary.LittleEndian.Uint16(offsets[2*i:]))
		}
	case 4:
		offsets := n.offsets[4*from : 4*(from+len(into))]
		for ; len(into) >= 4 && len(offsets) >= 16; into, offsets = into[4:], offsets[16:] {
			into[0] = base + int64(binary.LittleEndian.Uint32(offsets[0:]))
			into[1] = base + int64(binary.LittleEndian.Uint32(offsets[4:]))
			into[2] = base + int64(binary.LittleEndian.Uint32(offsets[8:]))
			into[3] = base + int64(binary.LittleEndian.Uint32(offsets[12:]))
		}
		for i := range into {
			into[i] = base + int64(binary.LittleEndian.Uint32(offsets[4*i:]))
		}
	case 8:
		offsets := n.offsets[8*from : 8*(from+len(into))]
		for i := range into {
			into[i] = int64(uint64(base) + binary.LittleEndian.Uint64(offsets[8*i:]))
		}
	}
}

// appendConsent writes which rows carry consent, as numbers that are present there and 0: a bit each, or none where all do.
func appendConsent(buf []byte, consented []bool) []byte {
	return appendNumbers(buf, make([]int64, len(consented)), consented)
}

// has tells whether number i is present.
func (n *numbers) has(i int) bool { return n.present == nil || n.present[i/8]&(1<<(i%8)) != 0 }

// customers are the column by which segments are sorted: each customer once, ascending, and how many rows follow.
type customers struct {
	ids     []byte // little-endian, 8 bytes each
	lengths numbers
}

// appendCustomers writes the lengths of the runs as numbers, and the customers.
func appendCustomers(buf []byte, ids []uint64, lengths []int64) []byte {
	buf = appendNumbers(buf, lengths, nil)
	for _, id := range ids {
		buf = binary.LittleEndian.AppendUint64(buf, id)
	}
	return buf
}

// readCustomers checks that customers ascend and have all of the segment's rows.
func readCustomers(body []byte, count int) (c customers, err error) {
	if c.lengths, c.ids, err = readNumbers(body); err != nil || c.lengths.present != nil || len(c.ids) != 8*c.lengths.count {
		return c, errDamaged
	}
	left := int64(count)
	for i := range c.lengths.count {
		length, _ := c.lengths.at(i)
		if length < 1 || length > left || i > 0 && c.id(i) <= c.id(i-1) {
			return c, errDamaged
		}
		left -= length
	}
	if left != 0 {
		return c, errDamaged
	}
	return c, nil
}

func (c *customers) id(i int) uint64 { return binary.LittleEndian.Uint64(c.ids[8*i:]) }
