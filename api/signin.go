package api

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/discreet-analytics/discreet/dp"
)

// Tokens checks what an issuer signed about who calls.
type Tokens interface {
	// Check returns whom a token that is in force now is about, and which roles it says. A token that is not is a dp.Error
	// with CodeUnauthenticated; one that cannot be checked at the moment, CodeUnavailable with RetryAfter. Both have a
	// dp.KeyFault, and no error holds anything of the token.
	Check(ctx context.Context, token string) (subject string, roles []dp.Role, err error)
}

// caller is who makes a request.
type caller struct {
	dp.Consumer
	key string // id of the key that signed it in; empty: a token did
	// again holds the caller as it stands now to the operation's rule: what runs for long asks whether its caller is
	// still let in.
	again func(ctx context.Context) error
}

type callerKey struct{}

// callerOf finds the caller of an operation that is not open.
func callerOf(ctx context.Context) caller {
	c, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		panic("an operation without a caller asks who calls")
	}
	return c
}

// stillIn refuses a caller who was let in and would not be any more. It does not depend on how long the request may take.
func stillIn(ctx context.Context) error {
	return callerOf(ctx).again(context.WithoutCancel(ctx))
}

// admit finds who calls from the Authorization header and holds them to the operation's rule.
func (v *Server) admit(ctx context.Context, r rule, header string) (caller, error) {
	if r.open {
		return caller{}, nil
	}
	c, still, err := v.signIn(ctx, header)
	if err != nil {
		return caller{}, err
	}
	name := c.Name
	c.again = func(ctx context.Context) error {
		now, err := still(ctx)
		if err == nil && now.Name != name {
			err = errNobody()
		}
		if err == nil {
			err = r.check(now.Role)
		}
		return err
	}
	return c, r.check(c.Role)
}

// check refuses a role that an operation is not for.
func (r rule) check(role dp.Role) error {
	if len(r.roles) == 0 || slices.Contains(r.roles, role) {
		return nil
	}
	return &dp.Error{Code: dp.CodeForbidden, Message: "Your role, " + string(role) + ", may not do this; it takes " + roleText(r.roles) + "."}
}

// signIn turns a credential into who calls. This is the one place that does: a key is what begins with dk_, anything else is
// a token where the server trusts an issuer. Neither is ever logged or repeated. Still tells who the credential stands for
// later on: a key must then be in force, while of a token it is enough that it was, because what an issuer gives lasts for
// minutes and a load of rows for hours.
func (v *Server) signIn(ctx context.Context, header string) (c caller, still func(context.Context) (dp.Consumer, error), err error) {
	scheme, credential, _ := strings.Cut(header, " ")
	credential = strings.TrimSpace(credential)
	tokens := v.services.Tokens
	switch {
	case !strings.EqualFold(scheme, "Bearer"), credential == "":
		return c, nil, errNoCredential(tokens != nil)
	case strings.HasPrefix(credential, "dk_"):
		// Looking up a digest keeps the comparison's timing from telling anything of a key.
		hash := sha256.Sum256([]byte(credential))
		if c.Consumer, c.key, err = v.services.Directory.Authenticate(ctx, hash); err != nil {
			return caller{}, nil, err
		}
		v.uses.note(c.key, time.Now())
		return c, func(ctx context.Context) (dp.Consumer, error) {
			now, _, err := v.services.Directory.Authenticate(ctx, hash)
			return now, err
		}, nil
	case tokens == nil:
		return c, nil, errNoCredential(false)
	}
	subject, roles, err := tokens.Check(ctx, credential)
	if err != nil {
		return caller{}, nil, err
	}
	still = func(ctx context.Context) (dp.Consumer, error) { return v.subjectAs(ctx, subject, roles) }
	c.Consumer, err = still(ctx)
	return c, still, err
}

