package verify

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// crowd is clients who charge while an officer changes what they may spend.
type crowd struct {
	*fixture
	random   *rand.Rand
	mu       sync.Mutex
	admitted int
	refused  map[dp.Code]int
	changes  int
}

const (
	crowdClients   = 64
	crowdConsumers = 4
	crowdCharges   = 12 // that each client tries
)

func crowdName(n int) string { return fmt.Sprint("team", n%crowdConsumers) }

// TestOfficerAgainstSixtyFourClients has an officer lower, raise, pause, resume, let expire and bound allotments, and lower and
// raise the cap, while 64 clients charge. Then the log alone is asked: by the verifier, which works admission out in its own
// way, and by a plain walk through the entries. That both can tell, the same logs say with one charge moved behind the change that
// came after it. DISCREET_ROUNDS=100 runs a hundred.
func TestOfficerAgainstSixtyFourClients(t *testing.T) {
	rounds := 2
	if text := os.Getenv("DISCREET_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	all := crowd{refused: map[dp.Code]int{}}
	moved, caught := 0, 0
	for round := range rounds {
		c := &crowd{fixture: newFixture(t), random: rand.New(rand.NewPCG(uint64(round), 64)), refused: map[dp.Code]int{}}
		c.race()
		c.close()
		if r := fits(t, c.dir, Options{Witness: c.witness}); r.Charges != c.admitted {
			t.Fatalf("round %d: the log has %d charges, and %d were admitted", round, r.Charges, c.admitted)
		}
		g := read(t, c.dir)
		if id, err := admissions(g); err != nil {
			t.Fatalf("round %d: charge %s: %v", round, id, err)
		}
		all.admitted, all.changes = all.admitted+c.admitted, all.changes+c.changes
		for code, n := range c.refused {
			all.refused[code] += n
		}
		some, wrong := movedBehind(t, c.dir, 4)
		moved, caught = moved+some, caught+wrong
	}
	t.Logf("%d rounds: %d charges admitted between %d changes, refused %v; of %d charges moved behind a change, %d were inadmissible there, and named",
		rounds, all.admitted, all.changes, all.refused, moved, caught)
	if all.admitted < rounds*20 || all.refused[dp.CodeForbidden] == 0 || all.refused[dp.CodeBudgetExhausted] == 0 || caught < rounds {
		t.Error("the race is none")
	}
}

func (c *crowd) race() {
	c.policy("cards", dp.Budget{Epsilon: 8 * dp.EpsilonOne}, nil)
	for n := range crowdConsumers {
		c.hire(crowdName(n))
		c.allot(crowdName(n), "cards", func(a *dp.Allotment) { a.Budget.Epsilon = dp.EpsilonOne })
	}
	c.load("cards", "first", []string{"2026-01", "2026-02"})
	var clients sync.WaitGroup
	for n := range crowdClients {
		random := rand.New(rand.NewPCG(c.random.Uint64(), uint64(n)))
		clients.Go(func() {
			for i := range crowdCharges {
				c.spend(crowdName(n), fmt.Sprint("plan ", n, " ", i), random)
			}
		})
	}
	ended := make(chan struct{})
	go func() { clients.Wait(); close(ended) }()
	for ; ; c.changes++ {
		select {
		case <-ended:
			c.end()
			return
		default:
			c.officer()
		}
	}
}

// spend charges some blocks, or is refused. A charge that met another policy than it was priced under is priced again.
func (c *crowd) spend(consumer, plan string, random *rand.Rand) {
	blocks := [][]string{{"2026-01"}, {"2026-02"}, {"2026-01", "2026-02"}}[random.IntN(3)]
	l := pure(5 + random.Int64N(40))
	for {
		p, err := c.Policy(c.t.Context(), "cards")
		if err == nil {
			_, err = c.Charge(c.t.Context(), answer.ChargeRequest{Consumer: consumer, Dataset: "cards", PolicyVersion: p.Version, Purpose: "r", Plan: plan, Blocks: blocks, Loss: l})
		}
		if errors.Is(err, answer.ErrPolicyChanged) {
			continue
		}
		var refused *dp.Error
		if err != nil && !errors.As(err, &refused) {
			c.t.Error(err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if err == nil {
			c.admitted++
		} else {
			c.refused[refused.Code]++
		}
		return
	}
}

// officer makes one change.
func (c *crowd) officer() {
	c.wait(time.Duration(c.random.IntN(2)) * time.Millisecond)
	if c.random.IntN(8) == 0 {
		c.cap(2000 + c.random.Int64N(8000))
		return
	}
	c.allot(crowdName(c.random.IntN(crowdConsumers)), "cards", func(a *dp.Allotment) {
		switch c.random.IntN(7) {
		case 0:
			a.Budget.Epsilon = pure(1 + c.random.Int64N(400)).Epsilon // often below what is spent
		case 1, 2:
			a.Budget.Epsilon = pure(1000 + c.random.Int64N(3000)).Epsilon
		case 3:
			a.Paused = !a.Paused
		case 4:
			a.Paused, a.Expires, a.MaxEpsilonPerQuery = false, time.Time{}, 0
		case 5:
			a.Expires = c.clock().Add(time.Duration(1+c.random.IntN(4)) * time.Millisecond)
		case 6:
			a.MaxEpsilonPerQuery = pure(10 + c.random.Int64N(30)).Epsilon
		}
	})
}

func (c *crowd) cap(thousandths int64) {
	p, err := c.Policy(c.t.Context(), "cards")
	c.must(err)
	c.policy("cards", dp.Budget{Epsilon: pure(thousandths).Epsilon}, &p.Version)
}

// end makes sure that a log has a charge that the change right behind it would have refused.
func (c *crowd) end() {
	c.cap(100_000)
	for _, narrow := range []func(a *dp.Allotment){func(a *dp.Allotment) { a.Paused = true }, func(a *dp.Allotment) { a.Budget.Epsilon = 1 }} {
		c.allot("team0", "cards", func(a *dp.Allotment) {
			a.Budget.Epsilon, a.Paused, a.Expires, a.MaxEpsilonPerQuery = 50*dp.EpsilonOne, false, time.Time{}, 0
		})
		c.charge(c.ask("team0", "cards", "last", pure(5), "2026-01"))
		c.admitted++
		c.allot("team0", "cards", narrow)
	}
}

// admissions walks through a log in which all is paid in epsilon alone, so that a budget holds as long as a sum is within it,
// and gives the first charge that was not to be admitted at its place, and why.
func admissions(g *forger) (charge string, err error) {
	limit := int64(0)
	allotments, sums, seen := map[string]allotmentRecord{}, map[string]int64{}, map[string]bool{}
	for _, e := range g.entries {
		for _, w := range e.writes {
			switch w.key[0] {
			case kindPolicy:
				p, err := decodeRecord[policyRecord](g.value(w), parts)
				must(g.t, err)
				limit = p.Cap.Epsilon
			case kindAllotment:
				a, err := decodeRecord[allotmentRecord](g.value(w), parts)
				must(g.t, err)
				allotments[a.Consumer] = a
			}
		}
		for _, w := range e.writes {
			if w.key[0] != kindCharge || seen[string(w.key)] {
				continue
			}
			seen[string(w.key)] = true
			c, err := decodeRecord[chargeRecord](g.value(w), parts)
			must(g.t, err)
			a := allotments[c.Charge.Consumer]
			switch {
			case a.Paused:
				return c.Charge.ID, errors.New("the allotment was paused")
			case !a.Expires.IsZero() && !c.Charge.At.Before(a.Expires):
				return c.Charge.ID, errors.New("the allotment had expired")
			case a.MaxEpsilonPerQuery > 0 && c.Charge.Loss.Epsilon > a.MaxEpsilonPerQuery:
				return c.Charge.ID, errors.New("it costs more than one query may")
			}
			for _, b := range c.Charge.Blocks {
				sums[b] += c.Charge.Loss.Epsilon
				sums[c.Charge.Consumer+" "+b] += c.Charge.Loss.Epsilon
				if sums[b] > limit || sums[c.Charge.Consumer+" "+b] > a.Budget.Epsilon {
					return c.Charge.ID, errors.New("a budget in force at its place was exceeded")
				}
			}
		}
	}
	return "", nil
}

// movedBehind moves a charge behind the change of an allotment that came right after it, in as many logs as there are such
// pairs, the last ones first and so many at most. Both checks must agree: on those that would have been refused there, which are
// named, and on the others, which fit.
func movedBehind(t *testing.T, dir string, most int) (moved, caught int) {
	t.Helper()
	honest := read(t, dir).entries
	for i := len(honest) - 2; i >= 0 && moved < most; i-- {
		if honest[i].name != "charge" || honest[i+1].name != "change" || !slices.ContainsFunc(honest[i+1].writes, func(w *write) bool { return w.key[0] == kindAllotment }) {
			continue
		}
		moved++
		g := read(t, dir)
		charge := g.behind(i)
		id, err := admissions(g)
		r := verify(t, g.write(), Options{})
		switch {
		case err == nil && r.Finding != nil:
			t.Errorf("a charge that might as well come after a change does not fit: %v", r.Finding)
		case err != nil && (r.Finding == nil || r.Finding.Entry != charge.number):
			t.Errorf("charge %s is not named behind the change, where %v: %v", id, err, r.Finding)
		case err != nil:
			caught++
		}
	}
	return moved, caught
}

// behind moves entry i, a charge, behind the next one, a change of an allotment, and gives each the other's number.
func (g *forger) behind(i int) *entry {
	charge, change := g.entries[i], g.entries[i+1]
	g.entries[i], g.entries[i+1] = change, charge
	_, suffix, err := split(g.first(charge, kindChargeOf).key)
	must(g.t, err)
	n := number(suffix)
	for _, w := range change.writes {
		switch w.key[0] {
		case kindChange:
			w.key = numberedKey(n, kindChange)
		case kindNumber:
			w.set(encodeNumber(n))
		}
	}
	c, err := decodeRecord[chargeRecord](g.value(g.first(charge, kindCharge)), whole)
	must(g.t, err)
	for _, w := range charge.writes {
		switch w.key[0] {
		case kindCharge:
			edit(g, w, func(c *chargeRecord) { c.Number = n + 1 })
		case kindChargeOf:
			w.key = numberedKey(n+1, kindChargeOf, c.Charge.Consumer)
		case kindOpen:
			w.key = numberedKey(n+1, kindOpen)
		case kindNumber:
			w.set(encodeNumber(n + 1))
		}
	}
	return charge
}
