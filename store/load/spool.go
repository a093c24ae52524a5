package load

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/discreet-analytics/discreet/store/durable"
)

// Spool says where an input is kept while it is read whose index stands at its end, as Parquet's does.
type Spool struct {
	Dir string // of a scratch file; made where it is missing; empty: the system's
	// Room is asked before the file is made and every 16 MiB. Its error ends the load. Nil: there is always room.
	Room func() error
}

// spoolStep is how much is written between two questions for room.
const spoolStep = 16 << 20

// spooled is an input that can be read anywhere. Errors of the disk are kept apart from what is read there.
type spooled struct {
	file   io.ReaderAt
	size   int64
	own    *durable.Scratch // the file, where it is not somebody else's
	failed error
}

// spoolOf keeps an input in a file, unless it is one already and nobody else wants to see its bytes.
func spoolOf(from io.Reader, in *input, s Source) (*spooled, error) {
	if file, ok := from.(*os.File); ok && s.Content == nil && !s.Gzip {
		info, err := file.Stat()
		if err == nil && info.Mode().IsRegular() {
			if info.Size() > s.Limits.Bytes {
				return nil, errTooManyBytes(s.Limits.Bytes)
			}
			return &spooled{file: file, size: info.Size()}, nil
		}
	}
	if err := s.Spool.room(); err != nil {
		return nil, err
	}
	file, err := durable.NewScratch(s.Spool.Dir, "spool-*")
	if err != nil {
		return nil, fmt.Errorf("making a file for rows: %w", err)
	}
	kept := &spooled{file: file, own: file}
	if err := kept.copy(in, s.Spool); err != nil {
		kept.close()
		return nil, err
	}
	return kept, nil
}

func (s *spooled) copy(in *input, spool Spool) error {
	for {
		n, err := io.CopyN(s.own, in, spoolStep)
		s.size += n
		switch {
		case err == io.EOF:
			return nil
		case isRefusal(err):
			return err
		case err != nil:
			return fmt.Errorf("keeping rows in a file: %w", err)
		}
		if err := spool.room(); err != nil {
			return err
		}
	}
}

func (s Spool) room() error {
	if s.Room == nil {
		return nil
	}
	return s.Room()
}

// ReadAt reads anywhere. One goroutine reads.
func (s *spooled) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.file.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) && s.failed == nil {
		s.failed = err
	}
	return n, err
}

func (s *spooled) close() {
	if s.own != nil {
		_ = s.own.Close() // nothing of it is needed any more
	}
}
