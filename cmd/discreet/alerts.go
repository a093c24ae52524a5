package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/store/durable"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// alerting says where to, and at which parts of a budget.
type alerting struct {
	webhook string // empty: nowhere
	at      thresholds
}

// thresholds are parts of a budget, rising, as flags give them: 0.5,0.8,0.95.
type thresholds []float64

// mostThresholds bounds them.
const mostThresholds = 10

// UnmarshalText reads numbers above 0 and up to 1.
func (t *thresholds) UnmarshalText(text []byte) error {
	*t = nil
	for part := range strings.SplitSeq(string(text), ",") {
		at, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil || !(at > 0 && at <= 1) {
			return errors.New("thresholds are parts of a budget above 0 and up to 1, such as 0.5,0.8,0.95")
		}
		*t = append(*t, at)
	}
	slices.Sort(*t)
	if *t = slices.Compact(*t); len(*t) > mostThresholds {
		return fmt.Errorf("there can be %d thresholds at most", mostThresholds)
	}
	return nil
}

// check refuses an address that no alert can be sent to. The address may hold a secret: it is never printed.
func (a alerting) check() error {
	if a.webhook == "" {
		return nil
	}
	u, err := url.Parse(a.webhook)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return usagef("--alert-webhook must be an address that begins with https:// or http://")
	}
	return nil
}

// alert is the body that is sent. It says what is spent of an account, which follows from prices alone.
type alert struct {
	Account   string    `json:"account"`
	Dataset   string    `json:"dataset"`
	Block     string    `json:"block"`
	Consumer  string    `json:"consumer,omitempty"` // absent for a cap
	Threshold float64   `json:"threshold"`
	Used      float64   `json:"used"` // the part of the budget's epsilon that no further charge can have
	Budget    wire.Loss `json:"budget"`
	Left      wire.Loss `json:"left"` // the largest charge without delta that is still admitted
	At        time.Time `json:"at"`
}

// alerts watches accounts and tells a webhook, once for each account and threshold, that so much is spent. It learns of
// spending from the ledger, a moment later, and holds up no charge.
type alerts struct {
	alerting
	accounts func(context.Context) ([]dp.Account, error)
	length   func() uint64   // of the ledger
	path     string          // of what was sent
	seal     *secrets.Sealer // of that file; nil: it is in plain
	clock    func() time.Time
	log      *slog.Logger
	client   *http.Client
	every    time.Duration // between looks
	pause    time.Duration // before a failed alert is tried again, doubled each time

	sent map[string][]float64 // thresholds by account, as in the file
	seen uint64               // length of the ledger at a look after which nothing was due
	used map[string]judged
}

// judged is how much of an account was used when it had spent so much.
type judged struct {
	budget dp.Budget
	spent  dp.Loss
	part   float64
}

// alertsFile is where in the data directory it is kept what was sent.
const alertsFile = "alerts"

const (
	alertsEvery   = 15 * time.Second
	alertTimeout  = 10 * time.Second
	alertPause    = time.Second
	alertAttempts = 3
	// maxAlertState bounds the file of what was sent.
	maxAlertState = 64 << 20
)

