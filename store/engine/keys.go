package engine

import (
	"crypto/aes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/klauspost/compress/snappy"
)

// keys are those that the tables of a database are encrypted with: Badger draws a new one every few days, and keeps them in a
// file of their own, under the key of the options. Nil: nothing is encrypted.
type keys struct{ registry *badger.KeyRegistry }

// readKeys reads that file. Errors: badger.ErrEncryptionKeyMismatch, as when the database is opened.
func readKeys(o badger.Options) (*keys, error) {
	if len(o.EncryptionKey) == 0 {
		return nil, nil
	}
	if _, err := os.Stat(filepath.Join(o.Dir, badger.KeyRegistryFileName)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the file of a database's keys is gone: %w", ErrDamaged)
	}
	registry, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: o.Dir, ReadOnly: true, EncryptionKey: o.EncryptionKey, EncryptionKeyRotationDuration: o.EncryptionKeyRotationDuration})
	if err != nil {
		return nil, fmt.Errorf("reading the keys of a database: %w", err)
	}
	return &keys{registry}, nil
}

// of gives the key of a table that the manifest lists; nil where it is in plain.
func (k *keys) of(t badger.TableManifest) []byte {
	if k == nil || t.KeyID == 0 {
		return nil
	}
	key, err := k.registry.DataKey(t.KeyID)
	if err != nil || key == nil {
		return unknownKey
	}
	return key.Data
}

// unknownKey stands for a key that is gone: what it opens fits no checksum.
var unknownKey = make([]byte, 32)

// packing is what was done with the blocks of a table: compressed, and then encrypted.
type packing struct {
	key    []byte // nil: they are in plain
	snappy bool
}

// unpack undoes that.
func (p packing) unpack(block []byte) ([]byte, error) {
	block, err := decrypt(block, p.key)
	if err != nil || !p.snappy {
		return block, err
	}
	if n, err := snappy.DecodedLen(block); err != nil || n > mostUnpacked {
		return nil, ErrDamaged
	}
	return snappy.Decode(nil, block)
}

// mostUnpacked bounds a block: it has a value of at most 1 MiB beside those that came before.
const mostUnpacked = 16 << 20

// decrypt opens a part of a table: AES in counter mode, whose first counter stands at the end (Badger v4, table.Builder).
func decrypt(part, key []byte) ([]byte, error) {
	if key == nil {
		return part, nil
	}
	if len(part) < aes.BlockSize {
		return nil, ErrDamaged
	}
	at := len(part) - aes.BlockSize
	return y.XORBlockAllocate(part[:at], key, part[at:])
}
