package wire

// Query is a question. Dates are both included; either within or epsilon may be given, neither means the
// dataset's default.
type Query struct {
	Dataset       string                `json:"dataset" doc:"Which dataset to ask" example:"transactions"`
	Metrics       []string              `json:"metrics" doc:"Names of the dataset's metrics, or of those in define" example:"[\"customers\",\"spend\"]"`
	Define        []Definition          `json:"define,omitzero" doc:"Metrics that this query brings itself"`
	By            []string              `json:"by,omitzero" doc:"Dimensions, or time.hour, time.day, time.week, time.month, time.quarter, time.year; of a customer's first appearance first.day to first.year and first.DIMENSION, since it since.day to since.year; funnel.step" example:"[\"merchant_category\",\"time.month\"]"`
	Where         []Condition           `json:"where,omitzero" doc:"Conditions that every row must meet"`
	From          string                `json:"from,omitempty" doc:"First date, included; required unless the dataset's block is all" example:"2026-01-01"`
	To            string                `json:"to,omitempty" doc:"Last date, included" example:"2026-03-31"`
	Purpose       string                `json:"purpose" doc:"What the answer is for; one of the dataset's purposes" example:"product-analytics"`
	Within        map[string]Decimal    `json:"within,omitzero" doc:"Half-width of the interval to reach, per metric, in the measure's own unit"`
	Epsilon       Decimal               `json:"epsilon,omitempty" doc:"What to spend at most, for each touched block"`
	Delta         Decimal               `json:"delta,omitempty" doc:"Failure probability to spend, for each touched block"`
	Confidence    Decimal               `json:"confidence,omitempty" doc:"Of the intervals; 0.95 when absent"`
	Clamp         map[string][2]Decimal `json:"clamp,omitzero" doc:"Lower and upper clamp per metric, only tighter than the dataset's"`
	MaxPartitions int64                 `json:"max_partitions,omitempty" doc:"Groups that one customer may add to, only tighter than the dataset's"`
	SpendAtMost   *SpendAtMost          `json:"spend_at_most,omitempty" doc:"Refuse if the price is higher"`
	Fresh         bool                  `json:"fresh,omitempty" doc:"Always pay for a new draw"`
	Reconcile     [][]string            `json:"reconcile,omitzero" doc:"Coarser levels, each a list of some of by ([]: everything together): their sums are drawn as well, of rows bounded once, and all figures are made to add up. For rows and sums over public keys" example:"[[\"merchant_category\"],[]]"`
	NonNegative   bool                  `json:"non_negative,omitempty" doc:"Of reconciled figures: none below 0"`
	Totals        bool                  `json:"totals,omitempty" doc:"Add what all groups add up to, of rows, sums and their ratios, with its interval; over private keys of shown groups. Free: it follows from the groups"`
	Top           *Top                  `json:"top,omitempty" doc:"Answer with the groups of the largest figures alone, the largest first. Free: it follows from the groups, and the release keeps all of them"`
	Cohorts       []Cohort              `json:"cohorts,omitzero" doc:"Count only customers who are in all of these, by what they did; of another dataset too"`
	First         *First                `json:"first,omitempty" doc:"Which row is a customer's first appearance, for keys such as first.month, first.platform and since.week; absent, it is the first row of the range that meets where. What comes before it counts nowhere"`
	Funnel        *Funnel               `json:"funnel,omitempty" doc:"Count customers by how many of these steps they took in the order of time; group by funnel.step"`
}

// Cohort is customers by what they did.
type Cohort struct {
	Dataset string      `json:"dataset,omitempty" doc:"Where they did it; absent, in the query's dataset. In another one, only what carries consent counts, of both" example:"engagement"`
	Where   []Condition `json:"where,omitzero" doc:"Conditions on the rows that are counted"`
	From    string      `json:"from,omitempty" doc:"First date, included; absent with to, the query's" example:"2026-03-01"`
	To      string      `json:"to,omitempty" doc:"Last date, included" example:"2026-03-31"`
	AtLeast int64       `json:"at_least,omitempty" doc:"How many such rows they have at least; 1 when absent, 0 beside at_most" example:"3"`
	AtMost  *int64      `json:"at_most,omitempty" doc:"How many they have at most; 0: those who did not"`
}

// First says which rows make a first appearance.
type First struct {
	Where []Condition `json:"where" doc:"Conditions; those of the query's where do not apply"`
}

// Funnel is steps in the order of time.
type Funnel struct {
	Steps  []Step `json:"steps" doc:"From 2 to 10"`
	Within string `json:"within,omitempty" doc:"Longest time from the first step to the last, such as 30m, 24h or 7d; absent, all of the range" example:"7d"`
}

