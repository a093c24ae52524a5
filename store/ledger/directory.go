package ledger

import (
	"errors"
	"os"
	"runtime"
	"slices"
)

// directory makes the names of the database's files durable. Badger syncs the content of a new write-ahead
// log but not the directory that names it (v4.9.6, memtable.go and ristretto's z/file.go): after a crash the
// file, and every commit acknowledged since, could be gone.
type directory struct {
	path  string
	names []string // those known to be durable
}

// sync returns once every name is durable. It costs a listing where no file was added or removed.
func (d *directory) sync() error {
	file, err := os.Open(d.path)
	if err != nil {
		return err
	}
	names, err := file.Readdirnames(-1)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	slices.Sort(names)
	// The listing is taken before the sync: a file that appears in between is seen by the next call.
	if !slices.Equal(names, d.names) && runtime.GOOS != "windows" {
		if err := file.Sync(); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	d.names = names
	return file.Close()
}
