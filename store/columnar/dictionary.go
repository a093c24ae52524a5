package columnar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// dictionaries are the texts of every dimension of every dataset, in memory as far as they were asked for. A text
// keeps its code for ever, so that segments hold numbers and a question looks at each text once.
type dictionaries struct {
	db *database
	mu sync.Mutex
	of map[string]*dictionary // by dictionaryPrefix, the edition that counts
}

// dictionary is that of one dimension of a dataset. Codes count from 1; 0 is an absent value. Texts are only ever
// added, by the one load of the dataset that is under way.
type dictionary struct {
	mu      sync.Mutex
	name    string // dictionaryPrefix
	edition uint32
	prefix  []byte // of the edition's keys
	texts   []string
	pruned  codeSet // whose texts are gone
	bytes   int
	stored  int               // texts that are durable
	codes   map[string]uint32 // nil until something is loaded
}

// mostEntries bounds the texts of one dimension, so that memory depends on the number of dimensions alone; their
// bytes are bounded by Options.DictionaryBytes.
const mostEntries = plan.MostPrivateLabels - 2 // a dimension has labels for missing and other values besides

func newDictionaries(db *database) *dictionaries {
	return &dictionaries{db: db, of: make(map[string]*dictionary)}
}

// get reads the dictionary of a dimension. One that nothing was loaded into is empty.
func (d *dictionaries) get(dataset, dimension string) (*dictionary, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := string(dictionaryPrefix(dataset, dimension))
	if known := d.of[name]; known != nil {
		return known, nil
	}
	t, err := d.read(dataset, dimension)
	if err == nil {
		d.of[name] = t
	}
	return t, err
}

// read reads the edition that counts.
func (d *dictionaries) read(dataset, dimension string) (*dictionary, error) {
	t := &dictionary{name: string(dictionaryPrefix(dataset, dimension))}
	err := d.db.View(func(txn *badger.Txn) error {
		var e edition
		if _, err := getJSON(txn, editionKey(dataset, dimension), &e); err != nil {
			return err
		}
		t.edition, t.prefix = e.Number, editionPrefix(dataset, dimension, e.Number)
		it := txn.NewIterator(badger.IteratorOptions{Prefix: t.prefix})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := t.read(it.Item()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading a dictionary of dataset %s: %w", dataset, err)
	}
	t.stored = len(t.texts)
	return t, nil
}

// forget has a dictionary read again, when what it holds may not be what is stored.
func (d *dictionaries) forget(t *dictionary) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of[t.name] == t {
		delete(d.of, t.name)
	}
}

// read adds the texts of one stored part: uvarint number, and each text after its length plus one, as uvarint; 0 stands
// for a text that was pruned.
func (t *dictionary) read(item *badger.Item) error {
	key := item.KeyCopy(nil)
	value, err := item.ValueCopy(nil)
	if err != nil {
		return err
	}
	body, err := unseal(key, value)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint32(key[len(key)-4:]) != uint32(len(t.texts)) {
		return errDamaged
	}
	count, used := binary.Uvarint(body)
	if used <= 0 || count > uint64(len(body)) {
		return errDamaged
	}
	body = body[used:]
	for range count {
		length, used := binary.Uvarint(body)
		if used <= 0 || length > uint64(len(body)-used)+1 {
			return errDamaged
		}
		body = body[used:]
		if length == 0 {
			t.texts = append(t.texts, "")
			t.pruned.add(uint32(len(t.texts)))
			continue
		}
		t.texts = append(t.texts, string(body[:length-1]))
		t.bytes += int(length) - 1
		body = body[length-1:]
	}
	if len(body) > 0 {
		return errDamaged
	}
	return nil
}

// all gives the texts so far, by code from 1, empty where one was pruned: no segment has its code. They stay valid while
// others are added.
func (t *dictionary) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.texts[:len(t.texts):len(t.texts)]
}

var errDictionaryFull = errors.New("full")

// code gives the code of a text, which is new where it was never met, and copied. Only the load of the dataset
// that is under way may ask.
func (t *dictionary) code(text string, mostBytes int) (uint32, error) {
	if t.codes == nil {
		t.codes = make(map[string]uint32, len(t.texts))
		for i, known := range t.texts {
			if code := uint32(i + 1); !t.pruned.has(code) { // it is never given to another text
				t.codes[known] = code
			}
		}
	}
	if code, ok := t.codes[text]; ok {
		return code, nil
	}
	if len(t.texts) == mostEntries || t.bytes+len(text) > mostBytes {
		return 0, errDictionaryFull
	}
	own := strings.Clone(text) // it shares memory with the whole record, the identifier included
	t.mu.Lock()
	t.texts = append(t.texts, own)
	t.bytes += len(own)
	code := uint32(len(t.texts))
	t.mu.Unlock()
	t.codes[own] = code
	return code, nil
}

// store makes new texts durable, which must come before any row that has them.
func (d *dictionaries) store(t *dictionary) error {
	err := d.storeParts(t)
	if err != nil {
		d.forget(t)
	}
	return err
}

func (d *dictionaries) storeParts(t *dictionary) error {
	for t.stored < len(t.texts) {
		body, next := t.part(t.stored)
		key := binary.BigEndian.AppendUint32(append([]byte{}, t.prefix...), uint32(t.stored))
		if err := d.db.Update(func(txn *badger.Txn) error { return txn.Set(key, seal(key, body)) }); err != nil {
			return fmt.Errorf("writing a dictionary: %w", err)
		}
		t.stored = next
	}
	return nil
}

// part encodes texts from one on, as many as a value may hold.
func (t *dictionary) part(from int) (body []byte, next int) {
	size := 0
	for next = from; next < len(t.texts) && (next == from || size+len(t.texts[next]) < maxValue/2); next++ {
		size += len(t.texts[next]) + binary.MaxVarintLen32
	}
	body = binary.AppendUvarint(make([]byte, 0, size+binary.MaxVarintLen64), uint64(next-from))
	for i, text := range t.texts[from:next] {
		if t.pruned.has(uint32(from + i + 1)) {
			body = append(body, 0)
			continue
		}
		body = binary.AppendUvarint(body, uint64(len(text))+1)
		body = append(body, text...)
	}
	return body, next
}

// dictionaryPrefix begins the keys of a dictionary's parts; its edition and the number of texts before a part follow.
func dictionaryPrefix(dataset, dimension string) []byte {
	return []byte("dict/" + dataset + "/" + dimension + "/")
}

// tooManyTexts refuses a load whose texts do not fit.
func tooManyTexts(dimension string, mostBytes int) error {
	return &dp.Error{Code: dp.CodeTooLarge, Message: fmt.Sprintf(
		"dimension %s has more than %d different values, or %d bytes of them: bin them or leave the dimension out of the policy", dimension, min(mostEntries, math.MaxInt32), mostBytes)}
}
