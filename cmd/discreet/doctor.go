package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/store/disk"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// doctorCommand looks at a data directory.
type doctorCommand struct {
	offline
	URL string `help:"Address of the server, to ask it whether it is ready." placeholder:"URL"`
	trust
	KeepFree size `help:"Room that loads leave free, as the server was told." default:"1GiB" placeholder:"SIZE"`

	output
}

// Run looks and prints one line for everything that was looked at. It fails where anything must be mended.
func (c *doctorCommand) Run(ctx context.Context, t terminal, from surroundings) error {
	if err := c.check(); err != nil {
		return err
	}
	witness, err := c.witness(from)
	if err != nil {
		return err
	}
	key, err := c.encryptionFlag.read(c.Data)
	if err != nil {
		return err
	}
	if err := secrets.Check(filepath.Join(c.Data, "secrets"), key); isKey(err) {
		return explainKey(c.Data, err)
	}
	transport, err := c.transport()
	if err != nil {
		return err
	}
	d := &examination{offline: c.offline, key: key, keepFree: int64(c.KeepFree), url: c.URL, http: client.HTTP(transport), now: from.clock(), witness: witness}
	d.run(ctx)

	v := view{body: map[string]any{"checks": d.found}, columns: []string{"level", "what", "do"}}
	failed := 0
	for _, f := range d.found {
		v.rows = append(v.rows, []any{string(f.Level), f.What, f.Do})
		if f.Level == levelFail {
			failed++
		}
	}
	if c.Format == "table" {
		v.rows = nil
		for _, f := range d.found {
			v.lines = append(v.lines, f.String())
		}
	}
	if err := c.print(t.stdout, v); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed: do what their lines say", failed, len(d.found))
	}
	return nil
}

// level is how bad a symptom is.
type level string

const (
	levelOK   level = "ok"
	levelWarn level = "warn" // works now
	levelFail level = "fail" // does not work, or promises are not kept
)

// symptom is what was found about one thing, and what to do about it.
type symptom struct {
	Level level  `json:"level"`
	What  string `json:"what"`
	Do    string `json:"do"` // empty where nothing is to be done
}

func (s symptom) String() string {
	line := fmt.Sprintf("%-4s  %s", s.Level, s.What)
	if s.Do != "" {
		line += " — " + s.Do
	}
	return line
}

// examination looks at one thing after the other. It changes nothing, and no line of it holds a secret.
type examination struct {
	offline
	keepFree int64
	url      string
	http     *http.Client
	now      time.Time
	witness  string       // path; empty where none was found
	key      *secrets.Key // nil: the directory is not encrypted

	served bool
	glance *verify.Glance // of the ledger, nil where it was not opened
	found  []symptom
}

func (d *examination) note(l level, do, what string, values ...any) {
	d.found = append(d.found, symptom{l, fmt.Sprintf(what, values...), do})
}

func (d *examination) ok(what string, values ...any) { d.note(levelOK, "", what, values...) }

// run looks at the directory, then at what is in it, then at what is around it.
func (d *examination) run(ctx context.Context) {
	d.permissions()
	d.owner()
	d.lock()
	d.room()
	witness := d.readWitness()
	d.ledgerOpens(ctx, witness)
	d.compareWitness(witness)
	d.clock(witness)
	d.secrets()
	d.files("ledger", "created", "restored")
	d.files("data")
	d.foreign()
	d.ready(ctx)
}

// permissions holds that nobody else reads what is kept: the directory closes off all below it.
func (d *examination) permissions() {
	info, err := os.Stat(d.Data)
	if err != nil {
		d.note(levelFail, "run as the user of the server", "the data directory cannot be read")
		return
	}
	switch mode := info.Mode().Perm(); {
	case !hasModes || mode&0o077 == 0:
		d.ok("only its owner reads the data directory")
	case mode&0o022 != 0:
		d.note(levelFail, "find out who did, then run chmod 700 on it", "others may write to the data directory (mode %04o)", mode)
	default:
		d.note(levelFail, "find out who did, then run chmod 700 on it", "others may read the data directory (mode %04o)", mode)
	}
}

// owner holds that everything belongs to the user of the server.
func (d *examination) owner() {
	owner, known := ownerOf(d.Data)
	if !known {
		return
	}
	foreign := 0
	err := filepath.WalkDir(d.Data, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // of a running server, files come and go
			return nil
		}
		if o, known := ownerOf(path); known && o != owner {
			foreign++
		}
		return err
	})
	switch {
	case err != nil:
		d.note(levelFail, "run as the user of the server, or as root", "not all of the data directory can be read")
	case foreign > 0:
		d.note(levelFail, fmt.Sprintf("stop the server and run chown -R %d on it", owner), "%d files in the data directory belong to another user than the directory", foreign)
	case owner != os.Geteuid() && os.Geteuid() != 0:
		d.note(levelWarn, "run the server and this as the same user", "the data directory belongs to another user (%d)", owner)
	default:
		d.ok("everything belongs to the owner of the data directory")
	}
}

