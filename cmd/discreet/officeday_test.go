package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// day is a served data directory and the people of an office, whose clock can be put forward.
type day struct {
	*harness
	ahead             atomic.Int64
	backups, identity string
	stop              func()

	ada, grace                        string // officers
	seen                              string // file of what the auditor saw of the log
	team, partner, custodian, auditor string
}

// TestADayInTheOffice goes through an officer's day as its people do, with the command and over HTTP, and holds every step
// to what each of them sees.
func TestADayInTheOffice(t *testing.T) {
	d := newDay(t)
	d.keepsWatch()
	request := d.asksAndRequests()
	d.weighsAndGrants(request)
	first := d.queries()
	d.lowers(first)
	d.pauses()
	d.expires()
	d.agreesWithAnother()
	made := d.backsUp()
	d.erases(first)
	d.readsTheLog(request, first)
	d.exports()
	d.verifies()
	d.restores(made, first)
}

func newDay(t *testing.T) *day {
	recipient, file := identity(t)
	d := &day{
		harness: &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")},
		backups: filepath.Join(t.TempDir(), "backups"), identity: file,
	}
	started, stop := d.startAt(exact{}, d.clock, "--backups", d.backups, "--backup-recipient", recipient, "--reserve", "16MiB", "--keep-free", "64MiB")
	d.stop = stop
	t.Cleanup(stop)
	d.ada = keyIn(started)
	d.officer = d.ada
	d.apply(shopPolicy)
	d.grace = d.hire("grace", dp.Officer)
	d.team, d.custodian, d.auditor = d.hire("team", dp.Product, "product-analytics"), d.hire("warehouse", dp.Custodian), d.hire("audit", dp.Auditor)
	var issued struct{ Text string }
	d.must(d.ada, "consumer", "add", "partner", "--role", "analyst", "--audience", "third-party", "--purposes", "product-analytics")
	d.mustJSON(&issued, d.ada, "key", "add", "partner")
	d.partner = issued.Text
	d.must(d.custodian, "load", "shop", d.file("january.csv", crowd("ann", "bob", "cid", "dee", "eve")), "--from", "2026-01-01", "--to", "2026-01-31")
	return d
}

// keepsWatch: the auditor notes what the log is, and that each later one continues it.
func (d *day) keepsWatch() {
	d.t.Helper()
	if d.seen == "" {
		d.seen = filepath.Join(d.t.TempDir(), "seen")
	}
	d.must(d.auditor, "audit", "check", "--state", d.seen)
}

func (d *day) clock() time.Time { return time.Now().Add(time.Duration(d.ahead.Load())) }

