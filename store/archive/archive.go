// Package archive writes a ledger, as it stood at one moment, as one archive that a regulator can check without a server
// (store/FORMAT.md, "Export"): every entry of the log, what entries hold by digest only, every version of every policy in the
// words of its file, what is guaranteed and what was spent, and dp/PRIVACY.md, which says what that means. A checkpoint signs
// the log, and a second note the list of all files.
//
// It owns the layout and never decides who may have it. An archive holds no figure of an answer and no row: entries do not.
package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/exposure"
)

// Snapshot is a ledger at one moment. What is given to a function is valid during the call only.
type Snapshot interface {
	// Log is the id of the ledger, and how many entries it has.
	Log() (id string, size uint64)
	// Entries gives every entry in order.
	Entries(each func(entry []byte) error) error
	// LongValues gives, in the order of the entries and of their writes, each value that an entry holds by digest, that its
	// key still has, and that is no piece of a release.
	LongValues(each func(value []byte) error) error
	// Policies gives every version of every policy, by dataset and version.
	Policies(each func(dp.VersionedPolicy) error) error
	// Exposure returns what the worst case of a dataset follows from.
	Exposure(dataset string) (exposure.Book, error)
}

// Options are what stands in an archive beside the ledger.
type Options struct {
	Created time.Time
	Program Program
	Signer  note.Signer // of the log, whose name is discreet/ and the ledger's id
	Key     string      // that its signatures are checked with, as text
	// Policy writes a policy as its file.
	Policy func(dp.Policy) ([]byte, error)
	// Privacy is dp/PRIVACY.md.
	Privacy []byte
}

// Program is what wrote an archive.
type Program struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of its source; empty where the build does not say
}

// Manifest lists the files of an archive before itself.
type Manifest struct {
	Format  string  `json:"format"`
	Ledger  string  `json:"ledger"`
	Size    uint64  `json:"size"` // entries
	Root    string  `json:"root"` // of the tree over them; base64
	Created string  `json:"created"`
	Program Program `json:"program"`
	Files   []File  `json:"files"`
}

// File is one file.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Format is the version of the layout.
const Format = "discreet-export/1"

// The names of single files.
const (
	guaranteeJSON = "guarantee.json"
	guaranteeText = "guarantee.txt"
	privacyName   = "PRIVACY.md"
	keyName       = "log.key"
	checkpoint    = "checkpoint"
	manifestName  = "MANIFEST.json"
	signatureName = "MANIFEST.sig"
)

// fileBytes is how long a file of entries or values becomes, unless its first one is longer.
const fileBytes = 4 << 20

// Origin is the name of a ledger's log, in checkpoints and as the name of its signer.
func Origin(id string) string { return "discreet/" + id }

// Write writes the archive of a ledger to w, in memory of constant size. What was written of one that failed lacks its end,
// and passes for no whole one.
func Write(ctx context.Context, w io.Writer, s Snapshot, o Options) error {
	id, size := s.Log()
	a := &writer{ctx: ctx, tar: w, manifest: Manifest{Format: Format, Ledger: id, Size: size, Created: o.Created.UTC().Format(time.RFC3339), Program: o.Program}}
	if o.Signer.Name() != Origin(id) {
		return errors.New("the key that signs the log is another ledger's")
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"entries", func() error { return a.entries(s) }},
		{"values", func() error { return a.values(s) }},
		{"policies", func() error { return a.policies(s, o.Policy) }},
		{"the guarantee", func() error { return a.guarantee(s) }},
		{"what explains it", func() error { return a.file(privacyName, o.Privacy) }},
		{"the log's key", func() error { return a.file(keyName, []byte(o.Key+"\n")) }},
		{"the checkpoint", func() error { return a.sign(checkpoint, Origin(id), a.root[:], o.Signer) }},
		{"the list of files", func() error { return a.list(id, o.Signer) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("exporting %s: %w", step.what, err)
		}
	}
	return a.end()
}

// writer writes files one after the other.
type writer struct {
	ctx      context.Context
	tar      io.Writer
	manifest Manifest
	tree     tree
	root     tlog.Hash
}

// file writes one file and lists it.
func (a *writer) file(name string, content []byte) error {
	if err := a.put(name, content); err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	a.manifest.Files = append(a.manifest.Files, File{name, int64(len(content)), hex.EncodeToString(sum[:])})
	return nil
}

// sequence gathers items, each after its length, into files of bounded length.
type sequence struct {
	*writer
	name   func(first uint64) string
	first  uint64 // number of the first item of the file
	count  uint64
	gather []byte
}

func (q *sequence) add(item []byte) error {
	if len(q.gather) > 0 && len(q.gather)+len(item) > fileBytes {
		if err := q.flush(); err != nil {
			return err
		}
	}
	q.count++
	if len(q.gather) == 0 {
		q.first = q.count
	}
	q.gather = append(binary.AppendUvarint(q.gather, uint64(len(item))), item...)
	return nil
}

func (q *sequence) flush() error {
	if len(q.gather) == 0 {
		return nil
	}
	err := q.file(q.name(q.first), q.gather)
	q.gather = q.gather[:0]
	return err
}

