package verify

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/discreet-analytics/discreet/dp"
	"golang.org/x/mod/sumdb/note"
)

// tamperings is how often each of the two tests below changes something: the figure in benchmarks/RESULTS.md takes more.
func tamperings(t *testing.T, usually int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("DISCREET_TAMPERINGS"))
	if os.Getenv("DISCREET_TAMPERINGS") == "" {
		return usually
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// tampered is an archive while it is changed.
type tampered struct {
	t      testing.TB
	random *rand.Rand
	files  []tarFile
	keys   logKeys
}

type tarFile struct {
	name    string
	content []byte
}

func unpack(t testing.TB, text []byte) (files []tarFile) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(text))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, tarFile{h.Name, content})
	}
}

func (a *tampered) pack() (text []byte) {
	for _, f := range a.files {
		text = append(append(text, tarHeader(f.name, int64(len(f.content)))...), f.content...)
		text = append(text, make([]byte, -len(f.content)&(tarBlock-1))...)
	}
	return append(text, make([]byte, 2*tarBlock)...)
}

func (a *tampered) pick(prefix string) *tarFile {
	var of []int
	for i, f := range a.files {
		if strings.HasPrefix(f.name, prefix) {
			of = append(of, i)
		}
	}
	return &a.files[of[a.random.IntN(len(of))]]
}

func (a *tampered) file(name string) *tarFile { return a.pick(name) }

// relist makes the manifest that of the files as they are now; what follows from others does not.
func (a *tampered) relist(change func(*manifest)) {
	var m manifest
	if err := json.Unmarshal(a.file("MANIFEST.json").content, &m); err != nil {
		a.t.Fatal(err)
	}
	m.Files = nil
	for _, f := range a.files {
		if !strings.HasPrefix(f.name, "MANIFEST") {
			sum := sha256.Sum256(f.content)
			m.Files = append(m.Files, manifestFile{f.name, int64(len(f.content)), hex.EncodeToString(sum[:])})
		}
	}
	if change != nil {
		change(&m)
	}
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		a.t.Fatal(err)
	}
	a.file("MANIFEST.json").content = append(text, '\n')
}

// resign signs the manifest as it is now, with the log's own key.
func (a *tampered) resign() {
	var m manifest
	if err := json.Unmarshal(a.file("MANIFEST.json").content, &m); err != nil {
		a.t.Fatal(err)
	}
	sum := sha256.Sum256(a.file("MANIFEST.json").content)
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("discreet/%s/export\n%d\n%s\n", m.Ledger, m.Size, base64.StdEncoding.EncodeToString(sum[:]))}, a.keys.signer)
	if err != nil {
		a.t.Fatal(err)
	}
	a.file("MANIFEST.sig").content = signed
}

// reorder changes the items of a folder's file, and writes them with their lengths.
func (a *tampered) reorder(folder string, change func([][]byte) [][]byte) {
	f := a.pick(folder)
	var list [][]byte
	for rest := f.content; len(rest) > 0; {
		n, size := binary.Uvarint(rest)
		list = append(list, slices.Clone(rest[size:size+int(n)]))
		rest = rest[size+int(n):]
	}
	f.content = nil
	for _, item := range change(list) {
		f.content = append(binary.AppendUvarint(f.content, uint64(len(item))), item...)
	}
}

// flip changes one bit.
func flip(random *rand.Rand, text []byte) []byte {
	text = slices.Clone(text)
	if len(text) > 0 {
		text[random.IntN(len(text))] ^= 1 << random.IntN(8)
	}
	return text
}

// mangle changes bytes: one bit, or a few bytes that are gone, come in or are there twice.
func mangle(random *rand.Rand, text []byte) []byte {
	at := random.IntN(len(text))
	end := min(len(text), at+1+random.IntN(700))
	switch random.IntN(5) {
	case 0:
		return slices.Concat(text[:at], text[end:])
	case 1:
		return slices.Concat(text[:end], text[at:])
	case 2:
		return slices.Concat(text[:at], make([]byte, 1+random.IntN(1100)), text[at:])
	}
	return flip(random, text)
}

// shuffle changes which items there are, or in which order.
func shuffle(random *rand.Rand, list [][]byte) [][]byte {
	i, j := random.IntN(len(list)), random.IntN(len(list))
	switch random.IntN(4) {
	case 0:
		return slices.Delete(list, i, i+1)
	case 1:
		list[i], list[j] = list[j], list[i]
	case 2:
		return slices.Insert(list, j, list[i])
	case 3:
		list[i] = mangle(random, list[i])
	}
	return list
}

