package ledger

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// twoOfficers has ada and grace, and the dataset take two.
func twoOfficers(t *testing.T) *fixture {
	f := newFixture(t)
	for _, name := range []string{"ada", "grace"} {
		_, err := f.office.CreateConsumer(ctx, "root", dp.Consumer{Name: name, Role: dp.Officer, Audience: dp.Internal}, "")
		check(t, err)
		_, _, err = f.office.IssueKey(ctx, "root", office.NewKey{Consumer: name}, "")
		check(t, err)
	}
	p, err := f.Policy(ctx, dataset)
	check(t, err)
	p.TwoPerson = true
	_, _, err = f.office.ApplyPolicy(ctx, "ada", p.Policy, &p.Version, "two")
	check(t, err)
	return f
}

// raise proposes a cap of so much more.
func (f *fixture) raise(by string, more dp.Epsilon) dp.Proposal {
	f.t.Helper()
	p, err := f.Policy(ctx, dataset)
	check(f.t, err)
	p.Cap.Epsilon += more
	_, _, err = f.office.ApplyPolicy(ctx, by, p.Policy, &p.Version, "more")
	var w *office.Waiting
	if !errors.As(err, &w) {
		f.t.Fatalf("got %v, want a proposal", err)
	}
	return w.Proposal
}

func TestProposalIsKeptAndConfirmedInOneEntry(t *testing.T) {
	f := twoOfficers(t)
	before, err := f.Policy(ctx, dataset)
	check(t, err)
	p := f.raise("ada", 5)
	f.reopen()
	kept, err := f.Proposal(ctx, p.ID)
	check(t, err)
	if kept.By != "ada" || kept.Change.Policy.After.Cap.Epsilon != before.Cap.Epsilon+5 || kept.End != nil || kept.Number == 0 {
		t.Fatalf("kept is %+v", kept)
	}
	if now, err := f.Policy(ctx, dataset); err != nil || now.Version != before.Version {
		t.Fatalf("in force is version %d, %v", now.Version, err)
	}
	entries := f.Status().Length
	_, err = f.office.DecideProposal(ctx, "grace", p.ID, true, "agreed")
	check(t, err)
	if after := f.Status().Length; after != entries+1 {
		t.Errorf("a confirmation took %d entries", after-entries)
	}
	now, err := f.Policy(ctx, dataset)
	check(t, err)
	if now.Version != before.Version+1 || now.Cap.Epsilon != before.Cap.Epsilon+5 {
		t.Errorf("in force is %+v", now)
	}
	f.unchanged(dp.CodeConflict, func() error {
		_, err := f.office.DecideProposal(ctx, "grace", p.ID, false, "no")
		return err
	})
	_, err = f.Proposal(ctx, "pro_none")
	wantCode(t, dp.CodeNotFound, err)
}

func TestOpenProposalsAreListedUntilTheyEnd(t *testing.T) {
	f := twoOfficers(t)
	one, two := f.raise("ada", 1), f.raise("grace", 2)
	_, err := f.office.DecideProposal(ctx, "grace", one.ID, false, "no")
	check(t, err)
	list := func(open bool, limit int) (ids []string) {
		t.Helper()
		for cursor := ""; ; {
			page, next, err := f.Proposals(ctx, open, cursor, limit)
			check(t, err)
			for _, p := range page {
				ids = append(ids, p.ID)
			}
			if cursor = next; cursor == "" {
				return ids
			}
		}
	}
	for _, limit := range []int{1, 10} {
		if all := list(false, limit); len(all) != 2 || all[0] != two.ID || all[1] != one.ID {
			t.Errorf("all are %q", all)
		}
		if open := list(true, limit); len(open) != 1 || open[0] != two.ID {
			t.Errorf("open are %q", open)
		}
	}
	f.advance(office.ProposalLife)
	if open := list(true, 10); len(open) != 0 {
		t.Errorf("an expired proposal is open: %q", open)
	}
	f.raise("ada", 3) // ends what expired
	if p, err := f.Proposal(ctx, two.ID); err != nil || p.End == nil || p.End.State != dp.ProposalExpired {
		t.Errorf("the expired proposal is %+v, %v", p, err)
	}
}

func TestSecretsAreInNoProposal(t *testing.T) {
	f := twoOfficers(t)
	secret, hash := office.NewSecret()
	_, _, err := f.office.IssueKey(ctx, "ada", office.NewKey{Consumer: "grace", Hash: &hash}, "hers")
	var w *office.Waiting
	if !errors.As(err, &w) {
		t.Fatal(err)
	}
	if _, _, err := f.Authenticate(ctx, hash); err == nil {
		t.Fatal("a key that waits is in force")
	}
	f.advance(time.Hour)
	_, _, third := f.office.IssueKey(ctx, "ada", office.NewKey{Consumer: "ada", Hash: &hash}, "the same for me")
	check(t, third)
	_, err = f.office.DecideProposal(ctx, "grace", w.Proposal.ID, true, "agreed")
	wantCode(t, dp.CodeConflict, err) // a secret has one owner
	if c, _, err := f.Authenticate(ctx, office.HashKey(secret)); err != nil || c.Name != "ada" {
		t.Errorf("admitted %s, %v", c.Name, err)
	}
}

func TestProposalsAreFoundInTheLogByWhatTheyAreAbout(t *testing.T) {
	f := twoOfficers(t)
	p := f.raise("ada", 5)
	_, err := f.office.DecideProposal(ctx, "grace", p.ID, false, "no")
	check(t, err)
	now, err := f.Consumer(ctx, bob)
	check(t, err)
	organisation := "another"
	_, err = f.office.PatchConsumer(ctx, "ada", bob, office.ConsumerPatch{Organisation: &organisation}, &now.Version, "moved")
	var w *office.Waiting
	if !errors.As(err, &w) {
		t.Fatal(err)
	}
	names := func(l dp.AuditLine, id string) bool {
		return slices.ContainsFunc(l.Objects, func(o dp.AuditObject) bool { return o.Kind == "proposal" && o.Name == id })
	}
	about := f.lines(dp.AuditFilter{Kind: "change", Dataset: dataset})
	if len(about) < 2 || !names(about[0], p.ID) || about[0].Actor != "grace" || !names(about[1], p.ID) || about[1].Actor != "ada" {
		t.Errorf("of the dataset there are %+v", about)
	}
	if of := f.lines(dp.AuditFilter{Kind: "change", Consumer: bob}); len(of) == 0 || !names(of[0], w.Proposal.ID) {
		t.Errorf("of the consumer there are %+v", of)
	}
}
