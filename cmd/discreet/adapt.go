package main

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/api"
	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/archive"
	"github.com/discreet-analytics/discreet/store/columnar"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/load"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// The ledger knows nothing of the API's words for paging, nor the API of the ledger's: these types stand
// between them and decide nothing.

// directory is the ledger as api.Directory.
type directory struct{ *ledger.Ledger }

// Authenticate gives the consumer of a key, and the key's id.
func (d directory) Authenticate(ctx context.Context, hash [32]byte) (dp.Consumer, string, error) {
	consumer, key, err := d.Ledger.Authenticate(ctx, hash)
	return consumer, key.ID, err
}

// keeper is the ledger as api.Ledger.
type keeper struct {
	ledger *ledger.Ledger
	rows   *columnar.Store
	log    *slog.Logger
}

// Status tells of the ledger.
func (k keeper) Status() api.LedgerStatus {
	s := k.ledger.Status()
	return api.LedgerStatus{State: string(s.State), Reason: s.Reason, ID: s.ID, Length: s.Length, Head: hex.EncodeToString(s.Head[:]), Witness: s.Witness}
}

// WriteOff writes off what may be missing.
func (k keeper) WriteOff(ctx context.Context, actor, reason string, amount dp.Budget) error {
	if err := k.ledger.WriteOff(ctx, actor, reason, &amount); err != nil {
		return err
	}
	// A ledger that refused did not hear of erasures that came with a restore.
	if err := k.rows.RecordErasures(context.WithoutCancel(ctx)); err != nil {
		k.log.Warn("rows: erasures are recorded with their run", "error", err)
	}
	return nil
}

// auditLog is the ledger, and the key that signs for it, as api.Audit.
type auditLog struct {
	ledger *ledger.Ledger
	signer *secrets.LogSigner
	clock  func() time.Time
}

// Note takes down what happened.
func (a auditLog) Note(e dp.AuditEvent) { a.ledger.Note(e) }

// Lines lists entries.
func (a auditLog) Lines(ctx context.Context, f dp.AuditFilter, p api.Page) ([]dp.AuditLine, string, uint64, error) {
	return a.ledger.AuditLines(ctx, f, p.Cursor, p.Limit)
}

// Checkpoint signs the log as it stands.
func (a auditLog) Checkpoint(ctx context.Context) (dp.AuditCheckpoint, error) {
	return a.ledger.Checkpoint(ctx, a.signer)
}

// Proof proves that an entry is in the log.
func (a auditLog) Proof(ctx context.Context, index, size uint64) (dp.AuditProof, [32]byte, error) {
	p, err := a.ledger.AuditProof(ctx, index, size)
	return p, tlog.RecordHash(p.Entry), err
}

// Consistency proves that the log continues an earlier one.
func (a auditLog) Consistency(ctx context.Context, from, to uint64) ([][32]byte, uint64, error) {
	return a.ledger.AuditConsistency(ctx, from, to)
}

// Export takes the log as it stands, for an archive.
func (a auditLog) Export(ctx context.Context) (api.AuditExport, error) {
	s, err := a.ledger.Snapshot(ctx)
	if err != nil {
		return api.AuditExport{}, err
	}
	options := archive.Options{
		Created: a.clock(), Program: archive.Program{Version: version(), Revision: revision()}, Signer: a.signer, Key: a.signer.Verifier(),
		Policy: policyfile.Format, Privacy: []byte(dp.PrivacyDocument()),
	}
	return api.AuditExport{Size: s.Length, Write: func(ctx context.Context, w io.Writer) error {
		defer s.Close()
		return archive.Write(ctx, w, s.Record(ctx), options)
	}}, nil
}

// releases is the ledger as api.Releases.
type releases struct{ *ledger.Ledger }

// Held lists what a consumer holds.
func (r releases) Held(ctx context.Context, consumer, dataset string, p api.Page) ([]dp.Release, string, error) {
	return r.Ledger.Held(ctx, consumer, dataset, p.Cursor, p.Limit)
}

// accounts is the ledger as api.Accounts.
type accounts struct{ *ledger.Ledger }

// OfConsumer lists a consumer's accounts.
func (a accounts) OfConsumer(ctx context.Context, consumer, dataset string, p api.Page) ([]dp.Account, string, error) {
	return a.Accounts(ctx, consumer, dataset, p.Cursor, p.Limit)
}

// OfDataset lists a dataset's accounts.
func (a accounts) OfDataset(ctx context.Context, dataset string, p api.Page) ([]dp.Account, string, error) {
	return a.DatasetAccounts(ctx, dataset, p.Cursor, p.Limit)
}

// Entries lists what a consumer was charged.
func (a accounts) Entries(ctx context.Context, consumer, dataset string, p api.Page) ([]dp.Entry, string, error) {
	return a.Ledger.Entries(ctx, consumer, dataset, p.Cursor, p.Limit)
}

