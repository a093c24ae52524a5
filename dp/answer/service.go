package answer

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// Service answers queries. It is safe for concurrent use.
type Service struct {
	policies   Policies
	ledger     Ledger
	releases   Releases
	aggregator Aggregator
	noise      mechanism.Noise
	options    Options
	flights    flights
	drawn      drawnPlans
	recent     recent
}

// Options are the service's limits and its surroundings.
type Options struct {
	Limits plan.Limits
	// Deadline bounds aggregation and noise of one attempt, counted from its charge.
	Deadline time.Duration
	// Renew is how often a running attempt renews its lease: a third of the lease, so that two renewals may
	// fail. 0 never renews; Deadline must then stay below the lease.
	Renew time.Duration
	Clock func() time.Time
	Log   *slog.Logger // gets failures after a charge, never what a query read
}

// New wires a service.
func New(p Policies, l Ledger, r Releases, a Aggregator, n mechanism.Noise, o Options) *Service {
	return &Service{policies: p, ledger: l, releases: r, aggregator: a, noise: n, options: o}
}

// Answer is a release as one call hands it out.
type Answer struct {
	Release dp.Release
	Reused  bool // an earlier draw: this call paid nothing, or only its own allotment
	Stale   bool // rows were loaded since the draw
	// DerivedFrom are the ids of the releases that the figures were added up from. Release then has no id: it is not
	// stored, and no release that could be read again.
	DerivedFrom []string
	// Combined is, of a new draw, by group and metric, what it says together with earlier draws of the same question that
	// the asker holds; nil where there is none.
	Combined [][]*dp.Value
	// Totals are, by metric, what the groups add up to, where that was asked; nil of a metric that does not add up.
	Totals  []*dp.Value
	Ranking *Ranking // of an answer that shows the largest groups alone; nil: it shows all
	Charge  dp.Charge
	Left    dp.Left

	draws []int // of each group, how many numbers were added up to each of its own; nil: one
}

// Quote is a plan as one call hands it out.
type Quote struct {
	Plan     *plan.Plan
	Left     dp.Left
	FreeFrom string // id of the release that would answer without a charge
	Stale    bool   // rows were loaded since that was drawn
	// Other is, where nothing that the asker holds is the answer over the current rows, the id of another consumer's release
	// that would be handed out for a charge: the cap would pay nothing.
	Other string
	// Reused is what would be answered from FreeFrom where its noise is not that of the plan: nil otherwise. Derived says
	// that FreeFrom is not the answer itself: that would be added up from it.
	Reused       *plan.Plan
	Derived      bool
	Alternatives []dp.Alternative
}

// maxReplans bounds how often one call prices its query anew because the policy changed under it.
const maxReplans = 3

// Ask answers a query. key is the caller's idempotency key, or empty. Refusals are *dp.Error and depend on
// the query, the policy and what was spent, never on rows.
func (s *Service) Ask(ctx context.Context, asker dp.Consumer, q dp.Query, key string) (Answer, error) {
	for range maxReplans {
		answer, err := s.ask(ctx, asker, q, key)
		if !errors.Is(err, ErrPolicyChanged) {
			return answer, err
		}
	}
	return Answer{}, &dp.Error{Code: dp.CodeUnavailable, Message: "the dataset's policy is being changed: ask again in a moment", RetryAfter: time.Second}
}

