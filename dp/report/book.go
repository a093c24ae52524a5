package report

import (
	"context"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// Book keeps reports durably, beside the charges that pay for them.
type Book interface {
	// BeginReport records a report and, in the same durable transaction, charges its first run; a scheduled report has
	// none. One that is known by its id is returned as it stands, or is CodeConflict where another body asked for it.
	// Refused means that nothing changed: CodeBudgetExhausted with what the whole run costs, answer.ErrPolicyChanged,
	// and whatever else answer.Ledger says of a charge; CodeConflict also for a further one of MaxScheduled.
	BeginReport(ctx context.Context, r dp.Report, body [32]byte, first *NewRun) (dp.Report, error)
	// AddRun charges a further run of a scheduled report. A run of this number that exists is left as it is.
	AddRun(ctx context.Context, id string, number uint64, run NewRun) error
	// EndParts gives a failure as outcome to those of a report's charges that have none.
	EndParts(ctx context.Context, id string, charges []string, why dp.Error) error
	// CancelReport ends a consumer's report: charges without an outcome get a failure. What was charged stands. One that
	// has ended is returned as it stands.
	CancelReport(ctx context.Context, consumer, id string, why dp.Error) (dp.Report, error)
	// Report returns a consumer's report, or CodeNotFound.
	Report(ctx context.Context, consumer, id string) (dp.Report, error)
	// Reports lists a consumer's reports, the last first.
	Reports(ctx context.Context, consumer, cursor string, limit int) (list []dp.Report, next string, err error)
	// OpenReports returns the reports of all consumers that have questions without an outcome, or runs to come. It does not
	// say which answers are stale.
	OpenReports(ctx context.Context) ([]dp.Report, error)
	// Left returns the touched account with least room and how many charges of this loss it still admits.
	Left(ctx context.Context, consumer, dataset string, blocks []string, loss dp.Loss, also ...dp.Touched) (dp.Left, error)
	// LoadedBlocks names the blocks of a dataset that a load covered, in calendar order.
	LoadedBlocks(ctx context.Context, dataset string) ([]string, error)
}

// NewRun is a run that is to be charged, or that was refused.
type NewRun struct {
	Block   string // of a scheduled run
	Refused *dp.Error
	Parts   []NewPart
}

// NewPart is one question of it.
type NewPart struct {
	Name   string
	Query  dp.Query
	Held   string               // release that answers it for nothing; empty: Charge pays
	Charge answer.ChargeRequest // with the key under which the question is asked when it is its turn
}
