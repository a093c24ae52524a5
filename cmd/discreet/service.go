package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/api"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/report"
	"github.com/discreet-analytics/discreet/store/backup"
	"github.com/discreet-analytics/discreet/store/columnar"
	"github.com/discreet-analytics/discreet/store/disk"
	"github.com/discreet-analytics/discreet/store/durable"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// service is everything behind one data directory, wired.
type service struct {
	office *office.Office
	server *api.Server

	disk    *disk.Watch
	ledger  *ledger.Ledger
	rows    *columnar.Store
	backups *backup.Keeper // nil: none are kept
	reports func()         // ends the making of reports
	alerts  func()         // ends the watching of budgets; nil: nobody is told
}

// storage is where a service keeps everything, and how much room it leaves there.
type storage struct {
	dir     string
	disk    disk.Options
	witness witness
	cache   int64   // bytes for columns; 0: as many as suit a small server
	eraseAt hour    // when the day's erasures run
	rate    float64 // requests a second of one consumer; 0: any number
	// failedSignIns are calls a second from one address that may lack a key or token in force; 0: the API's default.
	failedSignIns float64
	alerts        alerting
	backups       backups
	tokens        api.Tokens   // nil: keys alone sign in
	key           *secrets.Key // encrypts everything in dir; nil: nothing is
	still         bool         // nothing is served, and nothing but opening writes
}

// witness is where the ledger's length is known, too: a file, or a directory in which it has the ledger's id as
// name. One of them is given.
type witness struct{ file, dir string }

// surroundings are what the service takes from outside of itself, and what tests replace.
type surroundings struct {
	noise mechanism.Noise
	clock func() time.Time
	state func() (string, error) // directory of what belongs to this machine
}

// production is how main surrounds the service. No flag and no setting reaches the noise.
func production() surroundings {
	return surroundings{noise: mechanism.Secure(), clock: time.Now, state: stateHome}
}

const (
	// attemptLease is how long an attempt to answer may run without being renewed before another may take over;
	// answerDeadline, how long it takes at most.
	attemptLease   = 30 * time.Second
	answerDeadline = time.Minute
	// reportsEvery is how often scheduled reports are looked at beside every load.
	reportsEvery = 30 * time.Second
)

// openService opens a data directory, and makes it where there is none:
//
//	DIR/ledger   accounts, charges, releases, policies, consumers
//	DIR/data     rows
//	DIR/secrets  the key of pseudonyms
//	DIR/alerts   which alerts were sent, where there are any
//	DIR/reserve  room for the hour in which the disk is full
//
// The caller closes the service.
func openService(ctx context.Context, in storage, from surroundings, log *slog.Logger) (s *service, err error) {
	s = &service{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
			s = nil
		}
	}()

	dir := in.dir
	used, err := wasUsed(dir)
	if err != nil {
		return s, err
	}
	if err := secrets.Check(filepath.Join(dir, "secrets"), in.key); err != nil {
		return s, explainKey(dir, err)
	}
	// The disk is watched before any file is written.
	in.disk.Log = log
	if s.disk, err = disk.Open(dir, in.disk); err != nil {
		return s, explainOpen(dir, err)
	}
	// The ledger comes first: it holds the directory against other processes.
	err = s.disk.OpenEngine(filepath.Join(dir, "ledger"), func() (err error) {
		s.ledger, err = ledger.Open(filepath.Join(dir, "ledger"), ledger.Options{
			Clock: from.clock, Log: log, Lease: attemptLease, Room: s.disk.Ledger().Room, Witness: in.witness.file, WitnessDir: in.witness.dir, Exists: used, Key: in.key,
		})
		return err
	})
	if err != nil {
		return s, explainOpen(dir, err)
	}
	keys, err := secrets.OpenWith(filepath.Join(dir, "secrets"), in.key)
	if err != nil {
		return s, fmt.Errorf("opening the secrets: %w", err)
	}
	if err := s.ledger.Pair(ctx, keys.Fingerprint()); err != nil {
		return s, err
	}

	signer, err := keys.LogSigner(s.ledger.LogName())
	if err != nil {
		return s, err
	}

	sizes := columnar.DefaultOptions()
	sizes.Key = in.key.Derive(rowsKey)
	if in.backups.dir != "" { // before the rows: who is erased is listed there
		if s.backups, err = in.backups.open(s.ledger, int64(in.disk.Keep), from.clock, log); err != nil {
			return s, err
		}
		sizes.Erased = s.backups.Erased
	}
	sizes.Room, sizes.Log = s.disk.Rows().Room, log
	sizes.EraseAt, sizes.Clock = time.Duration(in.eraseAt), func() time.Time { return from.clock().UTC() }
	if in.still {
		sizes.EraseAt, sizes.MergeEvery = -1, 0
	}
	if in.cache > 0 {
		sizes.CacheBytes = in.cache
	}
	err = s.disk.OpenEngine(filepath.Join(dir, "data"), func() (err error) {
		s.rows, err = columnar.Open(filepath.Join(dir, "data"), s.ledger, keys, sizes)
		return err
	})
	if err != nil {
		return s, explainOpen(dir, err)
	}

	if in.still {
		s.backups.Start(source{s.ledger, s.rows, keys})
		return s, nil
	}

	asker := answer.New(s.ledger, s.ledger, s.ledger, s.rows, from.noise,
		answer.Options{Limits: plan.DefaultLimits(), Deadline: answerDeadline, Renew: attemptLease / 3, Clock: from.clock, Log: log})
	reports := report.New(asker, s.ledger, s.ledger, s.ledger, s.ledger, report.Options{Workers: 2, Every: reportsEvery, Retry: time.Second, Clock: from.clock, Log: log})
	s.reports = inBackground(reports.Run)
	if in.alerts.webhook != "" {
		watch, err := newAlerts(in.alerts, s.ledger, dir, in.key.Sealer(alertsKey), from.clock, log)
		if err != nil {
			return s, err
		}
		s.alerts = inBackground(watch.run)
	}
	s.office = office.New(s.ledger, from.clock)
	s.server, err = api.New(api.Services{
		Directory: directory{s.ledger},
		Tokens:    in.tokens,
		Asker:     asker,
		Releases:  releases{s.ledger},
		Reports:   reports,
		Catalog:   s.ledger,
		Rows:      rowsDesk{s.rows, s.ledger, reports.Kick},
		Accounts:  accounts{s.ledger},
		Exposure:  s.ledger,
		Consumers: consumers{s.ledger},
		Office:    s.office,
		Requests:  requests{s.ledger},
		Proposals: proposals{s.ledger},
		Ledger:    keeper{s.ledger, s.rows, log},
		Backups:   backupDesk(s.ledger, s.backups),
		Audit:     auditLog{s.ledger, signer, from.clock},
		Ready:     s.ledger.Ready,
	}, api.Options{Version: version(), Log: log, Rate: in.rate, FailedSignIns: in.failedSignIns, Clock: from.clock})
	if err != nil {
		return s, fmt.Errorf("wiring the API: %w", err)
	}
	if s.backups != nil {
		s.backups.Start(source{s.ledger, s.rows, keys})
	}
	return s, nil
}

