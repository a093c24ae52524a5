package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/api"
	"github.com/discreet-analytics/discreet/api/oidc"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/disk"
	"github.com/discreet-analytics/discreet/store/ledger"
)

// serveCommand serves a data directory.
type serveCommand struct {
	Data          string  `help:"Directory of everything that is kept; made where there is none." required:"" placeholder:"DIR"`
	Witness       string  `help:"File outside of --data, best on another disk and in no backup, that knows how long the ledger is; or a directory for it. Without it, the system's state directory." placeholder:"PATH"`
	Listen        string  `help:"Address to listen on; ${default} when absent." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	KeepFree      size    `help:"Room that loads leave free on the disk of --data; questions go on down to an eighth of it." default:"1GiB" placeholder:"SIZE"`
	Cache         size    `help:"Memory for columns that were asked for, so that the next question need not read them." default:"512MiB" placeholder:"SIZE"`
	Reserve       size    `help:"Room kept in --data for closing and starting again while the disk is full." default:"256MiB" placeholder:"SIZE"`
	Rate          float64 `help:"Requests a second that one consumer may make, ten seconds' worth at once; any number when absent." placeholder:"N"`
	FailedSignIns float64 `help:"Calls a second from one address that may lack a key or token in force, a minute's worth at once; ${default} when absent." default:"1" placeholder:"N"`
	EraseAt       hour    `help:"When, in UTC, customers leave the files each day who were erased since (discreet erase); ${default} when absent." default:"03:00" placeholder:"HH:MM"`
	backupFlags
	encryptionFlag
	AlertWebhook string     `help:"Address that is told, in JSON by POST, once an account has used a part of its budget; no alerts when absent." placeholder:"URL"`
	AlertAt      thresholds `help:"At which parts; ${default} when absent." default:"0.5,0.8,0.95" placeholder:"PART,…"`
	TLSCert      string     `help:"Certificate chain (PEM); read anew when it changes, as the next two are, and on SIGHUP." placeholder:"FILE"`
	TLSKey       string     `help:"Private key of the certificate (PEM)." placeholder:"FILE"`
	TLSClientCA  string     `help:"Certificates (PEM) of who signs those of clients: every client must then have one, besides its key." placeholder:"FILE"`
	OIDC         oidcFlags  `embed:"" prefix:"oidc-"`
	Insecure     bool       `help:"Listen beyond this machine without TLS, because something in front of it speaks TLS."`
	Config       string     `help:"YAML file with these settings, by the names of the flags; flags and the environment come first." placeholder:"FILE"`
}

// Run serves until the context ends.
func (c *serveCommand) Run(ctx context.Context, t terminal, from surroundings) error {
	saveMemory(t.lookup)
	files := tlsFiles{cert: c.TLSCert, key: c.TLSKey, clientCA: c.TLSClientCA}
	if err := files.check(); err != nil {
		return err
	}
	encrypted := files.cert != ""
	if err := c.checkExposure(encrypted); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(t.stderr, nil))
	issuer, err := c.OIDC.issuer(from.clock, log)
	if err != nil {
		return err
	}
	if !(c.Rate >= 0 && c.Rate <= 1e6) {
		return usagef("--rate must be from 0 to 1000000 requests a second")
	}
	key, err := c.encryptionFlag.read(c.Data)
	if err != nil {
		return err
	}
	copies, err := c.backupFlags.read(c.Data, key != nil)
	if err != nil {
		return err
	}
	if !(c.FailedSignIns > 0 && c.FailedSignIns <= 1e6) {
		return usagef("--failed-sign-ins must be above 0 and up to 1000000 calls a second")
	}
	alerts := alerting{webhook: c.AlertWebhook, at: c.AlertAt}
	if err := alerts.check(); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return explainListen(c.Listen, err)
	}
	defer listener.Close()
	if encrypted {
		m, err := newMaterial(files, log)
		if err != nil {
			return err
		}
		listener = m.listener(listener)
		go m.onHangup(ctx)
	}

	where, err := findWitness(c.Witness, c.Data, from)
	if err != nil {
		return err
	}
	s, err := openService(ctx, storage{dir: c.Data, witness: where, disk: disk.Options{Keep: int64(c.KeepFree), Reserve: int64(c.Reserve)}, cache: int64(c.Cache), eraseAt: c.EraseAt, rate: c.Rate, failedSignIns: c.FailedSignIns, alerts: alerts, backups: copies, tokens: issuer, key: key}, from, log)
	if err != nil {
		return err
	}
	secret, err := s.office.Bootstrap(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("making the first officer: %w", err), s.close())
	}
	scheme := "http"
	if encrypted {
		scheme = "https"
	}
	if now := s.ledger.Status(); now.State != ledger.StateOK {
		fmt.Fprintf(t.stdout, "No question is answered that was not answered before: %s. Its witness is %s.\n", now.Reason, now.Witness)
	}
	if secret != "" {
		fmt.Fprintf(t.stdout, "First start. The officer's key, shown this once and stored nowhere:\n  %s\nNext, as the officer: discreet dataset draft, dataset apply, consumer add.\n", secret)
	}
	// The address comes last: who waits for it has seen all else.
	fmt.Fprintf(t.stdout, "discreet serves %s on %s://%s\n", c.Data, scheme, listener.Addr())
	return errors.Join(s.serve(ctx, listener), s.close())
}

// oidcFlags say whose tokens sign in, beside keys.
type oidcFlags struct {
	Issuer        string    `help:"Address of the OpenID Connect issuer whose tokens sign in, exactly as they name it; keys alone when absent." placeholder:"URL"`
	Audience      string    `help:"For whom tokens must be." placeholder:"NAME"`
	ConsumerClaim string    `help:"Claim whose text is a consumer's subject (consumer set --subject); ${default} when absent." default:"sub" placeholder:"NAME"`
	RoleClaim     string    `help:"Claim that says the role, which must be the consumer's, too: a text or a list; steps.with.dots; ${default} when absent." default:"roles" placeholder:"NAME"`
	Roles         roleNames `help:"What its texts mean; the names of roles when absent." placeholder:"TEXT=ROLE,…"`
}

// roleNames are what texts of an issuer mean, as a flag gives them: privacy-office=officer,bi=analyst.
type roleNames map[string]dp.Role

// UnmarshalText reads pairs.
func (r *roleNames) UnmarshalText(text []byte) error {
	*r = roleNames{}
	for pair := range strings.SplitSeq(string(text), ",") {
		i := strings.LastIndex(pair, "=") // texts may hold one, roles do not
		if i <= 0 {
			return errors.New("give pairs such as privacy-office=officer,bi=analyst")
		}
		name, role := strings.TrimSpace(pair[:i]), dp.Role(strings.TrimSpace(pair[i+1:]))
		switch role {
		case dp.Product, dp.Analyst, dp.Officer, dp.Custodian, dp.Auditor:
		default:
			return errors.New("each pair ends with a role: product, analyst, officer, custodian or auditor")
		}
		if _, twice := (*r)[name]; twice {
			return errors.New("name each text once")
		}
		(*r)[name] = role
	}
	return nil
}

// issuer is nil where no issuer is trusted.
func (f oidcFlags) issuer(clock func() time.Time, log *slog.Logger) (api.Tokens, error) {
	if f.Issuer == "" {
		if f.Audience != "" || f.Roles != nil {
			return nil, usagef("--oidc-audience and --oidc-roles are about an issuer: name it with --oidc-issuer")
		}
		return nil, nil
	}
	if f.Audience == "" {
		return nil, usagef("give --oidc-audience: tokens that the issuer made for other services would sign in here")
	}
	i, err := oidc.New(oidc.Config{URL: f.Issuer, Audience: f.Audience, SubjectClaim: f.ConsumerClaim, RoleClaim: f.RoleClaim, Roles: f.Roles, Clock: clock, Log: log})
	if err != nil {
		return nil, usagef("--oidc-issuer: %v", err)
	}
	return i, nil
}

// checkExposure refuses to send keys and answers over a network in the clear.
func (c *serveCommand) checkExposure(encrypted bool) error {
	if encrypted || c.Insecure {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return usagef("--listen must be HOST:PORT, such as 127.0.0.1:8080")
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return usagef("without TLS the server listens on this machine only, such as 127.0.0.1:8080: give --tls-cert and --tls-key, or --insecure if something in front of it speaks TLS")
}

// explainListen says what to do about an address that cannot be listened on.
func explainListen(address string, err error) error {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return fmt.Errorf("cannot listen on %s (%w): choose another with --listen", address, call.Err)
	}
	return usagef("cannot listen on %s: --listen must be HOST:PORT, such as 127.0.0.1:8080", address)
}

// saveMemory has the collector run when the heap has grown by half, not doubled, unless GOGC says how: a load of 20 million
// rows then needs 0.67 GB instead of 1.03 GB, and no more time (benchmarks/RESULTS.md).
func saveMemory(lookup func(string) (string, bool)) {
	if _, set := lookup("GOGC"); !set {
		debug.SetGCPercent(50)
	}
}