// changes are the ways to change an archive: at random, to the bytes, to the files, and with the manifest made anew as far
// as one can without the log's key, or with it.
func changes(earlier, foreign []byte) map[string]func(a *tampered) []byte {
	relisted := func(change func(a *tampered)) func(a *tampered) []byte {
		return func(a *tampered) []byte {
			change(a)
			a.relist(nil)
			if a.random.IntN(2) == 0 {
				a.resign()
			}
			return a.pack()
		}
	}
	return map[string]func(a *tampered) []byte{
		"bytes": func(a *tampered) []byte { return mangle(a.random, a.pack()) },
		"a bit": func(a *tampered) []byte { return flip(a.random, a.pack()) },
		"a cut": func(a *tampered) []byte { text := a.pack(); return text[:a.random.IntN(len(text))] },
		"a file's header": func(a *tampered) []byte {
			text := a.pack()
			at := 0
			for _, f := range a.files[:a.random.IntN(len(a.files))] {
				at += tarBlock + (len(f.content)+tarBlock-1)/tarBlock*tarBlock
			}
			header := text[at : at+tarBlock]
			header[100+a.random.IntN(tarBlock-100)] ^= 1 << a.random.IntN(7)
			copy(header[148:], "        ")
			sum := 0
			for _, c := range header {
				sum += int(c)
			}
			copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
			return text
		},
		"a file gone": func(a *tampered) []byte {
			i := a.random.IntN(len(a.files))
			a.files = slices.Delete(a.files, i, i+1)
			return a.pack()
		},
		"a file elsewhere": func(a *tampered) []byte {
			i, j := a.random.IntN(len(a.files)), a.random.IntN(len(a.files))
			a.files[i], a.files[j] = a.files[j], a.files[i]
			return a.pack()
		},
		"a file twice": func(a *tampered) []byte {
			i := a.random.IntN(len(a.files))
			a.files = slices.Insert(a.files, i, a.files[i])
			return a.pack()
		},
		"contents exchanged": func(a *tampered) []byte {
			i, j := a.random.IntN(len(a.files)), a.random.IntN(len(a.files))
			a.files[i].content, a.files[j].content = a.files[j].content, a.files[i].content
			return a.pack()
		},
		"a file of another export": func(a *tampered) []byte {
			other := unpack(a.t, [][]byte{earlier, foreign}[a.random.IntN(2)])
			f := other[a.random.IntN(len(other))]
			for i := range a.files {
				if a.files[i].name == f.name {
					a.files[i] = f
				}
			}
			return a.pack()
		},
		"entries": relisted(func(a *tampered) {
			a.reorder("entries/", func(list [][]byte) [][]byte { return shuffle(a.random, list) })
		}),
		"values": relisted(func(a *tampered) {
			a.reorder("values/", func(list [][]byte) [][]byte { return shuffle(a.random, list) })
		}),
		"a policy":      relisted(func(a *tampered) { f := a.pick("policies/"); f.content = mangle(a.random, f.content) }),
		"the guarantee": relisted(func(a *tampered) { f := a.pick("guarantee."); f.content = mangle(a.random, f.content) }),
		"the last entries cut off": func(a *tampered) []byte {
			var size uint64
			a.reorder("entries/", func(list [][]byte) [][]byte {
				size = uint64(1 + a.random.IntN(len(list)-1))
				return list[:size]
			})
			a.relist(func(m *manifest) { m.Size = size })
			a.resign() // and the checkpoint is another's
			return a.pack()
		},
		"what nothing follows from": func(a *tampered) []byte {
			f := a.file([]string{"PRIVACY.md", "log.key", "checkpoint", "MANIFEST.sig"}[a.random.IntN(4)])
			f.content = mangle(a.random, f.content)
			a.relist(func(m *manifest) {
				if a.random.IntN(2) == 0 {
					m.Program.Version += "x"
				}
			})
			return a.pack()
		},
	}
}

