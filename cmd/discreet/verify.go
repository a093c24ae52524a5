package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/store/ledger/verify"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// verifyCommand checks a ledger, or what a server exported of it.
type verifyCommand struct {
	Data       string   `help:"Data directory of a server." xor:"source" required:"" placeholder:"DIR"`
	Export     string   `help:"An archive that 'audit export' wrote: nothing else is needed to check it." xor:"source" required:"" placeholder:"FILE"`
	Witness    string   `help:"Witness that the server keeps outside of --data, or its directory; looked for where serve and demo put theirs when absent." placeholder:"PATH"`
	WorstCase  bool     `help:"Work out from the log alone what is guaranteed about one customer, and what charges so far add up to; it agrees with 'budget worst-case' to the last digit."`
	AtLeast    []string `help:"Length and head that the ledger is known to have had (GET /v1/ledger); may be given several times." sep:"none" placeholder:"LENGTH:HEAD"`
	Checkpoint []string `help:"File with a checkpoint of the log (discreet audit check, discreet audit checkpoint) that the ledger must be or continue; may be given several times." sep:"none" placeholder:"FILE"`
	encryptionFlag
	logKey

	output
}

// Run checks the ledger of a data directory, or an export, and prints what it holds. It fails where anything does not fit.
func (c *verifyCommand) Run(ctx context.Context, t terminal, from surroundings) error {
	if c.Export != "" {
		return c.runExport(ctx, t)
	}
	place := c.place()
	if err := place.check(); err != nil {
		return err
	}
	witness, err := place.witness(from)
	if err != nil {
		return err
	}
	key, err := c.encryptionFlag.read(c.Data)
	if err != nil {
		return err
	}
	if err := secrets.Check(filepath.Join(c.Data, "secrets"), key); isKey(err) {
		return explainKey(c.Data, err)
	}
	options := verify.Options{Witness: witness, WorstCase: c.WorstCase, Key: key.Raw()}
	for _, text := range c.AtLeast {
		mark, err := parseMark(text)
		if err != nil {
			return err
		}
		options.AtLeast = append(options.AtLeast, mark)
	}
	for _, path := range c.Checkpoint {
		signed, err := c.signed(path)
		if err != nil {
			return err
		}
		options.Signed = append(options.Signed, signed)
	}
	report, err := verify.Ledger(ctx, place.ledger(), options)
	if errors.Is(err, verify.ErrServed) {
		return fmt.Errorf("a server holds %s: stop it, or give a copy of the directory that was made while it was stopped", c.Data)
	}
	if errors.Is(err, verify.ErrKey) {
		return usagef("%s: %v", c.Data, verify.ErrKey)
	}
	if err != nil {
		return fmt.Errorf("verifying the ledger: %w", err)
	}
	shown, err := verifiedView(report, options.Witness)
	if err != nil {
		return err
	}
	if err := c.print(t.stdout, shown); err != nil {
		return err
	}
	if report.Finding != nil {
		return fmt.Errorf("the ledger of %s does not fit: %s", c.Data, report.Finding)
	}
	return nil
}

func (c *verifyCommand) place() offline { return offline{Data: c.Data, Witness: c.Witness} }

// signed reads a checkpoint, whose signature is verified under the key that is given, or that stands with it.
func (c *verifyCommand) signed(path string) (verify.Tree, error) {
	k, err := readKept(path)
	if err != nil {
		return verify.Tree{}, err
	}
	if k == nil {
		return verify.Tree{}, usagef("--checkpoint: there is no file %s", path)
	}
	if c.LogKey != "" {
		k.Key = c.LogKey
	}
	got, err := open(k.Note, k.Key)
	if err != nil {
		return verify.Tree{}, fmt.Errorf("reading %s: %w", path, err)
	}
	if id := c.place().id(); id != "" && got.log != "discreet/"+id {
		return verify.Tree{}, fmt.Errorf("%s is of the log %s, and this is the ledger %s", path, got.log, id)
	}
	return verify.Tree{Size: uint64(got.size), Root: got.root}, nil
}

// parseMark reads LENGTH:HEAD.
func parseMark(text string) (m verify.Mark, err error) {
	length, head, _ := strings.Cut(text, ":")
	m.Length, err = strconv.ParseUint(length, 10, 64)
	hash, hashErr := hex.DecodeString(head)
	if err != nil || hashErr != nil || len(hash) != len(m.Head) || m.Length == 0 {
		return m, usagef("--at-least must be LENGTH:HEAD, a number and %d hexadecimal digits, as GET /v1/ledger gives them", 2*len(m.Head))
	}
	copy(m.Head[:], hash)
	return m, nil
}

// verified is what verify prints as JSON.
type verified struct {
	Fits      bool              `json:"fits"`
	Finding   *verifiedFinding  `json:"finding"`
	Ledger    string            `json:"ledger"`
	Entries   uint64            `json:"entries"`
	Head      string            `json:"head"`
	Root      string            `json:"root"` // of the tree over the entries
	LastEntry *time.Time        `json:"last_entry"`
	Charges   int               `json:"charges"`
	Open      int               `json:"open_charges"`
	Releases  int               `json:"releases"`
	Accounts  int               `json:"accounts"`
	Restores  int               `json:"restores"`
	Unseen    int               `json:"states_known_by_digest_only"`
	Witness   *verifiedWitness  `json:"witness"`
	Datasets  []verifiedDataset `json:"datasets"`
	WorstCase *verify.Guarantee `json:"worst_case,omitempty"`
}

