package wire

import (
	"encoding/json"
	"time"
)

// Dataset is a policy in force and what can be asked under it.
type Dataset struct {
	Name    string          `json:"name" example:"transactions"`
	Kind    string          `json:"kind" enum:"engagement,transactions,custom" example:"transactions"`
	Version uint64          `json:"version" doc:"Of the policy; what If-Match compares, as an ETag" example:"1"`
	Policy  json.RawMessage `json:"policy" doc:"The policy as JSON, in the shape of a policy file"`
	Metrics []Metric        `json:"metrics" doc:"Every metric that can be asked by name, built-in ones included"`
	Keys    []string        `json:"keys" doc:"What by and where may name: dimensions and time keys" example:"[\"merchant_category\",\"time.month\"]"`
	// Retention is absent where rows are kept for ever and always were.
	Retention *Retention `json:"retention,omitempty" doc:"Absent where rows are kept for ever"`
}

// Retention says which rows of a dataset are kept.
type Retention struct {
	KeptFrom     string     `json:"kept_from,omitempty" doc:"Blocks that end before this day are retired: their rows are gone, and questions about them refused. Absent: none is" example:"2024-01-01"`
	RetiredAt    *time.Time `json:"retired_at,omitempty" doc:"Since when"`
	Gone         bool       `json:"gone,omitempty" doc:"Their rows have left the files; nobody who asks questions is told"`
	NextKeptFrom string     `json:"next_kept_from,omitempty" doc:"Blocks that end before this day are retired by the next run. Absent: no more are" example:"2024-02-01"`
}

// Metric is a question that can be asked by name.
type Metric struct {
	Name      string  `json:"name" example:"spend"`
	Aggregate string  `json:"aggregate" example:"sum"`
	Measure   string  `json:"measure,omitempty" example:"amount"`
	Lower     Decimal `json:"lower,omitempty" doc:"Lower clamp in the measure's own unit"`
	Upper     Decimal `json:"upper,omitempty" doc:"Upper clamp in the measure's own unit"`
	Rank      Decimal `json:"rank,omitempty" doc:"Of a quantile, between 0 and 1"`
	// Numerator, Denominator and Of are names of metrics that are answered, and paid for, beside this one.
	Numerator   string `json:"numerator,omitempty" doc:"Of a ratio: the metric above the line"`
	Denominator string `json:"denominator,omitempty" doc:"Of a ratio: the metric below the line"`
	PerDay      bool   `json:"per_day,omitempty" doc:"True where a ratio is divided by the days of its group"`
	Of          string `json:"of,omitempty" doc:"Of a share: the metric of which it is a part"`
	Per         string `json:"per,omitempty" enum:"customer" doc:"customer: reads one number of each customer and block in a group in place of rows"`
	// Distinct are fields; Where is as a query has it.
	Distinct []string    `json:"distinct,omitzero" doc:"With per: of which dimensions and time keys the combinations are counted"`
	Where    []Condition `json:"where,omitzero" doc:"Conditions of the metric's own: other rows do not count for it"`
}

// DatasetHead is a dataset as lists show it.
type DatasetHead struct {
	Name     string   `json:"name" example:"transactions"`
	Kind     string   `json:"kind" enum:"engagement,transactions,custom" example:"transactions"`
	Version  uint64   `json:"version" doc:"Of the policy" example:"1"`
	Block    string   `json:"block" enum:"month,quarter,year,all" example:"month"`
	Purposes []string `json:"purposes" example:"[\"product-analytics\"]"`
	Metrics  []string `json:"metrics" doc:"Names of the metrics that can be asked" example:"[\"customers\",\"spend\"]"`
}

// DatasetList is a page of datasets, by name.
type DatasetList struct {
	Items []DatasetHead `json:"items"`
	Next  string        `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// LoadReport is what became of a body of rows.
type LoadReport struct {
	Load     Load     `json:"load"`
	DryRun   bool     `json:"dry_run" doc:"Nothing was committed because none was asked to be"`
	Repeat   bool     `json:"repeat" doc:"The same content was loaded under this name before: nothing was added"`
	Accepted int64    `json:"accepted" example:"1180"`
	Rejected int64    `json:"rejected" example:"2"`
	Rejects  []Reject `json:"rejects" doc:"The first rejected rows"`
}

// Reject is a row that was not loaded. Its reason never holds a value.
type Reject struct {
	Line   int64  `json:"line" doc:"Counts from 1, the header included; of Parquet, the row" example:"17"`
	Reason string `json:"reason" example:"amount is not a number"`
}

// Load is one declared delivery of rows.
type Load struct {
	ID        uint64     `json:"id,omitempty" doc:"Absent in a dry run" example:"12"`
	Name      string     `json:"name,omitempty" example:"january"`
	Blocks    []string   `json:"blocks" doc:"The whole blocks that it covers" example:"[\"2026-01\"]"`
	Committed *time.Time `json:"committed,omitempty"`
}

// LoadList is a page of loads, newest first.
type LoadList struct {
	Items []Load `json:"items"`
	Next  string `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}
