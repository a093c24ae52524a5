package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/discreet-analytics/discreet/store/backup"
	"github.com/discreet-analytics/discreet/store/columnar"
	"github.com/discreet-analytics/discreet/store/durable"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// restoreCommand makes a data directory out of a backup.
type restoreCommand struct {
	File            string `arg:"" help:"The backup." placeholder:"FILE"`
	Data            string `help:"Data directory to make; empty or not there yet." required:"" placeholder:"DIR"`
	Identity        string `help:"File with the private key of one of the backup's recipients (AGE-SECRET-KEY-…)." placeholder:"FILE"`
	Erasures        string `help:"Directory with the list of erasures (erasures-ID) that the server kept beside its backups; where the backup is when absent." placeholder:"DIR"`
	WithoutErasures bool   `help:"Restore although there is no such list: whoever was erased since the backup is there again."`
	encryptionFlag
	Witness string `help:"Witness that the server kept outside of its data, or its directory; looked for where serve puts it when absent. It is read and left as it is." placeholder:"PATH"`
}

// Help explains the verb.
func (c *restoreCommand) Help() string {
	return "Checks all of the backup before the directory gets its name: a backup that was cut or changed leaves nothing. Who was erased since it was made is in no answer from the first moment, and leaves the files with the next run. " +
		"The witness stays as it is: where it knows of more entries than the backup has, the service starts and refuses until an officer writes off what may be missing (discreet budget write-off)."
}

// Run restores.
func (c *restoreCommand) Run(ctx context.Context, t terminal, from surroundings) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := durable.MakeDir(filepath.Dir(filepath.Clean(c.Data))); err != nil {
		return fmt.Errorf("making the directory above %s: %w", c.Data, err)
	}
	temporary, err := os.MkdirTemp(filepath.Dir(filepath.Clean(c.Data)), "."+filepath.Base(filepath.Clean(c.Data))+".restoring-")
	if err != nil {
		return fmt.Errorf("making a directory to restore into: %w", err)
	}
	defer os.RemoveAll(temporary)
	key, err := c.encryptionFlag.read(c.Data)
	if err != nil {
		return err
	}
	r := &restoring{key: key, command: c, ctx: ctx, dir: temporary, at: from.clock().UTC().Round(0)}
	if err := r.run(); err != nil {
		return c.explain(err)
	}
	if err := c.name(temporary); err != nil {
		return err
	}
	return r.tell(t, from)
}

// check refuses a directory that holds anything, before anything is read.
func (c *restoreCommand) check() error {
	if info, err := os.Stat(c.File); err != nil || info.IsDir() {
		return usagef("there is no backup %s: name its file", c.File)
	}
	if c.WithoutErasures && c.Erasures != "" {
		return usagef("--erasures and --without-erasures exclude each other")
	}
	files, err := os.ReadDir(c.Data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at %s: %w", c.Data, err)
	}
	if len(files) > 0 {
		return usagef("%s is not empty: restore into a new directory, and move the old one away (it may still be of use)", c.Data)
	}
	return nil
}

// name gives the restored directory its name, which nothing has but perhaps an empty directory.
func (c *restoreCommand) name(temporary string) error {
	if err := os.Remove(c.Data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("making room for %s (name a directory that is not there yet, below a mount and not the mount itself): %w", c.Data, err)
	}
	if err := os.Rename(temporary, c.Data); err != nil {
		return fmt.Errorf("naming %s: %w", c.Data, err)
	}
	return durable.SyncDir(filepath.Dir(filepath.Clean(c.Data)))
}

// explain says what to do about a backup that cannot be restored.
func (c *restoreCommand) explain(err error) error {
	switch {
	case errors.Is(err, backup.ErrNoIdentity):
		return usagef("%s: %v", c.File, backup.ErrNoIdentity)
	case errors.Is(err, errNoList):
		return usagef("%v", err)
	case errors.Is(err, backup.ErrDamaged):
		return fmt.Errorf("%s: %w; nothing was restored: take another backup", c.File, err)
	}
	return fmt.Errorf("restoring %s: %w; nothing was restored", c.File, err)
}

// restoring is one run of the verb.
type restoring struct {
	command *restoreCommand
	ctx     context.Context
	dir     string
	at      time.Time

	head    backup.Head
	key     *secrets.Key
	ledger  *ledger.Restoration // once the head was read
	rows    *columnar.Restoration
	secrets *secrets.Secrets

	applied int       // erasures
	last    time.Time // when the last of the list was asked for
	listed  bool
}

