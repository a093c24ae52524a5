package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// ExportOptions are what an export is compared with besides what is in it.
type ExportOptions struct {
	// Key is the text of the log's key, as it was got elsewhere. Empty: signatures are checked with the key that stands in the
	// archive, which whoever wrote it chose.
	Key string
	// Checkpoints are earlier ones, signed: the log must extend them.
	Checkpoints [][]byte
	// Policy writes the file of a policy from its record's JSON, and Text a guarantee for people from its JSON. Both are wording
	// alone. Nil: what is written so is not compared.
	Policy, Text func(text []byte) ([]byte, error)
	// Privacy is what PRIVACY.md should be like; nil: anything.
	Privacy []byte
}

// ExportReport is what an export holds.
type ExportReport struct {
	Report
	Created  string
	Program  string // version of what wrote it
	Revision string
	Key      string   // that it was checked with
	Pinned   bool     // which was got elsewhere
	Extends  []uint64 // sizes of the earlier checkpoints
	Files    int
	Policies int // versions of all
	// OtherPrivacy says that PRIVACY.md is another text than was given.
	OtherPrivacy bool
	// Problems are all that does not fit, the replay's finding among them. Nothing of an export with problems is proved.
	Problems []Finding
}

// manifest lists the files of an export before itself.
type manifest struct {
	Format  string `json:"format"`
	Ledger  string `json:"ledger"`
	Size    uint64 `json:"size"`
	Root    string `json:"root"`
	Created string `json:"created"`
	Program struct {
		Version  string `json:"version"`
		Revision string `json:"revision"`
	} `json:"program"`
	Files []manifestFile `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

const exportFormat = "discreet-export/1"

// lastFiles are those that end every export, in order. The manifest lists all before it.
var lastFiles = []string{"guarantee.json", "guarantee.txt", "PRIVACY.md", "log.key", "checkpoint", "MANIFEST.json", "MANIFEST.sig"}

// Export checks an archive that a server exported, and nothing else is needed for it. It holds every byte to account: what
// is not signed, or does not follow from what is, is a problem.
//
// Errors: what kept it from reading. An archive that does not fit is no error but has problems.
func Export(ctx context.Context, r io.ReaderAt, size int64, o ExportOptions) (ExportReport, error) {
	return (&export{ctx: ctx, options: o, from: &exported{r: r}}).run(size)
}

func (x *export) run(size int64) (report ExportReport, err error) {
	defer func() {
		if p := recover(); p != nil { // whoever wrote the archive could write anything into it
			x.problem("the archive holds what no server writes, so that it cannot be read to its end")
			report, err = x.report, nil
		}
	}()
	err = x.check(size)
	var why errArchive
	if errors.As(err, &why) {
		x.problem("%s", string(why))
		err = nil
	}
	return x.report, err
}

type export struct {
	ctx     context.Context
	options ExportOptions
	report  ExportReport
	from    *exported
	files   map[string]file
	sums    map[string][sha256.Size]byte
	list    manifest
	root    [sha256.Size]byte // that the manifest states
	chain   *chain
	proved  []uint64 // sizes of earlier checkpoints whose signature holds
	figures *figures // nil: new ones
}

func (x *export) problem(format string, values ...any) {
	x.report.Problems = append(x.report.Problems, Finding{Why: fmt.Sprintf(format, values...)})
}

func (x *export) check(size int64) error {
	files, err := listArchive(x.ctx, x.from.r, size)
	if err != nil {
		return err
	}
	x.report.Files = len(files)
	if err := x.sort(files); err != nil {
		return err
	}
	if err := x.sum(files); err != nil {
		return err
	}
	if err := x.readList(files); err != nil {
		return err
	}
	if err := x.signatures(); err != nil {
		return err
	}
	fits, err := x.replay()
	if err != nil || !fits {
		return err
	}
	if err := x.policies(); err != nil {
		return err
	}
	return x.guarantee()
}

// sort puts every file in its place, and refuses what has none.
func (x *export) sort(files []file) error {
	x.files = map[string]file{}
	stage := 0
	folders := []string{"entries/", "values/", "policies/"}
	for _, f := range files {
		if _, twice := x.files[f.name]; twice {
			return errArchive("the file " + f.name + " is there twice")
		}
		x.files[f.name] = f
		for stage < len(folders) && !strings.HasPrefix(f.name, folders[stage]) {
			stage++
		}
		if stage < len(folders) {
			continue
		}
		if at := stage - len(folders); at >= len(lastFiles) || lastFiles[at] != f.name {
			return errArchive("the file " + f.name + " is not one of an export, or not in its place, or one before it is missing")
		}
		stage++
	}
	if stage != len(folders)+len(lastFiles) {
		return errArchive("files are missing at the end: fetch it again")
	}
	x.from.entry, x.from.value = sequence(files, "entries"), sequence(files, "values")
	return nil
}

// sum computes the digests of all files.
func (x *export) sum(files []file) error {
	x.sums = map[string][sha256.Size]byte{}
	buffer := make([]byte, 1<<20)
	for _, f := range files {
		h := sha256.New()
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, &cancelled{x.ctx, io.NewSectionReader(x.from.r, f.offset, f.bytes)}, buffer); err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		x.sums[f.name] = [sha256.Size]byte(h.Sum(nil))
	}
	return nil
}

// cancelled reads until its context ends.
type cancelled struct {
	ctx  context.Context
	from io.Reader
}

func (c *cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.from.Read(p)
}

func (x *export) read(name string) ([]byte, error) { return x.from.small(x.files[name]) }

// readList compares the manifest with the files that are there.
func (x *export) readList(files []file) error {
	text, err := x.read("MANIFEST.json")
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if d.Decode(&x.list) != nil {
		return errArchive("MANIFEST.json cannot be read")
	}
	if again, err := json.MarshalIndent(x.list, "", " "); err != nil || !bytes.Equal(append(again, '\n'), text) {
		x.problem("MANIFEST.json is written in another way than manifests are")
	}
	l := x.list
	if l.Format != exportFormat {
		return errArchive("the export has another format than this version of discreet reads: run the version that wrote it")
	}
	x.report.Created, x.report.Program, x.report.Revision = l.Created, l.Program.Version, l.Program.Revision
	listed := files[:len(files)-2]
	if len(l.Files) != len(listed) {
		x.problem("MANIFEST.json lists %d files, and there are %d", len(l.Files), len(listed))
	}
	for i, f := range listed[:min(len(listed), len(l.Files))] {
		sum := x.sums[f.name]
		if l.Files[i] != (manifestFile{f.name, f.bytes, hex.EncodeToString(sum[:])}) {
			x.problem("the file %s is not the one that MANIFEST.json lists", f.name)
		}
	}
	return nil
}

// signatures checks what the log's key signed: the manifest, the checkpoint, and earlier checkpoints.
func (x *export) signatures() error {
	own, err := x.read("log.key")
	if err != nil {
		return err
	}
	key := strings.TrimSuffix(string(own), "\n")
	if x.options.Key != "" {
		x.report.Pinned = true
		if given := strings.TrimSpace(x.options.Key); given != key {
			x.problem("the key in the archive is not the one that was given")
			key = given
		}
	}
	if string(own) != key+"\n" && !x.report.Pinned {
		x.problem("log.key holds more than a key")
	}
	x.report.Key = key
	origin := "discreet/" + x.list.Ledger
	verifier, err := note.NewVerifier(key)
	if err != nil {
		x.problem("the log's key is none: %v", err)
		return nil
	}
	if verifier.Name() != origin {
		x.problem("the log's key is that of %s, and the export is of %s", verifier.Name(), origin)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(x.list.Root)
	if err != nil || len(root) != sha256.Size {
		x.problem("MANIFEST.json states no root")
		root = make([]byte, sha256.Size)
	}
	x.root = [sha256.Size]byte(root)
	sum := x.sums["MANIFEST.json"]
	for _, signed := range []struct {
		file, first string
		hash        []byte
	}{{"MANIFEST.sig", origin + "/export", sum[:]}, {"checkpoint", origin, root}} {
		text, err := x.read(signed.file)
		if err != nil {
			return err
		}
		first, size, hash, err := openNote(text, verifier)
		switch {
		case err != nil:
			x.problem("%s is not signed with the log's key: %v", signed.file, err)
		case first != signed.first || size != x.list.Size || hash != [sha256.Size]byte(signed.hash):
			x.problem("%s signs something else than the archive holds", signed.file)
		}
	}
	for _, earlier := range x.options.Checkpoints {
		first, size, hash, err := openNote(earlier, verifier)
		switch {
		case err != nil:
			x.problem("the earlier checkpoint is not signed with the log's key: %v", err)
		case first != origin:
			x.problem("the earlier checkpoint is one of another log")
		default:
			x.proved = append(x.proved, size)
			x.from.signed = append(x.from.signed, Tree{size, hash})
		}
	}
	return nil
}

// openNote reads a note of three lines that exactly one key signed: a name, a size and a hash.
func openNote(text []byte, verifier note.Verifier) (first string, size uint64, hash [sha256.Size]byte, err error) {
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return "", 0, hash, err
	}
	var signed string
	if len(n.Sigs) == 1 {
		// Base64 has several spellings of some bytes; there is one note.
		raw, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
		if err == nil {
			signed = n.Text + "\n— " + verifier.Name() + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
		}
	}
	lines := strings.Split(n.Text, "\n")
	if signed != string(text) || len(lines) != 4 || lines[3] != "" {
		return "", 0, hash, errors.New("it is not a note of three lines and one signature")
	}
	size, err = strconv.ParseUint(lines[1], 10, 64)
	raw, hashErr := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || hashErr != nil || len(raw) != sha256.Size || lines[1] != strconv.FormatUint(size, 10) {
		return "", 0, hash, errors.New("it states no size or no hash")
	}
	return lines[0], size, [sha256.Size]byte(raw), nil
}

// replay holds the log to what it means, and tells whether it all fits.
func (x *export) replay() (bool, error) {
	why, err := x.from.prepare(x.ctx)
	if err != nil {
		return false, err
	}
	signed := append([]Tree{{x.list.Size, x.root}}, x.from.signed...)
	c := &chain{replay: newReplay(x.from), roots: signed}
	c.charged = new([]string)
	if x.figures == nil {
		x.figures = newFigures(c.certificates)
	}
	c.certificates = x.figures.certificates // which remember what they worked out
	finding, err := c.run(x.ctx)
	if err != nil {
		return false, err
	}
	x.chain = c
	x.report.Report = c.report()
	x.report.Finding = finding
	for _, f := range []*Finding{finding, why} {
		if f != nil {
			x.report.Problems = append(x.report.Problems, *f)
		}
	}
	if finding != nil || why != nil {
		return false, nil
	}
	if c.count.Entries != x.list.Size {
		x.problem("the archive holds %d entries, and says that they are %d", c.count.Entries, x.list.Size)
	}
	if id := hex.EncodeToString(c.count.ID[:]); id != x.list.Ledger {
		x.problem("the entries are those of the ledger %s, and the archive says %s", id, x.list.Ledger)
	}
	x.report.Extends = x.proved
	return true, nil
}

// policies compares every version of every policy with what the log holds.
func (x *export) policies() error {
	wanted := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(x.chain.datasets)) {
		for version := uint64(1); version <= x.chain.datasets[name].record.PolicyVersion; version++ {
			of := fmt.Sprintf("policies/%s/%06d.yaml", name, version)
			wanted[of] = true
			x.report.Policies++
			f, ok := x.files[of]
			if !ok {
				x.problem("the file %s is missing", of)
				continue
			}
			if x.options.Policy == nil {
				continue
			}
			record, err := x.from.get(numberedKey(version, kindPolicy, name))
			if err != nil {
				return err
			}
			if len(record) == 0 || record[0] != recordVersion {
				return errMalformed
			}
			want, err := x.options.Policy(record[1:])
			if err != nil {
				return fmt.Errorf("writing version %d of the policy of %s: %w", version, name, err)
			}
			if text, err := x.from.small(f); err != nil {
				return err
			} else if !bytes.Equal(text, want) {
				x.problem("%s is not the policy that the log holds", of)
			}
		}
	}
	for name := range x.files {
		if strings.HasPrefix(name, "policies/") && !wanted[name] {
			x.problem("the file %s is of no policy that the log holds", name)
		}
	}
	return nil
}

// guarantee computes the worst case again, and compares it with what the archive states.
func (x *export) guarantee() error {
	g, err := x.chain.guarantee(x.ctx, x.figures)
	if err != nil {
		return err
	}
	x.report.Guarantee = g
	want, err := g.JSON()
	if err != nil {
		return err
	}
	for _, of := range []struct {
		name string
		text func([]byte) ([]byte, error)
	}{{"guarantee.json", func(text []byte) ([]byte, error) { return text, nil }}, {"guarantee.txt", x.options.Text}} {
		if of.text == nil {
			continue
		}
		want, err := of.text(want)
		if err != nil {
			return err
		}
		text, err := x.read(of.name)
		if err != nil {
			return err
		}
		if !bytes.Equal(text, want) {
			x.problem("%s is not what follows from the log", of.name)
		}
	}
	text, err := x.read("PRIVACY.md")
	x.report.OtherPrivacy = x.options.Privacy != nil && !bytes.Equal(text, x.options.Privacy)
	return err
}
