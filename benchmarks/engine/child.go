package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"
)

// What memory is measured of, and what starts cold, runs in a process of its own: this program again, with what to do
// on its standard input and what it measured on its standard output.

// job is what a child does.
type job struct {
	Engine   string // discreet or duckdb
	Path     string // directory or database
	File     string // of a load
	Policy   string // of a load
	Question question
}

// outcome is what a child measured. Bytes are resident ones.
type outcome struct {
	Rows        int64
	Open, First time.Duration // until it was open, and from then to the first answer
	Again       time.Duration // the same question once more
	Load        time.Duration
	Before      int64 // when it was open
	Peak        int64 // while it worked
	Own         int64 // of these, at their highest, what is in no file: the system cannot drop it
}

func child(ctx context.Context, task string, j job) (o outcome, err error) {
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	input, err := json.Marshal(j)
	if err != nil {
		return o, err
	}
	command := exec.CommandContext(ctx, self, "-child", task)
	command.Stdin, command.Stderr = bytes.NewReader(input), os.Stderr
	output, err := command.Output()
	if err != nil {
		return o, fmt.Errorf("%s of %s in a process of its own: %w", task, j.Engine, err)
	}
	return o, json.Unmarshal(output, &o)
}

func runChild(ctx context.Context, task string) error {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		return err
	}
	do, ok := map[string]func(context.Context, job) (outcome, error){
		"load/discreet": loadDiscreet, "load/duckdb": loadDuck, "ask/discreet": askDiscreet, "ask/duckdb": askDuck,
	}[task+"/"+j.Engine]
	if !ok {
		return fmt.Errorf("no such task")
	}
	o, err := do(ctx, j)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

func loadDiscreet(ctx context.Context, j job) (o outcome, err error) {
	debug.SetGCPercent(50) // as the command serves
	s, err := openStore(ctx, j.Path)
	if err != nil {
		return o, err
	}
	if err := s.found(ctx, j.Policy); err != nil {
		return o, err
	}
	own := watchOwn()
	begin := time.Now()
	o.Rows, err = s.loadFile(ctx, dataset, j.File, "year")
	o.Load = time.Since(begin)
	if o.Own = own(); err != nil {
		return o, err
	}
	if o.Peak, err = memory("VmHWM"); err != nil {
		return o, err
	}
	return o, s.close()
}

// loadDuck copies a file into a table of the same columns, and has it on disk when the time ends.
func loadDuck(ctx context.Context, j job) (o outcome, err error) {
	err = inDuck(j.Path, func(db *duck) error {
		if err := db.exec(ctx, asItIs); err != nil {
			return err
		}
		options := "format csv, header true"
		if filepath.Ext(j.File) == ".parquet" {
			options = "format parquet"
		}
		own := watchOwn()
		begin := time.Now()
		err := db.exec(ctx, fmt.Sprintf("copy %s from '%s' (%s)", table, j.File, options), "checkpoint")
		o.Load = time.Since(begin)
		if o.Own = own(); err != nil {
			return err
		}
		if o.Peak, err = memory("VmHWM"); err != nil {
			return err
		}
		return db.db.QueryRowContext(ctx, "select count(*) from "+table).Scan(&o.Rows)
	})
	return o, err
}

func askDiscreet(ctx context.Context, j job) (o outcome, err error) {
	begin := time.Now()
	s, err := openStore(ctx, j.Path)
	if err != nil {
		return o, err
	}
	o.Open = time.Since(begin)
	if err := o.ask(ctx, s.contestant(j.Question)); err != nil {
		return o, err
	}
	return o, s.close()
}

func askDuck(ctx context.Context, j job) (o outcome, err error) {
	begin := time.Now()
	db, err := openDuck(j.Path, true)
	if err != nil {
		return o, err
	}
	defer db.close()
	o.Open = time.Since(begin)
	return o, o.ask(ctx, db.contestant("DuckDB", j.Question.bounded(table)))
}

// ask has a question answered twice and looks at memory: what the second answer needs beyond what was there before it.
func (o *outcome) ask(ctx context.Context, c contestant) error {
	begin := time.Now()
	if err := c.do(ctx); err != nil {
		return err
	}
	o.First = time.Since(begin)
	debug.FreeOSMemory()
	if err := forgetPeak(); err != nil {
		return err
	}
	var err error
	if o.Before, err = memory("VmRSS"); err != nil {
		return err
	}
	begin = time.Now()
	if err := c.do(ctx); err != nil {
		return err
	}
	o.Again = time.Since(begin)
	o.Peak, err = memory("VmHWM")
	return err
}
