package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// TestOfficerAtTheCommandLineAgainstSixtyFourClients is TestOfficerAgainstSixtyFourClients (store/ledger/verify) the whole
// way: 64 clients ask over HTTP while an officer changes allotments and the cap by the command, and then the log of the stopped
// server is verified. Once the officer's change has returned, no call that begins later passes by what was before.
func TestOfficerAtTheCommandLineAgainstSixtyFourClients(t *testing.T) {
	const clients, consumers, asked = 64, 4, 8
	h, stop := running(t)
	h.must(h.hire("warehouse", dp.Custodian), "load", "cards", h.file("cards.csv", "customer_id,at,country,amount\nann,2026-01-05,DE,1\nbob,2026-01-06,FR,1\n"), "--from", "2026-01-01", "--to", "2026-01-31")
	keys := make([]string, consumers)
	for i := range keys {
		name := fmt.Sprint("team", i)
		keys[i] = h.hire(name, dp.Product, "reporting")
		h.allot(name, "cards", "0.5", "0")
	}
	var mu sync.Mutex
	admitted, refused := 0, map[string]int{}
	ask := func(key string, epsilon wire.Decimal) error {
		q := wire.Query{Dataset: "cards", Metrics: []string{"rows"}, From: "2026-01-01", To: "2026-01-31", Purpose: "reporting", Epsilon: epsilon, Fresh: true}
		c, err := client.New(h.url, key, nil)
		if err == nil {
			_, err = c.Query(t.Context(), q, "")
		}
		mu.Lock()
		defer mu.Unlock()
		var problem *client.Problem
		switch {
		case err == nil:
			admitted++
		case errors.As(err, &problem):
			refused[problem.Code]++
		default:
			t.Error(err)
		}
		return err
	}
	var crowd sync.WaitGroup
	for n := range clients {
		random := rand.New(rand.NewPCG(64, uint64(n)))
		crowd.Go(func() {
			for range asked {
				_ = ask(keys[n%consumers], wire.Decimal(fmt.Sprintf("0.0%02d", 1+random.IntN(20))))
			}
		})
	}
	ended := make(chan struct{})
	go func() { crowd.Wait(); close(ended) }()
	random, changes := rand.New(rand.NewPCG(64, 64)), 0
	set := func(team int, args ...string) {
		t.Helper()
		h.must(h.officer, append([]string{"allotment", "set", fmt.Sprint("team", team), "cards", "--reason", "race"}, args...)...)
		changes++
	}
	for running := true; running; {
		select {
		case <-ended:
			running = false
		default:
			team := random.IntN(consumers)
			switch random.IntN(6) {
			case 0:
				set(team, "--epsilon", "0.05")
			case 1:
				set(team, "--epsilon", "0.9")
			case 2:
				set(team, "--paused")
			case 3:
				set(team, "--no-paused")
			case 4:
				set(team, "--max-epsilon-per-query", "0.01")
			case 5:
				h.apply(strings.Replace(trapPolicy, "cap: {epsilon: 1", fmt.Sprintf("cap: {epsilon: %d.%d", 1+random.IntN(3), random.IntN(10)), 1))
				changes++
			}
		}
	}
	// What a change forbids is forbidden to the next call.
	for team, narrow := range [][]string{{"--paused"}, {"--epsilon", "0.001"}, {"--max-epsilon-per-query", "0.0001"}, {"--expires", time.Now().Add(-48 * time.Hour).Format(time.DateOnly)}} {
		set(team, "--epsilon", "9", "--no-paused", "--max-epsilon-per-query", "9")
		h.apply(strings.Replace(trapPolicy, "cap: {epsilon: 1", fmt.Sprintf("cap: {epsilon: %d", 20+team), 1))
		if err := ask(keys[team], "0.02"); err != nil {
			t.Errorf("team %d is refused: %v", team, err)
		}
		set(team, narrow...)
		if err := ask(keys[team], "0.02"); err == nil {
			t.Errorf("team %d asks after %v", team, narrow)
		}
	}
	stop()
	var body verified
	if r := h.offline("verify", "--format", "json"); r.code != exitDone || json.Unmarshal([]byte(r.stdout), &body) != nil || !body.Fits || body.Charges != admitted {
		t.Errorf("%d were admitted, and verify says: exit %d, %s%s", admitted, r.code, r.stdout, r.stderr)
	}
	t.Logf("%d questions were answered and charged between %d changes, refused were %v", admitted, changes, refused)
	if admitted < 20 || refused[string(dp.CodeForbidden)] == 0 || refused[string(dp.CodeBudgetExhausted)] == 0 {
		t.Error("the race is none")
	}
}
