package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
)

// auditGroup reads the log, and holds the server to it.
type auditGroup struct {
	List       auditList       `cmd:"" help:"List what happened: charges, releases, changes, loads, erasures, refusals, readings, sign-ins."`
	Checkpoint auditCheckpoint `cmd:"" help:"Print the size and root of the log, signed: keep it elsewhere."`
	Proof      auditProof      `cmd:"" help:"Fetch the proof that an entry is in the log, and check it."`
	Export     auditExport     `cmd:"" help:"Write the whole log, policies and what is guaranteed into one archive, which 'verify --export' checks without a server."`
	Check      auditCheck      `cmd:"" help:"Check that the log continues the one that was seen last, and keep what it is now. Exit code 1 where it was rewritten."`
}

type auditList struct {
	Kind     string `help:"Only entries of a kind (charge, outcome, change, load-commit, erasure, events…), or events of one (refusal, reading, view, sign-in, failed-sign-in, load, export, backup)." placeholder:"KIND"`
	Consumer string `help:"Only what a consumer did, was charged for, or is changed by." placeholder:"NAME"`
	Dataset  string `help:"Only of a dataset." placeholder:"NAME"`
	From     string `help:"Only since a date (UTC) or an RFC 3339 time." placeholder:"DATE"`
	To       string `help:"Only before a time, or up to the end of a date." placeholder:"DATE"`
	Oldest   bool   `help:"The oldest first."`
	Limit    int    `help:"So many entries at most; 0 for all." default:"50" placeholder:"N"`

	remote
	output
}

// Run lists entries.
func (c *auditList) Run(ctx context.Context, t terminal) error {
	if c.Limit < 0 {
		return usagef("--limit is a number of 0 or more")
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	filter := client.AuditFilter{Kind: c.Kind, Consumer: c.Consumer, Dataset: c.Dataset, From: c.From, To: c.To, OldestFirst: c.Oldest}
	const page = 500
	all := wire.AuditList{Items: []wire.AuditLine{}}
	for p := (client.Page{Limit: page}); ; p.Cursor = all.Next {
		if c.Limit > 0 {
			p.Limit = min(page, c.Limit-len(all.Items))
		}
		list, err := server.Audit(ctx, filter, p)
		if err != nil {
			return err
		}
		all.Items, all.Next, all.Size = append(all.Items, list.Items...), list.Next, list.Size
		if all.Next == "" || c.Limit > 0 && len(all.Items) >= c.Limit {
			break
		}
	}
	return c.print(t.stdout, auditView(all))
}

func auditView(list wire.AuditList) view {
	v := view{
		body: list, columns: []string{"index", "at", "kind", "who", "dataset", "what", "epsilon", "reason"},
		empty: "Nothing of that kind is in the log.",
	}
	for _, l := range list.Items {
		for _, e := range l.Events {
			v.rows = append(v.rows, []any{l.Index, instant(l.At), e.Kind, e.Consumer, e.Dataset, eventText(e), nil, nil})
		}
		if len(l.Events) > 0 {
			continue
		}
		var epsilon any
		if len(l.Charges) == 1 {
			epsilon = exactly{l.Charges[0].Epsilon}
		}
		v.rows = append(v.rows, []any{l.Index, instant(l.At), l.Kind, l.Actor, strings.Join(l.Datasets, " "), lineText(l), epsilon, l.Reason})
	}
	if list.Next != "" {
		v.lines = append(v.lines, fmt.Sprintf("There may be more of the log's %d entries: --limit.", list.Size))
	}
	return v
}

// eventText says what happened.
func eventText(e wire.AuditEvent) string {
	var words []string
	for _, word := range []string{e.Operation, e.Code, e.Release, e.Key, e.Object} {
		if word != "" {
			words = append(words, word)
		}
	}
	if e.Further {
		words = append(words, "(further ones)")
	}
	if e.Count > 1 {
		words = append(words, fmt.Sprintf("%d times", e.Count))
	}
	return strings.Join(words, " ")
}

// lineText says what an entry is about.
func lineText(l wire.AuditLine) string {
	const most = 4
	var words []string
	for i, o := range l.Objects {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more", len(l.Objects)-most))
			break
		}
		word := o.Kind + " " + o.Name
		if o.Version > 0 {
			word += fmt.Sprintf(" (%d)", o.Version)
		}
		words = append(words, word)
	}
	text := strings.Join(words, ", ")
	if len(l.Charges) > 0 {
		text += " on " + span(l.Charges[0].Blocks)
	}
	if l.Failure != "" {
		text += ": " + l.Failure
	}
	return strings.TrimSpace(text)
}