// question asks for customers of January, at a price; fresh ones are drawn anew.
func question(epsilon string, more ...string) []string {
	return append([]string{"query", "shop", "customers", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--epsilon", epsilon}, more...)
}

// spent is what the cap of January has spent, as an officer sees it.
func (d *day) spent() string {
	d.t.Helper()
	var accounts wire.AccountList
	d.mustJSON(&accounts, d.ada, "budget", "shop", "--all")
	for _, a := range accounts.Items {
		if a.Account == "cap/shop/2026-01" {
			return string(a.Spent.Epsilon)
		}
	}
	return "0"
}

func (d *day) wantSpent(epsilon, after string) {
	d.t.Helper()
	if got := d.spent(); got != epsilon {
		d.t.Errorf("%s, the cap of January has spent %s, not %s", after, got, epsilon)
	}
}

// asksAndRequests: who has no budget is told so and asks for one.
func (d *day) asksAndRequests() (id string) {
	d.t.Helper()
	d.fails(d.team, exitRefused, "you have no allotment on this dataset: ask an officer for one (discreet request add)", question("0.5")...)
	d.fails(d.partner, exitFailed, "not-found", "request", "add", "shop", "--epsilon", "1", "--reason", "curious")
	query := `{"dataset": "shop", "metrics": ["customers"], "from": "2026-01-01", "to": "2026-01-31", "epsilon": 0.5, "purpose": "product-analytics"}`
	var made wire.BudgetRequest
	d.mustJSON(&made, d.team, "request", "add", "shop", "--epsilon", "2", "--reason", "the launch", "--query", d.file("question.json", query))
	if made.State != "open" || made.Grounds != nil || made.Query == nil || made.Query.Price[0].Epsilon != "0.5" {
		d.t.Fatalf("requested %+v", made)
	}
	d.wantSpent("0", "after questions that were refused or named")
	return made.ID
}

// weighsAndGrants: the officer sees what a grant would allow, and gives less than was asked for.
func (d *day) weighsAndGrants(id string) {
	d.t.Helper()
	if text := d.must(d.ada, "request", "list", "--state", "open"); !strings.Contains(text, id) || !strings.Contains(text, "the launch") {
		d.t.Errorf("the officer lists\n%s", text)
	}
	var seen wire.BudgetRequest
	d.mustJSON(&seen, d.ada, "request", "show", id, "--epsilon", "1.2")
	if g := seen.Grounds; g == nil || g.AllotmentVersion != 0 || g.SimilarQueries != 2 || len(g.Blocks) != 1 || g.Blocks[0].LeftAfter != "1.2" || g.Blocks[0].LeftBefore != "0" || g.Cap.Epsilon != "6" {
		d.t.Errorf("the officer sees %+v", seen.Grounds)
	}
	text := d.must(d.ada, "budget", "what-if", "shop", "--allot", "team=1.2")
	for _, part := range []string{"budget      team: epsilon 1.2, now none", "could ask   team: 1.2 on a new block (12)", "freezes     nothing", "Nothing was changed"} {
		if !strings.Contains(text, part) {
			d.t.Errorf("what-if lacks %q:\n%s", part, text)
		}
	}
	d.fails(d.team, exitRefused, "it takes officer", "request", "decide", id, "--grant", "--reason", "mine")
	d.fails(d.ada, exitFailed, "conflict", "request", "decide", id, "--grant", "--if-version", "3", "--reason", "late")
	d.must(d.ada, "request", "decide", id, "--grant", "--epsilon", "1.2", "--reason", "until the launch")
	d.fails(d.grace, exitFailed, "decided once", "request", "decide", id, "--deny", "--reason", "no")
	var granted wire.BudgetRequest
	d.mustJSON(&granted, d.team, "request", "show", id)
	if e := granted.Decision; granted.State != "granted" || e == nil || e.Reason != "until the launch" || e.Granted.Epsilon != "1.2" || e.AllotmentVersion != 1 {
		d.t.Errorf("the team reads %+v", granted)
	}
}

// queries: the team asks, and nobody else reads what it got.
func (d *day) queries() wire.Release {
	d.t.Helper()
	var r wire.Release
	d.mustJSON(&r, d.team, question("0.5")...)
	if r.Groups[0].Values["customers"].Value != 5 || r.Charge.Left.Epsilon != "0.7" || r.Charge.Left.Account != "allotment/shop/2026-01" {
		d.t.Errorf("answered %+v", r)
	}
	for _, key := range []string{d.partner, d.ada, d.auditor} {
		if r := d.run(key, "release", "show", r.ID); r.code == exitDone {
			d.t.Errorf("who holds no release reads\n%s", r.stdout)
		}
	}
	d.wantSpent("0.5", "after a question")
	return r
}

// lowers: below what is spent the account freezes. What is held stays free to read, and nothing comes back.
func (d *day) lowers(held wire.Release) {
	d.t.Helper()
	if text := d.must(d.ada, "budget", "what-if", "shop", "--allot", "team=0.3"); !strings.Contains(text, "freezes     allotment/shop/2026-01 of team: spent is epsilon 0.5, of epsilon 0.3") {
		d.t.Errorf("what-if says\n%s", text)
	}
	d.must(d.ada, "allotment", "set", "team", "shop", "--epsilon", "0.3", "--reason", "too much")
	d.fails(d.team, exitRefused, "frozen on 2026-01", question("0.01", "--fresh")...)
	if text := d.must(d.team, "budget", "shop"); !strings.Contains(text, "frozen") {
		d.t.Errorf("the team sees\n%s", text)
	}
	var again wire.Release
	d.mustJSON(&again, d.team, question("0.5")...)
	if again.ID != held.ID || again.Reused == nil || !*again.Reused {
		d.t.Errorf("asked again: %+v", again)
	}
	var w wire.WorstCase
	d.mustJSON(&w, d.auditor, "budget", "worst-case", "shop")
	if len(w.Frozen) != 1 || w.Frozen[0].Consumer != "team" || w.Owners[1].Budget.Epsilon != "0.3" || w.Owners[1].Certified.Epsilon != "1.2" {
		d.t.Errorf("frozen are %+v, of %+v", w.Frozen, w.Owners)
	}
	d.must(d.ada, "allotment", "set", "team", "shop", "--epsilon", "2", "--reason", "a mistake")
	d.wantSpent("0.5", "lowered and raised")
}

// pauses: nothing is charged until it goes on.
func (d *day) pauses() {
	d.t.Helper()
	d.must(d.grace, "allotment", "set", "team", "shop", "--paused", "--reason", "a doubt")
	d.fails(d.team, exitRefused, "paused", question("0.1", "--fresh")...)
	d.wantSpent("0.5", "while it is paused")
	d.must(d.grace, "allotment", "set", "team", "shop", "--no-paused", "--reason", "cleared")
	d.must(d.team, question("0.1", "--fresh")...)
	d.wantSpent("0.6", "once it goes on")
}

// expires: from the day after the last one nothing is charged, until it is renewed.
func (d *day) expires() {
	d.t.Helper()
	today := d.clock().UTC()
	d.must(d.ada, "allotment", "set", "team", "shop", "--expires", today.Format(time.DateOnly), "--reason", "today only")
	d.must(d.team, question("0.1", "--fresh")...)
	d.ahead.Add(int64(25 * time.Hour))
	d.fails(d.team, exitRefused, "expired", question("0.1", "--fresh")...)
	d.wantSpent("0.7", "once it has expired")
	d.must(d.ada, "allotment", "set", "team", "shop", "--expires", today.AddDate(1, 0, 0).Format(time.DateOnly), "--reason", "another year")
	d.must(d.team, question("0.1", "--fresh")...)
	d.wantSpent("0.8", "once it is renewed")
}

// agreesWithAnother: from now on two officers loosen, and one narrows.
func (d *day) agreesWithAnother() {
	d.t.Helper()
	d.must(d.ada, "dataset", "apply", d.file("two.yaml", shopPolicy+"two_person: true\n"), "--reason", "the auditor's advice")
	p := d.proposed(d.ada, "allotment", "set", "team", "shop", "--epsilon", "2.5", "--reason", "the second launch")
	d.fails(d.ada, exitRefused, "their own", "proposal", "confirm", p.ID, "--reason", "me too")
	var before wire.WorstCase
	d.mustJSON(&before, d.ada, "budget", "worst-case", "shop")
	if before.Owners[1].Budget.Epsilon != "2" {
		d.t.Errorf("before it is confirmed, the team has %+v", before.Owners[1].Budget)
	}
	d.must(d.grace, "proposal", "confirm", p.ID, "--reason", "agreed")
	var a wire.Allotment
	d.mustJSON(&a, d.ada, "allotment", "show", "team", "shop")
	if a.Epsilon != "2.5" {
		d.t.Errorf("once it is confirmed, the team has %+v", a)
	}
	// A request that is granted is no way around.
	var made wire.BudgetRequest
	d.mustJSON(&made, d.team, "request", "add", "shop", "--epsilon", "4", "--reason", "more")
	p = d.proposed(d.ada, "request", "decide", made.ID, "--grant", "--reason", "why not")
	d.must(d.grace, "proposal", "reject", p.ID, "--reason", "not more")
	if text := d.must(d.team, "request", "show", made.ID); !strings.Contains(text, "open") {
		d.t.Errorf("of a request whose grant was rejected the team reads\n%s", text)
	}
	d.must(d.team, "request", "withdraw", made.ID)
	d.must(d.grace, "allotment", "set", "team", "shop", "--epsilon", "2.4", "--reason", "one narrows")
}

// erases: a customer leaves the answers that come; those that were given stay, and no budget comes back.
func (d *day) erases(held wire.Release) {
	d.t.Helper()
	r := d.runWith(d.custodian, "eve\n", "erase", "shop", "--file", "-", "--now", "--wait")
	if r.code != exitDone || strings.Contains(r.stdout+r.stderr, "eve") {
		d.t.Fatalf("erasing: exit %d with\n%s%s", r.code, r.stdout, r.stderr)
	}
	d.wantSpent("0.8", "after an erasure")
	if got := d.count(d.team); got != 4 {
		d.t.Errorf("%v customers once one is erased", got)
	}
	d.wantSpent("0.81", "after another question")
	var again wire.Release
	d.mustJSON(&again, d.team, "release", "show", held.ID)
	if again.Groups[0].Values["customers"].Value != 5 {
		d.t.Errorf("what was given is now %+v", again)
	}
}

// backsUp makes a backup while the server runs.
func (d *day) backsUp() (made wire.Backup) {
	d.t.Helper()
	d.fails(d.team, exitRefused, "forbidden", "backup", "make")
	d.mustJSON(&made, d.ada, "backup", "make", "--wait")
	if made.State != "done" || !made.Encrypted || made.Ledger == nil {
		d.t.Fatalf("made %+v", made)
	}
	return made
}

// readsTheLog: each thing that happened is in the log, by who did it, and nothing that was answered.
func (d *day) readsTheLog(request string, held wire.Release) {
	d.t.Helper()
	d.fails(d.team, exitRefused, "forbidden", "budget", "worst-case", "shop")
	if _, err := d.client(d.team).Audit(d.t.Context(), client.AuditFilter{}, client.Page{}); err == nil {
		d.t.Error("who asks questions reads the log")
	}
	wanted := map[string]bool{
		"refusal team ask budget-exhausted": true, "refusal team ask forbidden": true, "refusal team decide-budget-request forbidden": true,
		"request/1 team the launch": true, "request/2 officer until the launch": true, "allotment/1 officer until the launch": true,
		"allotment officer too much": true, "allotment officer a mistake": true, "allotment grace a doubt": true, "allotment grace cleared": true,
		"allotment officer another year": true, "policy officer the auditor's advice": true, "proposal officer the second launch": true, "allotment grace agreed": true,
		"proposal grace not more": true, "allotment grace one narrows": true, "charge team shop 0.5": true, "charge team shop 0.01": true,
		"outcome " + held.ID: true, "load-commit": true, "erasure warehouse": true, "erasure-end": true, "reading team " + held.ID: true, "backup": true,
	}
	var seen []string
	var all []wire.AuditLine
	// What changed nothing is written within a second.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		seen, all = nil, nil
		for p := (client.Page{}); ; {
			list, err := d.client(d.auditor).Audit(d.t.Context(), client.AuditFilter{OldestFirst: true}, p)
			if err != nil {
				d.t.Fatal(err)
			}
			all = append(all, list.Items...)
			if p.Cursor = list.Next; p.Cursor == "" {
				break
			}
		}
		for _, l := range all {
			seen = append(seen, happened(l)...)
		}
		missing := slices.DeleteFunc(slices.Sorted(maps.Keys(wanted)), func(w string) bool { return slices.Contains(seen, w) })
		if len(missing) == 0 {
			break
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("the log lacks\n%s\nand has\n%s", strings.Join(missing, "\n"), strings.Join(seen, "\n"))
		}
	}
	if text := d.must(d.auditor, "audit", "list", "--kind", "change", "--limit", "0"); !strings.Contains(text, "one narrows") || strings.Contains(text, "budget-exhausted") {
		d.t.Errorf("of changes the auditor lists\n%s", text)
	}
	d.must(d.auditor, "audit", "proof", fmt.Sprint(all[len(all)/2].Index))
	d.keepsWatch()
	text, err := json.Marshal(all)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, secret := range []string{"ann", "own-city", `"eve"`, "dk_"} {
		if strings.Contains(string(text), secret) {
			d.t.Errorf("the log holds %q", secret)
		}
	}
}

// exports: a regulator is given the log and, by another way, the log's key, and needs nothing else.
func (d *day) exports() {
	d.t.Helper()
	archive := filepath.Join(d.t.TempDir(), "shop.tar")
	d.fails(d.team, exitRefused, "forbidden", "audit", "export", archive)
	d.must(d.auditor, "audit", "export", archive)
	checkpoint, err := d.client(d.auditor).AuditCheckpoint(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	check := func(file string) result {
		return d.runWith("", "", "verify", "--export", file, "--log-key", checkpoint.Key, "--checkpoint", d.seen)
	}
	told := check(archive)
	if told.code != exitDone {
		d.t.Fatalf("of the export the regulator is told, with exit %d, %s%s", told.code, told.stdout, told.stderr)
	}
	whole, err := os.ReadFile(archive)
	if err != nil {
		d.t.Fatal(err)
	}
	// Where a byte is another, that is noticed, or it is one that says nothing.
	noticed := 0
	for i := range 8 {
		forged := slices.Clone(whole)
		forged[len(whole)*(2*i+1)/16] ^= 1
		switch r := check(d.file("forged.tar", string(forged))); {
		case r.code == exitFailed:
			noticed++
		case r.code != exitDone || r.stdout != told.stdout:
			d.t.Errorf("of a forged export the regulator is told, with exit %d, %s%s", r.code, r.stdout, r.stderr)
		}
	}
	if noticed < 5 {
		d.t.Errorf("of 8 forged bytes %d were noticed", noticed)
	}
	// The key of another log does not open this one.
	other, last := checkpoint.Key[:len(checkpoint.Key)-1], "A"
	if strings.HasSuffix(checkpoint.Key, last) {
		last = "B"
	}
	other += last
	if r := d.runWith("", "", "verify", "--export", archive, "--log-key", other); r.code == exitDone {
		d.t.Errorf("by another key the export is taken: %s", r.stdout)
	}
}

// happened says in a few ways what an entry tells, for a list of what must be there.
func happened(l wire.AuditLine) (list []string) {
	add := func(words ...any) { list = append(list, strings.TrimSuffix(fmt.Sprintln(words...), "\n")) }
	add(l.Kind)
	add(l.Kind, l.Actor)
	for _, o := range l.Objects {
		add(o.Kind, l.Actor, l.Reason)
		add(fmt.Sprintf("%s/%d", o.Kind, o.Version), l.Actor, l.Reason)
		add(l.Kind, o.Name)
	}
	for _, c := range l.Charges {
		add("charge", c.Consumer, c.Dataset, c.Epsilon)
	}
	for _, e := range l.Events {
		add(e.Kind)
		add(e.Kind, e.Consumer, e.Operation, e.Code)
		add(e.Kind, e.Consumer, e.Release)
	}
	return list
}

// verifies: once the server has ended, the ledger is replayed from outside, and comes to the same worst case.
func (d *day) verifies() {
	d.t.Helper()
	var told wire.WorstCase
	d.mustJSON(&told, d.auditor, "budget", "worst-case", "shop")
	d.stop()
	r := d.offline("verify", "--worst-case", "--witness", d.state+"/", "--format", "json")
	if r.code != exitDone {
		d.t.Fatalf("verify: exit %d with\n%s%s", r.code, r.stdout, r.stderr)
	}
	var verified struct {
		Fits      bool `json:"fits"`
		WorstCase struct {
			Datasets []struct {
				Dataset string
				Owners  []struct {
					Consumer string
					Promises []struct{ Scope, Epsilon, Delta string }
					Spent    []struct {
						Scope, Name, Epsilon string
						Charges              int64
					}
				}
			}
		} `json:"worst_case"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &verified); err != nil {
		d.t.Fatalf("%v of\n%s", err, r.stdout)
	}
	if !verified.Fits || len(verified.WorstCase.Datasets) != 1 {
		d.t.Fatalf("verified\n%s", r.stdout)
	}
	figures := 0
	for i, o := range verified.WorstCase.Datasets[0].Owners {
		is := told.Owners[i]
		if is.Consumer != o.Consumer || len(is.Promises) != len(o.Promises) || len(is.Spent) != len(o.Spent) {
			d.t.Fatalf("told of %+v, verified %+v", is, o)
		}
		for j, p := range o.Promises {
			if q := is.Promises[j]; q.Scope != p.Scope || string(q.Epsilon) != p.Epsilon || string(q.Delta) != p.Delta {
				d.t.Errorf("promised was %+v, verified %+v", q, p)
			}
			figures++
		}
		for j, s := range o.Spent {
			if q := is.Spent[j]; q.Scope != s.Scope || string(q.Epsilon) != s.Epsilon || q.Charges != s.Charges || q.Charges == 0 {
				d.t.Errorf("spent was %+v, verified %+v", q, s)
			}
			figures++
		}
	}
	if figures < 12 {
		d.t.Errorf("only %d figures were compared", figures)
	}
}

// restores: the backup is of before the erasure, which is repeated, and of before a charge, which it does not get back
// without being told.
func (d *day) restores(made wire.Backup, held wire.Release) {
	d.t.Helper()
	d.dir = filepath.Join(d.t.TempDir(), "restored")
	text := d.must("", "restore", filepath.Join(d.backups, made.Files[0]), "--data", d.dir, "--identity", d.identity, "--witness", d.state+"/")
	if !strings.Contains(text, "missing") {
		d.t.Errorf("restored with\n%s", text)
	}
	started, stop := d.startAt(exact{}, d.clock)
	d.t.Cleanup(stop)
	d.fails(d.team, exitFailed, "unavailable", question("0.1", "--fresh")...)
	var again wire.Release
	d.mustJSON(&again, d.team, "release", "show", held.ID)
	if again.ID != held.ID {
		d.t.Errorf("%s is now %s", held.ID, again.ID)
	}
	if r := d.run(d.auditor, "audit", "check", "--state", d.seen); r.code != exitFailed {
		d.t.Errorf("of a log that lost its end the auditor is told, with exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	d.must(d.ada, "budget", "write-off", "--reason", "restored from the backup of noon")
	d.fails(d.team, exitRefused, "budget-exhausted", question("0.1", "--fresh")...)
	if text := d.must(d.ada, "budget", "worst-case", "shop"); !strings.Contains(text, "frozen      cap/shop/2026-01") {
		d.t.Errorf("after the write-off of what started with\n%s\nthe worst case is\n%s", started, text)
	}
	// Two officers raise both budgets, and whoever was erased since the backup is not back.
	raised := strings.Replace(shopPolicy, "cap: {epsilon: 6, delta: 1e-9}", "cap: {epsilon: 13, delta: 9e-9}", 1) + "two_person: true\n"
	for _, change := range [][]string{
		{"dataset", "apply", d.file("raised.yaml", raised), "--reason", "after the restore"},
		{"allotment", "set", "team", "shop", "--epsilon", "6", "--delta", "9e-9", "--reason", "after the restore"},
	} {
		d.must(d.grace, "proposal", "confirm", d.proposed(d.ada, change...).ID, "--reason", "agreed")
	}
	if got := d.count(d.team); got != 4 {
		d.t.Errorf("%v customers after the restore, of 5 of whom one was erased", got)
	}
}
