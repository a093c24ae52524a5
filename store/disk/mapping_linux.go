package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	_ "unsafe" // for go:linkname

	"golang.org/x/sys/unix"

	"github.com/discreet-analytics/discreet/store/durable"
)

// Badger creates its tables with O_EXCL and writes them at once, so nothing outside of it can allocate them in
// time, and it has no option that would. But it maps every file through [unix.Mmap], which calls a function
// value; that value is replaced by one that allocates first. The type below repeats unix.mmapper of
// golang.org/x/sys v0.46.0; TestMappedFilesHaveTheirBlocks fails where that no longer holds.
//
//go:linkname mapper golang.org/x/sys/unix.mapper
var mapper *mmapper

type mmapper struct {
	sync.Mutex
	_    map[*byte][]byte
	mmap func(addr, length uintptr, prot, flags, fd int, offset int64) (uintptr, error)
}

// watched are the open watches. Mappings belong to the process, hence this variable.
var watched struct {
	sync.RWMutex
	install sync.Once
	watches []*Watch
}

// watchMappings has the files under a watch's directory allocated before they are mapped for writing, until
// the function that it returns is called.
func watchMappings(w *Watch) (unwatch func(), err error) {
	watched.install.Do(func() {
		mapper.Lock()
		defer mapper.Unlock()
		inner := mapper.mmap
		mapper.mmap = func(addr, length uintptr, prot, flags, fd int, offset int64) (uintptr, error) {
			if prot&unix.PROT_WRITE != 0 && flags&unix.MAP_SHARED != 0 {
				if err := beforeMapping(fd, int64(length)); err != nil {
					return 0, err
				}
			}
			return inner(addr, length, prot, flags, fd, offset)
		}
	})
	watched.Lock()
	defer watched.Unlock()
	watched.watches = append(watched.watches, w)
	return func() {
		watched.Lock()
		defer watched.Unlock()
		for i := range watched.watches {
			if watched.watches[i] == w {
				watched.watches = append(watched.watches[:i:i], watched.watches[i+1:]...)
				return
			}
		}
	}, nil
}

// beforeMapping allocates a file that is about to be mapped for writing, if a watch has it below its directory.
func beforeMapping(fd int, length int64) error {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil // not a file of the file system, or no /proc
	}
	watched.RLock()
	var w *Watch
	for _, candidate := range watched.watches {
		if strings.HasPrefix(path, candidate.dir+string(filepath.Separator)) {
			w = candidate
		}
	}
	watched.RUnlock()
	if w == nil {
		return nil
	}
	return w.prepare(fd, path, length)
}

// prepare gives a file of Badger the blocks that will be written.
func (w *Watch) prepare(fd int, path string, length int64) error {
	if filepath.Ext(path) == ".mem" {
		length = length / 8 * 5 // see the package's comment
	}
	before, err := w.system.allocated(fd)
	if err != nil {
		return err
	}
	err = w.provide(fd, 0, length)
	if err == nil {
		err = w.lengthenManifest(filepath.Dir(path))
	}
	if err == nil && before == 0 {
		// Badger lists a new table, and deletes the log it was made of, without syncing the directory that names the
		// table (v4.9.6, db.handleMemTableFlush); and a log as well as what it acknowledges there.
		return durable.SyncDir(filepath.Dir(path))
	}
	if err == nil {
		return nil
	}
	w.options.Log.Error("disk: there is no room for a file, and the reserve is used up", "file", filepath.Base(path), "bytes", length)
	if before == 0 {
		// It holds nothing, and Badger leaves it where it is: take its blocks and its name back.
		err = errors.Join(err, w.system.release(fd, length), os.Remove(path))
	}
	return err
}

// manifestAhead is room for some thousand further entries of Badger's list of tables. A new log or table asks
// for it again.
const manifestAhead = 64 << 10

func (w *Watch) lengthenManifest(dir string) error {
	file, err := os.OpenFile(filepath.Join(dir, "MANIFEST"), os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close() // nothing was written
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return w.provide(int(file.Fd()), info.Size(), manifestAhead)
}

type linux struct{}

func newSystem() system { return linux{} }

func (linux) free(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("reading the room of a file system: %w", err)
	}
	unit := s.Frsize
	if unit <= 0 {
		unit = s.Bsize
	}
	return int64(s.Bavail) * int64(unit), nil
}

func (linux) allocate(fd int, from, length int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, from, length)
}

func (linux) allocated(fd int) (int64, error) {
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return 0, err
	}
	return s.Blocks * 512, nil
}

func (linux) release(fd int, length int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, 0, length)
}
