package wire

import "time"

// ReportSpec is a batch of questions, priced and charged as one and answered in the background.
type ReportSpec struct {
	Name        string             `json:"name" doc:"What the report is, for people" example:"Spend by department"`
	Dataset     string             `json:"dataset,omitempty" doc:"Of every question that names none" example:"transactions"`
	Purpose     string             `json:"purpose,omitempty" doc:"Of every question that states none" example:"reporting"`
	From        string             `json:"from,omitempty" doc:"First date, included, of every question that states no dates; of a scheduled report, a day of the first block" example:"2026-01-01"`
	To          string             `json:"to,omitempty" doc:"Last date, included; of a scheduled report, a day of the last block" example:"2026-03-31"`
	Confidence  Decimal            `json:"confidence,omitempty" doc:"Of the intervals of every question that states none"`
	Epsilon     Decimal            `json:"epsilon,omitempty" doc:"What all questions that state no price of their own may spend together, for each touched block"`
	Delta       Decimal            `json:"delta,omitempty" doc:"Likewise"`
	Weights     map[string]Decimal `json:"weights,omitzero" doc:"How much of epsilon and delta goes to a question, by its name; 1 where absent"`
	Equalise    string             `json:"equalise,omitempty" enum:"relative_error" doc:"Split epsilon so that intervals are of one width relative to their figures, as large as releases that you hold say"`
	Schedule    string             `json:"schedule,omitempty" enum:"per_block" doc:"Ask of every block once it has ended and was loaded, until the report is deleted"`
	NonNegative bool               `json:"non_negative,omitempty" doc:"Of every question that is reconciled: no figure below 0"`
	Queries     []ReportQuery      `json:"queries" doc:"At most 50"`
}

// ReportQuery is one question of a report: one of POST /v1/queries, which need not repeat what the report says.
type ReportQuery struct {
	Name string `json:"name,omitempty" doc:"By which the report names it; q1, q2, … where absent" example:"spend"`
	ReportQuestion
}

// ReportQuestion has the fields of Query that say what is drawn; a report's answers are shown whole.
type ReportQuestion struct {
	Dataset       string                `json:"dataset,omitempty" doc:"The report's where absent"`
	Metrics       []string              `json:"metrics" doc:"Names of the dataset's metrics, or of those in define" example:"[\"spend\"]"`
	Define        []Definition          `json:"define,omitzero" doc:"Metrics that this query brings itself"`
	By            []string              `json:"by,omitzero" doc:"Dimensions and time keys" example:"[\"merchant_category\",\"time.month\"]"`
	Where         []Condition           `json:"where,omitzero" doc:"Conditions that every row must meet"`
	From          string                `json:"from,omitempty" doc:"The report's where from and to are absent"`
	To            string                `json:"to,omitempty"`
	Purpose       string                `json:"purpose,omitempty" doc:"The report's where absent"`
	Within        map[string]Decimal    `json:"within,omitzero" doc:"Half-width of the interval to reach, per metric; its price is then its own"`
	Epsilon       Decimal               `json:"epsilon,omitempty" doc:"What to spend; its price is then its own"`
	Delta         Decimal               `json:"delta,omitempty"`
	Confidence    Decimal               `json:"confidence,omitempty"`
	Clamp         map[string][2]Decimal `json:"clamp,omitzero"`
	MaxPartitions int64                 `json:"max_partitions,omitempty"`
	SpendAtMost   *SpendAtMost          `json:"spend_at_most,omitempty"`
	Fresh         bool                  `json:"fresh,omitempty"`
	Reconcile     [][]string            `json:"reconcile,omitzero" doc:"Coarser levels, each a list of some of by, that are made to add up" example:"[[\"time.month\"],[]]"`
	NonNegative   bool                  `json:"non_negative,omitempty" doc:"Of reconciled figures: none below 0"`
	Cohorts       []Cohort              `json:"cohorts,omitzero" doc:"Count only customers who are in all of these"`
	First         *First                `json:"first,omitempty" doc:"Which row is a customer's first appearance"`
	Funnel        *Funnel               `json:"funnel,omitempty" doc:"Count customers by how many of these steps they took"`
}

