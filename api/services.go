package api

import (
	"context"
	"io"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/exposure"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/dp/report"
)

// Services are what the API needs of the rest of Discreet. All but Tokens are required. Every method may return a
// *dp.Error, which callers see; any other error becomes an internal one that only the log describes.
type Services struct {
	Directory Directory
	Tokens    Tokens // nil: keys alone sign in
	Asker     Asker
	Releases  Releases
	Reports   Reports
	Catalog   Catalog
	Rows      Rows
	Accounts  Accounts
	Exposure  Exposure
	Consumers Consumers
	Office    Office
	Requests  Requests
	Proposals Proposals
	Ledger    Ledger
	Backups   Backups // NoBackups where none are kept
	Audit     Audit
	// Ready returns nil when queries can be answered. It must not take long.
	Ready func(ctx context.Context) error
}

// Directory knows who holds a key, and whom tokens are about.
type Directory interface {
	// Authenticate returns the consumer of a key that is in force now, given the SHA-256 of its whole text
	// ("dk_" included), and the key's id. Unknown, expired and revoked keys are a dp.Error with
	// CodeUnauthenticated.
	Authenticate(ctx context.Context, hash [32]byte) (c dp.Consumer, key string, err error)
	// Subject returns the consumer that tokens about a subject sign in, or a dp.Error with CodeUnauthenticated, also of
	// one that is suspended.
	Subject(ctx context.Context, subject string) (dp.Consumer, error)
}

// Asker answers and prices queries, and compares what they led to (dp/answer.Service).
type Asker interface {
	// Ask answers a query. The idempotency key is empty when the caller gave none.
	Ask(ctx context.Context, asker dp.Consumer, q dp.Query, idempotencyKey string) (answer.Answer, error)
	// Plan prices a query, without reading a row and without a charge.
	Plan(ctx context.Context, asker dp.Consumer, q dp.Query) (answer.Quote, error)
	// Compare says how figures differ of releases that the consumer holds.
	Compare(ctx context.Context, asker dp.Consumer, c answer.Comparison) (answer.Compared, error)
}

// Page asks for one page of a list.
type Page struct {
	Cursor string // where the last page ended, as it was returned; empty for the first
	Limit  int    // at least 1
}

// Releases are read by the consumers who hold them.
type Releases interface {
	// Release returns a release that the consumer holds and may still read, or a dp.Error with CodeNotFound or
	// CodePurposeNotAllowed.
	Release(ctx context.Context, consumer, id string) (dp.Release, error)
	// MayRead returns nil where the policies in force, and the consumer as it stands, let it have what was drawn from
	// all of these datasets. It is asked for every reading, and quick.
	MayRead(ctx context.Context, consumer string, datasets []string) error
	// Held lists the releases that the consumer holds and may read, newest first, of one dataset or (empty) of all. Their
	// Groups and NoisedCoordinates may be left out. The returned cursor is empty after the last page.
	Held(ctx context.Context, consumer, dataset string, p Page) (list []dp.Release, next string, err error)
}

// Reports are batches of questions (dp/report.Service). Each consumer sees its own alone.
type Reports interface {
	// Plan prices a report, without reading a row and without a charge.
	Plan(ctx context.Context, asker dp.Consumer, spec report.Spec) (report.Plan, error)
	// Submit charges a report, or schedules it, and has it made in the background.
	Submit(ctx context.Context, asker dp.Consumer, spec report.Spec, idempotencyKey string) (dp.Report, error)
	// Report returns a report, or a dp.Error with CodeNotFound.
	Report(ctx context.Context, consumer, id string) (dp.Report, error)
	// Reports lists reports, newest first. The returned cursor is empty after the last page.
	Reports(ctx context.Context, consumer, cursor string, limit int) (list []dp.Report, next string, err error)
	Cancel(ctx context.Context, consumer, id string) (dp.Report, error)
	// Changed is closed as soon as any report has changed.
	Changed() <-chan struct{}
}

// Catalog knows the datasets.
type Catalog interface {
	// Policy returns the policy in force, or a dp.Error with CodeNotFound.
	Policy(ctx context.Context, dataset string) (dp.VersionedPolicy, error)
	// PolicyAt returns a version of a policy, or a dp.Error with CodeNotFound.
	PolicyAt(ctx context.Context, dataset string, version uint64) (dp.VersionedPolicy, error)
	// Policies returns all policies in force, sorted by name.
	Policies(ctx context.Context) ([]dp.VersionedPolicy, error)
	// Retention says which blocks of a dataset are retired, and before which month (empty: no more) blocks end that the next
	// run retires.
	Retention(ctx context.Context, dataset string) (retired dp.Retirement, next string, err error)
}