// ask walks one query. Every step of the walk is here, in order.
func (s *Service) ask(ctx context.Context, asker dp.Consumer, q dp.Query, key string) (Answer, error) {
	policy, err := s.policyFor(ctx, asker, q)
	if err != nil {
		return Answer{}, err
	}

	// One key stands for one question: what it led to is replayed, whatever has changed since.
	body, err := Digest(q)
	if err != nil {
		return Answer{}, err
	}
	charged, known, err := s.recall(ctx, asker, key, body)
	if hidden(err) { // it joined a dataset that is not there for the asker any more, as the plan says
		if _, refused := s.price(ctx, asker, policy, q); refused != nil {
			err = refused
		}
	}
	if err != nil {
		return Answer{}, err
	}
	if charged.Outcome != nil {
		return s.replay(ctx, asker, policy, q, charged)
	}

	// A plan is free: it reads no row.
	p, err := s.price(ctx, asker, policy, q)
	if err != nil {
		return Answer{}, err
	}

	// One call per question of a consumer at a time: the others wait here and then find its release.
	if flight := flightOf(asker, p, q, key); flight != "" {
		leave, err := s.flights.enter(ctx, flight)
		if err != nil {
			return Answer{}, fmt.Errorf("waiting for the same question: %w", err)
		}
		defer leave()
	}

	// What was drawn already is not drawn again, nor is what follows from it: of what the asker holds, the answer to
	// this question comes first, then what its figures follow from, then its answer over older rows.
	var found Found
	if !q.Fresh && !known {
		if found, err = s.releases.Find(ctx, asker.Name, p.ID, p.Policy.Name, p.Blocks, p.Also...); err != nil {
			return Answer{}, fmt.Errorf("looking for an earlier release: %w", err)
		}
		if found.Held != "" {
			return s.reread(ctx, asker, p, found.Held, false)
		}
		f, err := s.follow(ctx, asker, p)
		if err != nil {
			return Answer{}, err
		}
		if f != nil && f.asExact {
			return s.reuse(ctx, asker, p, f)
		}
		if found.Stale != "" {
			return s.reread(ctx, asker, p, found.Stale, true)
		}
	}

	// Nothing that depends on rows happens before this charge is durable.
	charged, err = s.ledger.Charge(ctx, ChargeRequest{
		Consumer: asker.Name, Dataset: p.Policy.Name, PolicyVersion: p.Policy.Version, Purpose: q.Purpose,
		Plan: p.ID, Blocks: p.Blocks, Loss: p.Loss, Also: p.Also, Key: key, Body: body, Credential: CredentialOf(ctx), Source: found.Other,
	})
	if err != nil {
		return Answer{}, s.withAlternatives(ctx, asker, err, q, p)
	}
	if charged.Outcome == nil {
		if charged.Outcome, err = s.attempt(ctx, p, charged); err != nil {
			return Answer{}, err
		}
	}
	answer, err := finished(charged)
	if err == nil {
		answer.Release = shown(p, answer.Release)
		answer.Reused = answer.Reused || found.Other != ""
		answer = presented(p, s.withCombined(ctx, asker, p, answer))
	}
	return answer, err
}

// policyFor finds the policy that a question is asked under, and holds the asker to it. Nobody can tell a dataset
// that they may not ask from one that does not exist.
func (s *Service) policyFor(ctx context.Context, asker dp.Consumer, q dp.Query) (dp.VersionedPolicy, error) {
	policy, err := s.policies.Policy(ctx, q.Dataset)
	var refused *dp.Error
	if errors.As(err, &refused) && refused.Code == dp.CodeNotFound {
		return dp.VersionedPolicy{}, errNoDataset()
	}
	if err != nil {
		return dp.VersionedPolicy{}, err
	}
	return policy, AccessOf(policy.Policy).MayAsk(asker, q.Purpose)
}

// recall finds what an idempotency key was charged for.
func (s *Service) recall(ctx context.Context, asker dp.Consumer, key string, body [32]byte) (Charged, bool, error) {
	if key == "" {
		return Charged{}, false, nil
	}
	return s.ledger.Recall(ctx, asker.Name, key, body)
}

// flightOf names what only one call at a time may be in: a question, or a key under which it is asked afresh.
// Two fresh questions without a key are two questions.
func flightOf(asker dp.Consumer, p *plan.Plan, q dp.Query, key string) string {
	switch {
	case !q.Fresh:
		return asker.Name + "\x00plan\x00" + p.ID
	case key != "":
		return asker.Name + "\x00key\x00" + key
	default:
		return ""
	}
}

// finished is the answer that a charge's outcome gives, which may be a failure. Where the caps paid nothing, the
// draw was another consumer's.
func finished(c Charged) (Answer, error) {
	if c.Outcome.Failure != nil {
		return Answer{}, c.Outcome.Failure
	}
	return Answer{Release: *c.Outcome.Release, Reused: c.Charge.CapLoss == dp.Loss{}, Charge: c.Charge, Left: c.Left}, nil
}

