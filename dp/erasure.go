package dp

import "time"

// Erasure is a demand that the rows of some customers leave a dataset. It does not say of whom: where it is recorded
// nothing is ever removed.
type Erasure struct {
	ID      string
	Dataset string
	By      string    // consumer who asked for it
	At      time.Time // when
	Units   int64     // customers that were named, whether or not there are such, repeats included
	// Ended is when a run had taken them out of rows and files; zero before.
	Ended time.Time
}