// Rows takes in what custodians deliver.
type Rows interface {
	// Load reads all of body, calls verify once body has ended, and commits nothing if verify fails: body
	// may end early and cleanly when an upload was cut. An error of body or of verify is returned as it is.
	// Rows are read by the policy that is given, whatever is in force by then.
	Load(ctx context.Context, p dp.VersionedPolicy, s LoadSpec, body io.Reader, verify func() error) (LoadReport, error)
	// Loads lists the committed loads of a dataset, newest first.
	Loads(ctx context.Context, dataset string, p Page) (list []dp.Load, next string, err error)
	// Erase reads all of body, calls verify once it has ended, and records nothing if verify fails. What it returns
	// does not depend on whether the customers that body names were there.
	Erase(ctx context.Context, p dp.VersionedPolicy, s EraseSpec, body io.Reader, verify func() error) (dp.Erasure, error)
	// Erasures lists the erasures of a dataset, newest first.
	Erasures(ctx context.Context, dataset string, p Page) (list []dp.Erasure, next string, err error)
	// RunErasures has what waits to be erased, and what is retired, of all datasets, leave the files now; it does not wait
	// for that.
	RunErasures()
}

// EraseSpec says what a body of identifiers is.
type EraseSpec struct {
	By     string // the custodian
	Format Format // CSV, NDJSON or Lines
	Repeat string // the idempotency key; empty when the caller gave none
}

// LoadSpec says what a body of rows is.
type LoadSpec struct {
	By       string // the custodian
	Name     string // names the load; a repeat of the same content adds nothing. Empty: a digest of the content does
	Format   Format
	From, To string // dates, both included: the whole blocks that the load covers. Empty: none were given
	DryRun   bool   // reads and reports, commits nothing
}

// Format is how rows are written.
type Format string

// The formats of rows, and of identifiers.
const (
	CSV     Format = "csv"
	NDJSON  Format = "ndjson"
	Parquet Format = "parquet"
	Lines   Format = "lines" // of identifiers, one on each
)

// LoadReport is what became of a body of rows.
type LoadReport struct {
	Load     dp.Load // as committed; of a dry run, what would have been
	Repeat   bool    // the same content was loaded under this name before: nothing was added
	Accepted int64
	Rejected int64
	// Rejects are the first rejected rows by line. Their reasons never hold a value.
	Rejects []Reject
}

// Reject is a row that was not loaded.
type Reject struct {
	Line   int64 // counts from 1, the header included; of Parquet, the row
	Reason string
}

// Accounts are what officers, auditors and the consumers themselves see of budgets.
type Accounts interface {
	// OfConsumer lists the allotment accounts of a consumer that have been charged, sorted by dataset and
	// block, of one dataset or (empty) of all.
	OfConsumer(ctx context.Context, consumer, dataset string, p Page) (list []dp.Account, next string, err error)
	// OfDataset lists the accounts of a dataset that have been charged, its caps and every consumer's
	// allotments, sorted by block with the cap first.
	OfDataset(ctx context.Context, dataset string, p Page) (list []dp.Account, next string, err error)
	// Entries lists what a consumer was charged, newest first, on one dataset or (empty) on all.
	Entries(ctx context.Context, consumer, dataset string, p Page) (list []dp.Entry, next string, err error)
}

// Exposure reads what the worst case of a dataset follows from.
type Exposure interface {
	// Exposure returns budgets and charges as they stood at one moment, or a dp.Error with CodeNotFound.
	Exposure(ctx context.Context, dataset string) (exposure.Book, error)
}

// Ledger is the ledger as those see it who keep it.
type Ledger interface {
	// Status returns what the ledger says of itself.
	Status() LedgerStatus
	// WriteOff counts as spent whatever may be missing from the ledger, at least so much on every account, and
	// has it take charges again.
	WriteOff(ctx context.Context, actor, reason string, amount dp.Budget) error
}

// Audit is the tamper-evident log of all that happened.
type Audit interface {
	// Note takes down what changes nothing and is to be in the log all the same. It neither waits nor fails.
	Note(e dp.AuditEvent)
	// Lines lists the entries that a filter admits, and how many the log has. A page looks at so many entries only: the
	// cursor is empty once there are no more to look at.
	Lines(ctx context.Context, f dp.AuditFilter, p Page) (lines []dp.AuditLine, next string, size uint64, err error)
	// Checkpoint signs the log as it stands.
	Checkpoint(ctx context.Context) (dp.AuditCheckpoint, error)
	// Proof proves that an entry is in the log of a size, 0 for the whole, and gives the hash of its leaf; or returns a
	// dp.Error with CodeNotFound.
	Proof(ctx context.Context, index, size uint64) (p dp.AuditProof, leaf [32]byte, err error)
	// Export takes the whole log as it stands, for an archive.
	Export(ctx context.Context) (AuditExport, error)
	// Consistency proves that the log of one size continues in that of another, 0 for the whole, whose size it returns.
	Consistency(ctx context.Context, from, to uint64) (hashes [][32]byte, of uint64, err error)
}

// AuditExport is the log as it stood at one moment, on its way to somebody. Write is called once, and lets go of it.
type AuditExport struct {
	Size  uint64 // entries
	Write func(ctx context.Context, w io.Writer) error
}

// Backups are made beside the server, and never sent.
type Backups interface {
	// Begin begins a backup, or returns the one that the same caller began under the same key, which may be empty. While
	// another one is being made it is a dp.Error with CodeConflict.
	Begin(ctx context.Context, by, idempotencyKey string) (Backup, error)
	// Backups lists all of them, newest first, by ID.
	Backups(ctx context.Context) ([]Backup, error)
}

