package wire

import "time"

// NewErasure names one customer who is to leave a dataset.
type NewErasure struct {
	Unit string `json:"unit" minLength:"1" doc:"The identifier, as it stands in the column that the policy has for customers" example:"c-1029"`
}

// Erasure is a demand that customers leave a dataset. It is the same whether or not they were there, and nothing tells
// who they were.
type Erasure struct {
	ID      string     `json:"id" example:"era_019ad1f0c3a07be1d2c9a4f01133"`
	Dataset string     `json:"dataset" example:"transactions"`
	By      string     `json:"by" doc:"Who asked for it" example:"warehouse"`
	At      time.Time  `json:"at"`
	Units   int64      `json:"units" doc:"How many customers were named, repeats included" example:"1"`
	Ended   *time.Time `json:"ended,omitempty" doc:"When a run had taken them out of the files; absent before"`
}

// ErasureList is a page of erasures, newest first.
type ErasureList struct {
	Items []Erasure `json:"items"`
	Next  string    `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}
