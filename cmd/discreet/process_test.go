package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
)

// process is discreet serve as a process of its own, which can be killed and started again over its directory.
type process struct {
	t       testing.TB
	home    string   // of the data directory and the witness
	address string   // the same after every start
	flags   []string // of serve

	command *exec.Cmd
	stderr  *safeBuffer
	stdout  *safeBuffer
	printed string // by the last start
	ended   chan error
}

// newProcess serves a new data directory below home until the test ends.
func newProcess(t testing.TB, home string, flags ...string) *process {
	t.Helper()
	p := idleProcess(t, home, flags...)
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// idleProcess has yet to be started.
func idleProcess(t testing.TB, home string, flags ...string) *process {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, home: home, address: free.Addr().String(), flags: flags}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func (p *process) data() string { return filepath.Join(p.home, "data") }

// hang is how long a start or an end may take before the test gives up. It is no promise: what it took is
// logged.
const hang = 2 * time.Minute

// start returns once the server answers.
func (p *process) start() error {
	p.stderr, p.stdout = &safeBuffer{}, &safeBuffer{}
	output := p.stdout
	p.command = exec.Command(os.Args[0], append([]string{"serve", "--data", p.data(), "--listen", p.address}, p.flags...)...)
	p.command.Env = append(os.Environ(), asCommand+"=1", "DISCREET_WITNESS="+filepath.Join(p.home, "witness"))
	p.command.Stderr = p.stderr
	stdout, err := p.command.StdoutPipe()
	if err == nil {
		err = p.command.Start()
	}
	if err != nil {
		return fmt.Errorf("starting discreet serve: %w", err)
	}
	ended := make(chan error, 1)
	p.ended = ended
	serving := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			fmt.Fprintln(output, lines.Text())
			if strings.Contains(lines.Text(), "http://") || keyIn(lines.Text()) != "" {
				select {
				case serving <- "":
				default:
				}
			}
		}
	}()
	command := p.command
	go func() {
		<-read // Wait closes the pipe
		ended <- command.Wait()
	}()
	select {
	case <-serving:
	case err := <-ended:
		ended <- err
		return fmt.Errorf("discreet serve ended (%w): %s%s", errOr(err, errors.New("status 0")), output.String(), p.lastWords())
	case <-time.After(hang):
		return fmt.Errorf("discreet serve did not start: %s%s", output.String(), p.lastWords())
	}
	for deadline := time.Now().Add(hang); ; time.Sleep(2 * time.Millisecond) {
		resp, err := http.Get("http://" + p.address + "/livez")
		if err == nil {
			_ = resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server that started does not answer: %w", err)
		}
	}
	p.printed = output.String()
	return nil
}

func errOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// kill ends the process at once, as a power cut does.
func (p *process) kill() {
	if p.command == nil || p.command.Process == nil {
		return
	}
	_ = p.command.Process.Kill() // it may have ended
	p.wait()
}

// stop ends the process as an operator does, and gives how it ended.
func (p *process) stop() error {
	p.t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.wait()
}

func (p *process) wait() error {
	select {
	case err := <-p.ended:
		p.ended <- err
		return err
	case <-time.After(hang):
		p.t.Errorf("the server does not end: %s", p.lastWords())
		return errors.New("still running")
	}
}

// lastWords is the end of what the process logged.
func (p *process) lastWords() string {
	text := p.stderr.String()
	return text[max(0, len(text)-4000):]
}

// running tells whether the process has not ended by itself.
func (p *process) running() bool {
	select {
	case err := <-p.ended:
		p.ended <- err
		return false
	default:
		return true
	}
}

// openShop applies the shop's policy and hires a team that may spend all of its cap, over the process.
func (p *process) openShop() (team string) {
	p.t.Helper()
	h := &harness{t: p.t, dir: p.data(), url: "http://" + p.address, officer: keyIn(p.printed)}
	if h.officer == "" {
		p.t.Fatalf("the first start printed no key:\n%s", p.printed)
	}
	h.apply(shopPolicy)
	team = h.hire("team", dp.Product, "product-analytics")
	h.allot("team", "shop", "6", "1e-9")
	return team
}

// asker asks under idempotency keys and holds the server to what it acknowledged: a key has one charge and one
// outcome, whenever and however often it is asked.
type asker struct {
	t       testing.TB
	client  *client.Client
	retries atomic.Int64 // requests under a key that was sent before
	refused atomic.Int64 // requests that were unavailable

	mu   sync.Mutex
	sent map[int]int        // key -> how often
	ends map[int]settlement // key -> how its charge ended, once anybody was told
}

// settlement is how a charge ended, as it was told.
type settlement struct {
	charge, release string
	value           float64 // of the first group
	failure         string  // instead of the above
}

func newAsker(t testing.TB, p *process, key string) *asker {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New("http://"+p.address, key, &http.Client{Transport: transport, Timeout: hang})
	if err != nil {
		t.Fatal(err)
	}
	return &asker{t: t, client: c, sent: map[int]int{}, ends: map[int]settlement{}}
}

