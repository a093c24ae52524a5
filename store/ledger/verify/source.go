package verify

import "context"

// source is one moment of a ledger: where a replay finds its entries, and what they hold by digest only. All rules but
// one are the same whatever it is: that the keys of a database are those which the entries leave, only a database shows.
type source interface {
	// entries calls each with every entry in order, and its key. What they are given is valid during the call only.
	entries(ctx context.Context, each func(key, entry []byte) error) error
	// get reads the value that a key has at the end; nil where there is none, or where it is not kept here.
	get(key []byte) ([]byte, error)
	// held reads the value that a write held by digest; nil where it is gone, or not kept here.
	held(w *write) ([]byte, error)
	// blob reads the pieces of a release, and how many there are: at most so many bytes and a piece more.
	blob(name string, most int64) (text []byte, pieces int, err error)
	// figures tells whether the pieces of releases are kept here.
	figures() bool
}