// Query is the question as POST /v1/queries takes it.
func (q ReportQuestion) Query() Query {
	return Query{
		Dataset: q.Dataset, Metrics: q.Metrics, Define: q.Define, By: q.By, Where: q.Where, From: q.From, To: q.To,
		Purpose: q.Purpose, Within: q.Within, Epsilon: q.Epsilon, Delta: q.Delta, Confidence: q.Confidence, Clamp: q.Clamp,
		MaxPartitions: q.MaxPartitions, SpendAtMost: q.SpendAtMost, Fresh: q.Fresh, Reconcile: q.Reconcile,
		NonNegative: q.NonNegative, Cohorts: q.Cohorts, First: q.First, Funnel: q.Funnel,
	}
}

// Report is how a batch of questions stands.
type Report struct {
	ID        string      `json:"id" example:"rep_01k3x8"`
	Name      string      `json:"name" example:"Spend by department"`
	State     string      `json:"state" enum:"queued,running,done,failed,cancelled" doc:"failed: all questions have ended, some without an answer. A scheduled report that waits for a block is queued" example:"done"`
	Created   time.Time   `json:"created"`
	Cancelled *time.Time  `json:"cancelled,omitempty"`
	Scheduled bool        `json:"scheduled" doc:"It has a run for every block that ends, until it is deleted"`
	Progress  Progress    `json:"progress"`
	Runs      []ReportRun `json:"runs"`
}

// Progress counts questions.
type Progress struct {
	Ended int `json:"ended" example:"2"`
	All   int `json:"all" example:"2"`
}

// ReportRun is one time that a report's questions are asked, charged together.
type ReportRun struct {
	Number  uint64       `json:"number" example:"1"`
	Block   string       `json:"block,omitempty" doc:"That a scheduled run is about" example:"2026-01"`
	State   string       `json:"state" enum:"queued,running,done,failed" example:"done"`
	At      time.Time    `json:"at" doc:"When it was charged or refused"`
	Refused *PartFailure `json:"refused,omitempty" doc:"Why nothing of it was charged"`
	Charges []BlockCost  `json:"charges" doc:"What it cost the accounts of each block, all questions together"`
	Parts   []ReportPart `json:"parts"`
}

// BlockCost is a sum of charges on one block.
type BlockCost struct {
	Dataset string  `json:"dataset" example:"transactions"`
	Block   string  `json:"block" example:"2026-01"`
	Epsilon Decimal `json:"epsilon"`
	Delta   Decimal `json:"delta"`
	Rho     Decimal `json:"rho,omitempty" doc:"Absent where no bound is known"`
}

// ReportPart is one question of a run.
type ReportPart struct {
	Name     string       `json:"name" example:"spend"`
	State    string       `json:"state" enum:"queued,running,done,failed" example:"done"`
	Dataset  string       `json:"dataset" example:"transactions"`
	Release  string       `json:"release,omitempty" doc:"Its answer, once there is one" example:"rel_01k3x8"`
	Stale    bool         `json:"stale" doc:"Newer rows were loaded into the blocks of its answer since it was drawn" example:"false"`
	Failure  *PartFailure `json:"failure,omitempty" doc:"Why there is none"`
	Attempts int          `json:"attempts" doc:"How often it was tried to answer it, at most three times" example:"1"`
	Charge   *Charge      `json:"charge,omitempty" doc:"Its part of the price; absent where you held the answer already"`
}

// PartFailure is why a question has no answer, or a run was not charged.
type PartFailure struct {
	Code    string   `json:"code" example:"budget-exhausted"`
	Detail  string   `json:"detail" example:"This costs more than the account has left."`
	Places  []string `json:"places,omitzero" doc:"What is wrong where"`
	Epsilon Decimal  `json:"epsilon,omitempty" doc:"What it would have cost"`
	Left    *Left    `json:"left,omitempty" doc:"The account with least room"`
}

// ReportList is a page of the caller's reports, newest first.
type ReportList struct {
	Items []Report `json:"items"`
	Next  string   `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// ReportPlan is what a report would cost. Asking for it is free and sees no row.
type ReportPlan struct {
	Queries []PlannedQuery `json:"queries"`
	Charges []BlockCost    `json:"charges" doc:"What it would cost the accounts of each block, all questions together"`
	Left    []Left         `json:"left" doc:"For each dataset, the account with least room, as of now; similar_queries counts reports like this"`
}

// PlannedQuery is one question of a report, priced.
type PlannedQuery struct {
	Name string `json:"name" example:"spend"`
	Plan Plan   `json:"plan"`
}
