package columnar

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// merged says which loads of one (dataset, block, shard) were merged, and where to: none of their own segments
// counts there any more. What a record does not name is nobody's, and dropped by whoever comes across it.
type merged struct {
	Generation uint64   `json:"generation"` // given once; see mergedMark
	Loads      []uint64 `json:"loads"`      // ascending
	Segments   uint32   `json:"segments"`
	// Given is the last generation that was given there. It is durable before a segment of that generation is
	// written, so that none is given twice.
	Given uint64 `json:"given"`
}

// shardOf is where merging happens.
type shardOf struct {
	dataset, block string
	shard          int
}

func (at shardOf) key() []byte { return mergedKey(at.dataset, at.block, at.shard) }

// place begins the keys of a load's or a generation's segments there.
func (at shardOf) place(number uint64) []byte {
	return segmentPrefix(at.dataset, at.block, at.shard, number)
}

// chain is a sequence of segments in which no customer comes before one of an earlier segment.
type chain struct {
	prefix      []byte
	load        uint64   // whose rows they are; 0: each segment names its loads
	first, last uint32   // sequence numbers, last excluded
	visible     []uint64 // loads that count, where others were merged with them; nil: all do
}

// readMerged reads the record of a shard; where nothing was merged it is zero.
func readMerged(from *reader, at shardOf) (m merged, err error) {
	_, err = from.getJSON(at.key(), &m)
	return m, err
}

// chains finds the segments that some committed loads (ascending) have there, of their own and merged.
func (s *Store) chains(from *reader, at shardOf, m merged, loads []uint64) (chains []chain, err error) {
	if m.Segments > 0 {
		c := chain{prefix: at.place(mergedMark | m.Generation), last: m.Segments}
		if slices.ContainsFunc(m.Loads, func(load uint64) bool { return !slices.Contains(loads, load) }) {
			c.visible = append([]uint64{}, loads...) // not nil, which would show all
		}
		chains = append(chains, c)
	}
	for _, load := range loads {
		if slices.Contains(m.Loads, load) {
			continue
		}
		var p part
		found, err := from.getJSON(partKey(at.dataset, at.block, load), &p)
		if err == nil && (!found || len(p.Runs) != s.shards) {
			err = errDamaged
		}
		if err != nil {
			return nil, err
		}
		next := uint32(0)
		for _, segments := range p.Runs[at.shard] {
			chains = append(chains, chain{prefix: at.place(load), load: load, first: next, last: next + segments})
			next += segments
		}
	}
	return chains, nil
}

// leftover gives what nobody can see there: generations but the one that counts, and the own segments of loads
// that were merged.
func (s *Store) leftover(txn *badger.Txn, at shardOf) (prefixes [][]byte, err error) {
	m, err := readMerged(&reader{txn: txn}, at)
	if err != nil {
		return nil, err
	}
	all := at.place(0)
	all = all[:len(all)-8]
	for key := after(txn, all, all); key != nil; {
		if len(key) < len(all)+8 {
			return nil, errDamaged
		}
		number := binary.BigEndian.Uint64(key[len(all):])
		if number&mergedMark != 0 && number != mergedMark|m.Generation || slices.Contains(m.Loads, number) {
			prefixes = append(prefixes, at.place(number))
		}
		if number+1 == 0 {
			break
		}
		key = after(txn, all, at.place(number+1))
	}
	return prefixes, nil
}

// sweepMerged drops what mergers left that died, and what they could not drop. It runs when the store opens, or
// from where merging does.
func (s *Store) sweepMerged() error {
	var prefixes [][]byte
	err := s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("merged/")})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			at, err := shardOfKey(it.Item().Key())
			if err != nil {
				return err
			}
			left, err := s.leftover(txn, at)
			if err != nil {
				return err
			}
			prefixes = append(prefixes, left...)
		}
		return nil
	})
	if err == nil {
		err = s.db.drop(prefixes...)
	}
	if err != nil {
		return fmt.Errorf("removing what merging left: %w", err)
	}
	return nil
}

// shardOfKey reads a mergedKey.
func shardOfKey(key []byte) (at shardOf, err error) {
	words := bytes.SplitN(key, []byte("/"), 4) // names hold no slash; the shard may
	if len(words) != 4 || len(words[3]) != 2 {
		return at, errDamaged
	}
	return shardOf{string(words[1]), string(words[2]), int(binary.BigEndian.Uint16(words[3]))}, nil
}