// ask sends the question of a key. It returns nil if it was told how the charge ended.
func (a *asker) ask(ctx context.Context, key int) error {
	a.mu.Lock()
	if a.sent[key]++; a.sent[key] > 1 {
		a.retries.Add(1)
	}
	a.mu.Unlock()
	q := january()
	q.Epsilon, q.Delta, q.Fresh = "0.000001", "0", true
	release, err := a.client.Query(ctx, q, "key-"+strconv.Itoa(key))
	var problem *client.Problem
	switch {
	case err == nil:
		a.settle(key, settlement{charge: release.Charge.ID, release: release.ID, value: firstValue(release)})
		return nil
	case errors.As(err, &problem) && problem.Code == string(dp.CodeUnavailable) && strings.Contains(problem.Detail, "new Idempotency-Key"):
		a.settle(key, settlement{failure: problem.Detail})
		return nil
	case errors.As(err, &problem) && problem.Code == string(dp.CodeUnavailable):
		a.refused.Add(1)
	case errors.As(err, &problem):
		a.t.Errorf("key %d: %v", key, err)
	}
	return err
}

// keepAsking has clients ask under new keys, and again under earlier ones, until stop is called.
func (a *asker) keepAsking(clients int, seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(a.t.Context())
	var asking sync.WaitGroup
	var next atomic.Int64
	for i := range clients {
		choose := rand.New(rand.NewPCG(seed, uint64(i)+2))
		asking.Go(func() {
			for ctx.Err() == nil {
				key := int(next.Load())
				if key == 0 || choose.IntN(3) > 0 {
					key = int(next.Add(1))
				} else {
					key = max(1, key-choose.IntN(min(key, 500))) // some under way, some answered long ago
				}
				if a.ask(ctx, key) != nil {
					time.Sleep(5 * time.Millisecond) // the server is gone, or says when to ask again
				}
			}
		})
	}
	return func() {
		cancel()
		asking.Wait()
	}
}

func firstValue(r wire.Release) float64 { return r.Groups[0].Values["customers"].Value }

func (a *asker) settle(key int, now settlement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if before, ok := a.ends[key]; ok && before != now {
		a.t.Errorf("key %d was told %+v, and then %+v", key, before, now)
	}
	a.ends[key] = now
}

func (a *asker) settled() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ends)
}

// askAgain asks under every key until it is told how its charge ended: whoever asks on is told.
func (a *asker) askAgain(ctx context.Context) {
	a.t.Helper()
	keys := make(chan int)
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for key := range keys {
				for deadline := time.Now().Add(hang); a.ask(ctx, key) != nil; time.Sleep(50 * time.Millisecond) {
					if time.Now().After(deadline) {
						a.t.Errorf("key %d is not told how its charge ended", key)
						return
					}
				}
			}
		})
	}
	for _, key := range a.keys() {
		keys <- key
	}
	close(keys)
	clients.Wait()
}

// keys are those that were sent, in order.
func (a *asker) keys() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := make([]int, 0, len(a.sent))
	for k := range a.sent {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// checkBooks compares what was told with the ledger of a data directory that nobody serves: every key that was
// sent has one charge, nothing else was charged, and the accounts are the exact sums.
func (a *asker) checkBooks(dir, witness string) {
	a.t.Helper()
	report, err := verify.Ledger(context.Background(), filepath.Join(dir, "ledger"), verify.Options{Witness: witness})
	if err != nil || report.Finding != nil {
		a.t.Fatalf("the ledger does not verify: %v, %v", report.Finding, err)
	}
	l, err := ledger.Open(filepath.Join(dir, "ledger"), ledger.Options{Witness: witness})
	if err != nil {
		a.t.Fatal(err)
	}
	if s := l.Status(); s.State != ledger.StateOK {
		a.t.Errorf("the ledger refuses: %s", s.Reason)
	}
	defer func() {
		if err := l.Close(); err != nil {
			a.t.Error(err)
		}
	}()
	ctx := context.Background()
	charges := map[string]dp.Entry{}
	var sum dp.Loss
	for cursor, more := "", true; more; more = cursor != "" {
		var page []dp.Entry
		if page, cursor, err = l.Entries(ctx, "team", "shop", cursor, 1000); err != nil {
			a.t.Fatal(err)
		}
		for _, e := range page {
			charges[e.ID] = e
			sum.Epsilon += e.Loss.Epsilon
			sum.Delta += e.Loss.Delta
			sum.Rho += e.Loss.Rho
			sum.DeltaZ += e.Loss.DeltaZ
		}
	}
	accounts, _, err := l.DatasetAccounts(ctx, "shop", "", 0)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, account := range accounts {
		if account.Spent != sum {
			a.t.Errorf("account %s spent %+v, its charges are %+v", account.Name, account.Spent, sum)
		}
	}
	if len(accounts) != 2 {
		a.t.Errorf("%d accounts, want the cap and the allotment of one month", len(accounts))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(charges) != len(a.sent) {
		a.t.Errorf("%d keys made %d charges", len(a.sent), len(charges))
	}
	failures := 0
	for key := range a.sent {
		end, told := a.ends[key]
		e, charged := charges[end.charge]
		switch {
		case !told:
			a.t.Errorf("key %d was never told how its charge ended", key)
		case end.failure != "":
			failures++
		case !charged:
			a.t.Errorf("key %d was answered without a charge that is still there", key)
		case e.Release != end.release:
			a.t.Errorf("key %d was told release %s, and its charge paid for %s", key, end.release, e.Release)
		}
	}
	for _, e := range charges {
		if e.Failure != "" {
			failures--
		}
	}
	if failures != 0 {
		a.t.Errorf("the ledger and the callers differ by %d failures", failures)
	}
}

// short is how often CI repeats what the race detector has watched once.
func short(times int) int {
	if raceEnabled {
		return 1
	}
	return times
}

// setting is a number that the environment may raise for the long form of a test.
func setting(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s must be a number", name)
	}
	return n
}
