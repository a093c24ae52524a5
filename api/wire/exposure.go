package wire

import "time"

// WorstCase is what can be learned of one customer at worst.
type WorstCase struct {
	Dataset string    `json:"dataset" example:"transactions"`
	Block   string    `json:"block" enum:"month,quarter,year,all" doc:"What one block of the dataset is" example:"month"`
	At      time.Time `json:"at"`
	Linked  []string  `json:"linked" doc:"Datasets whose rows may be joined with this one's: they may be of the same customers, and then what each promises adds up"`
	Days    int       `json:"days" doc:"Over how many days up to today spending is told and its rate is taken" example:"30"`
	Owners  []Owner   `json:"owners" doc:"All consumers together first, which is the cap, then each by name"`
	Frozen  []Account `json:"frozen" doc:"Accounts that have spent more than their budget: they take no charge until it is raised"`
	Beyond  []Account `json:"beyond,omitempty" doc:"Accounts of which more was written off than the largest budget that they ever had certifies: of their blocks no less is guaranteed than what is spent, whatever the promises say"`
	Burns   []Burn    `json:"burns" doc:"How fast every account is spent, by block and then consumer"`
	Notes   []string  `json:"notes" doc:"How the figures are to be read"`
}

// Owner is all consumers together, or one of them.
type Owner struct {
	Consumer  string    `json:"consumer,omitempty" doc:"Absent for all together" example:"growth-team"`
	Budget    Loss      `json:"budget" doc:"In force, for each block"`
	Certified Loss      `json:"certified" doc:"The largest that was ever in force, which is what is guaranteed"`
	ByCap     bool      `json:"by_cap,omitempty" doc:"The consumer's own was larger than the cap, whose guarantee holds for everybody"`
	Promises  []Promise `json:"promises" doc:"The guarantee"`
	Spent     []Spent   `json:"spent" doc:"What charges so far add up to, in the block and the year in which that is most; over several blocks this is accounting, exact only for charges that were fixed in advance. Empty while there are none"`
	Room      *Room     `json:"room,omitempty" doc:"What the consumer could still ask; absent for all together"`
}

// Promise is the guarantee for all rows of one customer in so many blocks.
type Promise struct {
	Scope   string  `json:"scope" enum:"block,year,history,linked-block,linked-year,linked-history" doc:"A history is all blocks that were loaded or charged; linked ones are those of all linked datasets together" example:"year"`
	Blocks  int64   `json:"blocks" example:"12"`
	Epsilon Decimal `json:"epsilon,omitempty" doc:"Absent where it is too large to be written"`
	Delta   Decimal `json:"delta"`
	Vacuous bool    `json:"vacuous" doc:"The guarantee says nothing: its delta is 1, or its epsilon cannot be written"`
	Says    string  `json:"says" doc:"In words" example:"odds of any statement about the rows change by a factor of at most e^12"`
}

// Spent is what charges add up to.
type Spent struct {
	Scope        string   `json:"scope" enum:"block,year,history,linked-year,linked-history" example:"year"`
	Name         string   `json:"name,omitempty" doc:"The block or year" example:"2026"`
	Blocks       int64    `json:"blocks" doc:"How many were charged" example:"3"`
	Charges      int64    `json:"charges" example:"41"`
	Conservative int64    `json:"conservative" doc:"How many of the charges count as much as group privacy allows, because how they were drawn is not known: they bought nothing, were reconciled, are of an earlier version, or were written off" example:"0"`
	Basic        Loss     `json:"basic" doc:"By basic composition"`
	Zero         ZeroLoss `json:"zcdp" doc:"By zero-concentrated differential privacy"`
	Epsilon      Decimal  `json:"epsilon" doc:"The smaller of both that holds at the certified delta; basic composition's where neither does"`
	By           string   `json:"by" enum:"basic,zcdp" doc:"Whose epsilon that is"`
}

// ZeroLoss is a loss in approximate zero-concentrated differential privacy, and the pair that it comes to.
type ZeroLoss struct {
	Rho     Decimal `json:"rho,omitempty" doc:"Absent where no bound is known"`
	DeltaZ  Decimal `json:"delta_z"`
	Epsilon Decimal `json:"epsilon,omitempty" doc:"Absent where the certified delta is 0, or no bound is known"`
	Delta   Decimal `json:"delta,omitempty" doc:"Likewise"`
}

// Room is what a consumer could still ask.
type Room struct {
	Closed       string  `json:"closed,omitempty" enum:"suspended,paused,expired" doc:"Why nothing can be asked now, whatever is left; absent where it can"`
	Block        string  `json:"block,omitempty" doc:"The one with least room; absent where nothing was charged" example:"2026-01"`
	Epsilon      Decimal `json:"epsilon" doc:"The largest charge without delta that the cap and the allotment would admit there"`
	Similar      int64   `json:"similar_queries" doc:"How many questions at the policy's default epsilon"`
	FreshEpsilon Decimal `json:"fresh_epsilon" doc:"The same of a block that was never charged"`
	FreshSimilar int64   `json:"fresh_similar_queries"`
}

// Burn is how fast an account is spent.
type Burn struct {
	Account   string    `json:"account" example:"cap/transactions/2026-01"`
	Consumer  string    `json:"consumer,omitempty" doc:"Absent for a cap"`
	Block     string    `json:"block" example:"2026-01"`
	Budget    Loss      `json:"budget"`
	Spent     Loss      `json:"spent" doc:"In all"`
	Days      []BurnDay `json:"days" doc:"Days with charges, in UTC, among those that are looked back on"`
	PerDay    *Loss     `json:"per_day,omitempty" doc:"The rate: what was spent on those days, over all of them; absent where nothing was"`
	Exhausted string    `json:"exhausted,omitempty" doc:"The first day on which, at that rate, a day's spending does not fit any more; absent where that is more than a century away" example:"2026-04-02"`
}

// BurnDay is what was spent on one day.
type BurnDay struct {
	Date string `json:"date" example:"2026-03-01"`
	Loss
}

// WhatIf asks for the worst case under other budgets, without changing any.
type WhatIf struct {
	Cap        *BudgetAmount     `json:"cap,omitempty" doc:"Another cap; as it is where absent"`
	Allotments []WhatIfAllotment `json:"allotments,omitempty" maxItems:"1000" doc:"Allotments that would be added, changed or taken away; the others stay"`
	YearBlocks int64             `json:"year_blocks,omitempty" minimum:"1" maximum:"10000" doc:"In how many blocks of a year a customer has rows; all that a year has where absent"`
	History    int64             `json:"history_blocks,omitempty" minimum:"1" maximum:"10000" doc:"In how many blocks in all; every block that was loaded or charged where absent"`
	Days       int               `json:"days,omitempty" minimum:"1" maximum:"366" doc:"As in the worst case; 30 where absent"`
}

// BudgetAmount is a budget.
type BudgetAmount struct {
	Epsilon Decimal `json:"epsilon"`
	Delta   Decimal `json:"delta,omitempty" doc:"0 where absent"`
}

// WhatIfAllotment is another allotment of a consumer.
type WhatIfAllotment struct {
	Consumer string  `json:"consumer" pattern:"^[a-z][a-z0-9_-]{0,62}$" example:"growth-team"`
	Epsilon  Decimal `json:"epsilon,omitempty" doc:"Needed, unless it would be removed"`
	Delta    Decimal `json:"delta,omitempty" doc:"0 where absent"`
	Remove   bool    `json:"remove,omitempty"`
}
