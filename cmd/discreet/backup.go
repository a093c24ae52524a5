package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/api"
	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/backup"
	"github.com/discreet-analytics/discreet/store/columnar"
	"github.com/discreet-analytics/discreet/store/disk"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// backupFlags say where a server keeps backups, and for whom.
type backupFlags struct {
	Backups         string   `help:"Directory for backups of ledger, secrets and rows, outside of --data, best on another disk; none are kept when absent." placeholder:"DIR"`
	BackupRecipient []string `help:"Who alone can read them: a public key of age (age1…, by age-keygen) or a file of such; may be repeated." sep:"none" placeholder:"KEY|FILE"`
	BackupPlain     bool     `help:"Write them so that whoever has the file can read it: pseudonyms, rows and secrets."`
	BackupAt        *hour    `help:"When, in UTC, one is made each day; only on demand when absent." placeholder:"HH:MM"`
	BackupKeep      int      `help:"How many of the day's backups stay, those on demand aside; all of them when absent." placeholder:"N"`
}

// backups is where a service keeps backups, and for whom. Without dir it keeps none.
type backups struct {
	dir        string
	recipients backup.Recipients
	at         time.Duration // after midnight, in UTC; negative: on demand alone
	keep       int
}

// read checks the flags.
func (f *backupFlags) read(data string, encrypted bool) (backups, error) {
	b := backups{dir: f.Backups, at: -1, keep: f.BackupKeep}
	if f.Backups == "" {
		if len(f.BackupRecipient) > 0 || f.BackupPlain || f.BackupAt != nil || f.BackupKeep != 0 {
			return b, usagef("name the directory of backups with --backups")
		}
		return b, nil
	}
	inside, err := within(f.Backups, data)
	if err != nil {
		return b, err
	}
	switch {
	case inside:
		return b, usagef("--backups must lie outside of --data: what is lost with the one must not be lost with the other")
	case f.BackupKeep < 0:
		return b, usagef("--backup-keep must be 1 or more")
	case f.BackupKeep > 0 && f.BackupAt == nil:
		return b, usagef("--backup-keep is for the day's backups: give --backup-at too")
	case len(f.BackupRecipient) > 0 && f.BackupPlain:
		return b, usagef("--backup-plain and --backup-recipient exclude each other")
	case f.BackupPlain && encrypted:
		return b, usagef("--backup-plain would write in plain what --encryption-key-file encrypts: give --backup-recipient")
	case len(f.BackupRecipient) == 0 && !f.BackupPlain:
		return b, usagef("backups hold pseudonyms, rows and secrets: say who alone can read them with --backup-recipient (discreet backup key makes a key; keep the private one elsewhere), or --backup-plain")
	}
	if b.recipients, err = backup.ReadRecipients(f.BackupRecipient); err != nil {
		return b, usagef("%v", err)
	}
	if f.BackupAt != nil {
		b.at = time.Duration(*f.BackupAt)
	}
	return b, nil
}

// open opens the directory of backups. Backups leave so much room there.
func (b backups) open(l *ledger.Ledger, keepFree int64, clock func() time.Time, log *slog.Logger) (*backup.Keeper, error) {
	return backup.Open(backup.Options{
		Dir: b.dir, Recipients: b.recipients, Ledger: l.Status().ID, Program: version(), At: b.at, Keep: b.keep, Clock: clock, Log: log,
		Room: func() error {
			free, err := disk.Free(b.dir)
			if err == nil && free < keepFree {
				err = &dp.Error{Code: dp.CodeUnavailable, RetryAfter: time.Minute, Message: "there is too little room where backups are kept: free some, or remove old ones"}
			}
			return err
		},
	})
}

// source is what a service backs up.
type source struct {
	ledger  *ledger.Ledger
	rows    *columnar.Store
	secrets *secrets.Secrets
}

// Moment takes the ledger first, and then the rows: a load that the ledger has committed by then is whole there. Where
// rows were merged in between that the ledger's moment does not know, both are taken anew.
func (s source) Moment(ctx context.Context) (backup.Moment, error) {
	s.ledger.WriteEvents()
	for {
		l, err := s.ledger.Snapshot(ctx)
		if err != nil {
			return nil, err
		}
		loads, err := l.Loads()
		if err == nil {
			var rows *columnar.Snapshot
			if rows, err = s.rows.Snapshot(ctx, loads); err == nil {
				return &moment{l, rows, s.secrets}, nil
			}
		}
		l.Close()
		if !errors.Is(err, columnar.ErrAhead) {
			return nil, err
		}
	}
}