// consumers is the ledger as api.Consumers.
type consumers struct{ *ledger.Ledger }

// All lists the consumers.
func (c consumers) All(ctx context.Context) ([]dp.Consumer, error) { return c.Consumers(ctx) }

// requests is the ledger as api.Requests.
type requests struct{ *ledger.Ledger }

// Requests lists what consumers asked for.
func (r requests) Requests(ctx context.Context, f dp.RequestFilter, p api.Page) ([]dp.BudgetRequest, string, error) {
	return r.Ledger.Requests(ctx, f, p.Cursor, p.Limit)
}

// proposals is the ledger as api.Proposals.
type proposals struct{ *ledger.Ledger }

// Proposals lists what takes two officers.
func (p proposals) Proposals(ctx context.Context, open bool, page api.Page) ([]dp.Proposal, string, error) {
	return p.Ledger.Proposals(ctx, open, page.Cursor, page.Limit)
}

// rowsDesk is the store of rows, with the ledger's records of loads and erasures, as api.Rows.
type rowsDesk struct {
	rows   *columnar.Store
	ledger *ledger.Ledger
	loaded func() // is called after a load
}

// Load takes rows in.
func (d rowsDesk) Load(ctx context.Context, p dp.VersionedPolicy, s api.LoadSpec, body io.Reader, verify func() error) (api.LoadReport, error) {
	format, err := load.ParseFormat(string(s.Format))
	if err != nil {
		return api.LoadReport{}, err
	}
	spec := columnar.LoadSpec{Name: s.Name, Format: format, DryRun: s.DryRun}
	if spec.From, err = parseDay("from", s.From); err != nil {
		return api.LoadReport{}, err
	}
	if spec.To, err = parseDay("to", s.To); err != nil {
		return api.LoadReport{}, err
	}
	report, err := d.rows.Load(ctx, p, spec, body, verify)
	if err == nil && !s.DryRun {
		d.loaded()
	}
	out := api.LoadReport{Load: report.Load, Repeat: report.Repeated, Accepted: report.Accepted, Rejected: report.Rejected}
	for _, r := range report.Rejects {
		out.Rejects = append(out.Rejects, api.Reject(r))
	}
	return out, err
}

// Loads lists the loads of a dataset, the newest first.
func (d rowsDesk) Loads(ctx context.Context, dataset string, p api.Page) ([]dp.Load, string, error) {
	all, err := d.ledger.Loads(ctx, dataset)
	if err != nil {
		return nil, "", err
	}
	return pageOfLoads(all, p)
}

// Erase takes down who is to be erased.
func (d rowsDesk) Erase(ctx context.Context, p dp.VersionedPolicy, s api.EraseSpec, body io.Reader, verify func() error) (dp.Erasure, error) {
	spec := columnar.EraseSpec{By: s.By, Format: columnar.Lines, Repeat: s.Repeat}
	if s.Format != api.Lines {
		var err error
		if spec.Format, err = load.ParseFormat(string(s.Format)); err != nil {
			return dp.Erasure{}, err
		}
	}
	return d.rows.Erase(ctx, p, spec, body, verify)
}

// Erasures lists the erasures of a dataset, the newest first.
func (d rowsDesk) Erasures(ctx context.Context, dataset string, p api.Page) ([]dp.Erasure, string, error) {
	return d.ledger.Erasures(ctx, dataset, p.Cursor, p.Limit)
}

// RunErasures has what waits to be erased leave the files now.
func (d rowsDesk) RunErasures() { d.rows.EraseSoon() }

// parseDay reads a date that may be absent.
func parseDay(name, text string) (rows.Date, error) {
	if text == "" {
		return rows.Date{}, nil
	}
	day, err := rows.ParseDate(text)
	if err != nil {
		return rows.Date{}, &dp.Error{
			Code: dp.CodeInvalidInput, Message: "write from and to as dates such as 2026-01-31",
			Locations: []dp.Location{{Path: name, Message: err.Error()}},
		}
	}
	return day, nil
}

// pageOfLoads cuts a page out of loads in the order in which they began, the newest first. The cursor is the
// number of the last load of the page before.
func pageOfLoads(all []dp.Load, p api.Page) (page []dp.Load, next string, err error) {
	all = slices.Clone(all)
	slices.Reverse(all)
	if p.Cursor != "" {
		before, err := strconv.ParseUint(p.Cursor, 10, 64)
		if err != nil {
			return nil, "", &dp.Error{Code: dp.CodeInvalidInput, Message: "the cursor is none of ours: begin at the first page"}
		}
		all = slices.DeleteFunc(all, func(l dp.Load) bool { return l.ID >= before })
	}
	if p.Limit > 0 && len(all) > p.Limit {
		all = all[:p.Limit]
		next = strconv.FormatUint(all[p.Limit-1].ID, 10)
	}
	return all, next, nil
}