// smallExport is a ledger with a bit of everything, its archives of earlier and now, and that of another ledger.
func smallExport(t *testing.T) (keys logKeys, earlier, now, foreign []byte) {
	f := newFixture(t)
	keys = keysOf(t, f.Status().ID, 1)
	f.policy("shop", dp.Budget{Epsilon: 9 * dp.EpsilonOne, Delta: 1e9}, nil)
	f.hire("alice")
	f.allot("alice", "shop", func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: 9 * dp.EpsilonOne, Delta: 1e9} })
	f.load("shop", "first", months(0, 3))
	f.load("shop", "long", months(0, 150))
	for i := range 6 {
		c := f.charge(f.ask("alice", "shop", fmt.Sprint("plan-", i), pure(50), months(i, 1+i*9)...))
		if i%3 < 2 {
			f.publish(c, fmt.Sprint("rel-", i), fmt.Sprint("plan-", i), []int{10, 3000}[i%2])
		}
		if i == 2 {
			earlier = f.export(keys)
		}
	}
	now = f.export(keys)
	other := newFixture(t)
	return keys, earlier, now, other.export(keysOf(t, other.Status().ID, 1))
}

// TestTamperingWithAnExportIsDetected changes an export at random. Each change is found, or there is none: there is one
// archive of a log, byte for byte.
func TestTamperingWithAnExportIsDetected(t *testing.T) {
	keys, earlier, now, foreign := smallExport(t)
	random := rand.New(rand.NewPCG(19, 84))
	ways := changes(earlier, foreign)
	names := slices.Sorted(maps.Keys(ways))
	o := wording()
	shared := &export{}
	run := func(text []byte, o ExportOptions) (ExportReport, error) {
		x := &export{ctx: t.Context(), options: o, from: &exported{r: bytes.NewReader(text)}, figures: shared.figures}
		defer func() { shared.figures = x.figures }()
		return x.run(int64(len(text)))
	}
	if r, err := run(now, o); err != nil || len(r.Problems) > 0 {
		t.Fatalf("the export does not fit before it is changed: %v, %v", r.Problems, err)
	}
	found := map[string]int{}
	same := 0
	total := tamperings(t, 200)
	for i := range total {
		name := names[i%len(names)]
		a := &tampered{t: t, random: random, files: unpack(t, now), keys: keys}
		text := ways[name](a)
		o.Key = ""
		if random.IntN(2) == 0 {
			o.Key = keys.text
		}
		r, err := run(text, o)
		switch {
		case bytes.Equal(text, now):
			same++
			if err != nil || len(r.Problems) > 0 {
				t.Fatalf("%s, which changes nothing: %v, %v", name, r.Problems, err)
			}
		case err == nil && len(r.Problems) == 0:
			t.Fatalf("%s, change %d, goes unnoticed", name, i)
		default:
			found[name]++
		}
	}
	t.Logf("%d changes: %d changed nothing, all others were found: %v", total, same, found)
	if same > total/5 || len(found) < len(names) {
		t.Errorf("%d of %d changed nothing, %d of %d ways: the test shows less than it should", same, total, len(found), len(names))
	}
}

// TestForgedExportsAreReadToTheirEnd has whoever holds the log's key change an entry, and all that follows from it but its
// meaning. What is found depends on the change; that reading ends, and says so in words, does not.
func TestForgedExportsAreReadToTheirEnd(t *testing.T) {
	keys, _, now, _ := smallExport(t)
	random := rand.New(rand.NewPCG(3, 9))
	x := &export{}
	found := 0
	const total, spelled = 150, " 0123456789-\"{}[]:,azE.\x00\xff"
	for i := range total / thin {
		a := &tampered{t: t, random: random, files: unpack(t, now), keys: keys}
		var tr tree
		a.reorder("entries/", func(list [][]byte) [][]byte {
			at := random.IntN(len(list))
			for n := 1 + random.IntN(3); n > 0; n-- {
				list[at][49+random.IntN(len(list[at])-49)] = spelled[random.IntN(len(spelled))]
			}
			var previous [sha256.Size]byte
			for i := range list {
				copy(list[i][17:], previous[:])
				previous = sha256.Sum256(list[i])
				tr.add(list[i])
			}
			return list
		})
		root := tr.root()
		signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", keys.signer.Name(), tr.size, base64.StdEncoding.EncodeToString(root[:]))}, keys.signer)
		if err != nil {
			t.Fatal(err)
		}
		a.file("checkpoint").content = signed
		a.relist(func(m *manifest) { m.Root = base64.StdEncoding.EncodeToString(root[:]) })
		a.resign()
		y := &export{ctx: t.Context(), options: wording(), from: &exported{r: bytes.NewReader(a.pack())}, figures: x.figures}
		r, err := y.run(int64(len(a.pack())))
		x.figures = y.figures
		if err != nil {
			t.Fatalf("forgery %d is not read to its end: %v", i, err)
		}
		for _, p := range r.Problems {
			if strings.Contains(p.Why, "what no server writes") {
				t.Errorf("forgery %d has reading end in a panic", i)
			}
		}
		if len(r.Problems) > 0 {
			found++
		}
	}
	if found < total/thin*2/3 {
		t.Errorf("of %d forgeries only %d are found", total/thin, found)
	}
	t.Logf("%d of %d forgeries are found by what they mean", found, total/thin)
}