// moment is a source as it stood at one moment.
type moment struct {
	ledger  *ledger.Snapshot
	rows    *columnar.Snapshot
	secrets *secrets.Secrets
}

// Mark is where the ledger stood.
func (m *moment) Mark() (uint64, [sha256.Size]byte) { return m.ledger.Length, m.ledger.Head }

// Secrets is a copy of the secrets file.
func (m *moment) Secrets() []byte { return m.secrets.Copy() }

// Ledger calls each with what the ledger holds, and then lets go of it: rows take longer.
func (m *moment) Ledger(each func(key, value []byte) error) error {
	defer m.ledger.Close()
	return m.ledger.Each(each)
}

// Rows calls each with what the store of rows holds.
func (m *moment) Rows(each func(key, body []byte) error) error { return m.rows.Each(each) }

// Close lets go of both.
func (m *moment) Close() {
	m.ledger.Close()
	m.rows.Close()
}

// desk is a keeper of backups as api.Backups.
type desk struct {
	ledger *ledger.Ledger
	keeper *backup.Keeper
}

func backupDesk(l *ledger.Ledger, k *backup.Keeper) api.Backups {
	if k == nil {
		return api.NoBackups{}
	}
	return desk{l, k}
}

// Begin begins a backup, of a ledger that is whole.
func (d desk) Begin(ctx context.Context, by, key string) (api.Backup, error) {
	if err := d.ledger.Ready(ctx); err != nil {
		return api.Backup{}, err
	}
	d.ledger.Note(dp.AuditEvent{Kind: dp.AuditBackup, Consumer: by, Operation: "back-up"}) // before it: so that it is in the backup
	b, err := d.keeper.Begin(by, key)
	return d.backup(b), err
}

// Backups lists the backups.
func (d desk) Backups(context.Context) ([]api.Backup, error) {
	all, err := d.keeper.Backups()
	if err != nil {
		return nil, err
	}
	list := make([]api.Backup, len(all))
	for i, b := range all {
		list[i] = d.backup(b)
	}
	return list, nil
}

func (d desk) backup(b backup.Backup) api.Backup {
	out := api.Backup{ID: b.ID, By: b.By, State: string(b.State), Begun: b.Begun, Ended: b.Ended, Bytes: b.Bytes, Ledger: b.Ledger, Length: b.Length, Head: b.Head,
		SHA256: b.Sum, Encrypted: b.Encrypted, Error: b.Failure}
	if b.File != "" {
		out.Files = []string{b.File, b.ID + ".json", d.keeper.ListFile()}
	}
	return out
}

// backupGroup deals with a server's backups.
type backupGroup struct {
	Make backupMake `cmd:"" default:"withargs" help:"Make one now, on the server's side."`
	List backupList `cmd:"" help:"List them, newest first."`
	Key  backupKey  `cmd:"" help:"Make the key that opens backups, in a new file, and print the public one (serve --backup-recipient)."`
}

type backupKey struct {
	File string `arg:"" help:"File for the private key; where it is there already, its public key is printed." placeholder:"FILE"`
}

