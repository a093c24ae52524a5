package verify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Limits of an archive that may be hostile. All that is in one has its place in the file that was given, and nothing is
// compressed, so that it cannot ask for more than a few times its own length.
const (
	mostFiles      = 1 << 17
	mostSmallBytes = 256 << 20 // of a file that is read as a whole
	mostEntryBytes = 16 << 20
	mostValueBytes = 256 << 20
	tarBlock       = 512
)

// file is one file of an archive.
type file struct {
	name   string
	offset int64 // of its content
	bytes  int64
}

// errArchive is why something is not an archive.
type errArchive string

func (e errArchive) Error() string { return string(e) }

// listArchive reads the headers of an archive. Each must be, to the byte, the only one that a file of its name and length
// has, and nothing may stand between files or after the end.
func listArchive(ctx context.Context, r io.ReaderAt, size int64) (files []file, err error) {
	block, zeros := make([]byte, tarBlock), make([]byte, tarBlock)
	for offset := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := r.ReadAt(block, offset); err == io.EOF && offset+tarBlock > size {
			return nil, errArchive("the archive is cut off: fetch it again")
		} else if err != nil && err != io.EOF {
			return nil, fmt.Errorf("reading the archive: %w", err)
		}
		if bytes.Equal(block, zeros) {
			if _, err := r.ReadAt(block, offset+tarBlock); err != nil && err != io.EOF || !bytes.Equal(block, zeros) || offset+2*tarBlock != size {
				return nil, errArchive("the archive does not end where it says, or is cut off: fetch it again")
			}
			return files, nil
		}
		f := file{name: string(block[:max(0, bytes.IndexByte(block[:100], 0))]), offset: offset + tarBlock}
		f.bytes, err = strconv.ParseInt(string(block[124:135]), 8, 64)
		if err != nil || f.bytes < 0 || f.name == "" || !bytes.Equal(block, tarHeader(f.name, f.bytes)) {
			return nil, errArchive(fmt.Sprintf("what stands at byte %d is no file of an archive", offset))
		}
		if len(files) == mostFiles {
			return nil, errArchive("the archive has more files than any has")
		}
		padding := -f.bytes & (tarBlock - 1)
		next := f.offset + f.bytes + padding
		if next > size {
			return nil, errArchive("the archive is cut off: fetch it again")
		}
		if _, err := r.ReadAt(block[:padding], f.offset+f.bytes); err != nil && err != io.EOF || !bytes.Equal(block[:padding], zeros[:padding]) {
			return nil, errArchive(fmt.Sprintf("something stands after the file %s", f.name))
		}
		files = append(files, f)
		offset = next
	}
}

