package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/store/load"
)

// eraseCommand takes customers out of a dataset.
type eraseCommand struct {
	Dataset string `arg:"" optional:"" help:"Which dataset; left out with --now alone, which is for all of them."`
	Unit    string `arg:"" optional:"" help:"Identifier of a customer, as it stands in the rows. The shell remembers what is written here, and other users of the machine may see it: --file - reads it from standard input."`

	File string `help:"File that names customers: lines, CSV or NDJSON, also as .gz; - for standard input." placeholder:"FILE"`
	Type string `help:"lines, csv or ndjson; without it, what the file's name ends in, and lines for .txt and standard input." enum:"lines,csv,ndjson," default:"" placeholder:"TYPE"`
	List bool   `help:"List the erasures of the dataset, newest first. Nothing tells who was erased."`
	Now  bool   `help:"Have all that waits leave the files now, instead of at the day's hour (serve --erase-at)."`
	Wait bool   `help:"With --now: return once it has left them."`

	IdempotencyKey string `help:"Repeated calls with this key that name the same customers are one erasure, while it waits." placeholder:"TEXT"`

	remote
	output
}

// Help explains the verb.
func (c *eraseCommand) Help() string {
	return "At once, no answer counts an erased customer any more; with the day's run, or with --now, their rows leave the files. " +
		"What is printed and recorded is the same whether or not there is such a customer. Answers that were given before stay, and no budget comes back. " +
		"Rows that are loaded after the run are there again: stop delivering them first."
}

// Run erases, lists, or has the erasures that wait run now.
func (c *eraseCommand) Run(ctx context.Context, t terminal) error {
	if err := c.check(); err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	switch {
	case c.List:
		return c.list(ctx, t, server)
	case c.Dataset == "":
		return c.runNow(ctx, t, server)
	}
	erased, err := c.erase(ctx, t, server)
	if err != nil {
		return err
	}
	if c.Wait {
		waiting := []wire.Erasure{erased}
		if err := waitForEnd(ctx, server, waiting); err != nil {
			return err
		}
		erased = waiting[0]
	}
	v := erasuresView([]wire.Erasure{erased})
	v.body = erased
	v.lines = []string{"No answer counts them any more; their rows leave the files with the day's run. To have it run at once: discreet erase --now"}
	switch {
	case c.Wait:
		v.lines = []string{"No answer counts them any more, and no file holds their rows."}
	case c.Now:
		v.lines = []string{"No answer counts them any more; a run takes their rows out of the files now. When it has ended: discreet erase " + c.Dataset + " --list"}
	}
	return c.print(t.stdout, v)
}

// check refuses what is not one of the verb's forms.
func (c *eraseCommand) check() error {
	named := c.Unit != "" || c.File != ""
	switch {
	case c.Unit != "" && c.File != "":
		return usagef("name a customer or give --file, not both")
	case c.Type != "" && c.File == "":
		return usagef("--type says what --file is: give both")
	case c.List && (c.Now || named):
		return usagef("--list shows erasures and takes nothing but a dataset")
	case c.List && c.Dataset == "":
		return usagef("say of which dataset: discreet erase DATASET --list")
	case c.Wait && !c.Now:
		return usagef("--wait waits for --now: give both")
	case c.Dataset == "" && named:
		return usagef("say from which dataset: discreet erase DATASET --file FILE")
	case c.Dataset == "" && !c.Now:
		return usagef("say who is to be erased: discreet erase DATASET --file FILE, with - for standard input; or have what waits run with --now")
	case c.Dataset != "" && !named && !c.List:
		return usagef("say who is to be erased from %s, with --file FILE, - for standard input, or an identifier; --list shows its erasures, and --now without a dataset runs what waits", c.Dataset)
	}
	return nil
}

// erase sends what names the customers.
func (c *eraseCommand) erase(ctx context.Context, t terminal, server *client.Client) (wire.Erasure, error) {
	if c.Unit != "" {
		return server.EraseOne(ctx, c.Dataset, c.Unit, c.Now, c.IdempotencyKey)
	}
	format, err := c.formatOf(c.File)
	if err != nil {
		return wire.Erasure{}, err
	}
	units := client.Units{Body: t.stdin, Length: -1, Format: format, Gzip: strings.HasSuffix(c.File, ".gz"), IdempotencyKey: c.IdempotencyKey}
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return wire.Erasure{}, usagef("%v", fileError(err))
		}
		defer f.Close()
		units.Body = f
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			units.Length = info.Size()
		}
	}
	return server.Erase(ctx, c.Dataset, units, c.Now)
}