// Run makes a key, without a server.
func (c *backupKey) Run(t terminal) error {
	public, err := backup.KeyIn(c.File)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(t.stdout, public); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

type backupMake struct {
	Wait           bool   `help:"Return once it is made, or failed."`
	IdempotencyKey string `help:"Repeated calls with this key make one backup." placeholder:"TEXT"`

	Data            string   `help:"Data directory whose server is stopped, instead of a server's address: its backup is the end of its ledger, and restoring that lacks nothing." placeholder:"DIR"`
	Witness         string   `help:"With --data: the witness, as for serve." placeholder:"PATH"`
	Backups         string   `help:"With --data: directory of backups, as for serve." placeholder:"DIR"`
	BackupRecipient []string `help:"With --data: who alone can read it, as for serve." sep:"none" placeholder:"KEY|FILE"`
	BackupPlain     bool     `help:"With --data: write it so that whoever has the file can read it."`
	encryptionFlag

	remote
	output
}

// offline makes a backup of a directory that nobody serves. Opening it is the last entry of its ledger then, as whoever asks a
// server for a backup is noted after it.
func (c *backupMake) offline(ctx context.Context, t terminal, from surroundings) error {
	if err := (offline{Data: c.Data}).check(); err != nil {
		return err
	}
	key, err := c.encryptionFlag.read(c.Data)
	if err != nil {
		return err
	}
	flags := backupFlags{Backups: c.Backups, BackupRecipient: c.BackupRecipient, BackupPlain: c.BackupPlain}
	to, err := flags.read(c.Data, key != nil)
	if err != nil {
		return err
	}
	if to.dir == "" {
		return usagef("name the directory of backups with --backups")
	}
	where, err := findWitness(c.Witness, c.Data, from)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(t.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := openService(ctx, storage{dir: c.Data, witness: where, disk: demoDisk(), backups: to, key: key, still: true}, from, log)
	if err != nil {
		return err
	}
	b, err := backUp(ctx, desk{s.ledger, s.backups})
	if err := errors.Join(err, s.close()); err != nil {
		return err
	}
	v := backupsView([]wire.Backup{b})
	v.body = b
	return c.print(t.stdout, v)
}

// backUp makes a backup to its end.
func backUp(ctx context.Context, d desk) (wire.Backup, error) {
	b, err := d.Begin(ctx, "offline", "")
	for err == nil && b.State == string(backup.Running) {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return wire.Backup{}, context.Cause(ctx)
		}
		var all []api.Backup
		if all, err = d.Backups(ctx); err == nil {
			b = all[slices.IndexFunc(all, func(other api.Backup) bool { return other.ID == b.ID })]
		}
	}
	if err == nil && b.State == string(backup.Failed) {
		err = errors.New("no backup was made: " + b.Error)
	}
	ended := b.Ended
	return wire.Backup{ID: b.ID, State: b.State, By: b.By, Begun: b.Begun, Ended: &ended, Bytes: b.Bytes, Ledger: &wire.Mark{ID: b.Ledger, Length: b.Length, Head: b.Head},
		Files: b.Files, SHA256: b.SHA256, Encrypted: b.Encrypted}, err
}

// Run has a backup made.
func (c *backupMake) Run(ctx context.Context, t terminal, from surroundings) error {
	if c.Data != "" {
		return c.offline(ctx, t, from)
	}
	if c.Backups != "" || c.Witness != "" || c.BackupPlain || len(c.BackupRecipient) > 0 || c.EncryptionKeyFile != "" {
		return usagef("a server knows where its backups go: --backups and what belongs to it are for a directory that nobody serves (--data)")
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	b, err := server.BackUp(ctx, c.IdempotencyKey)
	if err != nil {
		return err
	}
	for pause := 100 * time.Millisecond; c.Wait && b.State == string(backup.Running); pause = min(2*pause, 2*time.Second) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if b, err = findBackup(ctx, server, b.ID); err != nil {
			return err
		}
	}
	if b.State == string(backup.Failed) {
		return errors.New("no backup was made: " + b.Error)
	}
	v := backupsView([]wire.Backup{b})
	v.body = b
	if b.State == string(backup.Running) {
		v.lines = []string{"It is being made; discreet backup list tells when it has ended."}
	}
	return c.print(t.stdout, v)
}

func findBackup(ctx context.Context, server *client.Client, id string) (wire.Backup, error) {
	all, err := allBackups(ctx, server)
	for _, b := range all {
		if b.ID == id {
			return b, nil
		}
	}
	return wire.Backup{}, errors.Join(err, errors.New("the server does not know the backup any more that it began: it was started again meanwhile, and none was made"))
}

func allBackups(ctx context.Context, server *client.Client) ([]wire.Backup, error) {
	return every(ctx, func(ctx context.Context, p client.Page) ([]wire.Backup, string, error) {
		list, err := server.Backups(ctx, p)
		return list.Items, list.Next, err
	})
}

type backupList struct {
	remote
	output
}

// Run lists.
func (c *backupList) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	all, err := allBackups(ctx, server)
	if err != nil {
		return err
	}
	return c.print(t.stdout, backupsView(all))
}

func backupsView(all []wire.Backup) view {
	v := view{body: wire.BackupList{Items: all}, columns: []string{"id", "state", "by", "begun", "ended", "bytes", "entries", "file", "error"}, empty: "There is no backup."}
	for _, b := range all {
		var file, entries, bytes any
		if b.Bytes > 0 {
			bytes = b.Bytes
		}
		if len(b.Files) > 0 {
			file = b.Files[0]
		}
		if b.Ledger != nil {
			entries = b.Ledger.Length
		}
		by := b.By
		if by == "" {
			by = "(schedule)"
		}
		v.rows = append(v.rows, []any{b.ID, b.State, by, instant(b.Begun), optional(b.Ended), bytes, entries, file, b.Error})
	}
	return v
}