// replay is the answer that an idempotency key led to. The draw of another consumer is stored with the intervals
// that they asked for: while the policy still prices the question alike, they are drawn as the first answer's were.
func (s *Service) replay(ctx context.Context, asker dp.Consumer, policy dp.VersionedPolicy, q dp.Query, c Charged) (Answer, error) {
	answer, err := finished(c)
	if err != nil || !answer.Reused && !q.Totals && q.Top == nil {
		return answer, err
	}
	if p, err := s.price(ctx, asker, policy, q); err == nil && p.ID == answer.Release.Plan {
		answer.Release = shown(p, answer.Release)
		answer = presented(p, answer)
	}
	return answer, nil
}

// attempt computes the outcome of a charge and publishes it. It runs to its end even when the caller leaves,
// since the charge stands. An engine that cannot be reached leaves the charge without an outcome, so that
// another attempt under the same key may follow; every other failure is itself the outcome.
func (s *Service) attempt(ctx context.Context, p *plan.Plan, c Charged) (*Outcome, error) {
	ctx = context.WithoutCancel(ctx)
	working, end := s.renewing(ctx, c)
	defer end()
	outcome := Outcome{}
	release, err := s.draw(working, p, c)
	switch {
	case err == nil:
		outcome.Release = release
	case errors.Is(context.Cause(working), ErrAttemptLost):
		return nil, &dp.Error{Code: dp.CodeUnavailable, Message: "another attempt at this question has begun: ask again with the same Idempotency-Key, which costs nothing more", RetryAfter: time.Second, Err: err}
	case unavailable(err):
		s.options.Log.Warn("attempt without outcome", "charge", c.Charge.ID, "attempt", c.Attempt, "error", err)
		if err := s.releases.Abandon(ctx, c.Charge.ID, c.Attempt); err != nil {
			s.options.Log.Warn("the next attempt has to wait for a lease", "charge", c.Charge.ID, "error", err)
		}
		return nil, &dp.Error{Code: dp.CodeUnavailable, Message: "the rows cannot be read at the moment; the charge stands: ask again with the same Idempotency-Key, which costs nothing more", RetryAfter: time.Second, Err: err}
	case retired(err):
		outcome.Failure = &dp.Error{Code: dp.CodeInvalidQuery, Message: "the rows were retired before the question was answered, and the charge stands: ask about later ones"}
	case errors.Is(err, errTooMany):
		outcome.Failure = notKept(&dp.Error{Code: dp.CodeTooLarge})
	default:
		s.options.Log.Error("attempt failed", "charge", c.Charge.ID, "attempt", c.Attempt, "error", err)
		outcome.Failure = &dp.Error{Code: dp.CodeInternal, Message: "the answer failed after it was charged, and nothing of it was published; report the charge to the operator: " + c.Charge.ID}
	}
	return s.publish(ctx, c, outcome)
}

// renewing renews the lease of an attempt until end is called. Its context ends once the attempt is lost: what it
// computes cannot be published any more, which is the ledger's to hold, whatever happens here.
func (s *Service) renewing(ctx context.Context, c Charged) (working context.Context, end func()) {
	working, cancel := context.WithCancelCause(ctx)
	end = func() { cancel(nil) }
	if s.options.Renew <= 0 {
		return working, end
	}
	go func() {
		tick := time.NewTicker(s.options.Renew)
		defer tick.Stop()
		for {
			select {
			case <-working.Done():
				return
			case <-tick.C:
			}
			err := s.releases.Renew(working, c.Charge.ID, c.Attempt)
			switch {
			case errors.Is(err, ErrAttemptLost):
				cancel(ErrAttemptLost)
			case err != nil && working.Err() == nil:
				s.options.Log.Warn("a lease was not renewed", "charge", c.Charge.ID, "attempt", c.Attempt, "error", err)
			}
		}
	}()
	return working, end
}

// publish makes an outcome durable: only then may it leave, and where another attempt was faster, its outcome
// stands. The deadline of the attempt does not bind it: that it passed is an outcome, too. An answer that cannot be
// kept, because it is too large or for any other reason, ends its charge: how much there is to write follows from what
// was drawn, so that a further draw would say something of this one.
func (s *Service) publish(ctx context.Context, c Charged, o Outcome) (*Outcome, error) {
	published, err := s.releases.Publish(ctx, c.Charge.ID, c.Attempt, o)
	if o.Release != nil && err != nil {
		s.options.Log.Error("an answer could not be kept", "charge", c.Charge.ID, "attempt", c.Attempt, "error", err)
		published, err = s.releases.Publish(ctx, c.Charge.ID, c.Attempt, Outcome{Failure: notKept(err)})
	}
	if err != nil {
		return nil, fmt.Errorf("publishing the outcome of charge %s: %w", c.Charge.ID, err)
	}
	return &published, nil
}

