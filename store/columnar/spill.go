package columnar

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/store/durable"
)

// spill keeps totals on disk that do not fit into memory: runs of partitions, each sorted by number, in one file of
// which nothing is left when the scan ends.
type spill struct {
	file *durable.Scratch
	runs []int64 // where each ends
}

// newSpill makes a file in dir.
func newSpill(dir string) (*spill, error) {
	file, err := durable.NewScratch(dir, "partitions-*")
	if err != nil {
		return nil, fmt.Errorf("making room for many partitions: %w", err)
	}
	return &spill{file: file}, nil
}

func (s *spill) close() error { return s.file.Close() }

// write writes a run: of each partition its number (8) and its sums (16 each).
func (s *spill) write(t *totals) error {
	out := bufio.NewWriterSize(s.file, 1<<16)
	record := make([]byte, 0, t.recordBytes())
	for _, slot := range t.order() {
		record = binary.LittleEndian.AppendUint64(record[:0], uint64(t.numbers[slot]))
		for _, sum := range t.sums[slot*t.width : (slot+1)*t.width] {
			high, low := sum.Words()
			record = binary.LittleEndian.AppendUint64(record, uint64(high))
			record = binary.LittleEndian.AppendUint64(record, low)
		}
		if _, err := out.Write(record); err != nil {
			return fmt.Errorf("writing partitions that do not fit into memory: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing partitions that do not fit into memory: %w", err)
	}
	s.runs = append(s.runs, s.end()+int64(len(t.numbers)*t.recordBytes()))
	return nil
}

func (s *spill) end() int64 {
	if len(s.runs) == 0 {
		return 0
	}
	return s.runs[len(s.runs)-1]
}

// recordBytes is the length of a partition on disk.
func (t *totals) recordBytes() int { return 8 + 16*t.width }

// order gives the slots that are used by number.
func (t *totals) order() []int {
	order := make([]int, 0, len(t.numbers))
	for slot, number := range t.numbers {
		if number >= 0 {
			order = append(order, slot)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(t.numbers[a], t.numbers[b]) })
	return order
}

// source gives partitions by ascending number.
type source interface {
	// next goes to the next partition; false after the last.
	next() (bool, error)
	partition() (number int64, sums []bounding.Total)
}

// inMemory is a source of totals that fit.
type inMemory struct {
	totals *totals
	order  []int
	at     int
}

func newInMemory(t *totals) *inMemory { return &inMemory{totals: t, order: t.order(), at: -1} }

func (m *inMemory) next() (bool, error) {
	m.at++
	return m.at < len(m.order), nil
}

func (m *inMemory) partition() (int64, []bounding.Total) {
	slot, width := m.order[m.at], m.totals.width
	return m.totals.numbers[slot], m.totals.sums[slot*width : (slot+1)*width]
}

// onDisk is a run of a spill as a source.
type onDisk struct {
	in     *bufio.Reader
	record []byte
	sums   []bounding.Total
}

func (s *spill) sources(t *totals) []source {
	var all []source
	start := int64(0)
	for _, end := range s.runs {
		in := bufio.NewReaderSize(io.NewSectionReader(s.file, start, end-start), 1<<16)
		all = append(all, &onDisk{in: in, record: make([]byte, t.recordBytes()), sums: make([]bounding.Total, t.width)})
		start = end
	}
	return all
}

func (d *onDisk) next() (bool, error) {
	_, err := io.ReadFull(d.in, d.record)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading partitions that did not fit into memory: %w", err)
	}
	return true, nil
}

func (d *onDisk) partition() (int64, []bounding.Total) {
	for i := range d.sums {
		words := d.record[8+16*i:]
		d.sums[i] = bounding.TotalOf(int64(binary.LittleEndian.Uint64(words)), binary.LittleEndian.Uint64(words[8:]))
	}
	return int64(binary.LittleEndian.Uint64(d.record)), d.sums
}

// merging is a heap of sources with the smallest number on top.
type merging []source

// mergeSources calls each with every partition, with the sums of all sources.
func mergeSources(all []source, width int, each func(number int64, sums []bounding.Total) error) error {
	var m merging
	for _, s := range all {
		more, err := s.next()
		if err != nil {
			return err
		}
		if more {
			m = append(m, s)
		}
	}
	heap.Init(&m)
	sums := make([]bounding.Total, width)
	for len(m) > 0 {
		number, _ := m[0].partition()
		clear(sums)
		for len(m) > 0 {
			same, part := m[0].partition()
			if same != number {
				break
			}
			for i := range sums {
				sums[i].AddTotal(part[i])
			}
			more, err := m[0].next()
			if err != nil {
				return err
			}
			if more {
				heap.Fix(&m, 0)
			} else {
				heap.Pop(&m)
			}
		}
		if err := each(number, sums); err != nil {
			return err
		}
	}
	return nil
}

// Len, Less, Swap, Push and Pop are container/heap's.

func (m merging) Len() int { return len(m) }

func (m merging) Less(i, j int) bool {
	a, _ := m[i].partition()
	b, _ := m[j].partition()
	return a < b
}

func (m merging) Swap(i, j int) { m[i], m[j] = m[j], m[i] }

func (m *merging) Push(s any) { *m = append(*m, s.(source)) }

func (m *merging) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}