// subjectAs finds the consumer of a subject, if its role is one of these. Whose subject nobody has, whose role is another
// and who is suspended is told alike.
func (v *Server) subjectAs(ctx context.Context, subject string, roles []dp.Role) (dp.Consumer, error) {
	c, err := v.services.Directory.Subject(ctx, subject)
	if codeOf(err) == dp.CodeUnauthenticated || err == nil && !slices.Contains(roles, c.Role) {
		err = errNobody()
	}
	if err != nil {
		return dp.Consumer{}, err
	}
	return c, nil
}

func errNobody() error {
	return &dp.Error{Code: dp.CodeUnauthenticated, Err: dp.KeyFault("token-of-nobody"), Message: "This token signs nobody in here: ask an officer whether a consumer has its subject, and whether the role that it says is that consumer's."}
}

func errNoCredential(tokens bool) error {
	message := "Send your key, which begins with dk_, as the header Authorization: Bearer dk_…"
	if tokens {
		message = "Send your key, which begins with dk_, or your token, as the header Authorization: Bearer …"
	}
	return &dp.Error{Code: dp.CodeUnauthenticated, Err: dp.KeyMalformed, Message: message}
}

// uses remembers when each key was last used, since the server started. There are as many as officers and consumers made.
type uses struct {
	mu sync.Mutex
	of map[string]time.Time // by id
}

func (u *uses) note(key string, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of == nil {
		u.of = map[string]time.Time{}
	}
	u.of[key] = at
}

func (u *uses) last(key string) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.of[key]
}

// strangers bound how often one address may call without being signed in. Who sends what is in force is always let in,
// wherever from: many callers may share an address. Keys and signatures cannot be guessed at any rate; what is bounded is
// how much work, log and ledger those make who try.
type strangers struct {
	perSecond rate.Limit
	burst     int
	clock     func() time.Time

	mu       sync.Mutex
	of       map[netip.Prefix]*rate.Limiter
	rest     *rate.Limiter // of all addresses for which there is no room
	unlogged int64
	logged   time.Time // when it was last said how many were not
}

const (
	// maxStrangers is how many addresses are told apart.
	maxStrangers = 4096
	// strangerSeconds is for how many seconds' worth of failed calls an address may be saving up.
	strangerSeconds = 60
)

func newStrangers(perSecond float64, clock func() time.Time) *strangers {
	s := &strangers{perSecond: rate.Limit(perSecond), burst: max(1, int(strangerSeconds*perSecond)), clock: clock, of: map[netip.Prefix]*rate.Limiter{}}
	s.rest = rate.NewLimiter(s.perSecond, s.burst)
	return s
}

// refuse counts a call that was not signed in, and gives what it is refused with: nil while the address may go on trying.
func (s *strangers) refuse(from netip.Addr) error {
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	limiter := s.limiter(network(from), now)
	if limiter.AllowN(now, 1) {
		return nil
	}
	next := limiter.ReserveN(now, 1)
	wait := next.DelayFrom(now)
	next.CancelAt(now)
	s.unlogged++
	return &dp.Error{Code: dp.CodeRateLimited, RetryAfter: wait, Message: "Too many calls from your address were not signed in: check the key or token that you send, and wait as long as Retry-After says before you try another."}
}

func (s *strangers) limiter(from netip.Prefix, now time.Time) *rate.Limiter {
	if known := s.of[from]; known != nil {
		return known
	}
	if len(s.of) >= maxStrangers { // forget those who have not called for a while
		for network, l := range s.of {
			if l.TokensAt(now) >= float64(s.burst) {
				delete(s.of, network)
			}
		}
	}
	if len(s.of) >= maxStrangers {
		return s.rest
	}
	l := rate.NewLimiter(s.perSecond, s.burst)
	s.of[from] = l
	return l
}

// toSay gives how many refused calls have no line in the log, at most once a minute.
func (s *strangers) toSay() (unlogged int64) {
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unlogged == 0 || now.Sub(s.logged) < time.Minute {
		return 0
	}
	unlogged, s.unlogged, s.logged = s.unlogged, 0, now
	return unlogged
}

// network is the address, and of IPv6 the 64 bits that one subscriber has.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails for no such length
	return p
}