type verifiedFinding struct {
	Entry *uint64 `json:"entry"` // null where it is no single entry
	Why   string  `json:"why"`
}

type verifiedWitness struct {
	Path   string    `json:"path"`
	Length uint64    `json:"length"`
	Head   string    `json:"head"`
	At     time.Time `json:"at"`
	Ahead  uint64    `json:"entries_ahead"` // of the ledger before its witness
}

type verifiedDataset struct {
	Name          string `json:"name"`
	PolicyVersion uint64 `json:"policy_version"`
	Accounts      int    `json:"accounts"`
	Cap           *spent `json:"cap"`       // null where none was charged
	Allotment     *spent `json:"allotment"` // likewise
}

// spent is the account of which the largest share is spent.
type spent struct {
	Account string   `json:"account"`
	Share   *float64 `json:"share"` // of the budget in force; null where that is nothing
}

func verifiedView(r verify.Report, witness string) (view, error) {
	body := verified{
		Fits: r.Finding == nil, Ledger: hex.EncodeToString(r.ID[:]), Entries: r.Entries, Head: hex.EncodeToString(r.Head[:]), Root: tlog.Hash(r.Root).String(),
		Charges: r.Charges, Open: r.Open, Releases: r.Releases, Accounts: r.Accounts, Restores: r.Restores, Unseen: r.Unseen, Datasets: []verifiedDataset{},
	}
	if r.Finding != nil {
		body.Finding = &verifiedFinding{Why: r.Finding.Why}
		if r.Finding.Entry != 0 {
			body.Finding.Entry = &r.Finding.Entry
		}
	}
	v := view{
		columns: []string{"dataset", "policy_version", "accounts", "cap_spent", "cap_account", "allotment_spent", "allotment_account"},
		empty:   "There is no dataset.",
	}
	for _, d := range r.Datasets {
		row := verifiedDataset{Name: d.Name, PolicyVersion: d.PolicyVersion, Accounts: d.Accounts, Cap: spentOf(d.Cap), Allotment: spentOf(d.Allotment)}
		body.Datasets = append(body.Datasets, row)
		v.rows = append(v.rows, []any{
			d.Name, d.PolicyVersion, d.Accounts, row.Cap.cell(), row.Cap.name(), row.Allotment.cell(), row.Allotment.name(),
		})
	}
	v.lines = []string{
		fmt.Sprintf("entries     %d", r.Entries),
		"head        " + body.Head,
		"root        " + body.Root,
		fmt.Sprintf("charges     %d, of them %d without an outcome", r.Charges, r.Open),
		fmt.Sprintf("releases    %d", r.Releases),
		fmt.Sprintf("accounts    %d", r.Accounts),
	}
	if r.Restores > 0 {
		v.lines = append(v.lines, fmt.Sprintf("restored    %d times from a backup", r.Restores))
	}
	if !r.Last.IsZero() {
		body.LastEntry = &r.Last
		v.lines = append(v.lines, "last entry  "+instant(r.Last))
	}
	if r.Unseen > 0 {
		v.lines = append(v.lines, fmt.Sprintf("unseen      %d passing states of long charges, of which only the digest is kept; never what they cost", r.Unseen))
	}
	switch w := r.Witness; {
	case w == nil:
		v.lines = append(v.lines, "witness     not compared: name it with --witness")
	default:
		body.Witness = &verifiedWitness{Path: witness, Length: w.Length, Head: hex.EncodeToString(w.Head[:]), At: w.At, Ahead: w.Ahead}
		line := fmt.Sprintf("witness     %s, length %d", witness, w.Length)
		if w.Ahead > 0 {
			line += fmt.Sprintf("; the ledger has %d entries more, of which nobody was told, or the witness is an old copy", w.Ahead)
		}
		v.lines = append(v.lines, line)
	}
	if body.Fits {
		v.lines = append(v.lines, "Every entry fits.")
	} else {
		v.lines = append(v.lines, "What is counted ends before what does not fit.")
	}
	if r.Guarantee != nil {
		lines, err := guaranteeLines(r.Guarantee)
		if err != nil {
			return v, err
		}
		body.WorstCase = r.Guarantee
		v.lines = append(v.lines, lines...)
	}
	v.body = body
	return v, nil
}

// guaranteeLines write a guarantee for people, as an archive does.
func guaranteeLines(g *verify.Guarantee) ([]string, error) {
	text, err := g.JSON()
	if err == nil {
		text, err = statementText(text)
	}
	if err != nil {
		return nil, err
	}
	return append([]string{""}, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...), nil
}

func spentOf(s *verify.Share) *spent {
	switch {
	case s == nil:
		return nil
	case math.IsInf(s.Spent, 0):
		return &spent{Account: s.Account}
	}
	return &spent{s.Account, &s.Spent}
}

func (s *spent) name() any {
	if s == nil {
		return nil
	}
	return s.Account
}

func (s *spent) cell() any {
	if s == nil || s.Share == nil {
		return nil
	}
	return portion(*s.Share)
}

// portion is a share that people see in hundredths, and programs as it is.
type portion float64

func (p portion) String() string { return percent(float64(p)) + " %" }

func (p portion) machine() string { return strconv.FormatFloat(float64(p), 'g', -1, 64) }