// notKept is the outcome of a charge whose answer was not kept.
func notKept(err error) *dp.Error {
	var refused *dp.Error
	if errors.As(err, &refused) && refused.Code == dp.CodeTooLarge {
		return &dp.Error{Code: dp.CodeTooLarge, Message: "the answer is larger than can be kept, and the charge stands: ask for fewer groups"}
	}
	return &dp.Error{Code: dp.CodeUnavailable, Message: "the answer could not be written to disk, and the charge stands: ask again with a new Idempotency-Key, which is charged anew, once the operator has seen to the disk"}
}

// draw computes the exact integers of an admitted charge and adds noise to them, within the deadline. The integers
// exist only within this call.
func (s *Service) draw(ctx context.Context, p *plan.Plan, c Charged) (*dp.Release, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Deadline)
	defer cancel()
	n := newNoising(p, s.noise, s.options.Limits)
	err := s.aggregator.Aggregate(ctx, p, c.Snapshot, func(exact bounding.Partition) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return n.take(exact)
	})
	if err != nil {
		return nil, fmt.Errorf("aggregating: %w", err)
	}
	noised, err := n.end(ctx)
	if err != nil {
		return nil, err
	}
	return s.release(p, c, noised), nil
}

// Plan prices a query without asking it: what it costs, how exact it is, what answers it free.
func (s *Service) Plan(ctx context.Context, asker dp.Consumer, q dp.Query) (Quote, error) {
	policy, err := s.policyFor(ctx, asker, q)
	if err != nil {
		return Quote{}, err
	}
	p, err := s.price(ctx, asker, policy, q)
	if err != nil {
		return Quote{}, err
	}
	quote := Quote{Plan: p}
	if quote.Left, err = s.ledger.Left(ctx, asker.Name, p.Policy.Name, p.Blocks, p.Loss, p.Also...); err != nil {
		return Quote{}, fmt.Errorf("reading what is left: %w", err)
	}
	// What is held answers questions about retired blocks, too; nothing else does.
	kept := s.ledger.CheckRetired(ctx, p.Policy.Name, p.Blocks, p.Also...)
	if kept != nil && (q.Fresh || !retired(kept)) {
		return Quote{}, kept
	}
	if q.Fresh {
		return quote, nil
	}
	found, err := s.releases.Find(ctx, asker.Name, p.ID, p.Policy.Name, p.Blocks, p.Also...)
	if err != nil {
		return Quote{}, fmt.Errorf("looking for an earlier release: %w", err)
	}
	if quote.FreeFrom = found.Held; quote.FreeFrom != "" {
		return quote, nil
	}
	f, err := s.follow(ctx, asker, p)
	if err != nil {
		return Quote{}, err
	}
	switch {
	case f != nil && f.asExact:
		quote.FreeFrom, quote.Reused, quote.Derived = f.release, f.plan, f.derivation != nil
		if quote.Derived {
			quote.Other = found.Other
		}
		return quote, nil
	case f != nil:
		quote.Alternatives = []dp.Alternative{free(f)}
	}
	quote.Other = found.Other
	if quote.FreeFrom = found.Stale; quote.FreeFrom != "" {
		quote.Stale = true
	} else if kept != nil {
		return Quote{}, kept
	} else {
		if quote.Left.SimilarQueries == 0 {
			quote.Alternatives = append(quote.Alternatives, cheapest(q, p, quote.Left)...)
		}
		quote.Alternatives = append(quote.Alternatives, s.cheaper(ctx, asker, q, policy, p)...)
	}
	return quote, nil
}

// price makes the plan of a question, and says of one that cannot be answered as exactly as asked what could.
func (s *Service) price(ctx context.Context, asker dp.Consumer, policy dp.VersionedPolicy, q dp.Query) (*plan.Plan, error) {
	p, err := s.make(ctx, asker, policy, q)
	if err != nil {
		return nil, s.withVariants(ctx, asker, err, q, policy)
	}
	return p, nil
}

