package ledger

import (
	"bytes"

	"github.com/discreet-analytics/discreet/dp/answer"
)

// hot remembers records that most charges read, so that the writer neither looks for them in the database nor
// decodes them for every charge. The writer alone changes the ledger and alone uses hot: what it remembers is
// what it read or wrote last. After a batch that was not committed it forgets everything.
type hot struct {
	values  map[string][]byte // as the batch being made sees them; nil: there is no such key
	decoded map[string]decoded
	access  map[string]answer.Access // of versions of policies
}

// decoded is a record and the bytes that it was decoded from.
type decoded struct {
	from   []byte
	record any
}

// maxHot is how many values and records are remembered, of some 200 bytes each.
const maxHot = 1 << 14

func newHot() *hot {
	return &hot{values: map[string][]byte{}, decoded: map[string]decoded{}, access: map[string]answer.Access{}}
}

// isHot names the kinds of key that are remembered. Keys that are read once or twice are not worth it.
func isHot(key []byte) bool {
	switch key[0] {
	case kindNumber, kindDataset, kindAllotment, kindConsumer, kindKey, kindAccount, kindBlock, kindRetired:
		return true
	}
	return false
}

func (h *hot) get(key []byte) (value []byte, known bool) {
	value, known = h.values[string(key)]
	return value, known
}

// set remembers a value; nil says that there is no such key.
func (h *hot) set(key string, value []byte) {
	if len(h.values) >= maxHot {
		clear(h.values)
	}
	h.values[key] = value
}

func (h *hot) forget() {
	clear(h.values)
	clear(h.access)
}

// recordOf gives the record of a key that was decoded from the same bytes before. Who gets it must not change
// what its slices hold.
func (h *hot) recordOf(key, value []byte) any {
	if d, ok := h.decoded[string(key)]; ok && bytes.Equal(d.from, value) {
		return d.record
	}
	return nil
}

func (h *hot) setRecord(key, value []byte, record any) {
	if len(h.decoded) >= maxHot {
		clear(h.decoded)
	}
	h.decoded[string(key)] = decoded{value, record}
}
