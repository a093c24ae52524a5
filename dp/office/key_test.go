package office

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

func codeOf(err error) dp.Code {
	var refused *dp.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// team is an office with one analyst, its clock, and a key of the analyst.
func team(t *testing.T, expires time.Time) (*Office, *memory, dp.Key) {
	t.Helper()
	o, m := newOffice()
	if _, err := o.CreateConsumer(ctx, "root", dp.Consumer{Name: "alice", Role: dp.Analyst, Audience: dp.Internal}, ""); err != nil {
		t.Fatal(err)
	}
	_, k, err := o.IssueKey(ctx, "root", NewKey{Consumer: "alice", Expires: expires}, "")
	if err != nil {
		t.Fatal(err)
	}
	return o, m, k
}

func TestRotationEndsEveryOtherKeyAfterTheGrace(t *testing.T) {
	o, m, first := team(t, time.Time{})
	_, soon, err := o.IssueKey(ctx, "root", NewKey{Consumer: "alice", Expires: now.Add(time.Minute)}, "")
	if err != nil {
		t.Fatal(err)
	}
	_, revoked, err := o.IssueKey(ctx, "root", NewKey{Consumer: "alice"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.RevokeKey(ctx, "root", "alice", revoked.ID, ""); err != nil {
		t.Fatal(err)
	}
	changes := len(m.log)
	secret, fresh, ending, err := o.RotateKey(ctx, "root", "alice", time.Hour, time.Time{}, "yearly")
	if err != nil || HashKey(secret) != fresh.Hash || len(m.log) != changes+1 {
		t.Fatalf("key %+v in %d changes: %v", fresh, len(m.log)-changes, err)
	}
	if len(ending) != 1 || ending[0].ID != first.ID || !m.keys[first.ID].Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("these end: %+v", ending)
	}
	if !m.keys[soon.ID].Expires.Equal(now.Add(time.Minute)) {
		t.Error("a key that ends sooner was given more time")
	}
	if k := m.keys[revoked.ID]; !k.Expires.IsZero() {
		t.Error("a revoked key was changed")
	}
	if k := m.keys[first.ID]; !k.InForce(now.Add(time.Hour-1)) || k.InForce(now.Add(time.Hour)) {
		t.Error("the old key is not in force for exactly the grace")
	}
	for name, grace := range map[string]time.Duration{"negative": -1, "too long": MaxGrace + 1} {
		if _, _, _, err := o.RotateKey(ctx, "root", "alice", grace, time.Time{}, ""); codeOf(err) != dp.CodeInvalidInput {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, _, err := o.RotateKey(ctx, "alice", "alice", time.Second, time.Time{}, ""); codeOf(err) != dp.CodeInvalidInput {
		t.Errorf("who rotates their own keys may be left with none: %v", err)
	}
	if _, _, _, err := o.RotateKey(ctx, "root", "alice", 0, time.Time{}, ""); err != nil || m.keys[fresh.ID].InForce(now) {
		t.Errorf("without a grace the old key goes on: %v", err)
	}
}

func TestConsumerMakesKeysUnderOneThatItHoldsAndNoLonger(t *testing.T) {
	end := now.Add(48 * time.Hour).UTC()
	o, m, first := team(t, end)
	_, own, ending, err := o.IssueOwnKey(ctx, "alice", first.ID, nil, time.Time{})
	if err != nil || own.Under != first.ID || !own.Expires.Equal(end) || ending != nil {
		t.Fatalf("%+v %v %v", own, ending, err)
	}
	if last := m.log[len(m.log)-1]; last.Actor != "alice" {
		t.Errorf("it was done by %s", last.Actor)
	}
	if _, _, _, err := o.IssueOwnKey(ctx, "alice", first.ID, nil, end.Add(1)); codeOf(err) != dp.CodeInvalidInput {
		t.Errorf("a later end: %v", err)
	}
	if _, _, _, err := o.IssueOwnKey(ctx, "bob", first.ID, nil, time.Time{}); codeOf(err) != dp.CodeNotFound {
		t.Errorf("under another's key: %v", err)
	}
	grace := time.Hour
	_, second, ending, err := o.IssueOwnKey(ctx, "alice", own.ID, &grace, now.Add(2*time.Hour))
	if err != nil || len(ending) != 1 || ending[0].ID != own.ID || !ending[0].Expires.Equal(now.Add(time.Hour)) || !second.Expires.Equal(now.Add(2*time.Hour)) {
		t.Fatalf("%+v %+v %v", second, ending, err)
	}

	// What takes a key's place stays when the consumer ends that, and goes when an officer does: it may have been stolen.
	if _, err := o.RevokeOwnKey(ctx, "alice", own.ID); err != nil || !m.keys[second.ID].InForce(now) {
		t.Errorf("the new key went with the old one: %v", err)
	}
	if _, err := o.RevokeOwnKey(ctx, "bob", second.ID); codeOf(err) != dp.CodeNotFound {
		t.Errorf("another's key was revoked: %v", err)
	}
	if _, _, _, err := o.IssueOwnKey(ctx, "alice", own.ID, nil, time.Time{}); codeOf(err) != dp.CodeUnauthenticated {
		t.Errorf("under a revoked key: %v", err)
	}
	if _, err := o.RevokeKey(ctx, "root", "alice", first.ID, "leaked"); err != nil || m.keys[second.ID].InForce(now) {
		t.Errorf("what was made under a leaked key goes on: %v", err)
	}
}

func TestConsumerMakesNoMoreKeysThanItMay(t *testing.T) {
	o, m, first := team(t, time.Time{})
	at := now
	o.clock = func() time.Time { return at }
	make := func() error {
		_, _, _, err := o.IssueOwnKey(ctx, "alice", first.ID, nil, time.Time{})
		return err
	}
	for i := range maxOwnKeys {
		if err := make(); err != nil {
			t.Fatalf("key %d: %v", i, err)
		}
	}
	if err := make(); codeOf(err) != dp.CodeConflict {
		t.Fatalf("one more than may be in force: %v", err)
	}
	revokeAll := func() {
		for _, k := range m.keys {
			if k.Under != "" {
				if _, err := o.RevokeOwnKey(ctx, "alice", k.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for range maxOwnKeysDaily - maxOwnKeys {
		revokeAll()
		if err := make(); err != nil {
			t.Fatal(err)
		}
	}
	revokeAll()
	var refused *dp.Error
	if err := make(); !errors.As(err, &refused) || refused.Code != dp.CodeRateLimited || refused.RetryAfter != 24*time.Hour {
		t.Fatalf("one more than may be made in a day: %v", err)
	}
	at = at.Add(24 * time.Hour)
	if err := make(); err != nil {
		t.Errorf("the next day: %v", err)
	}
}

func TestSubjectIsThatOfOneConsumer(t *testing.T) {
	o, m, _ := team(t, time.Time{})
	set := func(name, subject, reason string) error {
		_, err := o.PatchConsumer(ctx, "root", name, ConsumerPatch{Subject: &subject}, version(m.consumers[name].Version), reason)
		return err
	}
	if err := set("alice", "alice@example.org", ""); codeOf(err) != dp.CodeInvalidInput {
		t.Errorf("without a reason: %v", err)
	}
	if err := set("alice", "alice@example.org", "hired"); err != nil || m.consumers["alice"].Subject != "alice@example.org" {
		t.Fatal(err)
	}
	if err := set("alice", "alice@example.org", "again"); err != nil {
		t.Errorf("the same once more: %v", err)
	}
	bob := dp.Consumer{Name: "bob", Role: dp.Officer, Audience: dp.Internal, Subject: "alice@example.org"}
	if _, err := o.CreateConsumer(ctx, "root", bob, "hired"); codeOf(err) != dp.CodeConflict {
		t.Errorf("a second consumer of a subject: %v", err)
	}
	bob.Subject = ""
	if _, err := o.CreateConsumer(ctx, "root", bob, ""); err != nil {
		t.Fatal(err)
	}
	if err := set("bob", "alice@example.org", "moved"); codeOf(err) != dp.CodeConflict {
		t.Errorf("a second consumer of a subject, later: %v", err)
	}
	for _, subject := range []string{" alice", "alice\n", "a\x00b", string(slices.Repeat([]byte("x"), maxSubject+1))} {
		if err := set("bob", subject, "a test"); codeOf(err) != dp.CodeInvalidInput {
			t.Errorf("a subject of %d bytes: %v", len(subject), err)
		}
	}
	if err := set("alice", "", "left"); err != nil || m.consumers["alice"].Subject != "" {
		t.Error(err)
	}
	if err := set("bob", "alice@example.org", "took over"); err != nil {
		t.Errorf("a subject that is free again: %v", err)
	}
}
