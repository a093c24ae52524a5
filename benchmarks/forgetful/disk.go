package main

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// disk is a file system in memory that knows of everything whether it was synced. It keeps two states: what
// programs see, and what would be left after the power went.
//
// The contract it holds its user to is the strict one of POSIX and of crash-consistency studies (Pillai et al.,
// "All File Systems Are Not Created Equal", OSDI 2014): fsync of a file makes its bytes and its length durable and
// nothing else; a name is durable once the directory that holds it was synced. What was not synced may be there
// or not, byte range by byte range, in any combination.
type disk struct {
	mu      sync.Mutex
	root    *object
	lastIno uint64
	steps   int64 // changes and syncs so far
	cutAt   int64 // the step at which the power goes; 0: none
	cut     chan struct{}
	off     bool          // the power is gone: nothing changes any more
	dead    chan struct{} // closed once whoever waits may be told
}

// object is a file or a directory.
type object struct {
	ino  uint64
	mode uint32 // type and permissions
	time time.Time

	// Of a file.
	size, synced int64           // its length now, and after a loss
	now          map[int64]*page // by number
	durable      map[int64]*page
	dirty        map[int64]bool
	allocated    int64 // bytes that have blocks whatever was written

	// Of a directory.
	names  map[string]*object // now
	before map[string]*object // after a loss
	later  []change           // what leads from before to names
}

// change is one change of a directory: names get objects, or lose them with nil. A rename is one change.
type change map[string]*object

const (
	pageSize   = 4096
	sectorSize = 512 // what a disk writes at once, or not at all
)

type page [pageSize]byte

func newDisk() *disk {
	d := &disk{cut: make(chan struct{}, 1), dead: make(chan struct{})}
	d.root = d.newObject(syscall.S_IFDIR | 0o755)
	return d
}

func (d *disk) newObject(mode uint32) *object {
	d.lastIno++
	o := &object{ino: d.lastIno, mode: mode, time: time.Now()}
	if o.isDir() {
		o.names, o.before = map[string]*object{}, map[string]*object{}
	} else {
		o.now, o.durable, o.dirty = map[int64]*page{}, map[int64]*page{}, map[int64]bool{}
	}
	return o
}

func (o *object) isDir() bool { return o.mode&syscall.S_IFMT == syscall.S_IFDIR }

// change runs a step, unless the power goes at it: then whoever asked for it waits until the disk is dead.
func (d *disk) change(step func() syscall.Errno) syscall.Errno {
	d.mu.Lock()
	if d.steps++; d.steps == d.cutAt {
		d.goOff()
	}
	if !d.off {
		defer d.mu.Unlock()
		return step()
	}
	dead := d.dead
	d.mu.Unlock()
	<-dead
	return syscall.EIO
}

func (d *disk) goOff() {
	if !d.off {
		d.off = true
		d.cut <- struct{}{}
	}
}

// look runs what changes nothing.
func (d *disk) look(read func() syscall.Errno) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	return read()
}

// rename gives an object to names of a directory, or takes it away.
func (o *object) rename(c change) {
	c.apply(o.names)
	o.later = append(o.later, c)
	o.time = time.Now()
}

func (c change) apply(names map[string]*object) {
	for name, to := range c {
		if to == nil {
			delete(names, name)
		} else {
			names[name] = to
		}
	}
}

func (o *object) write(data []byte, offset int64) {
	end := offset + int64(len(data))
	for at := offset; at < end; {
		number, within := at/pageSize, at%pageSize
		n := min(pageSize-within, end-at)
		copy(o.writable(number)[within:within+n], data[at-offset:])
		at += n
	}
	o.size = max(o.size, end)
	o.time = time.Now()
}

// writable is a page that may be changed without changing its durable state.
func (o *object) writable(number int64) *page {
	p := o.now[number]
	switch {
	case p == nil:
		p = &page{}
	case p == o.durable[number]:
		c := *p
		p = &c
	}
	o.now[number], o.dirty[number] = p, true
	return p
}

func (o *object) read(into []byte, offset int64) int {
	end := min(offset+int64(len(into)), o.size)
	for at := offset; at < end; {
		number, within := at/pageSize, at%pageSize
		n := min(pageSize-within, end-at)
		if p := o.now[number]; p != nil {
			copy(into[at-offset:], p[within:within+n])
		} else {
			clear(into[at-offset : at-offset+n])
		}
		at += n
	}
	return int(max(0, end-offset))
}

