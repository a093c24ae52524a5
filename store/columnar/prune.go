package columnar

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/store/durable"
)

// edition says which edition of a dictionary counts. Where there is no record, it is number 0. Others are nobody's.
type edition struct {
	Number uint32 `json:"number"`
}

func editionKey(dataset, dimension string) []byte {
	return []byte("edition/" + dataset + "/" + dimension)
}

// editionPrefix begins the keys of an edition's parts.
func editionPrefix(dataset, dimension string, number uint32) []byte {
	return binary.BigEndian.AppendUint32(dictionaryPrefix(dataset, dimension), number)
}

// pruneDictionaries takes the texts out of a dataset's dictionaries, and out of the files, that no segment uses. No
// load of the dataset may be under way.
func (s *Store) pruneDictionaries(ctx context.Context, dataset string) error {
	used, err := s.usedCodes(ctx, dataset)
	if err != nil {
		return fmt.Errorf("looking for texts that are in use: %w", err)
	}
	dimensions, err := s.dictionaries.dimensions(dataset)
	if err != nil {
		return fmt.Errorf("listing the dictionaries of dataset %s: %w", dataset, err)
	}
	s.dictionaries.forgetAll(dataset)
	for _, dimension := range dimensions {
		if err := s.room(); err != nil {
			return err
		}
		codes := used[dimension]
		if codes == nil {
			codes = new(codeSet)
		}
		if err := s.dictionaries.prune(dataset, dimension, *codes); err != nil {
			return fmt.Errorf("pruning a dictionary of dataset %s: %w", dataset, err)
		}
	}
	return nil
}

// codeSet is a set of codes, a bit each.
type codeSet []uint64

func (s *codeSet) add(code uint32) {
	if missing := int(code/64) + 1 - len(*s); missing > 0 {
		*s = append(*s, make(codeSet, missing)...)
	}
	(*s)[code/64] |= 1 << (code % 64)
}

func (s codeSet) has(code uint32) bool {
	return int(code/64) < len(s) && s[code/64]&(1<<(code%64)) != 0
}

// usedCodes gives the codes that are in any segment of a dataset, by dimension.
func (s *Store) usedCodes(ctx context.Context, dataset string) (map[string]*codeSet, error) {
	used := make(map[string]*codeSet)
	err := s.db.View(func(txn *badger.Txn) error {
		prefix := []byte("rows/" + dataset + "/")
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			id, err := columnOfKey(it.Item().Key(), len(prefix))
			if err != nil {
				return err
			}
			if id.Kind != dimensionColumn {
				continue
			}
			codes := used[id.Name]
			if codes == nil {
				codes = new(codeSet)
				used[id.Name] = codes
			}
			err = it.Item().Value(func(value []byte) error {
				body, err := unseal(it.Item().Key(), value)
				if err != nil {
					return err
				}
				t, err := readTexts(body)
				for _, code := range t.used {
					codes.add(code)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return used, err
}

// columnOfKey reads which column a columnKey is of; the block's name begins at an offset.
func columnOfKey(key []byte, block int) (columnID, error) {
	slash := bytes.IndexByte(key[block:], '/')
	at := block + slash + 1 + 2 + 8 + 4
	if slash < 0 || at >= len(key) {
		return columnID{}, errDamaged
	}
	return columnID{columnKind(key[at]), string(key[at+1:])}, nil
}

// dimensions lists those of a dataset that have a dictionary.
func (d *dictionaries) dimensions(dataset string) (list []string, err error) {
	err = d.each([]byte("dict/"+dataset+"/"), func(_, dimension string, _ uint32) error {
		if len(list) == 0 || list[len(list)-1] != dimension {
			list = append(list, dimension)
		}
		return nil
	})
	return list, err
}

// each visits the editions that have parts, in the order of their keys.
func (d *dictionaries) each(prefix []byte, visit func(dataset, dimension string, number uint32) error) error {
	return d.db.View(func(txn *badger.Txn) error {
		for key := after(txn, prefix, prefix); key != nil; {
			dataset, dimension, ok := bytes.Cut(key[len("dict/"):], []byte("/"))
			if !ok || len(dimension) < 1+4+4 {
				return errDamaged
			}
			rest := len(dimension) - 4 - 4
			number := binary.BigEndian.Uint32(dimension[rest:])
			name := string(dimension[:rest-1])
			if err := visit(string(dataset), name, number); err != nil {
				return err
			}
			next := editionPrefix(string(dataset), name, number)
			next = append(next, 0xff, 0xff, 0xff, 0xff, 0xff) // no part counts so many texts
			key = after(txn, prefix, next)
		}
		return nil
	})
}

// forgetAll has the dictionaries of a dataset read again: in memory are texts that only a load had which failed, and
// the next load would write them. No load of the dataset may be under way.
func (d *dictionaries) forgetAll(dataset string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.of, func(name string, _ *dictionary) bool { return strings.HasPrefix(name, "dict/"+dataset+"/") })
}

// prune writes an edition without the texts that are not used, has it count, and drops the one before.
func (d *dictionaries) prune(dataset, dimension string, used codeSet) error {
	d.mu.Lock() // nobody reads an edition while it is dropped
	defer d.mu.Unlock()
	next, err := d.read(dataset, dimension)
	if err != nil {
		return err
	}
	some := false
	for i := range next.texts {
		if code := uint32(i + 1); !used.has(code) && !next.pruned.has(code) {
			next.texts[i] = ""
			next.pruned.add(code)
			some = true
		}
	}
	if !some {
		return nil
	}
	old := next.prefix
	next.edition++
	next.prefix, next.stored = editionPrefix(dataset, dimension, next.edition), 0
	if err := d.db.drop(next.prefix); err != nil { // of an attempt that died
		return err
	}
	if err := d.storeParts(next); err != nil {
		return err
	}
	if err := durable.SyncDir(d.db.Opts().Dir); err != nil {
		return err
	}
	err = d.db.Update(func(txn *badger.Txn) error {
		return setJSON(txn, editionKey(dataset, dimension), edition{next.edition})
	})
	if err != nil {
		return err
	}
	delete(d.of, next.name) // whoever asks next reads what is stored
	return d.db.drop(old)
}

// sweep drops editions that do not count: what a process left that died while it pruned.
func (d *dictionaries) sweep() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var prefixes [][]byte
	err := d.each([]byte("dict/"), func(dataset, dimension string, number uint32) error {
		return d.db.View(func(txn *badger.Txn) error {
			var e edition
			_, err := getJSON(txn, editionKey(dataset, dimension), &e)
			if err == nil && e.Number != number {
				prefixes = append(prefixes, editionPrefix(dataset, dimension, number))
			}
			return err
		})
	})
	if err == nil {
		err = d.db.drop(prefixes...)
	}
	if err != nil {
		return fmt.Errorf("removing what pruning dictionaries left: %w", err)
	}
	return nil
}