// newAlerts reads what was sent before.
func newAlerts(to alerting, l *ledger.Ledger, dir string, seal *secrets.Sealer, clock func() time.Time, log *slog.Logger) (*alerts, error) {
	a := &alerts{
		alerting: to, path: filepath.Join(dir, alertsFile), seal: seal, clock: clock, log: log, every: alertsEvery, pause: alertPause,
		accounts: func(ctx context.Context) ([]dp.Account, error) { return allAccounts(ctx, l) },
		length:   func() uint64 { return l.Status().Length },
		client:   &http.Client{Timeout: alertTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		used:     map[string]judged{},
	}
	return a, a.load()
}

// allAccounts lists every account that was charged.
func allAccounts(ctx context.Context, l *ledger.Ledger) (list []dp.Account, err error) {
	policies, err := l.Policies(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range policies {
		for cursor := ""; ; {
			page, next, err := l.DatasetAccounts(ctx, p.Name, cursor, 0)
			if err != nil {
				return nil, err
			}
			list = append(list, page...)
			if cursor = next; cursor == "" {
				break
			}
		}
	}
	return list, nil
}

// run looks until ctx ends.
func (a *alerts) run(ctx context.Context) {
	for {
		if err := a.look(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("a budget alert could not be sent, and is tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(a.every):
		}
	}
}

// errRefused says that the webhook was reached, and did not take what it was sent.
var errRefused = errors.New("the webhook refused an alert")

// look sends what is due. What could not be sent is due at the next look; so is what was sent while the process died before
// it was written down. An alert that the webhook refuses does not hold up others.
func (a *alerts) look(ctx context.Context) error {
	length := a.length()
	if length == a.seen {
		return nil
	}
	accounts, err := a.accounts(ctx)
	if err != nil {
		return fmt.Errorf("reading accounts: %w", err)
	}
	changed := false
	var refused error
	for _, account := range accounts {
		key := account.Consumer + " " + account.Name
		used := a.usedOf(key, account)
		// A budget that was raised can be used up again.
		if still := slices.DeleteFunc(slices.Clone(a.sent[key]), func(at float64) bool { return used < at }); len(still) != len(a.sent[key]) {
			a.sent[key], changed = still, true
		}
		for _, at := range a.at {
			if used < at || slices.Contains(a.sent[key], at) {
				continue
			}
			err := a.send(ctx, account, at, used)
			if errors.Is(err, errRefused) {
				refused = err
				continue
			}
			if err != nil {
				if changed {
					err = errors.Join(err, a.save())
				}
				return err
			}
			a.sent[key] = append(a.sent[key], at)
			if err := a.save(); err != nil {
				return err
			}
			changed = false
		}
	}
	if changed {
		if err := a.save(); err != nil {
			return errors.Join(refused, err)
		}
	}
	if refused == nil {
		a.seen = length
	}
	return refused
}

// usedOf is the part of an account's epsilon that no further charge can have. It is worked out anew where the account changed.
func (a *alerts) usedOf(key string, account dp.Account) float64 {
	if j, ok := a.used[key]; ok && j.budget == account.Budget && j.spent == account.Spent {
		return j.part
	}
	part := 0.0
	if account.Budget.Epsilon > 0 { // else there is nothing to use: it was taken away
		part = 1 - accounting.Room(account.Budget, account.Spent).ShareOf(account.Budget.Epsilon)
	}
	a.used[key] = judged{account.Budget, account.Spent, part}
	return part
}

// send posts one alert, a few times if need be.
func (a *alerts) send(ctx context.Context, account dp.Account, at, used float64) error {
	left := accounting.Room(account.Budget, account.Spent)
	body, err := json.Marshal(alert{
		Account: account.Name, Dataset: account.Dataset, Block: account.Block, Consumer: account.Consumer, Threshold: at, Used: used,
		Budget: wire.Loss{Epsilon: wire.Decimal(account.Budget.Epsilon.String()), Delta: wire.Decimal(account.Budget.Delta.String())},
		Left:   wire.Loss{Epsilon: wire.Decimal(left.String()), Delta: "0"},
		At:     a.clock().UTC(),
	})
	if err != nil {
		return fmt.Errorf("writing an alert: %w", err)
	}
	pause := a.pause
	for attempt := 1; ; attempt++ {
		if err = a.post(ctx, body); err == nil || attempt == alertAttempts || errors.Is(err, errRefused) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// post sends a body once. Errors never name the address.
func (a *alerts) post(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.webhook, bytes.NewReader(body))
	if err != nil {
		return errors.New("the webhook's address cannot be used")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "discreet/"+version())
	response, err := a.client.Do(request)
	var failed *url.Error
	switch {
	case errors.As(err, &failed) && failed.Timeout():
		return errors.New("the webhook did not answer in time")
	case err != nil:
		return errors.New("the webhook cannot be reached")
	}
	defer response.Body.Close()
	if _, err := io.CopyN(io.Discard, response.Body, 1<<16); err != nil && !errors.Is(err, io.EOF) {
		return errors.New("the webhook's answer broke off")
	}
	switch code := response.StatusCode; {
	case code >= 200 && code <= 299:
		return nil
	case code >= 400 && code <= 499 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests:
		return fmt.Errorf("%w: status %d", errRefused, code)
	default:
		return fmt.Errorf("the webhook answered with status %d", code)
	}
}

// load reads what was sent.
func (a *alerts) load() error {
	a.sent = map[string][]float64{}
	info, err := os.Stat(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var text []byte
	if err == nil && info.Size() > maxAlertState {
		err = errors.New("it is too large")
	}
	if err == nil {
		text, err = os.ReadFile(a.path)
	}
	if err == nil {
		text, err = a.seal.Open(text, nil)
	}
	if err == nil {
		err = json.Unmarshal(text, &a.sent)
	}
	if err != nil {
		return fmt.Errorf("reading which alerts were sent: %w; remove the file alerts in the data directory to have them sent again", err)
	}
	if a.sent == nil {
		a.sent = map[string][]float64{}
	}
	return nil
}

// save replaces the file of what was sent by a whole new one.
func (a *alerts) save() error {
	text, err := json.Marshal(a.sent)
	if err != nil {
		return fmt.Errorf("noting that an alert was sent: %w", err)
	}
	if err := replaceFile(a.path, a.seal.Seal(text, nil)); err != nil {
		return fmt.Errorf("noting that an alert was sent: %w", err)
	}
	return nil
}

// replaceFile writes a file that is there whole or as it was, whenever the process or the machine dies.
func replaceFile(path string, text []byte) (err error) {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return durable.SyncDir(filepath.Dir(path))
}
