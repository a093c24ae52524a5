package wire

import "time"

// Budget is what a consumer may spend and has spent.
type Budget struct {
	Allotments []Allotment    `json:"allotments" doc:"The ceilings, for each block of a dataset"`
	Accounts   []Account      `json:"accounts" doc:"Blocks that were charged; of every other block all is left"`
	Next       string         `json:"next,omitempty" doc:"Cursor of the next page of accounts; absent on the last"`
	Charges    []ChargeRecord `json:"charges" doc:"What spent it: the newest charges"`
}

// Account is the budget and the spent loss of one block.
type Account struct {
	Account  string `json:"account" example:"allotment/transactions/2026-01"`
	Consumer string `json:"consumer,omitempty" doc:"Absent for a cap" example:"growth-team"`
	Dataset  string `json:"dataset" example:"transactions"`
	Block    string `json:"block" example:"2026-01"`
	Budget   Loss   `json:"budget" doc:"The ceiling"`
	Spent    Loss   `json:"spent" doc:"The sum of all charges"`
	Left     Left   `json:"left"`
}

// Loss is an amount of privacy loss.
type Loss struct {
	Epsilon Decimal `json:"epsilon"`
	Delta   Decimal `json:"delta"`
	Rho     Decimal `json:"rho,omitempty" doc:"Absent of budgets, and where no bound is known"`
}

// ChargeRecord is a charge with what came of it.
type ChargeRecord struct {
	ID      string    `json:"id" example:"chg_01k3x8"`
	At      time.Time `json:"at"`
	Dataset string    `json:"dataset" example:"transactions"`
	Blocks  []string  `json:"blocks" example:"[\"2026-01\"]"`
	Epsilon Decimal   `json:"epsilon" doc:"On each of the blocks"`
	Delta   Decimal   `json:"delta"`
	Rho     Decimal   `json:"rho,omitempty" doc:"Absent where no bound is known"`
	Purpose string    `json:"purpose,omitempty" example:"product-analytics"`
	Metrics []string  `json:"metrics,omitzero" doc:"What it asked for" example:"[\"customers\"]"`
	Release string    `json:"release,omitempty" doc:"What it bought" example:"rel_01k3x8"`
	Failure string    `json:"failure,omitempty" doc:"Why it bought nothing" example:"internal"`
}

// AccountList is a page of a dataset's accounts: caps and allotments by block.
type AccountList struct {
	Items []Account `json:"items"`
	Next  string    `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}
