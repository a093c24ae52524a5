package verify

import (
	"bytes"
	"crypto/sha256"
	"math/bits"
)

// tree is the Merkle tree over the entries so far (RFC 6962, section 2.1): its leaves are the entries.
type tree struct {
	size uint64
	// edge are the roots of the perfect subtrees that the leaves make up, the largest first: one for each bit of size.
	edge [][sha256.Size]byte
}

// add adds an entry, and gives what the ledger keeps with it: the hashes of the subtrees that it completes.
func (t *tree) add(entry []byte) []byte {
	hash := leafHash(entry)
	kept := append([]byte{recordVersion}, hash[:]...)
	for range bits.TrailingZeros64(t.size + 1) {
		last := len(t.edge) - 1
		hash = nodeHash(t.edge[last], hash)
		t.edge = t.edge[:last]
		kept = append(kept, hash[:]...)
	}
	t.edge = append(t.edge, hash)
	t.size++
	return kept
}

// root is that of the whole tree.
func (t *tree) root() [sha256.Size]byte {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	last := len(t.edge) - 1
	root := t.edge[last]
	for i := last - 1; i >= 0; i-- {
		root = nodeHash(t.edge[i], root)
	}
	return root
}

func leafHash(entry []byte) (hash [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(entry)
	h.Sum(hash[:0])
	return hash
}

func nodeHash(left, right [sha256.Size]byte) [sha256.Size]byte {
	var text [1 + 2*sha256.Size]byte
	text[0] = 1
	copy(text[1:], left[:])
	copy(text[1+sha256.Size:], right[:])
	return sha256.Sum256(text[:])
}

// grow adds an entry to the tree, and holds what a database keeps with it to what follows.
func (c *chain) grow(number uint64, entry []byte) error {
	kept := c.tree.add(entry)
	if db, ok := c.from.(*database); ok {
		found, err := db.get(numberedKey(number, kindHashes))
		if err != nil {
			return err
		}
		if !bytes.Equal(found, kept) {
			return misfitf("the hashes that are kept with it are not those of the tree over the entries")
		}
	}
	for _, r := range c.roots {
		if r.Size == number && r.Root != c.tree.root() {
			return misfitf("the tree up to here is not the one that was signed: the ledger was rewritten since, or it is another one")
		}
	}
	return nil
}