func (o *object) truncate(size int64) {
	for number, p := range o.now {
		switch start := number * pageSize; {
		case start >= size:
			if p != nil {
				delete(o.now, number)
				o.dirty[number] = true
			}
		case start+pageSize > size:
			clear(o.writable(number)[size-start:])
		}
	}
	o.size = size
	o.time = time.Now()
}

// sync makes what the object holds durable: the bytes and length of a file, or the names in a directory.
func (o *object) sync() {
	if o.isDir() {
		o.before, o.later = maps.Clone(o.names), nil
		return
	}
	for number := range o.dirty {
		o.settle(number, o.now[number])
	}
	o.synced = o.size
	clear(o.dirty)
}

func (o *object) settle(number int64, p *page) {
	if p == nil {
		delete(o.durable, number)
	} else {
		o.durable[number] = p
	}
}

// severity is what becomes of what was not synced.
type severity int

const (
	loseAll     severity = iota // as when nothing had been written back
	keepAll                     // as when only the program had ended
	losePages                   // each page is there or not
	loseSectors                 // each sector is there or not: torn pages
	severities
)

// loss counts what was not synced when the power went.
type loss struct{ lostPages, keptPages, tornPages, lostNames, keptNames int }

// lose returns the disk as it is after the power went, with what it forgot chosen by a seed. The old one is
// dead.
func (d *disk) lose(seed uint64) (*disk, loss) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := rand.New(rand.NewPCG(seed, 0))
	after := &disk{lastIno: d.lastIno, cut: make(chan struct{}, 1), dead: make(chan struct{})}
	f := &forgetting{severity: severity(r.IntN(int(severities))), r: r, done: map[*object]*object{}}
	after.root = f.object(d.root)
	return after, f.loss
}

// forgetting is one loss of power.
type forgetting struct {
	severity severity
	r        *rand.Rand
	loss     loss
	done     map[*object]*object // an object may have two names
}

func (f *forgetting) object(o *object) *object {
	if f.done[o] == nil {
		f.done[o] = &object{ino: o.ino, mode: o.mode, time: o.time}
		if o.isDir() {
			f.directory(o, f.done[o])
		} else {
			f.file(o, f.done[o])
		}
	}
	return f.done[o]
}

func (f *forgetting) directory(o, after *object) {
	kept := 0 // a journal keeps what was done first: of what was not synced, any beginning may be there
	switch f.severity {
	case keepAll:
		kept = len(o.later)
	case losePages, loseSectors:
		kept = f.r.IntN(len(o.later) + 1)
	}
	f.loss.keptNames += kept
	f.loss.lostNames += len(o.later) - kept
	names := maps.Clone(o.before)
	for _, c := range o.later[:kept] {
		c.apply(names)
	}
	after.before = map[string]*object{}
	for _, name := range slices.Sorted(maps.Keys(names)) { // in order, so that a seed decides everything
		after.before[name] = f.object(names[name])
	}
	after.names = maps.Clone(after.before)
}

func (f *forgetting) file(o, after *object) {
	after.allocated = o.allocated
	after.durable = maps.Clone(o.durable)
	after.synced = o.synced
	if f.severity == keepAll || f.severity != loseAll && f.r.IntN(2) == 0 {
		after.synced = o.size
	}
	for _, number := range slices.SortedFunc(maps.Keys(o.dirty), cmp.Compare) {
		switch {
		case f.severity == keepAll || f.severity == losePages && f.r.IntN(2) == 0:
			after.settle(number, o.now[number])
			f.loss.keptPages++
		case f.severity == loseSectors:
			after.settle(number, torn(o.durable[number], o.now[number], f.r))
			f.loss.tornPages++
		default:
			f.loss.lostPages++
		}
	}
	// Nothing lies beyond the end of a file.
	for number, p := range after.durable {
		switch start := number * pageSize; {
		case start >= after.synced:
			delete(after.durable, number)
		case start+pageSize > after.synced:
			c := *p
			clear(c[after.synced-start:])
			after.durable[number] = &c
		}
	}
	after.size, after.now, after.dirty = after.synced, maps.Clone(after.durable), map[int64]bool{}
}

// torn is a page of which each sector is either the old or the new one.
func torn(old, now *page, r *rand.Rand) *page {
	var p page
	for at := 0; at < pageSize; at += sectorSize {
		from := old
		if r.IntN(2) == 0 {
			from = now
		}
		if from != nil {
			copy(p[at:at+sectorSize], from[at:])
		}
	}
	return &p
}
