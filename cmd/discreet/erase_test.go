package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// filesWith gives the files of a data directory that hold some bytes, by them.
func filesWith(t *testing.T, dir string, texts ...[]byte) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var content []byte
			content, err = os.ReadFile(path)
			for _, text := range texts {
				if bytes.Contains(content, text) {
					found[string(text)] = append(found[string(text)], path)
				}
			}
		}
		if os.IsNotExist(err) { // the server removes files meanwhile
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// pseudonym gives the bytes by which the rows of a data directory name a customer.
func (h *harness) pseudonym(customer string) []byte {
	h.t.Helper()
	keys, err := secrets.Open(filepath.Join(h.dir, "secrets"))
	if err != nil {
		h.t.Fatal(err)
	}
	return binary.LittleEndian.AppendUint64(nil, keys.Pseudonym(customer))
}

// pseudonymUnder is pseudonym where the directory is encrypted with the key in a file.
func (h *harness) pseudonymUnder(file, customer string) []byte {
	h.t.Helper()
	key, err := secrets.ReadKey(file)
	if err != nil {
		h.t.Fatal(err)
	}
	keys, err := secrets.OpenWith(filepath.Join(h.dir, "secrets"), key)
	if err != nil {
		h.t.Fatal(err)
	}
	return binary.LittleEndian.AppendUint64(nil, keys.Pseudonym(customer))
}

// crowd gives rows of many customers in January, each in a city of its own and in the one that all share.
func crowd(customers ...string) string {
	text := "customer,at,category,city,amount\n"
	for i, c := range customers {
		text += fmt.Sprintf("%s,2026-01-%02d,grocery,own-city-of-%s,1\n%s,2026-01-09,travel,Bonn,2\n", c, 1+i%28, c, c)
	}
	return text
}

// count asks for the customers of January, exactly.
func (h *harness) count(team string) float64 {
	h.t.Helper()
	var r wire.Release
	h.mustJSON(&r, team, "query", "shop", "customers", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--epsilon", "0.01", "--fresh")
	return r.Groups[0].Values["customers"].Value
}

// The whole way, as a custodian goes it: what names a customer is found in the files, they are erased, no answer counts
// them, and no file of the data directory holds a byte of them, whether the server runs, has ended or started again.
func TestErasedCustomerLeavesAnswersAndEveryFile(t *testing.T) {
	h := &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")}
	started, stop := h.startAt(exact{}, time.Now, "--reserve", "16MiB") // which is searched as well
	t.Cleanup(func() { stop() })
	h.officer = keyIn(started)
	h.apply(shopPolicy)
	team, custodian, auditor := h.hire("team", dp.Product, "product-analytics"), h.hire("warehouse", dp.Custodian), h.hire("audit", dp.Auditor)
	h.allot("team", "shop", "3", "5e-10")
	everybody := []string{"ann", "bob", "cid", "dee", "eve"}
	for i := range 3 { // and two of them again, later
		h.must(custodian, "load", "shop", h.file(fmt.Sprintf("load%d.csv", i), crowd(everybody[:5-i]...)), "--from", "2026-01-01", "--to", "2026-01-31", "--name", fmt.Sprint("load-", i))
	}
	of := func(customer string) [][]byte {
		return [][]byte{h.pseudonym(customer), []byte("own-city-of-" + customer)}
	}
	check := func(when string, gone ...string) {
		t.Helper()
		var all [][]byte
		for _, c := range everybody {
			all = append(all, of(c)...)
		}
		found := filesWith(t, h.dir, all...)
		for _, c := range everybody {
			for _, text := range of(c) {
				if files := found[string(text)]; (len(files) == 0) != slices.Contains(gone, c) {
					t.Errorf("%s: %q of %s is in %v", when, text, c, files)
				}
			}
		}
	}
	check("before")
	if got := h.count(team); got != 5 {
		t.Errorf("%v customers, want 5", got)
	}

	var asked wire.Erasure
	h.mustJSON(&asked, custodian, "erase", "shop", "ann")
	if got := h.count(team); got != 4 || asked.Ended != nil {
		t.Errorf("%v customers once ann is to be erased, want 4; the erasure is %+v", got, asked)
	}
	check("before the run")
	printed := h.must(custodian, "erase", "--now", "--wait")
	if !strings.Contains(printed, asked.ID) {
		t.Errorf("printed %s", printed)
	}
	check("after the run", "ann")

	// In one go, by standard input and by file.
	r := h.runWith(custodian, "bob\n", "erase", "shop", "--file", "-", "--now", "--wait")
	if r.code != exitDone || !strings.Contains(r.stdout, "no file holds") {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	check("after the second run", "ann", "bob")
	h.must(custodian, "erase", "shop", "--file", h.file("units.csv", "name,customer\nx,cid\ny,nobody\n"), "--now", "--wait")
	check("after the third run", "ann", "bob", "cid")
	if got := h.count(team); got != 2 {
		t.Errorf("%v customers, want 2", got)
	}

	var list wire.ErasureList
	h.mustJSON(&list, auditor, "erase", "shop", "--list")
	if len(list.Items) != 3 || list.Items[2].ID != asked.ID || list.Items[0].Units != 2 || slices.ContainsFunc(list.Items, func(e wire.Erasure) bool { return e.Ended == nil || e.By != "warehouse" }) {
		t.Errorf("the erasures are %+v", list.Items)
	}
	for _, text := range []string{"ann", "bob", "cid", "nobody"} {
		if strings.Contains(h.must(auditor, "erase", "shop", "--list"), text) {
			t.Errorf("the list tells of %s", text)
		}
	}
	if printed := h.must(custodian, "erase", "--now"); !strings.Contains(printed, "Nothing waits") {
		t.Errorf("printed %s", printed)
	}

	stop()
	check("after the server ended", "ann", "bob", "cid")
	report, err := verify.Ledger(t.Context(), filepath.Join(h.dir, "ledger"), verify.Options{})
	if err != nil || report.Finding != nil {
		t.Errorf("the ledger does not verify: %v, %v", report.Finding, err)
	}
	_, stop = h.startAt(exact{}, time.Now, "--reserve", "16MiB")
	check("after another start", "ann", "bob", "cid")
	if got := h.count(team); got != 2 {
		t.Errorf("%v customers after another start, want 2", got)
	}
	// The same load adds nothing; another brings them back.
	h.must(custodian, "load", "shop", h.file("load0.csv", crowd(everybody...)), "--from", "2026-01-01", "--to", "2026-01-31", "--name", "load-0")
	if got := h.count(team); got != 2 {
		t.Errorf("%v customers after a repeated load, want 2", got)
	}
	h.must(custodian, "load", "shop", h.file("more.csv", crowd("ann")), "--from", "2026-01-01", "--to", "2026-01-31")
	if got := h.count(team); got != 3 {
		t.Errorf("%v customers after another load, want 3", got)
	}
}

// Whoever asks for an erasure learns nothing of who is there: byte by byte the same is printed, but for identifiers and
// times.
func TestErasureOfNobodyIsAnsweredAsAnyOther(t *testing.T) {
	h, _, custodian := newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	varies := regexp.MustCompile(`era_[0-9a-f]{28}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z`)
	for _, more := range [][]string{{}, {"--now"}, {"--now", "--wait"}, {"--format", "csv"}} {
		var printed []string
		for _, unit := range []string{"a", "nobody", "a"} {
			printed = append(printed, varies.ReplaceAllString(h.must(custodian, append([]string{"erase", "shop", unit}, more...)...), "*"))
		}
		if printed[0] != printed[1] || printed[0] != printed[2] || !strings.Contains(printed[0], "*") {
			t.Errorf("%v: somebody gets %q, nobody %q, somebody who is gone %q", more, printed[0], printed[1], printed[2])
		}
	}
}

func TestErasuresThatAreNotMeantSayWhatToDo(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	for _, c := range []struct {
		key  string
		args []string
		code int
		says string
	}{
		{custodian, []string{"erase"}, exitUsage, "--now"},
		{custodian, []string{"erase", "shop"}, exitUsage, "--file"},
		{custodian, []string{"erase", "shop", "--now"}, exitUsage, "without a dataset"},
		{custodian, []string{"erase", "shop", "SECRET", "--file", "-"}, exitUsage, "not both"},
		{custodian, []string{"erase", "shop", "SECRET", "--list"}, exitUsage, "--list"},
		{custodian, []string{"erase", "--list"}, exitUsage, "DATASET"},
		{custodian, []string{"erase", "--file", "-"}, exitUsage, "DATASET"},
		{custodian, []string{"erase", "shop", "SECRET", "--wait"}, exitUsage, "--now"},
		{custodian, []string{"erase", "shop", "SECRET", "--type", "csv"}, exitUsage, "--file"},
		{custodian, []string{"erase", "shop", "--file", "none.txt"}, exitUsage, "none.txt"},
		{custodian, []string{"erase", "shop", "--file", h.file("units.dat", "SECRET\n")}, exitUsage, "--type"},
		{custodian, []string{"erase", "shop", "--file", h.file("units.parquet", "SECRET\n")}, exitUsage, "--type"},
		{custodian, []string{"erase", "shop", "--file", h.file("units.csv", "SECRET\n")}, exitUsage, "customer"},
		{custodian, []string{"erase", "shop", "--file", h.file("units.txt", "\n")}, exitUsage, "nobody is named"},
		{custodian, []string{"erase", "shop", "--file", h.file("empty.txt", "")}, exitUsage, "empty"},
		{custodian, []string{"erase", "shops", "SECRET"}, exitFailed, "not-found"},
		{team, []string{"erase", "shop", "SECRET"}, exitRefused, "forbidden"},
		{team, []string{"erase", "--now"}, exitRefused, "forbidden"},
		{h.officer, []string{"erase", "--now"}, exitRefused, "forbidden"},
	} {
		r := h.run(c.key, c.args...)
		if r.code != c.code || !strings.Contains(r.stderr, c.says) || strings.Count(r.stderr, "\n") != 1 || r.stdout != "" {
			t.Errorf("discreet %s: exit %d, want %d and one line that says %q: %s%s", strings.Join(c.args, " "), r.code, c.code, c.says, r.stderr, r.stdout)
		}
		if strings.Contains(r.stderr, "SECRET") {
			t.Errorf("discreet %s: prints %q", strings.Join(c.args, " "), r.stderr)
		}
	}
	if printed := h.must(custodian, "erase", "shop", "--list"); !strings.Contains(printed, "Nobody was erased.") {
		t.Errorf("recorded %s", printed)
	}
}

// What was asked for before the day's hour leaves the files with the first start after it, by no other's demand.
func TestDaysErasuresRunByThemselves(t *testing.T) {
	h := &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")}
	now := time.Date(2026, 3, 10, 23, 30, 0, 0, time.FixedZone("elsewhere", -5*3600)) // 04:30 of the 11th in UTC
	clock := func() time.Time { return now }
	started, stop := h.startAt(exact{}, clock, "--erase-at", "05:00")
	h.officer = keyIn(started)
	h.apply(shopPolicy)
	custodian := h.hire("warehouse", dp.Custodian)
	h.must(custodian, "load", "shop", h.file("crowd.csv", crowd("ann", "bob")), "--from", "2026-01-01", "--to", "2026-01-31")
	h.must(custodian, "erase", "shop", "ann")
	stop()
	ended := func() bool {
		var list wire.ErasureList
		h.mustJSON(&list, custodian, "erase", "shop", "--list")
		return list.Items[0].Ended != nil
	}
	now = now.Add(29 * time.Minute)
	_, stop = h.startAt(exact{}, clock, "--erase-at", "05:00")
	if ended() {
		t.Error("it ran before its hour")
	}
	stop()
	now = now.Add(2 * time.Minute)
	_, stop = h.startAt(exact{}, clock, "--erase-at", "05:00")
	defer stop()
	for deadline := time.Now().Add(hang); !ended(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not run")
		}
	}
	ann, bob := h.pseudonym("ann"), h.pseudonym("bob")
	if found := filesWith(t, h.dir, ann, bob); len(found[string(ann)]) > 0 || len(found[string(bob)]) == 0 {
		t.Errorf("ann is in %v", found[string(ann)])
	}
}

// TestKilledServerErasesAllTheSame kills the server again and again while it erases and takes loads in: everybody else's
// rows are those of the acknowledged loads, and who was erased is in no answer, and in the end in no file. The long form
// is that of TestKilledServerHasTheRowsOfAcknowledgedLoads.
func TestKilledServerErasesAllTheSame(t *testing.T) {
	kills, seed := setting(t, "DISCREET_KILLS", short(4)), setting(t, "DISCREET_SEED", 1)
	moments := rand.New(rand.NewPCG(uint64(seed), 4))
	p := newProcess(t, t.TempDir(), "--reserve", "16MiB") // which is searched as well
	p.openShop()
	d := &deliverer{process: p, seed: uint64(seed), custodian: p.hireCustodian(), erased: map[string]bool{}}
	h := &harness{t: t, dir: p.data(), url: "http://" + p.address}
	inRun := 0
	for range kills {
		stop := d.keepLoading()
		for before, deadline := d.acknowledged.Load(), time.Now().Add(hang); d.acknowledged.Load() < before+3; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("nothing is loaded any more: %s", p.lastWords())
			}
		}
		for range 2 {
			who := onlyIn(1 + moments.Int64N(d.acknowledged.Load()))
			h.must(d.custodian, "erase", "shop", who, "--now")
			d.erased[who] = true
		}
		time.Sleep(time.Duration(moments.IntN(1000)) * time.Millisecond)
		if !p.running() {
			t.Fatalf("the server ended by itself: %s", p.lastWords())
		}
		p.kill()
		stop()
		d.checkRows()
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		var list wire.ErasureList
		h.mustJSON(&list, d.custodian, "erase", "shop", "--list")
		if list.Items[0].Ended == nil {
			inRun++
		}
	}
	h.must(d.custodian, "erase", "--now", "--wait")
	// While it runs, tables move from file to file under the search: only who is gone must be in none.
	check := func(running bool) {
		t.Helper()
		whose := map[string]string{}
		others := 0
		for n := range d.acknowledged.Load() {
			if who := onlyIn(n + 1); d.erased[who] || others < 5 {
				whose[string(h.pseudonym(who))], whose["own-city-of-"+who] = who, who
				others += count(!d.erased[who])
			}
		}
		var texts [][]byte
		for text := range whose {
			texts = append(texts, []byte(text))
		}
		found := filesWith(t, p.data(), texts...)
		for text, who := range whose {
			if gone := len(found[text]) == 0; gone != d.erased[who] && !(running && gone) {
				t.Errorf("%q of %s is in %v", text, who, found[text])
			}
		}
	}
	check(true)
	if err := p.stop(); err != nil {
		t.Fatalf("stopping the server: %v: %s", err, p.lastWords())
	}
	check(false)
	d.checkRows()
	t.Logf("%d loads, %d erased; %d kills came before the end of a run", d.acknowledged.Load(), len(d.erased), inRun)
}