// unpaid are touched blocks that pay nothing.
func unpaid(all []dp.Touched) (free []dp.Touched) {
	for _, t := range all {
		t.Loss = dp.Loss{}
		free = append(free, t)
	}
	return free
}

// make makes a plan under the ceilings that the asker's charge will be admitted against.
func (s *Service) make(ctx context.Context, asker dp.Consumer, policy dp.VersionedPolicy, q dp.Query) (*plan.Plan, error) {
	others, err := s.joined(ctx, asker, policy, q)
	if err != nil {
		return nil, err
	}
	var ceilings []dp.Budget
	for _, of := range append([]dp.VersionedPolicy{policy}, others...) {
		allotment, err := s.ledger.Allotment(ctx, asker.Name, of.Name)
		if err != nil {
			return nil, fmt.Errorf("reading the allotment: %w", err)
		}
		ceilings = append(ceilings, of.Cap)
		if allotment.Budget != (dp.Budget{}) {
			ceilings = append(ceilings, allotment.Budget)
		}
	}
	return plan.Make(q, policy, ceilings, s.options.Limits, others...)
}

// mostJoined is of how many cohorts the datasets are looked up: more than a plan may have, which refuses the others.
const mostJoined = 8

// joined finds the policies of the other datasets that a question's cohorts name, as far as the asker may ask them for
// this purpose. One that they may not is like one that does not exist.
func (s *Service) joined(ctx context.Context, asker dp.Consumer, policy dp.VersionedPolicy, q dp.Query) (others []dp.VersionedPolicy, err error) {
	for _, c := range q.Cohorts[:min(len(q.Cohorts), mostJoined)] {
		known := c.Dataset == "" || c.Dataset == policy.Name ||
			slices.ContainsFunc(others, func(p dp.VersionedPolicy) bool { return p.Name == c.Dataset })
		if known {
			continue
		}
		of := dp.Query{Dataset: c.Dataset, Purpose: q.Purpose}
		other, err := s.policyFor(ctx, asker, of)
		var refused *dp.Error
		switch {
		case errors.As(err, &refused) && refused.Code == dp.CodeNotFound: // the plan refuses it by name
		case err != nil:
			return nil, err
		default:
			others = append(others, other)
		}
	}
	return others, nil
}

// reread hands out a release that the asker holds.
func (s *Service) reread(ctx context.Context, asker dp.Consumer, p *plan.Plan, id string, stale bool) (Answer, error) {
	release, err := s.releases.Release(ctx, asker.Name, id)
	if err != nil {
		return Answer{}, fmt.Errorf("reading an earlier release: %w", err)
	}
	left, err := s.ledger.Left(ctx, asker.Name, p.Policy.Name, p.Blocks, p.Loss, p.Also...)
	if err != nil {
		return Answer{}, fmt.Errorf("reading what is left: %w", err)
	}
	free := dp.Charge{Consumer: asker.Name, Dataset: p.Policy.Name, Blocks: release.Charge.Blocks, Also: unpaid(release.Charge.Also), ID: release.Charge.ID}
	return presented(p, Answer{Release: shown(p, release), Reused: true, Stale: stale, Charge: free, Left: left}), nil
}

// shown draws a release's intervals at the confidence that was asked for. The noise is the same whatever the
// confidence, so this is post-processing of what is published.
func shown(p *plan.Plan, r dp.Release) dp.Release {
	if r.Confidence == p.Confidence.String() {
		return r
	}
	r.Confidence = p.Confidence.String()
	keys := make([][]string, len(r.Groups))
	for i, g := range r.Groups {
		keys[i] = g.Key
	}
	r.Groups = newFigures(p).groups(keys, r.NoisedCoordinates, nil)
	return r
}

// Digest covers all that a caller asked, so that one idempotency key stands for one request body.
func Digest(q dp.Query) ([32]byte, error) {
	text, err := json.Marshal(q)
	if err != nil {
		return [32]byte{}, fmt.Errorf("digesting the query: %w", err)
	}
	return sha256.Sum256(text), nil
}

// unavailable says that rows could not be read for a reason outside of them.
func unavailable(err error) bool {
	var refused *dp.Error
	return errors.As(err, &refused) && refused.Code == dp.CodeUnavailable
}

// retired says that rows are not kept any more.
func retired(err error) bool {
	var refused *dp.Error
	return errors.As(err, &refused) && refused.Code == dp.CodeInvalidQuery
}
