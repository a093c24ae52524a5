package answer_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

func shop() dp.VersionedPolicy {
	return dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: "shop", Kind: dp.Transactions, Population: 1000,
		Unit: dp.Unit{Column: "customer", Block: dp.All},
		Dimensions: []dp.Dimension{
			{Name: "category", Type: dp.StringDimension, Values: []string{"food", "toys"}},
			{Name: "city", Type: dp.StringDimension, Private: true},
		},
		Measures:  []dp.Measure{{Name: "amount", Scale: 2, Upper: 10_000}},
		Bounds:    dp.Bounds{MaxPartitions: 2, MaxRows: 5},
		Cap:       dp.Budget{Epsilon: 2 * dp.EpsilonOne, Delta: dp.DeltaOne / 10_000},
		Default:   dp.Budget{Epsilon: dp.EpsilonOne / 2, Delta: dp.DeltaOne / 1_000_000},
		Purposes:  []string{"reporting", "fraud"},
		Audiences: []dp.Audience{dp.Internal},
	}}
}

var (
	ann = dp.Consumer{Name: "ann", Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting"}}
	bob = dp.Consumer{Name: "bob", Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting"}}
)

func byCategory() dp.Query {
	return dp.Query{Dataset: "shop", Metrics: []string{"customers"}, By: []string{"category"}, Purpose: "reporting"}
}

func newService(m *memory, e *engine, n mechanism.Noise) *answer.Service {
	return answer.New(m, m, m, e, n, answer.Options{
		Limits: plan.DefaultLimits(), Deadline: time.Minute, Clock: time.Now,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

func newShop(budget dp.Budget) (*memory, *engine) {
	m := newMemory(shop(), budget)
	return m, &engine{m: m, partitions: []bounding.Partition{{Key: []string{"food"}, Totals: []int64{7}}}}
}

func ask(t *testing.T, s *answer.Service, who dp.Consumer, q dp.Query, key string) answer.Answer {
	t.Helper()
	a, err := s.Ask(context.Background(), who, q, key)
	if err != nil {
		t.Fatalf("asking: %v", err)
	}
	return a
}

func code(err error) dp.Code {
	var refused *dp.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

func TestRowsAreReadAfterTheChargeAndAnswersLeaveAfterPublishing(t *testing.T) {
	m, e := newShop(shop().Cap)
	ask(t, newService(m, e, exact{}), ann, byCategory(), "")
	if want := []string{"charge", "aggregate", "publish"}; !reflect.DeepEqual(m.journal, want) {
		t.Fatalf("the walk was %v, want %v", m.journal, want)
	}
}

func TestEmptyPublicGroupsAreAnswered(t *testing.T) {
	m, e := newShop(shop().Cap)
	a := ask(t, newService(m, e, exact{}), ann, byCategory(), "")
	if len(a.Release.Groups) != 2 || a.Release.Groups[0].Values[0].Value != 7 || a.Release.Groups[1].Values[0].Value != 0 {
		t.Fatalf("groups %+v", a.Release.Groups)
	}
	for _, g := range a.Release.Groups {
		if v := g.Values[0]; v.Low >= v.Value || v.High <= v.Value || v.SD <= 0 {
			t.Errorf("group %v has no interval: %+v", g.Key, v)
		}
	}
}

func TestTheSameQuestionIsFreeAndEqual(t *testing.T) {
	m, e := newShop(shop().Cap)
	s := newService(m, e, mechanism.Secure())
	first := ask(t, s, ann, byCategory(), "")
	spelled := byCategory()
	spelled.Metrics, spelled.By, spelled.Epsilon = []string{"customers", "customers"}, []string{"category", "category"}, "0.50"
	second := ask(t, s, ann, spelled, "")
	if !second.Reused || second.Charge.Loss != (dp.Loss{}) || !reflect.DeepEqual(first.Release, second.Release) {
		t.Fatalf("the second answer differs or was charged: %+v", second)
	}
	if len(m.charges) != 1 {
		t.Fatalf("%d charges for one question", len(m.charges))
	}
}

func TestAnotherConfidenceRedrawsTheIntervalAndNotTheNoise(t *testing.T) {
	m, e := newShop(shop().Cap)
	s := newService(m, e, mechanism.Secure())
	first := ask(t, s, ann, byCategory(), "")
	q := byCategory()
	q.Confidence = "0.5"
	second := ask(t, s, ann, q, "")
	a, b := first.Release.Groups[0].Values[0], second.Release.Groups[0].Values[0]
	if !second.Reused || a.Value != b.Value || b.High-b.Low >= a.High-a.Low || second.Release.Confidence != "0.5" {
		t.Fatalf("at 95 %%: %+v, at 50 %%: %+v", a, b)
	}
}

func TestFreshAlwaysPaysAndDrawsAgain(t *testing.T) {
	m, e := newShop(shop().Cap)
	s := newService(m, e, mechanism.Secure())
	first := ask(t, s, ann, byCategory(), "")
	q := byCategory()
	q.Fresh = true
	second := ask(t, s, ann, q, "")
	if second.Reused || second.Release.ID == first.Release.ID || len(m.charges) != 2 {
		t.Fatalf("fresh reused %v", second.Reused)
	}
}

func TestAfterALoadAHolderGetsItsAnswerFreeAndStale(t *testing.T) {
	m, e := newShop(shop().Cap)
	s := newService(m, e, exact{})
	first := ask(t, s, ann, byCategory(), "")
	m.version++
	second := ask(t, s, ann, byCategory(), "")
	if !second.Stale || !second.Reused || second.Release.ID != first.Release.ID {
		t.Fatalf("after a load: %+v", second)
	}
	q := byCategory()
	q.Fresh = true
	if third := ask(t, s, ann, q, ""); third.Stale || third.Release.ID == first.Release.ID {
		t.Fatalf("fresh after a load: %+v", third)
	}
}

func TestAnotherConsumerGetsTheEarliestDrawForItsAllotmentAlone(t *testing.T) {
	m, e := newShop(shop().Cap)
	s := newService(m, e, mechanism.Secure())
	first := ask(t, s, ann, byCategory(), "")
	capBefore := m.spent["cap"]
	second := ask(t, s, bob, byCategory(), "")
	if second.Release.ID != first.Release.ID || !reflect.DeepEqual(second.Release.Groups, first.Release.Groups) {
		t.Fatal("another consumer got another draw")
	}
	if text := second.Release.CanonicalQuery; strings.Contains(text, "epsilon") || !strings.Contains(text, "category") {
		t.Fatalf("the draw tells how the other consumer asked: %s", text)
	}
	if m.spent["cap"] != capBefore || m.spent["bob"] != first.Charge.Loss {
		t.Fatalf("cap %+v, bob %+v", m.spent["cap"], m.spent["bob"])
	}
	if again := ask(t, s, bob, byCategory(), ""); again.Charge.Loss != (dp.Loss{}) {
		t.Fatal("a holder paid again")
	}
}

func TestManyCallsOfOneQuestionPayOnce(t *testing.T) {
	m, e := newShop(shop().Cap)
	e.delay = 5 * time.Millisecond
	s := newService(m, e, mechanism.Secure())
	var wait sync.WaitGroup
	values := make([]float64, 32)
	for i := range values {
		wait.Go(func() {
			a, err := s.Ask(context.Background(), ann, byCategory(), "")
			if err == nil {
				values[i] = a.Release.Groups[0].Values[0].Value
			}
		})
	}
	wait.Wait()
	if len(m.charges) != 1 {
		t.Fatalf("%d charges for one question in flight", len(m.charges))
	}
	for _, v := range values {
		if v != values[0] {
			t.Fatalf("answers differ: %v", values)
		}
	}
}

func TestAFailureAfterTheChargeIsItsOutcomeAndIsReplayed(t *testing.T) {
	m, e := newShop(shop().Cap)
	e.err = errors.New("row of customer 4711 is broken")
	s := newService(m, e, exact{})
	_, first := s.Ask(context.Background(), ann, byCategory(), "key")
	e.err = nil
	_, second := s.Ask(context.Background(), ann, byCategory(), "key")
	if code(first) != dp.CodeInternal || code(second) != dp.CodeInternal || first.Error() != second.Error() {
		t.Fatalf("first %v, then %v", first, second)
	}
	if strings.Contains(first.Error(), "4711") {
		t.Fatalf("the failure tells of rows: %v", first)
	}
	if len(m.charges) != 1 || m.spent["ann"].Epsilon == 0 {
		t.Fatal("the charge does not stand, or stands twice")
	}
}

func TestAnAttemptThatPassesItsDeadlineFailsForGood(t *testing.T) {
	m, e := newShop(shop().Cap)
	e.delay = 20 * time.Millisecond
	s := answer.New(m, m, m, e, exact{}, answer.Options{
		Limits: plan.DefaultLimits(), Deadline: time.Millisecond, Clock: time.Now,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	_, first := s.Ask(context.Background(), ann, byCategory(), "key")
	e.delay = 0
	_, second := s.Ask(context.Background(), ann, byCategory(), "key")
	if code(first) != dp.CodeInternal || code(second) != dp.CodeInternal {
		t.Fatalf("first %v, then %v", first, second)
	}
	if want := []string{"charge", "aggregate", "publish"}; !reflect.DeepEqual(m.journal, want) {
		t.Fatalf("the walk was %v, want %v", m.journal, want)
	}
}

// Whether a draw could be kept depends on its size. A second draw under the same charge would be one more than was
// paid for.
func TestAnAnswerThatIsNotKeptIsNotDrawnAgain(t *testing.T) {
	for want, unkept := range map[dp.Code]error{
		dp.CodeTooLarge:    &dp.Error{Code: dp.CodeTooLarge, Message: "too large"},
		dp.CodeUnavailable: &dp.Error{Code: dp.CodeUnavailable, RetryAfter: time.Second, Message: "the disk is nearly full"},
	} {
		m, e := newShop(shop().Cap)
		m.unkept = unkept
		s := newService(m, e, exact{})
		_, first := s.Ask(context.Background(), ann, byCategory(), "key")
		m.unkept = nil
		_, second := s.Ask(context.Background(), ann, byCategory(), "key")
		if code(first) != want || code(second) != want || !strings.Contains(second.Error(), "charge stands") {
			t.Fatalf("first %v, then %v", first, second)
		}
		if drawn := strings.Count(strings.Join(m.journal, " "), "aggregate"); drawn != 1 || len(m.releases) != 0 {
			t.Fatalf("rows were read %d times for one charge, %d releases", drawn, len(m.releases))
		}
	}
}

func TestARunningAttemptRenewsItsLease(t *testing.T) {
	m, e := newShop(shop().Cap)
	e.delay = 100 * time.Millisecond
	s := newRenewing(m, e)
	ask(t, s, ann, byCategory(), "key")
	m.mu.Lock()
	renewed := m.renewals
	m.mu.Unlock()
	if renewed == 0 {
		t.Fatal("the lease was never renewed")
	}
}

// Once another attempt has begun, this one neither goes on, nor gives up a lease that is not its own, nor ends
// the charge.
func TestAnAttemptThatLostItsLeaseLeavesTheChargeToTheNext(t *testing.T) {
	m, e := newShop(shop().Cap)
	m.lost, e.untilDone = true, true
	s := newRenewing(m, e)
	if _, err := s.Ask(context.Background(), ann, byCategory(), "key"); code(err) != dp.CodeUnavailable {
		t.Fatalf("got %v", err)
	}
	if want := []string{"charge", "aggregate"}; !reflect.DeepEqual(m.journal, want) {
		t.Fatalf("the walk was %v, want %v", m.journal, want)
	}
}

func newRenewing(m *memory, e *engine) *answer.Service {
	return answer.New(m, m, m, e, exact{}, answer.Options{
		Limits: plan.DefaultLimits(), Deadline: time.Minute, Renew: time.Millisecond, Clock: time.Now,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

func TestAnEngineThatIsAwayLeavesTheChargeOpenForAnotherAttempt(t *testing.T) {
	m, e := newShop(shop().Cap)
	e.err = &dp.Error{Code: dp.CodeUnavailable, Message: "shard 3"}
	s := newService(m, e, exact{})
	if _, err := s.Ask(context.Background(), ann, byCategory(), "key"); code(err) != dp.CodeUnavailable {
		t.Fatalf("got %v", err)
	}
	if m.journal[len(m.journal)-1] != "abandon" {
		t.Fatalf("the attempt was not given up: %v", m.journal)
	}
	e.err = nil
	a := ask(t, s, ann, byCategory(), "key")
	if len(m.charges) != 1 || a.Release.Groups[0].Values[0].Value != 7 {
		t.Fatalf("%d charges, %+v", len(m.charges), a.Release.Groups)
	}
}

func TestAKeyStandsForOneQuestionAndItsOutcome(t *testing.T) {
	m, e := newShop(shop().Cap)
	s := newService(m, e, mechanism.Secure())
	q := byCategory()
	q.Fresh = true
	first := ask(t, s, ann, q, "key")
	m.policy.Version++ // a price of today does not matter to what was paid before
	m.policy.Purposes = append(m.policy.Purposes, "marketing")
	second := ask(t, s, ann, q, "key")
	if !reflect.DeepEqual(first.Release, second.Release) || len(m.charges) != 1 {
		t.Fatalf("a repeat under a key drew again, or paid again: %d charges", len(m.charges))
	}
	other := byCategory()
	if _, err := s.Ask(context.Background(), ann, other, "key"); code(err) != dp.CodeConflict {
		t.Fatalf("another question under the key: %v", err)
	}
}

func TestAHandedOutAnswerIsReplayedAsItWas(t *testing.T) {
	m, e := newShop(shop().Cap)
	s := newService(m, e, mechanism.Secure())
	ask(t, s, ann, byCategory(), "")
	q := byCategory()
	q.Confidence = "0.5"
	first := ask(t, s, bob, q, "key")
	second := ask(t, s, bob, q, "key")
	if first.Release.Confidence != "0.5" || !first.Reused || !second.Reused || !reflect.DeepEqual(first.Release, second.Release) {
		t.Fatalf("first %+v, then %+v", first, second)
	}
}

func TestAChangedPolicyIsPricedAgain(t *testing.T) {
	m, e := newShop(shop().Cap)
	m.changes = 2
	if a := ask(t, newService(m, e, exact{}), ann, byCategory(), ""); a.Release.PolicyVersion != 3 {
		t.Fatalf("answered under policy version %d", a.Release.PolicyVersion)
	}
	m.changes = 100
	q := byCategory()
	q.Fresh = true
	if _, err := newService(m, e, exact{}).Ask(context.Background(), ann, q, ""); code(err) != dp.CodeUnavailable {
		t.Fatalf("a policy that never rests: %v", err)
	}
}

func TestPurposeAndAudienceAreHeld(t *testing.T) {
	m, e := newShop(shop().Cap)
	s := newService(m, e, exact{})
	q := byCategory()
	q.Purpose = "marketing"
	if _, err := s.Ask(context.Background(), ann, q, ""); code(err) != dp.CodePurposeNotAllowed {
		t.Errorf("a purpose that the policy does not list: %v", err)
	}
	q.Purpose = "fraud"
	if _, err := s.Plan(context.Background(), ann, q); code(err) != dp.CodePurposeNotAllowed {
		t.Errorf("a purpose that the asker does not hold: %v", err)
	}
	vendor := ann
	vendor.Audience = dp.ThirdParty
	if _, err := s.Ask(context.Background(), vendor, byCategory(), ""); code(err) != dp.CodeNotFound {
		t.Errorf("an audience that the policy does not list: %v", err)
	}
	_, hidden := s.Ask(context.Background(), vendor, byCategory(), "")
	absent := byCategory()
	absent.Dataset = "other"
	if _, err := s.Ask(context.Background(), vendor, absent, ""); err == nil || err.Error() != hidden.Error() {
		t.Errorf("a dataset that does not exist is %v, one that may not be asked %v", err, hidden)
	}
	if _, err := s.Plan(context.Background(), vendor, absent); err == nil || err.Error() != hidden.Error() {
		t.Errorf("planning on a dataset that does not exist: %v", err)
	}
	if len(m.journal) != 0 {
		t.Errorf("a refusal touched %v", m.journal)
	}
}

func TestARefusalByBudgetSaysWhatWouldStillFit(t *testing.T) {
	m, e := newShop(dp.Budget{Epsilon: dp.EpsilonOne / 5})
	s := newService(m, e, exact{})
	q := byCategory()
	q.Epsilon = "0.5"
	_, err := s.Ask(context.Background(), ann, q, "")
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeBudgetExhausted || len(refused.Alternatives) != 1 {
		t.Fatalf("got %+v", refused)
	}
	q.Epsilon, q.Delta = refused.Alternatives[0].Epsilon.String(), "0"
	ask(t, s, ann, q, "")
}

func TestAPlanReadsNoRowAndNamesWhatIsFree(t *testing.T) {
	m, e := newShop(shop().Cap)
	s := newService(m, e, exact{})
	quote, err := s.Plan(context.Background(), ann, byCategory())
	if err != nil || quote.FreeFrom != "" || quote.Left.SimilarQueries == 0 || len(m.journal) != 0 {
		t.Fatalf("%+v, %v, %v", quote, err, m.journal)
	}
	a := ask(t, s, ann, byCategory(), "")
	if quote, err = s.Plan(context.Background(), ann, byCategory()); err != nil || quote.FreeFrom != a.Release.ID {
		t.Fatalf("free from %q, %v", quote.FreeFrom, err)
	}
}

func TestPrivateGroupsNeedSelectionAndAKeptCustomer(t *testing.T) {
	m, e := newShop(shop().Cap)
	e.partitions = []bounding.Partition{
		{Key: []string{"Bern"}, Totals: []int64{1_000_000, 5_000_000}},
		{Key: []string{"Aachen"}, Totals: []int64{1, 400}},
		{Key: []string{"Zug"}, Totals: []int64{0, 0}},
	}
	q := byCategory()
	q.By, q.Metrics, q.Epsilon, q.Delta = []string{"city"}, []string{"customers", "spend"}, "1", "1e-6"
	a := ask(t, newService(m, e, exact{}), ann, q, "")
	if len(a.Release.Groups) != 1 || a.Release.Groups[0].Key[0] != "Bern" || !a.Release.GroupsMayBeHidden {
		t.Fatalf("groups %+v", a.Release.Groups)
	}
	if v := a.Release.Groups[0].Values; v[0].Value != 1_000_000 || v[1].Value != 50_000 {
		t.Fatalf("values %+v", v)
	}
}

func TestAnEngineThatInventsGroupsIsNotBelieved(t *testing.T) {
	m, e := newShop(shop().Cap)
	e.partitions = append(e.partitions, bounding.Partition{Key: []string{"weapons"}, Totals: []int64{3}})
	if _, err := newService(m, e, exact{}).Ask(context.Background(), ann, byCategory(), ""); code(err) != dp.CodeInternal {
		t.Fatalf("got %v", err)
	}
}

func TestHugeTotalsDoNotWrap(t *testing.T) {
	m, e := newShop(shop().Cap)
	e.partitions[0].Totals[0] = math.MaxInt64
	for range 50 {
		q := byCategory()
		q.Fresh, q.Epsilon, q.Delta = true, "0.01", "0"
		a := ask(t, newService(m, e, mechanism.Secure()), ann, q, "")
		if v := a.Release.Groups[0].Values[0].Value; v < 4e18 {
			t.Fatalf("a total of 2^63 is answered as %v", v)
		}
	}
}

func TestAMeanIsComputedFromItsTwoNoisedCoordinates(t *testing.T) {
	m, e := newShop(shop().Cap)
	// 100 rows of 25.00 within 0..100: 2x-lo-hi is 5000-10000 cents each.
	e.partitions = []bounding.Partition{{Key: []string{}, Totals: []int64{100 * -5000, 100}}}
	q := dp.Query{Dataset: "shop", Metrics: []string{"average_ticket"}, Purpose: "reporting"}
	a := ask(t, newService(m, e, exact{}), ann, q, "")
	if v := a.Release.Groups[0].Values[0]; v.Value != 25 || v.Low < 0 || v.High > 100 || v.Low >= 25 || v.High <= 25 {
		t.Fatalf("mean %+v", v)
	}
}

func TestChargeIsAskedForUnderTheCallersKey(t *testing.T) {
	m, e := newShop(dp.Budget{Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 10_000})
	s := newService(m, e, mechanism.Secure())
	if _, err := s.Ask(answer.WithCredential(t.Context(), "key_1"), ann, byCategory(), ""); err != nil || m.credential != "key_1" {
		t.Errorf("charged under %q: %v", m.credential, err)
	}
}
