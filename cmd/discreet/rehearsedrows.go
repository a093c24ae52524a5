package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/dp/synth"
	"github.com/discreet-analytics/discreet/store/load"
)

// rehearsedRows reads a table as a load does, and gives its rows by customer.
func rehearsedRows(ctx context.Context, p *dp.Policy, table synth.Table) (customers [][]rows.Row, n int, err error) {
	out, in := io.Pipe()
	defer out.Close()
	go func() { in.CloseWithError(table.WriteCSV(in)) }()
	reader, err := load.NewReader(p, out, load.Source{Format: load.CSV}, plainIDs{})
	if err != nil {
		return nil, 0, fmt.Errorf("reading imagined rows: %w", err)
	}
	at := make(map[uint64]int)
	for batch, err := range reader.Batches(ctx) {
		if err != nil {
			return nil, 0, fmt.Errorf("reading imagined rows: %w", err)
		}
		for _, record := range batch {
			if record.Reason != "" {
				return nil, 0, fmt.Errorf("reading imagined rows: %s", record.Reason)
			}
			if n++; n > mostRehearsed {
				return nil, 0, errTooManyRehearsed()
			}
			row := record.Row
			row.Dimensions, row.Measures = slices.Clone(row.Dimensions), slices.Clone(row.Measures) // the batch's memory is used again
			i, known := at[row.Customer]
			if !known {
				i = len(customers)
				at[row.Customer] = i
				customers = append(customers, nil)
			}
			customers[i] = append(customers[i], row)
		}
	}
	return customers, n, nil
}

// mostRehearsed bounds the rows that are kept in memory, some 300 bytes each.
const mostRehearsed = 1_000_000

func errTooManyRehearsed() error {
	return usagef("more than %d rows would be imagined: ask for fewer --customers, a shorter time or fewer --rows-per-month", mostRehearsed)
}

// plainIDs stands for customers without a key: imagined ones have nothing to hide.
type plainIDs struct{}

// Pseudonym is a hash of the identifier.
func (plainIDs) Pseudonym(customer string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, customer) // never fails
	return h.Sum64()
}

// RowPseudonym is the row's number.
func (plainIDs) RowPseudonym(_, ordinal uint64, _ string) uint64 { return ordinal }
