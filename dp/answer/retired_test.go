package answer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// What is held about retired blocks answers what it answered before; whatever else touches them is refused, and free.
func TestRetiredBlocksAreAnsweredByWhatIsHeldAlone(t *testing.T) {
	m, s := newTill(mechanism.Secure())
	asker := dp.Consumer{Name: "alice", Audience: dp.Internal, Purposes: []string{"reporting"}}
	other := asker
	other.Name = "bob"
	ask := func(who dp.Consumer, q dp.Query) (answer.Answer, error) { return s.Ask(t.Context(), who, q, "") }
	held, err := ask(asker, tilled(fine))
	if err != nil {
		t.Fatal(err)
	}
	m.retired = "2026-03"
	spent := m.spent[asker.Name]

	january := tilled(loose)
	january.To = "2026-01-31"
	for name, q := range map[string]dp.Query{"the same": tilled(fine), "a total": tilled(loose), "a part of it": january} {
		quote, err := s.Plan(t.Context(), asker, q)
		if err != nil || quote.FreeFrom != held.Release.ID {
			t.Errorf("%s is planned from %q, %v", name, quote.FreeFrom, err)
		}
		if a, err := ask(asker, q); err != nil || !a.Reused {
			t.Errorf("%s is answered with %+v, %v", name, a.Release.ID, err)
		}
	}
	fresh, finer := tilled(fine), tilled(fine)
	fresh.Fresh = true
	finer.Epsilon = "6"
	for name, c := range map[string]struct {
		who dp.Consumer
		q   dp.Query
	}{"a fresh draw": {asker, fresh}, "a sharper draw": {asker, finer}, "another consumer": {other, tilled(fine)}} {
		if _, err := s.Plan(t.Context(), c.who, c.q); !refusedAs(err, dp.CodeInvalidQuery) {
			t.Errorf("%s is planned: %v", name, err)
		}
		if _, err := ask(c.who, c.q); !refusedAs(err, dp.CodeInvalidQuery) {
			t.Errorf("%s is answered: %v", name, err)
		}
	}
	if m.spent[asker.Name] != spent || m.spent[other.Name] != (dp.Loss{}) {
		t.Errorf("it cost %+v", m.spent)
	}
	march := tilled(nil)
	march.From = "2026-03-01"
	if _, err := ask(other, march); err != nil {
		t.Errorf("what is not retired is refused: %v", err)
	}
}

// gone is an engine whose rows are retired between a charge and its scan.
type gone struct{}

func (gone) Aggregate(context.Context, *plan.Plan, dp.Snapshot, func(bounding.Partition) error) error {
	return &dp.Error{Code: dp.CodeInvalidQuery, Message: "retired"}
}

func TestRowsThatRetireUnderAChargeAreItsFailure(t *testing.T) {
	m := newMemory(till(), till().Cap)
	s := answer.New(m, m, m, gone{}, mechanism.Secure(), answer.Options{Limits: plan.DefaultLimits(), Deadline: 1 << 40})
	asker := dp.Consumer{Name: "alice", Audience: dp.Internal, Purposes: []string{"reporting"}}
	for range 2 { // the failure is its outcome
		if _, err := s.Ask(t.Context(), asker, tilled(fine), "key"); !refusedAs(err, dp.CodeInvalidQuery) {
			t.Errorf("got %v", err)
		}
	}
	if len(m.charges) != 1 {
		t.Errorf("%d charges", len(m.charges))
	}
}

func refusedAs(err error, code dp.Code) bool {
	var refused *dp.Error
	return errors.As(err, &refused) && refused.Code == code
}
