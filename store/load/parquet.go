package load

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"github.com/discreet-analytics/discreet/dp"
)

// What a Parquet file may ask of memory. Its own figures decide how much is allocated, so they are read first.
const (
	mostFooter     = 16 << 20  // bytes
	mostPage       = 128 << 20 // bytes, compressed or not; writers aim at 1 MiB, some at 100 MB
	mostPageValues = 1 << 24
	parquetRows    = 4096 // of a chunk
)

// parquetFeed reads the wanted columns of a Parquet file, some rows at a time. The other columns are never read.
type parquetFeed struct {
	spool   *spooled
	file    *parquet.File
	columns []*parquetColumn // by position in the wanted names

	mostPage, mostValues int32

	group int   // the next row group
	left  int64 // rows of the one before
	row   int64 // of the next chunk, counted from 1
}

// openParquet reads the index of a file and finds the columns in it.
func openParquet(spool *spooled, parts *parts, timeFormat string) (f *parquetFeed, err error) {
	defer func() {
		if recover() != nil {
			f, err = nil, errParquet()
		}
	}()
	if err := checkFooter(spool); err != nil {
		return nil, err
	}
	if len(parts.columns.names) == 0 {
		return nil, refuse(dp.CodeInvalidInput, "the policy names no column, so that there is nothing to read: name one")
	}
	f = &parquetFeed{spool: spool, row: 1, mostPage: mostPage, mostValues: mostPageValues}
	f.file, err = parquet.OpenFile(spool, spool.size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, f.readError()
	}
	fields := f.file.Root().Columns()
	names := make([]string, len(fields))
	for i, field := range fields {
		names[i] = field.Name()
	}
	position, err := findColumns(names, parts.columns.names)
	if err != nil {
		return nil, err
	}
	var unfit []dp.Location
	for i, at := range position {
		name := parts.columns.names[i]
		column, problem := newParquetColumn(fields[at])
		if problem == "" {
			problem = column.check(parts, i, timeFormat)
		}
		if problem == "" && !f.oneCodec(fields[at]) {
			problem = "is compressed in more than one way: write the file with one codec for each column"
		}
		if problem != "" {
			unfit = append(unfit, dp.Location{Path: name, Message: problem})
		}
		f.columns = append(f.columns, column)
	}
	if len(unfit) > 0 {
		return nil, &dp.Error{Code: dp.CodeInvalidInput, Message: "columns cannot be read as what the policy says they are: write them otherwise, or change the policy", Locations: unfit}
	}
	return f, nil
}

// checkFooter looks at the last bytes, which say how long the index before them is.
func checkFooter(spool *spooled) error {
	const tail = 8
	var last [tail]byte
	if spool.size < tail+4 {
		return errParquet()
	}
	if _, err := spool.ReadAt(last[:], spool.size-tail); err != nil {
		return fmt.Errorf("reading rows: %w", err)
	}
	footer := int64(last[0]) | int64(last[1])<<8 | int64(last[2])<<16 | int64(last[3])<<24
	switch {
	case string(last[4:]) != "PAR1" || footer > spool.size-tail:
		return errParquet()
	case footer > mostFooter:
		return refuse(dp.CodeTooLarge, "the index of the Parquet file is longer than %d bytes: write fewer row groups, and fewer columns that the policy does not name", mostFooter)
	}
	return nil
}

func errParquet() error {
	return refuse(dp.CodeInvalidInput, "not Parquet, or encrypted, cut or damaged: write the file again")
}

// readError is what to say where the library failed. Its own words may hold bytes of the file.
func (f *parquetFeed) readError() error {
	if f.spool.failed != nil {
		return fmt.Errorf("reading rows: %w", f.spool.failed)
	}
	return errParquet()
}

// oneCodec tells whether all row groups compress a column alike: the library takes the first one's word for all.
func (f *parquetFeed) oneCodec(column *parquet.Column) bool {
	groups := f.file.Metadata().RowGroups
	for i := range groups {
		if at := column.Index(); at >= len(groups[i].Columns) || groups[i].Columns[at].MetaData.Codec != groups[0].Columns[at].MetaData.Codec {
			return false
		}
	}
	return true
}