// TestTamperingWithTheLedgersDatabaseIsDetected changes keys and values in a ledger's database at random, as somebody could
// who writes to its files.
func TestTamperingWithTheLedgersDatabaseIsDetected(t *testing.T) {
	h := newHistory(t, 7)
	for range 40 {
		h.step()
	}
	h.close()
	on, err := openDatabase(t.Context(), h.dir, nil)
	h.must(err)
	var keys []string
	held := map[string][]byte{}
	h.must(on.walk(t.Context(), nil, func(k, value []byte) error {
		keys = append(keys, string(k))
		held[string(k)] = slices.Clone(value)
		return nil
	}))
	h.must(on.close())
	db, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil))
	h.must(err)
	defer func() { h.must(db.Close()) }()
	batch := db.NewWriteBatch()
	for k, value := range held {
		h.must(batch.Set([]byte(k), value))
	}
	h.must(batch.Flush())
	shared := newCertificates()
	run := func() *Finding {
		d := &database{db: db, txn: db.NewTransaction(false)}
		defer d.txn.Discard()
		c := &chain{replay: newReplay(d)}
		c.certificates = shared
		finding, err := c.run(context.Background())
		if err != nil { // which stops whoever opens it as well
			return &Finding{Why: err.Error()}
		}
		return finding
	}
	if f := run(); f != nil {
		t.Fatalf("the ledger does not fit before it is changed: %v", f)
	}
	byKind := map[byte][]string{}
	for _, k := range keys {
		byKind[k[0]] = append(byKind[k[0]], k)
	}
	kinds := slices.Sorted(maps.Keys(byKind))
	random := rand.New(rand.NewPCG(20, 26))
	total, same, found := tamperings(t, 60/thin), 0, map[string]int{}
	for i := range total {
		kind := kinds[random.IntN(len(kinds))]
		if i%3 == 0 {
			kind = []byte{kindEntry, kindHashes}[random.IntN(2)]
		}
		k := byKind[kind][random.IntN(len(byKind[kind]))]
		other := keys[random.IntN(len(keys))]
		change := map[string][]byte{} // nil: deleted
		switch random.IntN(6) {
		case 0:
			change[k] = nil
		case 1:
			change[k], change[other] = held[other], held[k]
		case 2:
			change[string(flip(random, []byte(k)))] = held[k]
		case 3:
			change[k], change[string(mangle(random, []byte(k)))+"x"] = nil, held[k]
		default:
			change[k] = mangle(random, append(held[k], 0))
			if random.IntN(2) == 0 {
				change[k] = flip(random, held[k])
			}
		}
		set := func(of func(string) ([]byte, bool)) {
			h.must(db.Update(func(txn *badger.Txn) error {
				for k := range change {
					value, ok := of(k)
					var err error
					if ok {
						err = txn.Set([]byte(k), value)
					} else {
						err = txn.Delete([]byte(k))
					}
					if err != nil {
						return err
					}
				}
				return nil
			}))
		}
		differs := false
		for k, value := range change {
			before, ok := held[k]
			differs = differs || ok != (value != nil) || !bytes.Equal(before, value)
		}
		set(func(k string) ([]byte, bool) { value := change[k]; return value, value != nil })
		f := run()
		set(func(k string) ([]byte, bool) { value, ok := held[k]; return value, ok })
		switch {
		case !differs:
			same++
			if f != nil {
				t.Fatalf("nothing was changed, and it does not fit: %v", f)
			}
		case f == nil:
			t.Fatalf("change %d, of %s, goes unnoticed", i, word([]byte(k)))
		default:
			found[string(kind)]++
		}
	}
	t.Logf("%d changes: %d changed nothing, all others were found, by kind of key: %v", total, same, found)
	if same > total/5 || len(found) < len(kinds)/(1+thin) {
		t.Errorf("%d of %d changed nothing, %d of %d kinds: the test shows less than it should", same, total, len(found), len(kinds))
	}
}
