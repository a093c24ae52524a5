package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"sync"

	"github.com/parquet-go/parquet-go"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// Batches gives all records in the order of the input, and can be ranged over once. A batch and the slices in
// its rows are valid until the next one is asked for; texts are their own. A record that cannot be a row has
// its Reason and reading goes on; input that cannot be read on ends with an error: a *dp.Error with
// CodeInvalidInput or CodeTooLarge, or the error of the underlying reader, or of ctx, wrapped.
//
// One goroutine cuts the input into chunks of whole records and others read them, while the caller works on
// an earlier batch. When the loop ends, for whatever reason, nobody reads the input any more.
func (r *Reader) Batches(ctx context.Context) iter.Seq2[[]Record, error] {
	return func(yield func([]Record, error) bool) {
		p := r.start()
		defer p.finish()
		for {
			c, err := p.next(ctx)
			if err == nil && len(c.records) > 0 {
				r.number(c.records)
				if !yield(c.records, nil) {
					return
				}
			}
			if err == nil {
				err = c.err
			}
			if err == io.EOF {
				err = r.end()
			}
			switch {
			case err == io.EOF:
				return
			case err == nil:
				p.free <- c
				continue
			case !isRefusal(err):
				err = fmt.Errorf("reading rows: %w", err)
			}
			yield(nil, err)
			return
		}
	}
}

// number counts records, and gives rows their pseudonyms where every row is its own customer.
func (r *Reader) number(batch []Record) {
	if r.perRow {
		for i := range batch {
			if batch[i].Reason == "" {
				batch[i].Row.Customer = r.ids.RowPseudonym(r.source.Load, r.ordinal+uint64(i)+1, r.dataset)
			}
		}
	}
	r.ordinal += uint64(len(batch))
}

// feed cuts an input. One goroutine asks it.
type feed interface {
	// fill puts the next whole records into an empty chunk; after the last it is io.EOF.
	fill(c *chunk) error
}

// chunk is a part of the input on its way: cut, read, and given as a batch. Its memory is used again.
type chunk struct {
	line int64 // of the first record
	// What a feed fills in: text in whole records, or columns of equal length.
	text    []byte
	columns [][]parquet.Value

	records []Record
	texts   []rows.Text
	numbers []rows.Number

	err      error // what ends the input after the records
	panicked any
	done     chan struct{}
}

func (c *chunk) reset() {
	c.text, c.records, c.texts, c.numbers = c.text[:0], c.records[:0], c.texts[:0], c.numbers[:0]
}

// pipeline is the goroutines between an input and its batches, and the chunks that go round.
type pipeline struct {
	reader  *Reader
	free    chan *chunk
	cut     chan *chunk   // to be read
	ordered chan *chunk   // as they were cut
	stop    chan struct{} // closed: nobody waits for more
	running sync.WaitGroup
}

func workers() int { return runtime.GOMAXPROCS(0) }

func (r *Reader) start() *pipeline {
	chunks := len(r.readers) + 2 // one is being cut and one worked on
	p := &pipeline{
		reader: r, stop: make(chan struct{}),
		free: make(chan *chunk, chunks), cut: make(chan *chunk, chunks), ordered: make(chan *chunk, chunks),
	}
	for range chunks {
		p.free <- &chunk{done: make(chan struct{}, 1)}
	}
	p.running.Go(p.feed)
	for _, worker := range r.readers {
		p.running.Go(func() {
			for c := range p.cut {
				guarded(c, worker.read)
				c.done <- struct{}{}
			}
		})
	}
	return p
}

func (p *pipeline) feed() {
	defer close(p.cut)
	for {
		var c *chunk
		select {
		case c = <-p.free:
		case <-p.stop:
			return
		}
		c.reset()
		guarded(c, func(c *chunk) { c.err = p.reader.feed.fill(c) })
		p.ordered <- c
		if c.err != nil || c.panicked != nil {
			c.done <- struct{}{}
			return
		}
		p.cut <- c
	}
}

// next waits for the chunk that comes next. Whoever recovers from panics does so around the caller.
func (p *pipeline) next(ctx context.Context) (*chunk, error) {
	var c *chunk
	select {
	case c = <-p.ordered:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	<-c.done
	if c.panicked != nil {
		panic(c.panicked)
	}
	return c, context.Cause(ctx)
}

// finish waits until nobody reads the input any more.
func (p *pipeline) finish() {
	p.reader.in.stop()
	close(p.stop)
	p.running.Wait()
	p.reader.close()
}

// guarded keeps a panic for the goroutine that waits for the chunk.
func guarded(c *chunk, do func(*chunk)) {
	defer func() { c.panicked = recover() }()
	do(c)
}

var errStopped = errors.New("reading was stopped")