// logKey is the key that checkpoints are verified with.
type logKey struct {
	LogKey string `help:"The log's public key, as you got it by a way that you trust (name+hash+base64). Without it, the server's own word is taken for it." placeholder:"KEY"`
}

type auditCheckpoint struct {
	logKey
	remote
	output
}

// Run prints a checkpoint: as a table the signed note, which can be kept in a file.
func (c *auditCheckpoint) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	got, err := fetchCheckpoint(ctx, server, c.LogKey)
	if err != nil {
		return err
	}
	if c.Format == "table" {
		if _, err := io.WriteString(t.stdout, got.Note); err != nil {
			return fmt.Errorf("printing: %w", err)
		}
		fmt.Fprintln(t.stderr, "key: "+oneLine(got.Key))
		return nil
	}
	body := wire.AuditCheckpoint{Log: got.log, Size: uint64(got.size), Root: got.root.String(), Note: got.Note, Key: got.Key}
	return c.print(t.stdout, view{body: body, columns: []string{"log", "size", "root", "key"}, rows: [][]any{{body.Log, body.Size, body.Root, body.Key}}})
}

type auditProof struct {
	Index uint64 `arg:"" help:"Of the entry, as discreet audit list tells it."`

	logKey
	remote
	output
}

// proved is an entry with all that proves it.
type proved struct {
	Proof      wire.AuditProof `json:"proof"`
	Checkpoint keptNote        `json:"checkpoint"`
}

// Run fetches a proof and checks it.
func (c *auditProof) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	signed, err := fetchCheckpoint(ctx, server, c.LogKey)
	if err != nil {
		return err
	}
	p, err := server.AuditProof(ctx, c.Index, uint64(signed.size))
	if err != nil {
		return err
	}
	if err := signed.proves(p, c.Index); err != nil {
		return err
	}
	return c.print(t.stdout, view{
		body: proved{p, signed.keptNote}, columns: []string{"index", "size", "leaf_hash", "root", "bytes"},
		rows:  [][]any{{p.Index, p.Size, p.LeafHash, signed.root.String(), len(p.Entry)}},
		lines: []string{"The entry is in the log that the checkpoint signs. --format json has the entry, the proof and the checkpoint."},
	})
}

type auditCheck struct {
	State string `help:"File that holds what was seen last; made where it is absent. Keep it where the server cannot write." required:"" placeholder:"FILE"`

	logKey
	remote
	output
}

// Run compares the log with the one that was seen last.
func (c *auditCheck) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	last, err := readKept(c.State)
	if err != nil {
		return err
	}
	key := c.LogKey
	if key == "" && last != nil {
		key = last.Key
	}
	now, err := fetchCheckpoint(ctx, server, key)
	if err != nil {
		return err
	}
	says := "This is the first checkpoint that is kept: the log is held to it from now on."
	if last != nil {
		before, err := open(last.Note, key)
		if err != nil {
			return fmt.Errorf("reading %s: %w", c.State, err)
		}
		if err := now.continues(ctx, server, before); err != nil {
			evidence := c.State + ".rewritten"
			if kept := now.keep(evidence); kept != nil {
				return fmt.Errorf("%w (and what contradicts it could not be kept: %w)", err, kept)
			}
			return fmt.Errorf("%w: what the server signed is kept in %s", err, evidence)
		}
		says = fmt.Sprintf("The log continues the one of %d entries that was seen last.", before.size)
	}
	if err := now.keep(c.State); err != nil {
		return err
	}
	lines := []string{says}
	if key == "" {
		lines = append(lines, "Its key is the server's own word: compare it with what you are told otherwise, and give it with --log-key: "+now.Key)
	}
	return c.print(t.stdout, view{
		body:    wire.AuditCheckpoint{Log: now.log, Size: uint64(now.size), Root: now.root.String(), Note: now.Note, Key: now.Key},
		columns: []string{"log", "size", "root"}, rows: [][]any{{now.log, now.size, now.root.String()}}, lines: lines,
	})
}
