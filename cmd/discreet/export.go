package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/archive"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
)

// auditExport writes the log into an archive.
type auditExport struct {
	File string `arg:"" help:"Write to this file, once all of it is there; - for standard output."`

	remote
}

// Run writes it.
func (c *auditExport) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	out := toFile{Out: c.File}
	if c.File == "-" {
		out.Out = ""
	}
	err = out.write(t.stdout, true, func(w io.Writer) error { return server.WriteAuditExport(ctx, w) })
	if err == nil && c.File != "-" {
		_, err = fmt.Fprintf(t.stderr, "Whoever has %s checks it with: discreet verify --export FILE --log-key KEY, KEY being what 'discreet audit checkpoint' prints, given by another way.\n", c.File)
	}
	return err
}

// runExport checks an archive and prints what it holds, with a line for each thing that does not fit.
func (c *verifyCommand) runExport(ctx context.Context, t terminal) error {
	if len(c.AtLeast) > 0 || c.Witness != "" {
		return usagef("--at-least and --witness are for --data: give --checkpoint with --export")
	}
	options := verify.ExportOptions{Key: c.LogKey, Policy: policyText, Text: statementText, Privacy: []byte(dp.PrivacyDocument())}
	for _, path := range c.Checkpoint {
		k, err := readKept(path)
		if err != nil {
			return err
		}
		if k == nil {
			return usagef("--checkpoint: there is no file %s", path)
		}
		options.Checkpoints = append(options.Checkpoints, []byte(k.Note))
	}
	file, err := os.Open(c.Export)
	if err != nil {
		return usagef("%v", fileError(err))
	}
	defer file.Close() // it was only read
	info, err := file.Stat()
	if err != nil {
		return usagef("%v", fileError(err))
	}
	report, err := verify.Export(ctx, file, info.Size(), options)
	if err != nil {
		return fmt.Errorf("verifying the export: %w", err)
	}
	shown, err := exportView(report, c.WorstCase)
	if err != nil {
		return err
	}
	if err := c.print(t.stdout, shown); err != nil {
		return err
	}
	if n := len(report.Problems); n > 0 {
		return fmt.Errorf("%s does not fit: %s", c.Export, problemsText(report.Problems))
	}
	return nil
}

func problemsText(list []verify.Finding) string {
	if len(list) == 1 {
		return list[0].String()
	}
	return fmt.Sprintf("%s; and %d more", list[0], len(list)-1)
}

// policyText writes the file of a policy from its record.
func policyText(record []byte) ([]byte, error) {
	var p dp.VersionedPolicy
	if err := json.Unmarshal(record, &p); err != nil {
		return nil, fmt.Errorf("reading a policy: %w", err)
	}
	return policyfile.Format(p.Policy)
}

// statementText writes a guarantee for people.
func statementText(text []byte) ([]byte, error) {
	g, err := archive.ParseGuarantee(text)
	if err != nil {
		return nil, err
	}
	return archive.Text(g), nil
}

// exportedView is what verify prints of an export as JSON.
type exportedView struct {
	Fits     bool              `json:"fits"`
	Problems []verifiedFinding `json:"problems"`
	Ledger   string            `json:"ledger"`
	Entries  uint64            `json:"entries"`
	Root     string            `json:"root"`
	Head     string            `json:"head"`
	Created  string            `json:"created"`
	Program  string            `json:"program"`
	Revision string            `json:"revision"`
	Key      string            `json:"log_key"`
	Pinned   bool              `json:"log_key_was_given"`
	Extends  []uint64          `json:"extends"` // sizes of the checkpoints that were given
	Files    int               `json:"files"`
	Charges  int               `json:"charges"`
	Open     int               `json:"open_charges"`
	Releases int               `json:"releases"`
	Accounts int               `json:"accounts"`
	Policies int               `json:"policies"`
	Privacy  bool              `json:"same_privacy_document"`
	Worst    *verify.Guarantee `json:"worst_case,omitempty"`
}

func exportView(r verify.ExportReport, worst bool) (view, error) {
	body := exportedView{
		Fits: len(r.Problems) == 0, Problems: []verifiedFinding{}, Ledger: hex.EncodeToString(r.ID[:]), Entries: r.Entries, Root: tlog.Hash(r.Root).String(),
		Head: hex.EncodeToString(r.Head[:]), Created: r.Created, Program: r.Program, Revision: r.Revision, Key: r.Key, Pinned: r.Pinned, Extends: r.Extends,
		Files: r.Files, Charges: r.Charges, Open: r.Open, Releases: r.Releases, Accounts: r.Accounts, Policies: r.Policies, Privacy: !r.OtherPrivacy,
	}
	v := view{columns: []string{"entry", "problem"}, empty: "Everything fits."}
	for _, p := range r.Problems {
		one, entry := verifiedFinding{Why: p.Why}, any(nil)
		if p.Entry != 0 {
			one.Entry, entry = &p.Entry, p.Entry
		}
		body.Problems = append(body.Problems, one)
		v.rows = append(v.rows, []any{entry, p.Why})
	}
	if !body.Fits {
		v.lines = []string{"What does not fit proves nothing: ask for another export, and keep this one."}
		v.body = body
		return v, nil
	}
	signature := "signature   under the key in the archive, which is whoever's made it: compare " + r.Key + " with the log's key got by another way (--log-key)"
	if r.Pinned {
		signature = "signature   under the key that was given"
	}
	v.lines = []string{
		fmt.Sprintf("ledger      %s, %d entries, exported %s by discreet %s", body.Ledger, r.Entries, r.Created, r.Program),
		signature,
		fmt.Sprintf("files       %d, each as it is listed and signed, and nothing besides", r.Files),
		"log         every entry follows on the one before; root " + body.Root,
		fmt.Sprintf("meaning     %d charges (%d without an outcome), %d releases, %d accounts: each admitted under the budgets in force at its place", r.Charges, r.Open, r.Releases, r.Accounts),
		"values      all that entries hold by digest, but for the figures of answers, which are in no export",
		fmt.Sprintf("policies    %d versions, as the log holds them", r.Policies),
		"guarantee   recomputed from the log, and the same to the last digit",
	}
	for _, size := range r.Extends {
		v.lines = append(v.lines, fmt.Sprintf("checkpoint  the log continues the one of %d entries that was given", size))
	}
	if r.OtherPrivacy {
		v.lines = append(v.lines, "privacy     PRIVACY.md is that of another version than this program's")
	}
	if worst {
		body.Worst = r.Guarantee
		lines, err := guaranteeLines(r.Guarantee)
		if err != nil {
			return v, err
		}
		v.lines = append(v.lines, lines...)
	}
	v.body = body
	return v, nil
}