// Backup is what became of a backup.
type Backup struct {
	ID, By, State string // By is empty where the schedule asked for it; State: running, done or failed
	Begun, Ended  time.Time
	Bytes         int64
	Ledger        string // id
	Length        uint64 // of the ledger; 0 until its moment was taken
	Head          string // hexadecimal
	Files         []string
	SHA256        string // of the first file, hexadecimal
	Encrypted     bool
	Error         string
}

// LedgerStatus is what a ledger says of itself.
type LedgerStatus struct {
	State   string // ok, or why it takes no charges and no changes
	Reason  string // empty while the state is ok
	ID      string
	Length  uint64
	Head    string // hexadecimal
	Witness string // path
}

// ledgerOK is the state of a ledger that takes charges.
const ledgerOK = "ok"

// Consumers are read by officers, and by a consumer who asks about itself.
type Consumers interface {
	// Consumer returns a consumer, or a dp.Error with CodeNotFound.
	Consumer(ctx context.Context, name string) (dp.Consumer, error)
	// All returns every consumer, sorted by name.
	All(ctx context.Context) ([]dp.Consumer, error)
	// Keys returns every key of a consumer, revoked ones included, oldest first.
	Keys(ctx context.Context, consumer string) ([]dp.Key, error)
	// Allotments returns every allotment of a consumer, sorted by dataset.
	Allotments(ctx context.Context, consumer string) ([]dp.Allotment, error)
}

// Office decides every change of policy, budget, consumer and key (dp/office). What takes a second officer is an
// *office.Waiting. An ifMatch is the version that
// the caller saw, nil where the caller gave none; where one is due, refusing its absence is the office's.
type Office interface {
	ApplyPolicy(ctx context.Context, actor string, p dp.Policy, ifMatch *uint64, reason string) (applied dp.VersionedPolicy, created bool, err error)
	CreateConsumer(ctx context.Context, actor string, c dp.Consumer, reason string) (dp.Consumer, error)
	PatchConsumer(ctx context.Context, actor, name string, patch office.ConsumerPatch, ifMatch *uint64, reason string) (dp.Consumer, error)
	// IssueKey makes a key, whose text is returned here once and kept nowhere; it is empty where its hash was given.
	IssueKey(ctx context.Context, actor string, n office.NewKey, reason string) (text string, k dp.Key, err error)
	// RotateKey makes a key and has all others of the consumer end after a grace, and gives those as they are then.
	RotateKey(ctx context.Context, actor, consumer string, grace time.Duration, expires time.Time, reason string) (text string, k dp.Key, ending []dp.Key, err error)
	// RevokeKey ends a key, and those that were made under it.
	RevokeKey(ctx context.Context, actor, consumer, id, reason string) (dp.Key, error)
	// IssueOwnKey makes a key of a consumer under one that it holds, which ends after a grace where one is given.
	IssueOwnKey(ctx context.Context, consumer, under string, grace *time.Duration, expires time.Time) (text string, k dp.Key, ending []dp.Key, err error)
	RevokeOwnKey(ctx context.Context, consumer, id string) (dp.Key, error)
	SetAllotment(ctx context.Context, actor string, a dp.Allotment, ifMatch *uint64, reason string) (set dp.Allotment, created bool, err error)
	// RequestBudget makes a request of a consumer, or returns the one that is the same. The idempotency key is empty
	// when the caller gave none.
	RequestBudget(ctx context.Context, consumer string, r dp.BudgetRequest, idempotencyKey string) (made dp.BudgetRequest, created bool, err error)
	DecideRequest(ctx context.Context, actor, id string, d office.Decision, ifMatch *uint64, reason string) (dp.BudgetRequest, dp.Allotment, error)
	WithdrawRequest(ctx context.Context, consumer, id, reason string) (dp.BudgetRequest, error)
	DecideProposal(ctx context.Context, actor, id string, confirm bool, reason string) (dp.Proposal, error)
	WithdrawProposal(ctx context.Context, actor, id, reason string) (dp.Proposal, error)
}

// Proposals are what officers decided that takes two of them.
type Proposals interface {
	// Proposal returns a proposal, or a dp.Error with CodeNotFound.
	Proposal(ctx context.Context, id string) (dp.Proposal, error)
	// Proposals lists all of them, or those that are open, newest first. The returned cursor is empty after the last page.
	Proposals(ctx context.Context, open bool, p Page) (list []dp.Proposal, next string, err error)
}

// Requests are what consumers asked officers for. Who may see which is decided here, not by them.
type Requests interface {
	// Request returns a request, or a dp.Error with CodeNotFound.
	Request(ctx context.Context, id string) (dp.BudgetRequest, error)
	// Requests lists those that a filter admits, newest first. The returned cursor is empty after the last page.
	Requests(ctx context.Context, f dp.RequestFilter, p Page) (list []dp.BudgetRequest, next string, err error)
	// Grounds tells what a request is decided on, or a dp.Error with CodeNotFound.
	Grounds(ctx context.Context, id string) (office.Grounds, error)
}
