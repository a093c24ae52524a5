package api

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// fakeBackups keeps what it was asked for.
type fakeBackups struct {
	mu   sync.Mutex
	all  []Backup // newest first
	keys []string
}

func (f *fakeBackups) Begin(_ context.Context, by, key string) (Backup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all) > 0 && f.all[0].State == "running" {
		return Backup{}, &dp.Error{Code: dp.CodeConflict, Message: "One runs."}
	}
	b := Backup{ID: fmt.Sprintf("backup-%d", len(f.all)+1), By: by, State: "running", Begun: day(7), Encrypted: true}
	f.all = append([]Backup{b}, f.all...)
	f.keys = append(f.keys, key)
	return b, nil
}

func (f *fakeBackups) Backups(context.Context) ([]Backup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Backup{}, f.all...), nil
}

// end ends the newest one.
func (f *fakeBackups) end(change func(*Backup)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.all[0])
}

func TestBackupsAreBegunAndListed(t *testing.T) {
	f := newFakes(t)
	base, stop := listen(t, newTestServer(t, f))
	defer stop()
	officer, custodian := dial(t, base, "officer"), dial(t, base, "custodian")
	first, err := custodian.BackUp(t.Context(), "k-1")
	if err != nil || first.By != "custodian" || first.State != "running" || first.Ledger != nil || first.Ended != nil || !first.Encrypted || f.backups.keys[0] != "k-1" {
		t.Fatalf("%+v, %v", first, err)
	}
	v := newTestServer(t, f)
	refused(t, send(t, v, "officer", "POST", "/v1/backups", ""), 409, "conflict")
	f.backups.end(func(b *Backup) {
		b.State, b.Ended, b.Bytes, b.Ledger, b.Length, b.Head, b.Files = "done", day(7).Add(time.Minute), 77, "aa", 12, "bb", []string{"file", "list"}
	})
	second := read[wire.Backup](t, send(t, v, "officer", "POST", "/v1/backups", ""), 202)
	f.backups.end(func(b *Backup) { b.State, b.Error = "failed", "no room" })
	list, err := officer.Backups(t.Context(), client.Page{})
	if err != nil || len(list.Items) != 2 || list.Items[0].ID != second.ID || list.Items[0].Error != "no room" || list.Items[0].Files == nil {
		t.Fatalf("%+v, %v", list, err)
	}
	if b := list.Items[1]; b.Ledger == nil || *b.Ledger != (wire.Mark{ID: "aa", Length: 12, Head: "bb"}) || b.Bytes != 0 || b.Ended == nil || len(b.Files) != 2 || b.State != "done" {
		t.Errorf("%+v", b)
	}
	// How long a backup is follows from the rows: it is told to whom loads them.
	if list, err = custodian.Backups(t.Context(), client.Page{}); err != nil || list.Items[1].Bytes != 77 {
		t.Errorf("a custodian is told %+v, %v", list, err)
	}
	page, err := officer.Backups(t.Context(), client.Page{Limit: 1})
	if err != nil || len(page.Items) != 1 || page.Next == "" {
		t.Fatalf("%+v, %v", page, err)
	}
	if page, err = officer.Backups(t.Context(), client.Page{Limit: 1, Cursor: page.Next}); err != nil || len(page.Items) != 1 || page.Items[0].ID != first.ID || page.Next != "" {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestServerWithoutBackupsSaysSo(t *testing.T) {
	f := newFakes(t)
	s := f.services()
	s.Backups = NoBackups{}
	v, err := New(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GET", "POST"} {
		refused(t, send(t, v, "officer", method, "/v1/backups", ""), 404, "not-found")
	}
}