func (f *parquetFeed) fill(c *chunk) (err error) {
	defer func() {
		if recover() != nil {
			err = f.readError()
		}
	}()
	for f.left == 0 {
		if f.group == len(f.file.RowGroups()) {
			return io.EOF
		}
		if err := f.openGroup(); err != nil {
			return err
		}
	}
	n := int(min(f.left, parquetRows))
	c.line = f.row
	c.columns = slices.Grow(c.columns[:0], len(f.columns))[:len(f.columns)]
	for i, column := range f.columns {
		if c.columns[i], err = column.readValues(c.columns[i][:0], n); err != nil {
			return f.readError()
		}
	}
	f.left -= int64(n)
	f.row += int64(n)
	if f.left == 0 {
		return f.closeGroup()
	}
	return nil
}

// openGroup begins to read the next row group.
func (f *parquetFeed) openGroup() error {
	group := f.file.RowGroups()[f.group]
	f.group++
	f.left = group.NumRows()
	if f.left < 0 {
		return errParquet()
	}
	for _, column := range f.columns {
		chunk := group.ColumnChunks()[column.index].(*parquet.FileColumnChunk)
		if err := f.checkPages(&f.file.Metadata().RowGroups[f.group-1].Columns[column.index].MetaData); err != nil {
			return err
		}
		column.pages, column.values = chunk.Pages(), nil
	}
	return nil
}

// closeGroup ends a row group, whose columns must end together.
func (f *parquetFeed) closeGroup() error {
	for _, column := range f.columns {
		more, err := column.readValues(nil, 1)
		if len(more) > 0 || !errors.Is(err, io.EOF) {
			return f.readError()
		}
		_ = column.pages.Close() // nothing was written
	}
	return nil
}

// checkPages reads the headers of a column's pages before the library does, which allocates what they say.
func (f *parquetFeed) checkPages(m *format.ColumnMetaData) error {
	start := m.DataPageOffset
	if m.DictionaryPageOffset > 0 {
		start = min(start, m.DictionaryPageOffset)
	}
	if start < 0 || m.TotalCompressedSize < 0 || m.TotalCompressedSize > f.spool.size-start {
		return errParquet()
	}
	for at, end := start, start+m.TotalCompressedSize; at < end; {
		h, size, err := f.readPageHeader(at, end)
		if err != nil {
			return err
		}
		values := max(h.DataPageHeader.V.NumValues, h.DataPageHeaderV2.V.NumValues, h.DictionaryPageHeader.V.NumValues)
		switch {
		case h.CompressedPageSize < 0:
			return errParquet()
		case h.CompressedPageSize > f.mostPage, h.UncompressedPageSize > f.mostPage, values > f.mostValues:
			return refuse(dp.CodeTooLarge, "a page of the Parquet file is larger than %d bytes or %d values: write smaller pages", f.mostPage, f.mostValues)
		}
		at += int64(size) + int64(h.CompressedPageSize)
	}
	return nil
}

// readPageHeader reads the header that begins at an offset, and gives its size. How long it is, it does not say;
// it may hold the least and the greatest value.
func (f *parquetFeed) readPageHeader(at, end int64) (h format.PageHeader, size int, err error) {
	for most := int64(1 << 10); ; most *= 32 {
		text := make([]byte, min(most, end-at))
		if _, err := f.spool.ReadAt(text, at); err != nil && err != io.EOF {
			return h, 0, f.readError()
		}
		var protocol thrift.CompactProtocol
		reader := protocol.NewReaderFromBytes(text)
		h = format.PageHeader{}
		if err := thrift.NewDecoder(reader).Decode(&h); err == nil {
			return h, reader.BytesRead(), nil
		}
		if int64(len(text)) == end-at || most > mostPageHeader {
			return h, 0, errParquet()
		}
	}
}

// mostPageHeader bounds the header of a page, in bytes.
const mostPageHeader = 1 << 20