// inBackground runs something until the returned function is called, which returns once it has ended, or after the
// time that a drain may take: what is under way then goes on where it was after the next start.
func inBackground(run func(context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx)
	}()
	return func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(drainTime):
		}
	}
}

// wasUsed tells whether a data directory holds what is only made once its ledger is durable: the secrets, and rows.
// Without its ledger, what was spent on those rows would be forgotten.
func wasUsed(dir string) (bool, error) {
	for _, path := range []string{filepath.Join(dir, "secrets", "secrets"), filepath.Join(dir, "data", "MANIFEST")} {
		_, err := os.Stat(path)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("looking at the data directory: %w", err)
		}
	}
	return false, nil
}

// explainOpen says who else holds the directory, that there is no room, or what is gone. Badger tells only in words.
func explainOpen(dir string, err error) error {
	if disk.IsFull(err) {
		return fmt.Errorf("the disk of %s is full, and the reserve is used up: free space on it and start again; nothing that was acknowledged is lost: %w", dir, err)
	}
	if errors.Is(err, ledger.ErrGone) {
		return fmt.Errorf("the ledger of %s is gone, and with it what was spent on the data that is still there: restore %s from a backup and start again, and an officer writes off what that lacks; or move %s away to begin anew without its data", dir, filepath.Join(dir, "ledger"), dir)
	}
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) || errors.Is(err, secrets.ErrEncrypted) || errors.Is(err, secrets.ErrOtherKey) {
		return explainKey(dir, err)
	}
	if errors.Is(err, durable.ErrHeld) || strings.Contains(err.Error(), "Cannot acquire directory lock") {
		return fmt.Errorf("another discreet serves %s: stop it, or name another directory with --data", dir)
	}
	return err
}

// What keys are derived for, of those that encrypt a data directory; the ledger's own are its.
const (
	rowsKey   = "rows/1"
	alertsKey = "alerts/1"
)

// isKey tells whether a data directory does not open for its key alone.
func isKey(err error) bool {
	return errors.Is(err, secrets.ErrEncrypted) || errors.Is(err, secrets.ErrPlain) || errors.Is(err, secrets.ErrOtherKey)
}

// explainKey says which key a data directory needs, without what lies below.
func explainKey(dir string, err error) error {
	for _, known := range []error{secrets.ErrEncrypted, secrets.ErrPlain, secrets.ErrOtherKey} {
		if errors.Is(err, known) {
			return usagef("%s: %v", dir, known)
		}
	}
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) {
		return usagef("%s: %v", dir, secrets.ErrOtherKey)
	}
	return fmt.Errorf("opening the secrets: %w", err)
}

// drainTime is how long requests under way may take to end once the server is told to stop.
const drainTime = 30 * time.Second

// serve answers on a listener until ctx ends, then lets requests under way end.
func (s *service) serve(ctx context.Context, l net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- s.server.Serve(l) }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("serving: %w", err)
		}
		return nil
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := s.server.Shutdown(drain); err != nil {
		return fmt.Errorf("stopping the server: %w", err)
	}
	if err := <-ended; err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// close closes what was opened, in reverse.
func (s *service) close() error {
	var errs []error
	if s.alerts != nil {
		s.alerts()
	}
	if s.reports != nil {
		s.reports()
	}
	if s.backups != nil { // it reads both
		errs = append(errs, s.backups.Close())
	}
	if s.rows != nil {
		errs = append(errs, s.rows.Close())
	}
	if s.ledger != nil {
		errs = append(errs, s.ledger.Close())
	}
	if s.disk != nil {
		errs = append(errs, s.disk.Close())
	}
	return errors.Join(errs...)
}
