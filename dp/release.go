package dp

import "time"

// Release is a noised answer. It is stored once, never changed, and free to read again for whoever holds it.
type Release struct {
	ID                 string
	Dataset            string
	PolicyVersion      uint64
	Plan               string // identity of the plan whose draw this is (plan.Plan.ID)
	AsOf               time.Time
	Confidence         string
	By                 []string   // names of the key's parts, in canonical order
	Metrics            []string   // names in canonical order
	Levels             [][]string `json:",omitempty"` // names of the key's parts at coarser levels that were reconciled
	Groups             []Group    // sorted by level and key
	GroupsMayBeHidden  bool
	Privacy            Privacy
	Charge             Charge
	Blocks             []BlockVersion // the snapshot that was answered over
	Also               []Snapshot     `json:",omitempty"` // of the blocks of Charge.Also, one for each
	Notes              []string       // what a reader must know of the figures: clamps, bounds
	CanonicalQuery     string         // JSON of what was drawn, in canonical form; not how its first asker put the price
	NoisedCoordinates  [][]int64      // per group, the noised integers from which Values were computed
	PublishedByAttempt int
}

// Group is one partition of an answer.
type Group struct {
	Key    []string // values in the order of Release.By
	Values []Value  // in the order of Release.Metrics
	Level  int      `json:",omitempty"` // 0: the finest; n: Levels[n-1], whose other parts of the key are empty
}

// Value is one noised figure in the measure's own unit, with an interval that covers at the release's confidence.
type Value struct {
	Value, Low, High float64
	SD               float64 // standard deviation of the noise
}

// Privacy states what an answer protects and how.
type Privacy struct {
	Unit      string // the customer's column, or "row"
	Block     Block
	Mechanism map[string]string // metric -> laplace or gaussian; "selection" where keys are private
	// Noise is of the same, what each was drawn with; metrics that are read from one draw all have it. Releases of
	// earlier versions have none.
	Noise         map[string]Noise `json:",omitempty"`
	Loss          Loss
	MaxPartitions int64
	MaxRows       int64
	Clamp         map[string][2]string // metric -> lower, upper as decimal text in the measure's unit
}

// Noise is the price of one draw, which with its mechanism and its bounds gives the law of its noise.
type Noise struct {
	Epsilon Epsilon
	Delta   Delta
}

// Charge is one durable ledger entry.
type Charge struct {
	ID       string
	Consumer string
	Dataset  string
	Blocks   []string // in calendar order
	Loss     Loss
	// CapLoss is what the dataset's cap paid: Loss, or nothing where another consumer's draw was handed out.
	CapLoss Loss
	// Also are touched blocks that pay another price than Blocks, or lie in another dataset: those whose rows decide which
	// rows of Blocks count. No block of a dataset is named twice. Where CapLoss is nothing, the caps of these pay nothing.
	Also []Touched `json:",omitempty"`
	At   time.Time
}

// Touched are blocks of one dataset that a charge touches at one price.
type Touched struct {
	Dataset       string
	PolicyVersion uint64   // that the price was worked out under
	Blocks        []string // in calendar order
	Loss          Loss     // of each block
}

// BlockVersion names the rows of one block as they stood after a number of loads. Version 0 is a block
// that no load covered yet.
type BlockVersion struct {
	Block   string
	Version uint64
}

// Snapshot is what a charge was admitted against, and what its answer is computed over.
type Snapshot struct {
	Dataset       string
	PolicyVersion uint64
	Blocks        []BlockVersion // every touched block, in calendar order
	Also          []Snapshot     `json:",omitempty"` // of Charge.Also, one for each
}

// Account is the budget and the spent loss of one (dataset, block) or one (consumer, dataset, block).
type Account struct {
	Name     string // cap/DATASET/BLOCK or allotment/DATASET/BLOCK as its owner sees it
	Consumer string // empty for a cap
	Dataset  string
	Block    string
	Budget   Budget
	Spent    Loss
	Paused   bool      // as its allotment is
	Expires  time.Time // likewise; zero: never
}