// lock finds out whether a server holds the directory.
func (d *examination) lock() {
	served, err := verify.Served(d.ledger())
	d.served = served
	switch {
	case err != nil:
		d.note(levelFail, "run as the user of the server", "whether a server holds the directory cannot be found out")
	case served:
		process, err := os.ReadFile(filepath.Join(d.ledger(), "LOCK"))
		if err != nil {
			process = []byte("unknown")
		}
		d.ok("a server holds the directory (process %s)", bytes.TrimSpace(process))
	case d.url != "":
		d.note(levelWarn, "start discreet serve, or name the right --data and --url", "no server holds the directory")
	default:
		d.ok("no server holds the directory")
	}
}

// room compares free space with what writes need.
func (d *examination) room() {
	const ledgerShare = 8 // of what loads leave, the ledger leaves an eighth
	free, err := disk.Free(d.Data)
	const do = "free space on the disk of the data directory"
	switch {
	case err != nil:
		d.note(levelWarn, "look at the disk", "the free space cannot be found out")
	case free < d.keepFree/ledgerShare:
		d.note(levelFail, do, "%s are free: questions and changes are refused below %s", bytesText(free), bytesText(d.keepFree/ledgerShare))
	case free < d.keepFree:
		d.note(levelWarn, do, "%s are free: loads are refused below %s", bytesText(free), bytesText(d.keepFree))
	default:
		d.ok("%s are free", bytesText(free))
	}
	if info, err := os.Stat(filepath.Join(d.Data, "reserve")); err != nil {
		d.note(levelWarn, "start the server once", "there is no reserve for a full disk")
	} else if held, known := allocated(info); known && held == 0 {
		d.note(levelWarn, "free space; the server takes it back by itself", "the reserve for a full disk is used up")
	}
}

// bytesText is a number of bytes for people.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	default:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
}

const restoreWitness = "find the witness and name it with --witness; without one the server refuses until an officer writes off what may be missing"

// witnessKey is what the witness is written under; that of before a restore may be of another key, or none.
func (d *examination) witnessKey() []byte {
	if _, err := os.Stat(filepath.Join(d.ledger(), "restored")); err == nil {
		return nil
	}
	return d.key.Raw()
}

// readWitness reads the witness, nil where there is none to rely on.
func (d *examination) readWitness() *verify.Witness {
	if d.witness == "" {
		d.note(levelFail, restoreWitness, "there is no witness where the server keeps it")
		return nil
	}
	w, err := verify.ReadWitness(d.witness, d.witnessKey())
	if err != nil {
		d.note(levelFail, restoreWitness, "%v", err)
		return nil
	}
	return &w
}

// ledgerOpens opens the ledger, where no server holds it.
func (d *examination) ledgerOpens(ctx context.Context, w *verify.Witness) {
	if d.served {
		return
	}
	g, err := verify.Look(ctx, d.ledger(), w, d.key.Raw())
	if err != nil {
		d.note(levelFail, "restore the directory from a backup, without its witness, if what it says does not help", "the ledger does not open: %v", err)
		return
	}
	d.glance = &g
	d.ok("the ledger opens: %d entries, the last one of %s", g.Length, instant(g.Last))
}

// compareWitness tells whether ledger and witness are in step.
func (d *examination) compareWitness(w *verify.Witness) {
	switch {
	case w == nil:
	case d.glance == nil && d.id() != "" && d.id() != fmt.Sprintf("%x", w.ID):
		d.note(levelFail, "name its own with --witness", "the witness is that of another ledger")
	case d.glance == nil:
		d.ok("the witness is that of this ledger and saw %d entries, the last one at %s", w.Length, instant(w.At))
	case d.glance.Witness != nil:
		d.note(levelFail, "restore the newest copy there is; then an officer writes off what may be missing (discreet budget write-off)", "ledger and witness are not in step: %s", d.glance.Witness)
	default:
		d.ok("ledger and witness are in step")
	}
}

// drift is how far clocks may be apart.
const drift = time.Minute

// clock holds that time does not go backwards: leases, expiries and blocks follow it.
func (d *examination) clock(w *verify.Witness) {
	var last time.Time
	if w != nil {
		last = w.At
	}
	if d.glance != nil && d.glance.Last.After(last) {
		last = d.glance.Last
	}
	switch {
	case last.IsZero():
	case last.After(d.now.Add(drift)):
		d.note(levelFail, "set the clock of this machine before the server is started", "the clock says %s, and the ledger was written to at %s", instant(d.now), instant(last))
	default:
		d.ok("the clock is not behind the ledger")
	}
}