// Step is a row that meets the conditions, besides those of where. Each step is a row of its own.
type Step struct {
	Where []Condition `json:"where"`
}

// Top asks for the groups with the largest noised figures of a metric.
type Top struct {
	Metric string `json:"metric" doc:"One of metrics" example:"spend"`
	N      int64  `json:"n" doc:"How many groups" example:"5"`
}

// Definition is a metric that a query brings itself.
type Definition struct {
	Name        string      `json:"name" doc:"What metrics calls it" example:"mean_amount"`
	Aggregate   string      `json:"aggregate" doc:"What is computed in each group: customers, rows, days, sessions, sum, mean, variance, stddev, quantile, min, max, ratio or share. Min and max are the quantiles of ranks 0.005 and 0.995" example:"mean"`
	Measure     string      `json:"measure,omitempty" doc:"Of which measure; absent for customers, rows, days, sessions, ratio and share" example:"amount"`
	Rank        Decimal     `json:"rank,omitempty" doc:"Of a quantile, between 0 and 1"`
	Numerator   string      `json:"numerator,omitempty" doc:"Of a ratio: a metric that counts or adds up. It is answered beside the ratio"`
	Denominator string      `json:"denominator,omitempty" doc:"Of a ratio: likewise"`
	Of          string      `json:"of,omitempty" doc:"Of a share: a metric that adds up. It is answered beside the share"`
	Per         string      `json:"per,omitempty" enum:"customer" doc:"customer: read one number of each customer and block in a group in place of rows: what they add up to in the measure, without one how many they are, or how many combinations of distinct"`
	Distinct    []string    `json:"distinct,omitzero" doc:"With per: dimensions and time keys of which the combinations are counted"`
	Where       []Condition `json:"where,omitzero" doc:"Conditions of the metric's own, in the form of the query's: other rows do not count for it. In which groups a customer counts is decided without them; not for ratio and share, which are read from other metrics"`
}

// Condition keeps the rows whose field satisfies every operator that is given.
type Condition struct {
	Field string `json:"field" doc:"A dimension, a measure, or a time key" example:"country"`
	Eq    *Text  `json:"eq,omitempty" doc:"Equal to"`
	In    []Text `json:"in,omitzero" doc:"One of"`
	NotIn []Text `json:"not_in,omitzero" doc:"None of"`
	Gte   *Text  `json:"gte,omitempty" doc:"At least; of ints, measures and time"`
	Lte   *Text  `json:"lte,omitempty" doc:"At most; of ints, measures and time"`
}

// SpendAtMost is the highest price that the asker will pay.
type SpendAtMost struct {
	Epsilon Decimal `json:"epsilon" doc:"For each touched block"`
}

// Plan is what a query would cost and how exact its answer would be. Asking for it is free and sees no row.
type Plan struct {
	Dataset           string              `json:"dataset" example:"transactions"`
	Confidence        Decimal             `json:"confidence"`
	Expected          map[string]Expected `json:"expected" doc:"Per metric"`
	GroupsMayBeHidden bool                `json:"groups_may_be_hidden" doc:"True where small groups are left out"`
	Privacy           Privacy             `json:"privacy"`
	Charge            Charge              `json:"charge" doc:"What it would cost; left is as of now"`
	Stale             bool                `json:"stale,omitempty" doc:"Newer rows were loaded since free_from was drawn: fresh pays for an answer over them" example:"false"`
	FreeFrom          string              `json:"free_from,omitempty" doc:"The release that answers it for nothing, or from which the answer is added up: expected, privacy and notes are then its" example:"rel_01k3x8"`
	Alternatives      []Alternative       `json:"alternatives" doc:"Cheaper variants"`
	Notes             []string            `json:"notes,omitzero" doc:"What a reader must know of the figures"`
	Query             any                 `json:"query,omitempty" doc:"The question in its canonical form"`
	PolicyVersion     uint64              `json:"policy_version" example:"1"`
}

// Expected is how exact one figure would be, in the measure's own unit.
type Expected struct {
	SD     float64 `json:"sd" doc:"Standard deviation of the noise" example:"17.9"`
	Within float64 `json:"within" doc:"Half-width of the interval" example:"35"`
}

// Alternative is a variant of a query that would cost less.
type Alternative struct {
	Change  string  `json:"change" doc:"What to change" example:"ask by quarter instead of by month"`
	Epsilon Decimal `json:"epsilon" doc:"What it would cost, for each touched block"`
}
