// Command engine compares Discreet's engine with DuckDB on the same rows in one run: bounded aggregation, sizes, loading,
// cold starts, and many questions at once. It prints Markdown for RESULTS.md, each table with its ratios.
//
//	go run ./engine                                     # 20 M rows, all sections; makes its data first, once
//	go run ./engine -rows 200000 -customers 10000       # a small form, under a minute
//	go run ./engine -sections scan,noise -runs 3        # some sections
//	go run ./engine -sections sizes -sizes 1000000,10000000,100000000
//
// The rows are those of dp/synth: a year of card payments with Zipf merchants, busy and dormant customers, weeks and
// seasons. Data and databases stay in the work directory and are used again while they fit.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings are what the flags say.
type settings struct {
	rows, customers int
	runs            int
	loads           int           // runs of what takes long: loads and cold starts
	each            time.Duration // length of a run that counts calls
	dir             string
	rebuild         bool
	questions       string
	sizes           []int
	into            string // file that keeps the figures
}

// section is one part of the comparison. None needs another one to have run.
type section struct {
	name string
	run  func(ctx context.Context, s settings, r *report) error
}

func sections() []section {
	return []section{
		{"check", compareAnswers},
		{"scan", compareScans},
		{"noise", measureNoise},
		{"sizes", compareSizes},
		{"load", compareLoads},
		{"cold", compareColdStarts},
		{"concurrent", compareConcurrent},
		{"ingest", measureIngest},
		{"http", measureHTTP},
	}
}

func main() {
	var s settings
	var names []string
	for _, section := range sections() {
		names = append(names, section.name)
	}
	flag.IntVar(&s.rows, "rows", 20_000_000, "rows, about")
	flag.IntVar(&s.customers, "customers", 1_000_000, "customers")
	flag.IntVar(&s.runs, "runs", 7, "runs of each cell, of which the median counts")
	flag.IntVar(&s.loads, "loads", 3, "runs of loads and cold starts")
	flag.DurationVar(&s.each, "each", time.Second, "length of a run that counts calls")
	flag.StringVar(&s.dir, "dir", filepath.Join(os.TempDir(), "discreet-engine"), "work directory: data and databases stay there")
	flag.BoolVar(&s.rebuild, "rebuild", false, "load the stores anew though those of the work directory fit")
	flag.StringVar(&s.questions, "questions", "", "of scan and noise, ask only the questions whose name holds this")
	flag.StringVar(&s.into, "into", "RESULTS.md", "file that keeps the figures of each section, in place of the last ones; empty: none")
	sizes := flag.String("sizes", "", "rows of the section sizes, with commas, 20 of them for each customer; default: -rows and a tenth of it")
	chosen := flag.String("sections", strings.Join(names, ","), "what to compare")
	task := flag.String("child", "", "do one thing in a process of its own (used by sections that measure memory and starts)")
	flag.Parse()
	if *task != "" {
		exit(runChild(context.Background(), *task))
	}
	exit(run(context.Background(), s, strings.Split(*chosen, ","), *sizes))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// report runs a section, prints what it measured, and keeps it.
func (s settings) report(ctx context.Context, of section) error {
	r, err := newReport(os.Stdout)
	if err != nil {
		return err
	}
	if err := of.run(ctx, s, r); err != nil || s.into == "" {
		return err
	}
	return r.keep(s.into, of.name)
}

func run(ctx context.Context, s settings, chosen []string, sizes string) error {
	if s.rows < 1000 || s.customers < 100 || s.runs < 1 || s.loads < 1 {
		return fmt.Errorf("give at least 1000 rows, 100 customers and one run")
	}
	s.sizes = []int{s.rows / 10, s.rows}
	if sizes != "" {
		s.sizes = nil
		for text := range strings.SplitSeq(sizes, ",") {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1000 {
				return fmt.Errorf("-sizes takes numbers from 1000, with commas")
			}
			s.sizes = append(s.sizes, n)
		}
	}
	all := sections()
	for _, name := range chosen {
		if !slices.ContainsFunc(all, func(section section) bool { return section.name == name }) {
			return fmt.Errorf("no section is called %q", name)
		}
	}
	var failed error
	for _, section := range all {
		if !slices.Contains(chosen, section.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format(time.TimeOnly), section.name)
		// One section that fails does not take the others with it.
		if err := s.report(ctx, section); err != nil {
			failed = fmt.Errorf("section %s: %w", section.name, err)
			fmt.Fprintln(os.Stderr, "engine:", failed)
		}
	}
	return failed
}