// secrets holds that the secrets can be read and are those of the ledger. It never makes a file, and never shows
// what is in it.
func (d *examination) secrets() {
	dir := filepath.Join(d.Data, "secrets")
	const do = "restore it from the backup of this installation: a new one would give every customer a second pseudonym"
	if _, err := os.Lstat(filepath.Join(dir, secrets.FileName)); err != nil {
		d.note(levelFail, do, "the secrets file is missing")
		return
	}
	s, err := secrets.OpenWith(dir, d.key)
	if err != nil {
		d.note(levelFail, do, "%v", err)
		return
	}
	fingerprint := s.Fingerprint()
	switch {
	case d.glance == nil:
		d.ok("the secrets file is whole; whether it is that of the ledger shows once the server is stopped")
	case len(d.glance.Secrets) == 0:
		d.note(levelWarn, "start the server once", "the ledger is not bound to its secrets yet")
	case !bytes.Equal(d.glance.Secrets, fingerprint[:]):
		d.note(levelFail, do, "the secrets file is not that of the ledger")
	default:
		d.ok("the secrets file is whole and that of the ledger")
	}
}

// files compares the files of a database with its manifest, and tells the version of both.
func (d *examination) files(name string, own ...string) {
	dir := filepath.Join(d.Data, name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		d.note(levelWarn, "start the server once", "there is no %s", name)
		return
	}
	if d.served {
		return // whose files come and go
	}
	f, err := verify.ListFiles(dir, own...)
	if err != nil {
		d.note(levelFail, "restore the directory from a backup", "the database %s: %v", name, err)
		return
	}
	if len(f.Missing) > 0 {
		d.note(levelFail, "restore the directory from a backup", "the database %s lacks %s", name, strings.Join(f.Missing, ", "))
	} else {
		d.ok("the database %s has all of its tables (Badger %s, manifest version %d)", name, badgerVersion(), f.Version)
	}
	if len(f.Unlisted) > 0 {
		d.note(levelWarn, "start the server, which removes them", "the database %s has %d tables that an interrupted compaction left", name, len(f.Unlisted))
	}
	if len(f.Foreign) > 0 {
		d.note(levelWarn, "find out what they are, and move them away", "in %s are files that nobody reads: %s", name, names(f.Foreign))
	}
}

// foreign names what is in the data directory and not of a server.
func (d *examination) foreign() {
	entries, err := os.ReadDir(d.Data)
	if err != nil {
		return // which the permissions said
	}
	var unknown []string
	for _, e := range entries {
		if !slices.Contains([]string{"ledger", "data", "secrets", "reserve", alertsFile}, e.Name()) {
			unknown = append(unknown, e.Name())
		}
	}
	if len(unknown) > 0 {
		d.note(levelWarn, "find out what they are, and move them away", "in the data directory are files that nobody reads: %s", names(unknown))
	}
}

// names lists some names.
func names(list []string) string {
	const most = 5
	if len(list) > most {
		return fmt.Sprintf("%q and %d more", list[:most], len(list)-most)
	}
	return fmt.Sprintf("%q", list)
}

// badgerVersion is that of the storage engine that was built in.
func badgerVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if strings.HasPrefix(m.Path, "github.com/dgraph-io/badger/") {
			return m.Version
		}
	}
	return "unknown"
}

const (
	readyTimeout = 10 * time.Second
	maxProblem   = 64 << 10
)

// ready asks the server, where one was named.
func (d *examination) ready(ctx context.Context) {
	if d.url == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(d.url, "/")+"/readyz", nil)
	if err != nil {
		d.note(levelFail, "give --url as http://HOST:PORT or https://HOST:PORT", "the server's address cannot be read")
		return
	}
	response, err := d.http.Do(request)
	if err != nil {
		if text := explainTLS(err); text != "" {
			why, do, _ := strings.Cut(text, ": ")
			d.note(levelFail, do, "%s", why)
			return
		}
		d.note(levelFail, "start discreet serve, or name another address with --url", "no server answers at the address that was named")
		return
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		d.ok("the server is ready")
		return
	}
	var p wire.Problem
	text, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil || p.Detail == "" {
		d.note(levelFail, "look at its log, and at what else listens there", "the server is not ready (status %d)", response.StatusCode)
		return
	}
	d.note(levelFail, "do what it says", "the server is not ready: %s", oneLine(p.Detail))
}
