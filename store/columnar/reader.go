package columnar

import (
	"encoding/json"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/ristretto/v2"
)

// columns keeps the columns in memory that were read last or often, as far as they fit. What a key names never
// changes: numbers of loads and generations are given once.
type columns = ristretto.Cache[string, any]

// newColumns makes a cache of so many bytes.
func newColumns(bytes int64) (*columns, error) {
	const average = 64 << 10 // bytes of a column
	cache, err := ristretto.NewCache(&ristretto.Config[string, any]{
		NumCounters: max(1000, 10*bytes/average), MaxCost: max(1, bytes), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("making a cache of columns: %w", err)
	}
	return cache, nil
}

// reader reads what one transaction sees.
type reader struct {
	txn   *badger.Txn
	cache *columns
}

// get gives the body of a value; it is the caller's own.
func (r *reader) get(key []byte) (body []byte, found bool, err error) { return get(r.txn, key) }

// getJSON reads a value that is JSON.
func (r *reader) getJSON(key []byte, v any) (found bool, err error) {
	body, found, err := r.get(key)
	if err != nil || !found {
		return false, err
	}
	if json.Unmarshal(body, v) != nil { // its error could hold what is stored
		return false, errDamaged
	}
	return true, nil
}

// cached gives what parse makes of the value of a key, which must be there. Nobody may change it.
func cached[V any](r *reader, key []byte, parse func(body []byte) (*V, error)) (*V, error) {
	name := string(key)
	if known, ok := r.cache.Get(name); ok {
		if v, ok := known.(*V); ok {
			return v, nil
		}
	}
	body, found, err := r.get(key)
	if err == nil && !found {
		err = errDamaged
	}
	if err != nil {
		return nil, err
	}
	v, err := parse(body)
	if err != nil {
		return nil, err
	}
	r.cache.Set(name, v, int64(len(body)+len(name)))
	return v, nil
}
