package main

import (
	"context"
	"fmt"
	"path/filepath"
)

// compareSizes shows how time, memory and bytes on disk grow with the rows.
func compareSizes(ctx context.Context, s settings, r *report) error {
	var times, disks [][]string
	for _, size := range s.sizes {
		customers := s.customers
		if size != s.rows {
			customers = max(100, size/20)
		}
		note("%d rows", size)
		time, disk, err := compareSize(ctx, s, size, customers)
		if err != nil {
			return fmt.Errorf("%d rows: %w", size, err)
		}
		times, disks = append(times, time...), append(disks, disk)
	}
	r.table(fmt.Sprintf("Time and memory by rows, medians of %d", s.runs),
		[]string{"rows", "question", "Discreet", "ns a row", "DuckDB bounded, sorted", "ratio", "DuckDB plain", "ratio", "memory of a query, Discreet", "resident", "DuckDB", "resident"}, times)
	r.say("Memory of a query is what VmHWM, begun anew, rose to above VmRSS while one question was answered that had been answered before, in a process of its own; resident is VmHWM itself. DuckDB answers the bounded SQL on the sorted table.")
	r.table("Bytes on disk", []string{"rows", "CSV", "Discreet", "bytes a row", "DuckDB, time order", "over Discreet", "DuckDB, sorted", "over Discreet", "zstd Parquet", "over Discreet"}, disks)
	r.say("Bytes on disk are allocated blocks: Discreet's directory of rows, a DuckDB file of one table with 64-bit customers and enumerations, and a Parquet file by DuckDB with its 17-letter customer ids.")
	return nil
}

func compareSize(ctx context.Context, s settings, size, customers int) (times [][]string, disk []string, err error) {
	l, err := open(ctx, s, size, customers)
	if err != nil {
		return nil, nil, err
	}
	closed := false
	defer func() {
		if !closed {
			_ = l.close() // the first error says what happened
		}
	}()
	asked := questions()[:2]
	for _, q := range asked {
		t, err := contest(ctx, s.runs, []contestant{
			l.ours.contestant(q),
			l.sorted.contestant("DuckDB, bounded, sorted", q.bounded(table)),
			l.byTime.contestant("DuckDB, plain, by time", q.plain(table)),
			l.sorted.contestant("DuckDB, plain, sorted", q.plain(table)),
		})
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", q.Name, err)
		}
		plain := min(t[2], t[3])
		times = append(times, []string{millions(l.rows), q.Name, short(t[0]), fmt.Sprintf("%.1f", float64(t[0].Nanoseconds())/float64(l.rows)), short(t[1]), ratio(t[1], t[0]), short(plain), ratio(plain, t[0])})
	}
	closed = true
	if err := l.close(); err != nil {
		return nil, nil, err
	}
	for i, q := range asked {
		ours, err := child(ctx, "ask", job{Engine: "discreet", Path: l.discreet(), Question: q})
		if err != nil {
			return nil, nil, err
		}
		theirs, err := child(ctx, "ask", job{Engine: "duckdb", Path: l.data.sorted(), Question: q})
		if err != nil {
			return nil, nil, err
		}
		times[i] = append(times[i], bytesText(ours.Peak-ours.Before), bytesText(ours.Peak), bytesText(theirs.Peak-theirs.Before), bytesText(theirs.Peak))
	}
	if err := l.buildParquet(ctx, s.rebuild); err != nil {
		return nil, nil, err
	}
	var bytes [5]int64
	for i, path := range []string{l.csv(), filepath.Join(l.discreet(), "data"), l.data.byTime(), l.data.sorted(), l.parquet()} {
		if bytes[i], err = onDisk(path); err != nil {
			return nil, nil, err
		}
	}
	ours := bytes[1]
	return times, []string{millions(l.rows), bytesText(bytes[0]), bytesText(ours), fmt.Sprintf("%.1f", float64(ours)/float64(l.rows)),
		bytesText(bytes[2]), ratio(bytes[2], ours), bytesText(bytes[3]), ratio(bytes[3], ours), bytesText(bytes[4]), ratio(bytes[4], ours)}, nil
}
