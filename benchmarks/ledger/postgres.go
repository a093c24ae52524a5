package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// postgres is a PostgreSQL server of its own, over a data directory on the same disk as the ledger's.
type postgres struct {
	process *exec.Cmd
	stop    *exec.Cmd
	pool    *pgxpool.Pool
	version string
}

// binaries is where Debian keeps the server's programs.
const binaries = "/usr/lib/postgresql/15/bin"

// startPostgres makes a cluster below dir with the defaults that matter here (fsync and synchronous_commit on) and
// serves it on a socket. PostgreSQL refuses to run as root: then it runs as the user postgres.
func startPostgres(ctx context.Context, dir string, connections int) (*postgres, error) {
	data, sockets := filepath.Join(dir, "postgres"), filepath.Join(dir, "sockets")
	for _, d := range []string{data, sockets} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	as := []string{}
	if os.Geteuid() == 0 {
		owner, err := user.Lookup("postgres")
		if err != nil {
			return nil, fmt.Errorf("PostgreSQL is not installed (apt-get install postgresql-15): %w", err)
		}
		uid, _ := strconv.Atoi(owner.Uid)
		gid, _ := strconv.Atoi(owner.Gid)
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, err
		}
		for _, d := range []string{data, sockets} {
			if err := os.Chown(d, uid, gid); err != nil {
				return nil, err
			}
		}
		as = []string{"runuser", "-u", "postgres", "--"}
	}
	command := func(name string, args ...string) *exec.Cmd {
		all := append(append(append([]string{}, as...), filepath.Join(binaries, name)), args...)
		c := exec.CommandContext(ctx, all[0], all[1:]...)
		c.Dir = dir
		return c
	}
	if out, err := command("initdb", "-D", data, "-U", "bench", "--auth=trust", "-E", "UTF8").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	p := &postgres{process: command("postgres", "-D", data, "-k", sockets, "-c", "listen_addresses=", "-c", fmt.Sprintf("max_connections=%d", connections+10)),
		stop: command("pg_ctl", "stop", "-D", data, "-m", "fast")}
	if err := p.process.Start(); err != nil {
		return nil, fmt.Errorf("starting postgres: %w", err)
	}
	config, err := pgxpool.ParseConfig(fmt.Sprintf("host=%s user=bench dbname=postgres pool_max_conns=%d", sockets, connections))
	if err != nil {
		return nil, err
	}
	if p.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	for range 100 {
		if err = p.pool.QueryRow(ctx, "show server_version").Scan(&p.version); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return nil, fmt.Errorf("reaching postgres: %w", err)
	}
	_, err = p.pool.Exec(ctx, "create table account (id text primary key, spent bigint not null, budget bigint not null)")
	return p, err
}

func (p *postgres) close() {
	p.pool.Close()
	if err := p.stop.Run(); err != nil { // its parent may not pass signals on
		_ = p.process.Process.Kill()
	}
	_ = p.process.Wait()
}

// fill makes the accounts anew.
func (p *postgres) fill(ctx context.Context, accounts int) error {
	if _, err := p.pool.Exec(ctx, "truncate account"); err != nil {
		return err
	}
	for i := range accounts {
		if _, err := p.pool.Exec(ctx, "insert into account values ($1, 0, $2)", accountName(i), int64(1)<<60); err != nil {
			return err
		}
	}
	return nil
}

// charge is the least that a charge can be in SQL: one conditional update, synced before it returns. It keeps no
// record of who was charged for what, and charges one account where the ledger charges two.
func (p *postgres) charge(ctx context.Context, account string) error {
	tag, err := p.pool.Exec(ctx, "update account set spent = spent + $1 where id = $2 and spent + $1 <= budget", 1_000_000, account)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("account %s refused", account)
	}
	return err
}
