package columnar

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/dgraph-io/badger/v4"
)

// Keys begin with a word and the dataset. Names of datasets and blocks hold no slash, numbers are big-endian.
//
//	layout                                                              what never changes
//	load/DATASET/ load(8)                                               what became of a load, by its number
//	part/DATASET/BLOCK/ load(8)                                         the segments of a load in a block
//	rows/DATASET/BLOCK/ shard(2) load(8) sequence(4) column             a column of a segment
//	merged/DATASET/BLOCK/ shard(2)                                      which loads were merged there, and where to
//	dict/DATASET/DIMENSION/ edition(4) count(4)                         texts of a dimension, after that many others
//	edition/DATASET/DIMENSION                                           which of the dictionary's editions counts
//	erase/DATASET/ID/ part(4)                                           customers whose rows are to leave
//
// Merged segments have a generation with the highest bit set in the place of a load.
func layoutKey() []byte { return []byte("layout") }

func loadKey(dataset string, load uint64) []byte {
	return binary.BigEndian.AppendUint64(loadPrefix(dataset), load)
}

// loadPrefix is that of all datasets where dataset is empty.
func loadPrefix(dataset string) []byte {
	if dataset == "" {
		return []byte("load/")
	}
	return []byte("load/" + dataset + "/")
}

func partKey(dataset, block string, load uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("part/"+dataset+"/"+block+"/"), load)
}

// mergedKey is that of the record of merged loads.
func mergedKey(dataset, block string, shard int) []byte {
	return binary.BigEndian.AppendUint16([]byte("merged/"+dataset+"/"+block+"/"), uint16(shard))
}

// mergedMark in the place of a load says that it is a generation of merged segments.
const mergedMark = 1 << 63

// segmentPrefix begins the keys of a load's segments in one shard of a block.
func segmentPrefix(dataset, block string, shard int, load uint64) []byte {
	key := []byte("rows/" + dataset + "/" + block + "/")
	key = binary.BigEndian.AppendUint16(key, uint16(shard))
	return binary.BigEndian.AppendUint64(key, load)
}

// columnKey appends to a segmentPrefix.
func columnKey(prefix []byte, sequence uint32, c columnID) []byte {
	key := append(make([]byte, 0, len(prefix)+5+len(c.Name)), prefix...)
	key = binary.BigEndian.AppendUint32(key, sequence)
	key = append(key, byte(c.Kind))
	return append(key, c.Name...)
}

// columnID names a column of a segment: by what it is, and dimensions and measures by name, so that a policy may
// gain some, or order them otherwise.
type columnID struct {
	Kind columnKind `json:"kind"`
	Name string     `json:"name,omitempty"`
}

type columnKind byte

const (
	headerColumn    columnKind = 'h'
	customersColumn columnKind = 'c'
	timeColumn      columnKind = 't'
	dimensionColumn columnKind = 'd'
	measureColumn   columnKind = 'm'
	loadColumn      columnKind = 'l' // of merged segments of several loads
	consentColumn   columnKind = 'a' // of segments in which somebody agrees to be joined with other datasets
)

// formatVersion is the first byte of every value.
const formatVersion = 3

// errDamaged says that a value is not what was written. What it holds is not repeated.
var errDamaged = errors.New("stored rows are damaged: restore the data directory from a backup taken together with its ledger")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal frames a value: version, body, CRC-32C of key, version and body. The key is covered, so that a value in
// another's place is seen.
func seal(key, body []byte) []byte {
	value := make([]byte, 0, len(body)+5)
	value = append(value, formatVersion)
	value = append(value, body...)
	return binary.LittleEndian.AppendUint32(value, checksum(key, value))
}

// unseal checks a value and gives its body.
func unseal(key, value []byte) (body []byte, err error) {
	if len(value) < 5 {
		return nil, errDamaged
	}
	framed, sum := value[:len(value)-4], binary.LittleEndian.Uint32(value[len(value)-4:])
	if checksum(key, framed) != sum {
		return nil, errDamaged
	}
	if framed[0] != formatVersion {
		return nil, fmt.Errorf("stored rows have format %d and this version of discreet reads %d: run the version that wrote them", framed[0], formatVersion)
	}
	return framed[1:], nil
}

func checksum(key, framed []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, framed)
}

// get reads a sealed value; the body is the caller's own.
func get(txn *badger.Txn, key []byte) (body []byte, found bool, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading stored rows: %w", err)
	}
	value, err := item.ValueCopy(nil)
	if err != nil {
		return nil, false, fmt.Errorf("reading stored rows: %w", err)
	}
	body, err = unseal(key, value)
	return body, err == nil, err
}

func getJSON(txn *badger.Txn, key []byte, v any) (found bool, err error) {
	body, found, err := get(txn, key)
	if err != nil || !found {
		return false, err
	}
	if json.Unmarshal(body, v) != nil { // its error could hold what is stored
		return false, errDamaged
	}
	return true, nil
}

// setter is a transaction or a write batch.
type setter interface {
	Set(key, value []byte) error
}

func setJSON(s setter, key []byte, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	return s.Set(key, seal(key, body))
}
