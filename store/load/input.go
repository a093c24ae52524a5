package load

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/discreet-analytics/discreet/dp"
)

// input is the decoded content of an upload. It counts what it gives and stops where a limit is crossed,
// however far ahead it is read.
type input struct {
	from io.Reader
	read int64 // bytes given so far
	most int64 // limit of the whole

	stopped atomic.Bool
}

// newInput decompresses where asked, and takes the byte order mark off text.
func newInput(from io.Reader, s Source) (*input, error) {
	if s.Gzip {
		decoded, err := gzip.NewReader(bufio.NewReader(from))
		if err != nil {
			return nil, decodingError(err)
		}
		from = gzipText{decoded}
	}
	if s.Content != nil {
		from = io.TeeReader(from, s.Content)
	}
	in := &input{from: from, most: s.Limits.Bytes}
	if s.Format == Parquet {
		return in, nil
	}
	return in, in.skipByteOrderMark()
}

func (in *input) Read(p []byte) (int, error) {
	if in.stopped.Load() {
		return 0, errStopped
	}
	n, err := in.from.Read(p)
	in.read += int64(n)
	if in.read > in.most {
		err = errTooManyBytes(in.most)
	}
	return n, err
}

func errTooManyBytes(most int64) error {
	return refuse(dp.CodeTooLarge, "more than %d bytes of rows: split them into several loads", most)
}

// stop has the next Read fail. It may be called while another goroutine reads.
func (in *input) stop() { in.stopped.Store(true) }

// skipByteOrderMark removes the mark with which some programs begin UTF-8, and refuses those of other encodings.
func (in *input) skipByteOrderMark() error {
	start := make([]byte, 3)
	n, err := io.ReadFull(in, start)
	start = start[:n]
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		if isRefusal(err) {
			return err
		}
		return fmt.Errorf("reading rows: %w", err)
	}
	if bytes.HasPrefix(start, []byte{0xff, 0xfe}) || bytes.HasPrefix(start, []byte{0xfe, 0xff}) {
		return refuse(dp.CodeInvalidInput, "rows must be UTF-8, and this is UTF-16: save the file as UTF-8")
	}
	if bytes.HasPrefix(start, []byte{0x1f, 0x8b}) {
		return refuse(dp.CodeInvalidInput, "rows are compressed with gzip: say so with Content-Encoding: gzip or a file name that ends in .gz")
	}
	start = bytes.TrimPrefix(start, []byte("\xef\xbb\xbf"))
	in.read = 0
	in.from = io.MultiReader(bytes.NewReader(start), in.from)
	return nil
}

// gzipText tells damage of the compressed content from errors of the reader below.
type gzipText struct{ decoded *gzip.Reader }

func (g gzipText) Read(p []byte) (int, error) {
	n, err := g.decoded.Read(p)
	if err != nil && err != io.EOF {
		err = decodingError(err)
	}
	return n, err
}

func decodingError(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return refuse(dp.CodeInvalidInput, "content is not what gzip wrote: compress and send it again")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(dp.CodeInvalidInput, "compressed content ends too early: send it again")
	}
	return err
}
