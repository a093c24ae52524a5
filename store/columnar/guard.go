package columnar

import "fmt"

// guarded calls what reads stored rows, and gives a panic as damage. Where bits of a table flipped, Badger (v4.9.6,
// table/table.go, block, and table/iterator.go, setIdx) slices out of range, and so may whatever decodes a column.
// On a goroutine of its own that would end the process, and with it all other questions. The panic's value is not
// told, because it may hold what is stored. Of what Badger runs on goroutines of its own, to compact its tables, nobody
// can recover here.
func guarded(what func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panicked with a %T: %w", p, errDamaged)
		}
	}()
	return what()
}
