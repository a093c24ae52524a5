package verify

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/archive"
	"golang.org/x/mod/sumdb/note"
)

// logKeys are the keys of a ledger's log.
type logKeys struct {
	signer note.Signer
	text   string
}

func keysOf(t testing.TB, id string, seed byte) logKeys {
	t.Helper()
	private, public, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 64)), archive.Origin(id))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return logKeys{signer, public}
}

// export writes the archive of a ledger that is open.
func (f *fixture) export(keys logKeys) []byte {
	f.t.Helper()
	s, err := f.Snapshot(f.t.Context())
	f.must(err)
	defer s.Close()
	var b bytes.Buffer
	f.must(archive.Write(f.t.Context(), &b, s.Record(f.t.Context()), archive.Options{
		Created: f.clock(), Program: archive.Program{Version: "test"}, Signer: keys.signer, Key: keys.text,
		Policy: func(p dp.Policy) ([]byte, error) { return json.MarshalIndent(p, "", "  ") }, Privacy: []byte("# Privacy\n"),
	}))
	return b.Bytes()
}

// wording is that of export.
func wording() ExportOptions {
	return ExportOptions{
		Policy: func(record []byte) ([]byte, error) {
			var p dp.VersionedPolicy
			if err := json.Unmarshal(record, &p); err != nil {
				return nil, err
			}
			return json.MarshalIndent(p.Policy, "", "  ")
		},
		Text: func(text []byte) ([]byte, error) {
			g, err := archive.ParseGuarantee(text)
			return archive.Text(g), err
		},
		Privacy: []byte("# Privacy\n"),
	}
}

func verifyExport(t testing.TB, text []byte, o ExportOptions) ExportReport {
	t.Helper()
	r, err := Export(t.Context(), bytes.NewReader(text), int64(len(text)), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func fitsExport(t testing.TB, text []byte, o ExportOptions) ExportReport {
	t.Helper()
	r := verifyExport(t, text, o)
	for _, p := range r.Problems {
		t.Errorf("an honest export does not fit: %s", p)
	}
	if t.Failed() {
		t.FailNow()
	}
	return r
}

// checkpointOf is the signed note in an archive.
func checkpointOf(t testing.TB, text []byte) []byte {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(text))
	for {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("the archive has no checkpoint: %v", err)
		}
		if h.Name == "checkpoint" {
			note, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return note
		}
	}
}

func TestExportsOfRandomLedgersFit(t *testing.T) {
	for seed := range uint64(max(1, 2/thin)) {
		h := newHistory(t, 40+seed)
		keys := keysOf(t, h.Status().ID, 1)
		for range 50 {
			h.step()
		}
		early := h.export(keys)
		for range 50 {
			h.step()
		}
		want, s := h.stated(), h.Status()
		text := h.export(keys)
		h.close()
		direct := fits(t, h.dir, Options{Witness: h.witness})
		o := wording()
		o.Key, o.Checkpoints = keys.text, [][]byte{checkpointOf(t, early)}
		r := fitsExport(t, text, o)
		if r.Entries != s.Length || r.Head != s.Head || r.Counts != direct.Counts || !r.Pinned || !slices.Equal(r.Extends, []uint64{fitsExport(t, early, wording()).Entries}) || r.OtherPrivacy {
			t.Errorf("seed %d: verified %+v; the database has %+v", seed, r, direct.Counts)
		}
		got, err := r.Guarantee.JSON()
		h.must(err)
		same(t, "the guarantee", string(got), want)
	}
}

// Whoever has an archive can open it with any program.
func TestExportIsATarWithoutFigures(t *testing.T) {
	f := newFixture(t)
	f.openShops(dp.Quarter, dp.Month)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		f.draw("ann", fmt.Sprint("rel-", i), question(random), true, shops...)
	}
	r := tar.NewReader(bytes.NewReader(f.export(keysOf(t, f.Status().ID, 1))))
	files := map[string]string{}
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		f.must(err)
		text, err := io.ReadAll(r)
		f.must(err)
		files[h.Name] = string(text)
		if strings.Contains(string(text), "NoisedCoordinates\":[") || strings.Contains(string(text), "\"Groups\":[") {
			t.Errorf("%s holds figures", h.Name)
		}
	}
	for _, name := range []string{"entries/000000000001", "values/000000000001", "policies/shop/000001.yaml", "guarantee.json", "guarantee.txt", "PRIVACY.md", "log.key", "checkpoint", "MANIFEST.json", "MANIFEST.sig"} {
		if files[name] == "" {
			t.Errorf("%s is missing or empty", name)
		}
	}
	if !strings.Contains(files["guarantee.txt"], "Dataset shop") || !strings.Contains(files["guarantee.txt"], "Consumer ann") {
		t.Errorf("the guarantee says:\n%s", files["guarantee.txt"])
	}
}

func TestWhatAnExportIsComparedWithCounts(t *testing.T) {
	f := newFixture(t)
	keys, others := keysOf(t, f.Status().ID, 1), keysOf(t, f.Status().ID, 2)
	first := f.export(keys)
	f.hire("alice")
	second := f.export(keys)
	other := newFixture(t)
	foreign := other.export(keysOf(t, other.Status().ID, 1))
	for name, c := range map[string]struct {
		archive []byte
		options ExportOptions
		says    string
	}{
		"another key":                  {second, ExportOptions{Key: others.text}, "not the one that was given"},
		"no key":                       {second, ExportOptions{Key: "nonsense"}, "not the one that was given"},
		"a later checkpoint":           {first, ExportOptions{Checkpoints: [][]byte{checkpointOf(t, second)}}, "when its checkpoint was signed"},
		"a checkpoint of another log":  {second, ExportOptions{Checkpoints: [][]byte{checkpointOf(t, foreign)}}, "not signed with the log's key"},
		"what is no checkpoint":        {second, ExportOptions{Checkpoints: [][]byte{[]byte("x")}}, "not signed with the log's key"},
		"another wording of policies":  {second, ExportOptions{Text: func([]byte) ([]byte, error) { return nil, nil }}, "guarantee.txt is not what follows"},
		"its beginning":                {second[:len(second)/2], ExportOptions{}, "cut off"},
		"all but its last block":       {second[:len(second)-512], ExportOptions{}, "cut off"},
		"something after its end":      {append(slices.Clone(second), 0), ExportOptions{}, "cut off"},
		"nothing":                      {nil, ExportOptions{}, "cut off"},
		"something else":               {bytes.Repeat([]byte("discreet"), 1000), ExportOptions{}, "no file of an archive"},
		"an archive of nothing":        {make([]byte, 1024), ExportOptions{}, "missing at the end"},
		"a file of a negative length":  {append(tarHeader("entries/000000000001", -1), make([]byte, 1024)...), ExportOptions{}, "no file of an archive"},
		"a file longer than the whole": {append(tarHeader("entries/000000000001", 1<<32), make([]byte, 1024)...), ExportOptions{}, "cut off"},
	} {
		r := verifyExport(t, c.archive, c.options)
		if len(r.Problems) == 0 || !slices.ContainsFunc(r.Problems, func(p Finding) bool { return strings.Contains(p.String(), c.says) }) {
			t.Errorf("%s: %v", name, r.Problems)
		}
	}
}