func (a *writer) entries(s Snapshot) error {
	q := &sequence{writer: a, name: func(first uint64) string { return fmt.Sprintf("entries/%012d", first) }}
	err := s.Entries(func(entry []byte) error {
		a.tree.add(tlog.RecordHash(entry))
		return q.add(entry)
	})
	if err == nil {
		err = q.flush()
	}
	if err != nil {
		return err
	}
	if q.count == 0 || q.count != a.manifest.Size {
		return errors.New("the ledger has no entry, or not as many as it says")
	}
	a.root = a.tree.root()
	a.manifest.Root = base64.StdEncoding.EncodeToString(a.root[:])
	return nil
}

func (a *writer) values(s Snapshot) error {
	q := &sequence{writer: a, name: func(first uint64) string { return fmt.Sprintf("values/%012d", first) }}
	if err := s.LongValues(q.add); err != nil {
		return err
	}
	return q.flush()
}

func (a *writer) policies(s Snapshot, format func(dp.Policy) ([]byte, error)) error {
	return s.Policies(func(p dp.VersionedPolicy) error {
		text, err := format(p.Policy)
		if err != nil {
			return err
		}
		return a.file(fmt.Sprintf("policies/%s/%06d.yaml", p.Name, p.Version), text)
	})
}

func (a *writer) guarantee(s Snapshot) error {
	g, err := Guaranteed(s)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		return fmt.Errorf("encoding the guarantee: %w", err)
	}
	text = append(text, '\n')
	if err := a.file(guaranteeJSON, text); err != nil {
		return err
	}
	return a.file(guaranteeText, Text(g))
}

// sign writes a note of three lines: a name, the size and a hash.
func (a *writer) sign(name, first string, hash []byte, signer note.Signer) error {
	signed, err := a.note(first, hash, signer)
	if err != nil {
		return err
	}
	return a.file(name, signed)
}

func (a *writer) note(first string, hash []byte, signer note.Signer) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", first, a.manifest.Size, base64.StdEncoding.EncodeToString(hash))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return signed, nil
}

// list writes the manifest and its signature, which are the last files and in no list.
func (a *writer) list(id string, signer note.Signer) error {
	text, err := json.MarshalIndent(a.manifest, "", " ")
	if err != nil {
		return fmt.Errorf("encoding the list of files: %w", err)
	}
	text = append(text, '\n')
	sum := sha256.Sum256(text)
	signed, err := a.note(Origin(id)+"/export", sum[:], signer)
	if err != nil {
		return err
	}
	return errors.Join(a.put(manifestName, text), a.put(signatureName, signed))
}

// tree is the right edge of a Merkle tree (RFC 6962, section 2.1): the roots of the perfect subtrees that its leaves make
// up, the largest first.
type tree struct {
	edge   []tlog.Hash
	leaves uint64
}

func (t *tree) add(leaf tlog.Hash) {
	t.edge = append(t.edge, leaf)
	t.leaves++
	for n := t.leaves; n%2 == 0; n /= 2 {
		last := len(t.edge) - 1
		t.edge[last-1] = tlog.NodeHash(t.edge[last-1], t.edge[last])
		t.edge = t.edge[:last]
	}
}

func (t *tree) root() tlog.Hash {
	last := len(t.edge) - 1
	root := t.edge[last]
	for i := last - 1; i >= 0; i-- {
		root = tlog.NodeHash(t.edge[i], root)
	}
	return root
}

// Every file stands in the archive as in the tar format of POSIX.1-1988 (ustar), with all that is not its name, its length
// and its content being the same in all: so that there is one archive of its files, and no byte of it says anything else.
const blockBytes = 512

// put writes a file.
func (a *writer) put(name string, content []byte) error {
	if err := a.ctx.Err(); err != nil {
		return err
	}
	header, err := header(name, int64(len(content)))
	if err != nil {
		return err
	}
	for _, part := range [][]byte{header, content, make([]byte, -len(content)&(blockBytes-1))} {
		if _, err := a.tar.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// end writes the two empty blocks that end an archive.
func (a *writer) end() error {
	_, err := a.tar.Write(make([]byte, 2*blockBytes))
	return err
}

// header is a file's block of the tar format.
func header(name string, size int64) ([]byte, error) {
	const mostName, mostSize = 100, 1 << 33
	if len(name) > mostName || size >= mostSize {
		return nil, fmt.Errorf("the file %s does not fit into an archive", name)
	}
	b := make([]byte, blockBytes)
	copy(b, name)
	copy(b[100:], "0000444\x00")                  // mode
	copy(b[108:], "0000000\x00")                  // owner
	copy(b[116:], "0000000\x00")                  // group
	copy(b[124:], fmt.Sprintf("%011o\x00", size)) // length
	copy(b[136:], "00000000000\x00")              // time
	copy(b[148:], bytes.Repeat([]byte{' '}, 8))   // checksum, while it is computed
	b[156] = '0'                                  // a regular file
	copy(b[257:], "ustar\x0000")                  // magic and version
	copy(b[329:], "0000000\x000000000\x00")       // device
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b, nil
}
