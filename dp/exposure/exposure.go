// Package exposure works out the worst case for one customer: what budgets promise about rows of one block, of a year, of a
// whole history and of linked datasets, what the charges so far add up to, how fast budgets are spent, and what all of that
// would be under other budgets.
//
// It is pure: it reads what the ledger keeps of budgets and charges, never a row, and changes nothing. What budgets promise
// is the guarantee of dp/PRIVACY.md; what charges add up to over several blocks is accounting, exact only for charges that
// were fixed in advance ("Several blocks, as accounting").
package exposure

import (
	"math"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// Book is what the ledger keeps of a dataset, and of those linked with it, at one moment.
type Book struct {
	At       time.Time
	Datasets []Dataset // the one in question first, then the linked ones by name
	// Settled are the charges that have an outcome, added up; nil: there are none. Charges are all others that touch any of the
	// datasets, in any order.
	Settled  *Sums
	Charges  []Charge
	Policies map[PolicyVersion]dp.VersionedPolicy // that releases of Charges were drawn under
}

// PolicyVersion names a policy that a release was drawn under.
type PolicyVersion struct {
	Dataset string
	Version uint64
}

// Dataset is one dataset's budgets.
type Dataset struct {
	Policy dp.VersionedPolicy // in force
	// Largest is of both parts the largest that a cap ever had: what is certified.
	Largest dp.Budget
	Blocks  []string // loaded or charged, sorted
	// Accounts are those with anything spent or written off, of Blocks.
	Accounts   []dp.Account
	Allotments []Allotment // sorted by consumer
}

// Allotment is one in force.
type Allotment struct {
	dp.Allotment
	Largest   dp.Budget // as of Dataset
	Suspended bool      // its consumer is: nothing is charged to it
}

// Charge is what one charge cost, and by what.
type Charge struct {
	Consumer string
	Caps     bool // caps paid, too; not where another consumer's draw was handed out
	At       time.Time
	Parts    []dp.Touched
	// Release is what it bought, without figures; nil while there is none, and where only one block is touched, whose price
	// says all.
	Release *dp.Release
}

// Scope is whose rows of one customer are meant.
type Scope string

// The scopes. Those of linked datasets are of all of them together.
const (
	OneBlock      Scope = "block"
	OneYear       Scope = "year"
	History       Scope = "history"
	LinkedBlock   Scope = "linked-block"
	LinkedYear    Scope = "linked-year"
	LinkedHistory Scope = "linked-history"
)

// Statement is the worst case of a dataset.
type Statement struct {
	Dataset string
	Block   dp.Block
	At      time.Time
	Linked  []string // datasets whose rows may be of the same customers; empty: none
	Days    int      // over which spending is told and its rate is taken
	Owners  []Owner  // all consumers together first, then each by name
	Frozen  []dp.Account
	// Beyond are accounts of the dataset of which more was written off than the largest budget that they ever had certifies: for
	// a unit of such a block no less is guaranteed than what is spent, in basic composition, whatever the promise says.
	Beyond []dp.Account
	Burns  []Burn // by block, then consumer
}

// Owner is everybody together, or one consumer: what they can learn of one customer by direct answers.
type Owner struct {
	Consumer  string    // empty: all together
	Budget    dp.Budget // in force
	Certified dp.Budget // the largest ever in force
	ByCap     bool      // the consumer's own was larger than the cap, whose guarantee holds for everybody
	Promises  []Promise
	Spent     []Spent
	Room      *Room // nil for all together
}

// Promise is a guarantee.
type Promise struct {
	Scope  Scope
	Blocks int64 // how many, of all linked datasets
	Budget dp.Budget
	// Vacuous says that the guarantee says nothing: its delta is one, or its epsilon does not fit.
	Vacuous bool
}

// Spent is what charges so far add up to.
type Spent struct {
	Scope  Scope
	Name   string // the block or year in which it is most
	Blocks int64  // that were charged
	// Basic is by basic composition. Zero is by zCDP: of Rho and DeltaZ together the pair at the delta that is certified;
	// not known where Known is false.
	Basic  dp.Budget
	Rho    dp.Rho
	DeltaZ dp.Delta
	Zero   dp.Budget
	Known  bool
	// Epsilon is the smaller one whose delta is within what is certified; basic's where none is.
	Epsilon dp.Epsilon
	ByZero  bool
	Charges int64
	// Conservative is how many of the charges counted as much as group privacy allows, because how they were drawn is not
	// known: they bought nothing, were reconciled, or are of an earlier version.
	Conservative int64
}

// Room is what a consumer could still ask.
type Room struct {
	Closed  Closed     // why nothing can be asked now; empty: it can
	Block   string     // the one with least room
	Epsilon dp.Epsilon // largest charge without delta that both accounts of it admit
	Similar int64      // how many charges of the policy's default epsilon
	// FreshEpsilon and FreshSimilar are of a block that was never charged.
	FreshEpsilon dp.Epsilon
	FreshSimilar int64
}

// Closed says why a consumer can ask nothing, whatever is left.
type Closed string

// The reasons.
const (
	ClosedSuspended Closed = "suspended"
	ClosedPaused    Closed = "paused"
	ClosedExpired   Closed = "expired"
)

// Burn is how fast an account is spent.
type Burn struct {
	Consumer string // empty: the cap
	Block    string
	Spent    dp.Loss // in all
	Budget   dp.Budget
	Days     []Day   // with charges, among those that are looked back on, the oldest first
	Rate     dp.Loss // of one day, rounded up
	// Exhausted is the first day, at that rate, on which a day's spending does not fit any more; zero: none within a century.
	Exhausted time.Time
}

// Day is what was spent on one day, in UTC.
type Day struct {
	Date time.Time
	Loss dp.Loss
}

// TooLarge is an epsilon that does not fit.
const TooLarge dp.Epsilon = math.MaxInt64

// hardly is an epsilon beyond which a guarantee is one in name: odds may change by a factor of more than 10^8.
const hardly = 20 * dp.EpsilonOne

// Says says in words what the promise comes to.
func (p Promise) Says() string {
	odds := "odds of any statement about the rows change by a factor of at most e^" + p.Budget.Epsilon.String()
	switch {
	case p.Vacuous:
		return "nothing: of so many blocks together the guarantee is vacuous"
	case p.Budget.Epsilon > hardly:
		return "next to nothing: " + odds
	case p.Budget.Delta > 0:
		return odds + ", but for a probability of delta"
	}
	return odds
}
