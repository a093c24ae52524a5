package columnar

// merged says which loads of one (dataset, block, shard) were merged, and where to: none of their own segments
// is left there.
type merged struct {
	Generation uint64   `json:"generation"` // given once; see mergedMark
	Loads      []uint64 `json:"loads"`      // ascending
	Segments   uint32   `json:"segments"`
}
