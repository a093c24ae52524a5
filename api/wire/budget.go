package wire

import "time"

// Budget is what a consumer may spend and has spent.
type Budget struct {
	Allotments []Allotment     `json:"allotments" doc:"The ceilings, for each block of a dataset"`
	Accounts   []Account       `json:"accounts" doc:"Blocks that were charged; of every other block all is left"`
	Next       string          `json:"next,omitempty" doc:"Cursor of the next page of accounts; absent on the last"`
	Charges    []ChargeRecord  `json:"charges" doc:"What spent it: the newest charges"`
	Requests   []BudgetRequest `json:"requests" doc:"Open requests of yours for more"`
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
	Frozen   bool   `json:"frozen,omitempty" doc:"More is spent than the budget gives, which was lowered since: it takes no charge until the budget is raised"`
	Stopped  string `json:"stopped,omitempty" enum:"paused,expired,frozen" doc:"What stops every question, whatever its price; absent: nothing but what is left"`
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
	Also    []Touch   `json:"also,omitzero" doc:"What else it cost: blocks at another price, or of another dataset"`
	Purpose string    `json:"purpose,omitempty" example:"product-analytics"`
	Metrics []string  `json:"metrics,omitzero" doc:"What it asked for" example:"[\"customers\"]"`
	Release string    `json:"release,omitempty" doc:"What it bought" example:"rel_01k3x8"`
	Report  string    `json:"report,omitempty" doc:"The report whose question it was" example:"rep_01k3x8"`
	Failure string    `json:"failure,omitempty" doc:"Why it bought nothing" example:"internal"`
}

// AccountList is a page of a dataset's accounts: caps and allotments by block.
type AccountList struct {
	Items []Account `json:"items"`
	Next  string    `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// Ledger is what the ledger says of itself.
type Ledger struct {
	State   string `json:"state" enum:"ok,behind,fork,missing,damaged,moved" doc:"ok, or why the ledger takes no charges and no changes: it is behind its witness, another one than the witness saw, or the witness is missing, damaged or moved" example:"ok"`
	Reason  string `json:"reason,omitempty" doc:"What happened, and the way out; absent while the state is ok"`
	ID      string `json:"id" doc:"Of this ledger, for ever" example:"5f3a0c9d1b7e42868d0c5b1f9e2a7d34"`
	Length  uint64 `json:"length" doc:"How many entries it has" example:"1042"`
	Head    string `json:"head" doc:"SHA-256 of the last entry. With the length it stands for all that the ledger holds: kept elsewhere, it shows later that nothing was taken back" example:"9b74c9897bac770ffc029102a200c5de9b74c9897bac770ffc029102a200c5de"`
	Witness string `json:"witness" doc:"Path of the file that the server keeps the length and the head in, too" example:"/var/lib/discreet/5f3a0c9d1b7e42868d0c5b1f9e2a7d34.witness"`
}

// NewWriteOff says how much to count as spent.
type NewWriteOff struct {
	Epsilon Decimal `json:"epsilon,omitempty" doc:"At least so much, on every account; needed where a budget may have been higher in what was lost"`
	Delta   Decimal `json:"delta,omitempty" doc:"Likewise"`
	Force   bool    `json:"force,omitempty" doc:"Even while the state is ok: for a ledger that was restored together with its witness"`
}