// run makes all of the data directory, under its temporary name.
func (r *restoring) run() (err error) {
	identities, err := backup.ReadIdentities(r.command.Identity)
	if err != nil {
		return err
	}
	sizes := columnar.DefaultOptions()
	defer func() {
		if r.ledger != nil {
			err = errors.Join(err, r.ledger.Close())
		}
	}()
	sizes.Key = r.key.Derive(rowsKey)
	if r.rows, err = columnar.Restore(filepath.Join(r.dir, "data"), sizes); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.rows.Close()) }()

	r.head, err = backup.Read(r.command.File, identities, backup.Visitor{
		Head: func(h backup.Head) (err error) {
			r.ledger, err = ledger.Restore(filepath.Join(r.dir, "ledger"), h.Ledger, ledger.Options{Key: r.key})
			return err
		},
		Secrets: func(file []byte) (err error) {
			r.secrets, err = secrets.Restore(filepath.Join(r.dir, "secrets"), file, r.key)
			return err
		},
		Ledger: func(key, value []byte) error { return errors.Join(r.ctx.Err(), r.ledger.Put(key, value)) },
		Rows:   func(key, body []byte) error { return errors.Join(r.ctx.Err(), r.rows.Put(key, body)) },
	})
	if err != nil {
		return err
	}
	err = r.ledger.Finish(r.head.Ledger, r.secrets.Fingerprint(), ledger.Restored{
		At: r.at, Backup: r.head.ID, Created: r.head.Created, Length: r.head.Length, Head: r.head.Head, Program: version(),
	})
	if err != nil {
		return err
	}
	if err := r.erase(); err != nil {
		return err
	}
	return r.rows.Finish()
}

// errNoList says that nobody can tell who was erased since the backup was made.
var errNoList = errors.New("restore it with --without-erasures only if nobody was erased since, or you know who was and erase them again at once")

// erase has those erased again who were since the backup was made.
func (r *restoring) erase() error {
	if r.command.WithoutErasures {
		return nil
	}
	dir := r.command.Erasures
	if dir == "" {
		dir = filepath.Dir(r.command.File)
	}
	identities, err := backup.ReadIdentities(r.command.Identity)
	if err != nil {
		return err
	}
	list, err := backup.ReadList(dir, r.head, identities)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the list of erasures %s is not in %s, and without it customers come back who were erased since %s: bring it there, or say where it is (--erasures); %w", backup.ListName(r.head.Ledger), dir, instant(r.head.Created), errNoList)
	case errors.Is(err, backup.ErrIncomplete):
		return fmt.Errorf("%w, so that customers may come back who were erased since %s: bring the newest copy of %s; %w", err, instant(r.head.Created), backup.ListName(r.head.Ledger), errNoList)
	case err != nil:
		return err
	}
	r.listed = true
	for _, e := range list {
		if e.At.After(r.last) {
			r.last = e.At
		}
		due, err := r.ledger.Due(e.Erasure)
		if err != nil {
			return err
		}
		if !due {
			continue
		}
		if err := r.rows.Erase(e.Erasure, e.Customers); err != nil {
			return err
		}
		r.applied++
	}
	return nil
}

// tell prints what was restored, and what comes next.
func (r *restoring) tell(t terminal, from surroundings) error {
	out := func(format string, values ...any) { fmt.Fprintf(t.stdout, format+"\n", values...) }
	out("Restored %s of %s, made by discreet %s, into %s.", r.head.ID, instant(r.head.Created), r.head.Program, r.command.Data)
	out("The ledger %s has %d entries, head %s.", r.head.Ledger, r.head.Length, hex.EncodeToString(r.head.Head))
	switch {
	case !r.listed:
		out("Erase again, before anything else, whoever was erased since %s: they are there again.", instant(r.head.Created))
	case r.last.IsZero():
		out("Nobody is on the list of erasures. If somebody was erased since that list was copied, erase them again.")
	default:
		out("Erasures done again: %d. The last on the list was asked for on %s: whoever was erased later, erase again.", r.applied, instant(r.last))
	}
	path, err := offline{Data: r.command.Data, Witness: r.command.Witness}.witness(from)
	if err != nil {
		return err
	}
	w, err := verify.ReadWitness(path, nil) // of before it was restored, under whatever key
	switch {
	case path == "" || errors.Is(err, fs.ErrNotExist):
		out("There is no witness: serve refuses until it is back (--witness), or an officer writes off what may be missing (discreet budget write-off).")
	case err != nil:
		out("The witness %s cannot be relied on: serve refuses until an officer writes off what may be missing (discreet budget write-off).", path)
	case hex.EncodeToString(w.ID[:]) != r.head.Ledger:
		out("The witness %s is another ledger's: name this one's own (--witness).", path)
	case w.Length > r.head.Length:
		out("The witness knows of %d entries more: serve refuses until an officer writes off what may be missing (discreet budget write-off). A newer backup has more of them.", w.Length-r.head.Length)
	case w.Length == r.head.Length && string(w.Head[:]) != string(r.head.Head):
		out("The witness knows of another ledger under this id: serve refuses until an officer writes off what may be missing (discreet budget write-off).")
	default:
		out("The witness knows of no more entries: nothing is missing.")
	}
	return nil
}