// formatOf is what --type says, else what the file's name ends in. A name that says nothing is not taken for lines:
// those of another format would name nobody, and nothing would tell.
func (c *eraseCommand) formatOf(file string) (string, error) {
	if c.Type != "" {
		return c.Type, nil
	}
	name := filepath.Base(file)
	if file == "-" || strings.HasSuffix(strings.TrimSuffix(name, ".gz"), ".txt") {
		return "lines", nil
	}
	format, err := load.ParseFormat(name)
	if err != nil || format == load.Parquet {
		return "", usagef("say what %s is with --type: lines, csv or ndjson", name)
	}
	return string(format), nil
}

// list shows the erasures of a dataset.
func (c *eraseCommand) list(ctx context.Context, t terminal, server *client.Client) error {
	all, err := erasuresOf(ctx, server, c.Dataset)
	if err != nil {
		return err
	}
	return c.print(t.stdout, erasuresView(all))
}

// runNow has everything run that waits, of whatever dataset.
func (c *eraseCommand) runNow(ctx context.Context, t terminal, server *client.Client) error {
	// What waits before the run begins is what it ends.
	waiting, err := c.waiting(ctx, server)
	if err != nil {
		return err
	}
	if err := server.RunErasures(ctx); err != nil {
		return err
	}
	if c.Wait {
		if err := waitForEnd(ctx, server, waiting); err != nil {
			return err
		}
	}
	v := erasuresView(waiting)
	v.empty = "Nothing waits to be erased."
	if len(waiting) > 0 && !c.Wait {
		v.lines = []string{"A run takes them out of the files now. When it has ended: discreet erase DATASET --list"}
	}
	return c.print(t.stdout, v)
}

// waiting gives the erasures that have not ended, of all datasets.
func (c *eraseCommand) waiting(ctx context.Context, server *client.Client) ([]wire.Erasure, error) {
	datasets, err := every(ctx, func(ctx context.Context, p client.Page) ([]wire.DatasetHead, string, error) {
		list, err := server.Datasets(ctx, p)
		return list.Items, list.Next, err
	})
	if err != nil {
		return nil, err
	}
	waiting := []wire.Erasure{}
	for _, d := range datasets {
		all, err := erasuresOf(ctx, server, d.Name)
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, slices.DeleteFunc(all, func(e wire.Erasure) bool { return e.Ended != nil })...)
	}
	return waiting, nil
}

func erasuresOf(ctx context.Context, server *client.Client, dataset string) ([]wire.Erasure, error) {
	return every(ctx, func(ctx context.Context, p client.Page) ([]wire.Erasure, string, error) {
		list, err := server.Erasures(ctx, dataset, p)
		return list.Items, list.Next, err
	})
}

// waitForEnd returns once all of some erasures have ended, and says there when.
func waitForEnd(ctx context.Context, server *client.Client, waiting []wire.Erasure) error {
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		left := 0
		of := map[string][]wire.Erasure{}
		for i, e := range waiting {
			if e.Ended != nil {
				continue
			}
			if of[e.Dataset] == nil {
				all, err := erasuresOf(ctx, server, e.Dataset)
				if err != nil {
					return err
				}
				of[e.Dataset] = all
			}
			at := slices.IndexFunc(of[e.Dataset], func(known wire.Erasure) bool { return known.ID == e.ID })
			if at < 0 {
				return errors.New("the server does not know an erasure any more that it took down")
			}
			if waiting[i] = of[e.Dataset][at]; waiting[i].Ended == nil {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func erasuresView(all []wire.Erasure) view {
	v := view{body: wire.ErasureList{Items: all}, columns: []string{"id", "dataset", "by", "at", "customers_named", "ended"}, empty: "Nobody was erased."}
	for _, e := range all {
		v.rows = append(v.rows, []any{e.ID, e.Dataset, e.By, instant(e.At), e.Units, optional(e.Ended)})
	}
	return v
}
