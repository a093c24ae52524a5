package wire

import "time"

// Release is a noised answer. Reused, Stale and the charge's left are added by the call that answered a
// query; a release that is read by its id has none of them and never changes.
type Release struct {
	ReleaseHead
	Groups []Group `json:"groups" doc:"Sorted by key"`
}

// ReleaseHead is a release without its groups, as lists show it.
type ReleaseHead struct {
	ID                string     `json:"id,omitempty" doc:"Absent where the answer was added up from releases that the asker holds: it is stored nowhere, and follows from them again" example:"rel_01k3x8"`
	Dataset           string     `json:"dataset" example:"transactions"`
	Reused            *bool      `json:"reused,omitempty" doc:"An earlier draw was read again; only in the answer to a query" example:"false"`
	Stale             *bool      `json:"stale,omitempty" doc:"Newer rows were loaded since; only in the answer to a query" example:"false"`
	DerivedFrom       []string   `json:"derived_from,omitzero" doc:"The releases of whose groups the figures were added up, with their noise; only in the answer to a query"`
	AsOf              time.Time  `json:"as_of" doc:"When it was drawn"`
	Confidence        Decimal    `json:"confidence" doc:"Of the intervals"`
	By                []string   `json:"by" doc:"Names of the key's parts" example:"[\"merchant_category\"]"`
	Metrics           []string   `json:"metrics" example:"[\"customers\"]"`
	Levels            [][]string `json:"levels,omitzero" doc:"Coarser levels that were reconciled with the finest, each by the names of its key's parts; their groups follow the finest ones, level by level"`
	GroupsMayBeHidden bool       `json:"groups_may_be_hidden" doc:"True where small groups are left out"`
	Privacy           Privacy    `json:"privacy"`
	Charge            Charge     `json:"charge"`
	Notes             []string   `json:"notes,omitzero" doc:"What a reader must know of the figures"`
	Query             any        `json:"query,omitempty" doc:"The question in its canonical form"`
	PolicyVersion     uint64     `json:"policy_version" example:"1"`
	// Totals and Top are only in the answer to a query that asked for them.
	Totals map[string]Value `json:"totals,omitzero" doc:"Metric to what the groups add up to, of those that add up; only in the answer to a query with totals"`
	Top    *Ranking         `json:"top,omitempty" doc:"How the groups were ranked; only in the answer to a query with top, whose groups are the largest alone"`
}

// Ranking says how the groups of an answer were ranked that shows the largest alone.
type Ranking struct {
	Metric  string `json:"metric" example:"spend"`
	N       int64  `json:"n" example:"5"`
	Of      int    `json:"of" doc:"How many groups were ranked" example:"12"`
	Unclear []int  `json:"unclear" doc:"Ranks, from 1, whose figure cannot be told from that of the next, at the confidence of the intervals; the next of the last is not shown" example:"[2,5]"`
}

// Group is one partition of an answer.
type Group struct {
	Key    map[string]string `json:"key" doc:"Dimension or time key to label"`
	Values map[string]Value  `json:"values" doc:"Metric to figure"`
	Level  int               `json:"level,omitempty" doc:"Of reconciled figures: which of levels, from 1; absent for the finest. Parts that the level leaves out are not in the key"`
}

// Value is one noised figure in the measure's own unit.
type Value struct {
	Value float64 `json:"value" example:"1234"`
	Low   float64 `json:"low" doc:"Lower end of the interval" example:"1199"`
	High  float64 `json:"high" doc:"Upper end of the interval" example:"1269"`
	SD    float64 `json:"sd" doc:"Standard deviation of the noise" example:"17.9"`
	// Combined is only in the answer to a query.
	Combined *Combined `json:"combined,omitempty" doc:"Together with earlier draws of the same question that the asker holds, weighed by their variances; beside the draw's own value, which stays as it is. Its interval assumes that the earlier figures did not prompt the question; only in the answer to a query that was drawn"`
}

// Combined is what several draws of one figure say together, in the measure's own unit.
type Combined struct {
	Value float64 `json:"value" example:"1230"`
	Low   float64 `json:"low" doc:"Lower end of the interval" example:"1206"`
	High  float64 `json:"high" doc:"Upper end of the interval" example:"1254"`
	SD    float64 `json:"sd" doc:"Standard deviation of the noise" example:"12.6"`
}

// Privacy states what an answer protects and how.
type Privacy struct {
	Unit          string                `json:"unit" doc:"The column of customers, or row" example:"customer_id"`
	Block         string                `json:"block" doc:"The period within which a customer's rows are protected together" enum:"month,quarter,year,all" example:"month"`
	Mechanism     map[string]string     `json:"mechanism" doc:"Metric to noise; selection where keys are private"`
	Epsilon       Decimal               `json:"epsilon" doc:"For each touched block"`
	Delta         Decimal               `json:"delta" doc:"For each touched block"`
	Rho           Decimal               `json:"rho,omitempty" doc:"For each touched block; absent where no bound is known"`
	MaxPartitions int64                 `json:"max_partitions" doc:"Groups that one customer adds to" example:"8"`
	MaxRows       int64                 `json:"max_rows" doc:"Rows that one customer adds to a group" example:"20"`
	Clamp         map[string][2]Decimal `json:"clamp,omitzero" doc:"Metric to lower and upper clamp"`
}

// Charge is what an answer cost, on each of the blocks that it names.
type Charge struct {
	ID      string   `json:"id,omitempty" doc:"Absent where nothing was charged" example:"chg_01k3x8"`
	Epsilon Decimal  `json:"epsilon" doc:"0 where an answer that the asker holds was read again"`
	Delta   Decimal  `json:"delta"`
	Rho     Decimal  `json:"rho,omitempty" doc:"Absent where no bound is known"`
	Blocks  []string `json:"blocks" example:"[\"2026-01\",\"2026-02\",\"2026-03\"]"`
	Also    []Touch  `json:"also,omitzero" doc:"Blocks that it touched at another price, or of another dataset: their rows decide which rows of the others count"`
	Left    *Left    `json:"left,omitempty" doc:"The touched account with least room, after the charge"`
}

// Touch is what a charge cost on each of some blocks of a dataset.
type Touch struct {
	Dataset string   `json:"dataset" example:"engagement"`
	Blocks  []string `json:"blocks" example:"[\"2026-03\"]"`
	Epsilon Decimal  `json:"epsilon" doc:"On each of the blocks"`
	Delta   Decimal  `json:"delta"`
	Rho     Decimal  `json:"rho,omitempty" doc:"Absent where no bound is known"`
}

// Left is what an account would still admit.
type Left struct {
	Account        string  `json:"account" example:"allotment/transactions/2026-01"`
	Epsilon        Decimal `json:"epsilon" doc:"The largest pure-epsilon charge that would still be admitted"`
	Share          float64 `json:"share" doc:"Epsilon over the budget's epsilon" example:"0.63"`
	SimilarQueries *int64  `json:"similar_queries,omitempty" doc:"How many more charges like this one" example:"37"`
}

// ReleaseList is a page of the releases that the caller holds, newest first.
type ReleaseList struct {
	Items []ReleaseHead `json:"items"`
	Next  string        `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}
