package load

import (
	"bytes"
	"io"
	"slices"
)

// textFeed cuts text into chunks of whole records.
type textFeed struct {
	in *input
	// whole says how many of the first bytes are whole records. Where final, nothing follows.
	whole   func(text []byte, final bool) int
	most    int   // bytes of a record
	tooLong error // for a longer one; nil: it is cut, and its reader rejects it
	chunk   int   // bytes of a chunk, where no record needs more

	line int64  // of rest
	rest []byte // begins a record
	err  error  // of the input, to be given after rest
}

func (f *textFeed) fill(c *chunk) error {
	text := append(c.text[:0], f.rest...)
	f.rest = f.rest[:0]
	for size := max(f.chunk, len(text)); ; size *= 2 {
		text = f.readUpTo(text, size)
		final := f.err == io.EOF
		whole := f.whole(text, final)
		switch {
		case whole > 0:
			f.rest = append(f.rest, text[whole:]...)
			f.emit(c, text[:whole])
			return nil
		case f.err != nil:
			return f.err
		case len(text) > f.most && f.tooLong != nil:
			return f.tooLong
		case len(text) > f.most:
			f.emit(c, text[:f.most+1])
			f.skipLine(text[f.most+1:])
			return nil
		}
	}
}

func (f *textFeed) emit(c *chunk, text []byte) {
	c.text, c.line = text, f.line
	f.line += int64(bytes.Count(text, newline))
}

// readUpTo reads until text has size bytes or the input ends.
func (f *textFeed) readUpTo(text []byte, size int) []byte {
	text = slices.Grow(text, max(0, size-len(text)))
	for len(text) < size && f.err == nil {
		n, err := f.in.Read(text[len(text):size])
		text = text[:len(text)+n]
		f.err = err
	}
	return text
}

// skipLine drops what is left of a line.
func (f *textFeed) skipLine(text []byte) {
	for {
		if at := bytes.IndexByte(text, '\n'); at >= 0 {
			f.rest = append(f.rest[:0], text[at+1:]...)
			f.line++
			return
		}
		if f.err != nil {
			return
		}
		text = f.readUpTo(f.rest[:0], f.chunk)
		f.rest = text[:0]
	}
}

// wholeLines is whole for records that are lines.
func wholeLines(text []byte, final bool) int {
	if final {
		return len(text)
	}
	return bytes.LastIndexByte(text, '\n') + 1
}

var newline = []byte("\n")
