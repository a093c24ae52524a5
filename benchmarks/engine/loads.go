package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/discreet-analytics/discreet/store/load"
)

// compareLoads loads the same files into both engines, each time into a new process and a new directory.
func compareLoads(ctx context.Context, s settings, r *report) error {
	d, err := prepare(s, s.rows, s.customers)
	if err != nil {
		return err
	}
	if err := d.buildParquet(ctx, s.rebuild); err != nil {
		return err
	}
	var rows [][]string
	for _, file := range []struct{ name, path string }{{"CSV", d.csv()}, {"zstd Parquet", d.parquet()}} {
		if _, err := load.ParseFormat(file.path); err != nil {
			rows = append(rows, []string{file.name, "not understood by this version", "", "", "", "", "", "", "", ""})
			continue
		}
		var took [2][]time.Duration
		var peak, own [2][]int64
		for n := range s.loads {
			for i, engine := range []string{"discreet", "duckdb"} {
				note("%s into %s, %d of %d", file.name, engine, n+1, s.loads)
				o, err := loadOnce(ctx, d, engine, file.path)
				if err != nil {
					return err
				}
				took[i], peak[i], own[i] = append(took[i], o.Load), append(peak[i], o.Peak), append(own[i], o.Own)
			}
		}
		rate := func(i int) float64 { return float64(d.rows) / 1e6 / median(took[i]).Seconds() }
		rows = append(rows, []string{file.name, short(median(took[0])), fmt.Sprintf("%.2f M/s", rate(0)), bytesText(median(own[0])), bytesText(median(peak[0])),
			short(median(took[1])), fmt.Sprintf("%.2f M/s", rate(1)), bytesText(median(own[1])), bytesText(median(peak[1])), ratio(rate(0), rate(1))})
	}
	r.table(fmt.Sprintf("Loading %s rows, medians of %d", millions(d.rows), s.loads),
		[]string{"file", "Discreet", "rows", "memory of its own", "VmHWM", "DuckDB COPY into the same columns", "rows", "memory of its own", "VmHWM", "rate over DuckDB's"}, rows)
	r.say("From the file's first byte until the rows are durable, each in a process of its own. Discreet checks every value, makes pseudonyms and a keyed digest, and sorts by customer; DuckDB keeps the file's order and checkpoints. Memory of its own is RssAnon at its highest; VmHWM counts pages of files too, which the system drops when it needs them.")
	return nil
}

func loadOnce(ctx context.Context, d *data, engine, file string) (outcome, error) {
	into, err := os.MkdirTemp(d.dir, "load-")
	if err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(into)
	o, err := child(ctx, "load", job{Engine: engine, Path: filepath.Join(into, "store"), File: file, Policy: d.policy})
	if err == nil && o.Rows != d.rows {
		err = fmt.Errorf("%s took %d of %d rows", engine, o.Rows, d.rows)
	}
	return o, err
}

// compareColdStarts measures from the start of a process to its first answer, with the files in the system's cache and
// without.
func compareColdStarts(ctx context.Context, s settings, r *report) error {
	l, err := open(ctx, s, s.rows, s.customers)
	if err != nil {
		return err
	}
	if err := l.close(); err != nil {
		return err
	}
	year := questions()[1]
	var rows [][]string
	for _, evicted := range []bool{false, true} {
		name := "files in the system's cache"
		if evicted {
			name = "files evicted before"
		}
		var whole [2][]time.Duration
		var opened, first [2][]time.Duration
		for range s.loads {
			for i, j := range []job{{Engine: "discreet", Path: l.discreet(), Question: year}, {Engine: "duckdb", Path: l.data.sorted(), Question: year}} {
				if evicted {
					if err := evict(j.Path); err != nil {
						return err
					}
				}
				o, err := child(ctx, "ask", j)
				if err != nil {
					return err
				}
				opened[i], first[i], whole[i] = append(opened[i], o.Open), append(first[i], o.First), append(whole[i], o.Open+o.First)
			}
		}
		rows = append(rows, []string{name, short(median(opened[0])), short(median(first[0])), short(median(whole[0])), short(median(opened[1])), short(median(first[1])), short(median(whole[1])), ratio(median(whole[1]), median(whole[0]))})
	}
	r.table(fmt.Sprintf("Cold start to the first answer, %s rows, %s, medians of %d", millions(l.rows), year.Name, s.loads),
		[]string{"", "Discreet opens", "answers", "together", "DuckDB opens", "answers the bounded SQL, sorted", "together", "ratio"}, rows)
	return nil
}

// evict asks the system to forget what it holds of files.
func evict(path string) error {
	return filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return err
		}
		return unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}