// tarHeader is a file's header in the ustar format, with everything but name and length being the same in all.
func tarHeader(name string, size int64) []byte {
	b := make([]byte, tarBlock)
	field := func(at int, text string) { copy(b[at:], text) }
	field(0, name)
	field(100, "0000444")
	field(108, "0000000")
	field(116, "0000000")
	field(124, fmt.Sprintf("%011o", size))
	field(136, "00000000000")
	field(148, "        ")
	field(156, "0")
	field(257, "ustar\x0000")
	field(329, "0000000")
	field(337, "0000000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	field(148, fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// items reads what a sequence of files holds, each item after its length.
type items struct {
	r     io.ReaderAt
	files []file
	most  int64

	count  uint64
	at     int64 // where the next item begins
	left   int64 // of the file
	buffer *bufio.Reader
	text   []byte
}

// next reads an item, valid until the next one; io.EOF after the last. offset is where it stands.
func (i *items) next() (item []byte, offset int64, err error) {
	if i.left == 0 {
		if len(i.files) == 0 {
			return nil, 0, io.EOF
		}
		f := i.files[0]
		i.files = i.files[1:]
		if f.bytes == 0 {
			return nil, 0, errArchive("the file " + f.name + " is empty")
		}
		if _, name, _ := strings.Cut(f.name, "/"); name != fmt.Sprintf("%012d", i.count+1) {
			return nil, 0, errArchive("the file " + f.name + " is not named by its first item, or stands elsewhere than it should")
		}
		i.at, i.left = f.offset, f.bytes
		i.buffer = bufio.NewReaderSize(io.NewSectionReader(i.r, f.offset, f.bytes), 256<<10)
	}
	var spelled []byte
	for more := true; more && len(spelled) < binary.MaxVarintLen64; {
		b, err := i.buffer.ReadByte()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("reading the archive: %w", err)
		}
		spelled, more = append(spelled, b), b >= 0x80
	}
	p := parser{rest: spelled}
	length, prefix := p.uvarint(), int64(len(spelled))
	if p.failed || length > uint64(i.most) || prefix+int64(length) > i.left {
		return nil, 0, errArchive("an item is longer than its file, or than any is")
	}
	i.count++
	if uint64(cap(i.text)) < length {
		i.text = make([]byte, length)
	}
	i.text = i.text[:length]
	if _, err := io.ReadFull(i.buffer, i.text); err != nil {
		return nil, 0, fmt.Errorf("reading the archive: %w", err)
	}
	offset = i.at + prefix
	i.at, i.left = offset+int64(length), i.left-prefix-int64(length)
	return i.text, offset, nil
}

// exported is an archive as the source of a replay.
type exported struct {
	r       io.ReaderAt
	entry   []file
	value   []file
	signed  []Tree // earlier checkpoints
	salt    [16]byte
	last    map[digest]lastWrite            // of each key, by a digest of it
	content map[[sha256.Size]byte]placement // of long values
}

// lastWrite is the entry that wrote a key last: a value, or nothing.
type lastWrite struct {
	offset  int64
	length  int32
	deleted bool
}

type placement struct {
	offset int64
	length int64
}

func (x *exported) digest(of []byte) digest {
	sum := sha256.Sum256(append(x.salt[:], of...))
	return digest(sum[:len(digest{})])
}

// prepare finds what each key is at the end, and where long values stand. These must be, in order, those that the entries
// call for. A problem is given with the entry at which it shows; what cannot be read as an entry ends the search, and the
// replay names it.
func (x *exported) prepare(ctx context.Context) (why *Finding, err error) {
	_, _ = rand.Read(x.salt[:]) // never fails
	x.last, x.content = map[digest]lastWrite{}, map[[sha256.Size]byte]placement{}
	type long struct {
		digest [sha256.Size]byte
		length uint64
	}
	latest := map[digest]long{} // of the keys whose value is long, and no piece of a release
	walk := func(each func(e *entry, offset int64, length int) error) error {
		entries := &items{r: x.r, files: x.entry, most: mostEntryBytes}
		for {
			text, offset, err := entries.next()
			if err == io.EOF {
				return nil
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			e, err := parseEntry(text)
			if err != nil {
				return nil
			}
			if err := each(e, offset, len(text)); err != nil {
				return err
			}
		}
	}
	err = walk(func(e *entry, offset int64, length int) error {
		for _, w := range e.writes {
			id := x.digest(w.key)
			x.last[id] = lastWrite{offset, int32(length), w.deleted}
			if !w.deleted && w.value == nil && w.key[0] != kindBlob {
				latest[id] = long{w.digest, w.length}
			} else {
				delete(latest, id)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	values := &items{r: x.r, files: x.value, most: mostValueBytes}
	err = walk(func(e *entry, _ int64, _ int) error {
		for _, w := range e.writes {
			if w.deleted || w.value != nil || w.key[0] == kindBlob || latest[x.digest(w.key)] != (long{w.digest, w.length}) {
				continue
			}
			value, offset, err := values.next()
			if err != nil && err != io.EOF {
				return err
			}
			if err == io.EOF || sha256.Sum256(value) != w.digest || uint64(len(value)) != w.length {
				why = &Finding{Entry: e.number, Why: fmt.Sprintf("the value of %s that it holds by digest is not in its place among the values", describe(w.key))}
				return io.EOF
			}
			x.content[w.digest] = placement{offset, int64(len(value))}
		}
		return nil
	})
	if err != nil && err != io.EOF || why != nil {
		if err == io.EOF {
			err = nil
		}
		return why, err
	}
	if _, _, err := values.next(); err != io.EOF {
		return &Finding{Why: "the archive holds values that no entry calls for"}, nil
	}
	return nil, nil
}

func (x *exported) entries(_ context.Context, each func(key, entry []byte) error) error {
	entries := &items{r: x.r, files: x.entry, most: mostEntryBytes}
	for n := uint64(1); ; n++ {
		text, _, err := entries.next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = each(numberedKey(n, kindEntry), text)
		}
		if err != nil {
			return err
		}
	}
}

func (x *exported) read(at placement) ([]byte, error) {
	text := make([]byte, at.length)
	if _, err := x.r.ReadAt(text, at.offset); err != nil && !(errors.Is(err, io.EOF)) {
		return nil, fmt.Errorf("reading the archive: %w", err)
	}
	return text, nil
}

func (x *exported) get(k []byte) ([]byte, error) {
	last, ok := x.last[x.digest(k)]
	if !ok || last.deleted {
		return nil, nil
	}
	text, err := x.read(placement{last.offset, int64(last.length)})
	if err != nil {
		return nil, err
	}
	e, err := parseEntry(text)
	if err != nil {
		return nil, err
	}
	for _, w := range e.writes {
		if bytes.Equal(w.key, k) {
			if w.value != nil {
				return w.value, nil
			}
			return x.held(w)
		}
	}
	return nil, nil
}

func (x *exported) held(w *write) ([]byte, error) {
	at, ok := x.content[w.digest]
	if !ok || at.length != int64(w.length) {
		return nil, nil
	}
	return x.read(at)
}

// blob: pieces of releases are in no archive.
func (x *exported) blob(string, int64) ([]byte, int, error) { return nil, 0, nil }

func (x *exported) figures() bool { return false }

// small reads a file as a whole.
func (x *exported) small(f file) ([]byte, error) {
	if f.bytes > mostSmallBytes {
		return nil, errArchive("the file " + f.name + " is longer than any is")
	}
	return x.read(placement{f.offset, f.bytes})
}

// sequence are the files of a folder that are named by the number of their first item.
func sequence(files []file, folder string) (list []file) {
	for _, f := range files {
		if strings.HasPrefix(f.name, folder+"/") {
			list = append(list, f)
		}
	}
	return list
}
