// Package oidc checks what an OpenID Connect issuer signed about who calls: bearer tokens, by their signature, issuer,
// audience and times (go-oidc), and which claims of them mean which subject and roles.
//
// It knows no consumer and decides nothing about what anybody may do, keeps no token, and writes nothing of one into an
// error.
package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/discreet-analytics/discreet/dp"
)

// Issuer checks the tokens of one issuer. It is safe for concurrent use.
type Issuer struct {
	config    Config
	keys      *keys
	verifying *oidc.Config
}

// Config says whose tokens are taken, and what their claims mean.
type Config struct {
	// URL is the issuer, exactly as its tokens name it, whose /.well-known/openid-configuration names its keys. It is
	// https, or http on this machine.
	URL string
	// Audience must be among those that a token is for: a token for somebody else's service signs nobody in.
	Audience string
	// SubjectClaim is the claim whose text is a consumer's subject; sub by default, which an issuer gives to nobody else
	// (OpenID Connect Core 1.0, section 5.7). Of email, email_verified must be true.
	SubjectClaim string
	// RoleClaim is the claim that holds one text or a list of them; roles by default. A name that no claim has is a path
	// whose steps are parted by dots.
	RoleClaim string
	// Roles are what its texts mean; nil: they are the names of roles. Texts that mean nothing are passed over.
	Roles map[string]dp.Role

	Clock func() time.Time  // default time.Now
	HTTP  http.RoundTripper // default http.DefaultTransport
	Log   *slog.Logger      // gets why an issuer did not tell its keys; default none
}

// Limits of tokens. Those of an issuer's documents are beside what fetches them.
const (
	maxToken   = 12 << 10 // bytes
	maxSubject = 255      // bytes
	maxRoles   = 1000     // texts of the claim
)

// algorithms are those whose keys an issuer can publish: a token that is signed with a shared secret, or not at all, could
// be made by whoever reads what is public.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}
}

// New makes an issuer, without calling it: a server starts while its issuer cannot be reached.
func New(c Config) (*Issuer, error) {
	if err := checkURL(c.URL); err != nil {
		return nil, fmt.Errorf("the issuer %w", err)
	}
	if c.Audience == "" {
		return nil, errors.New("say for which audience tokens must be, or those for other services would sign in here")
	}
	if c.SubjectClaim == "" {
		c.SubjectClaim = "sub"
	}
	if c.RoleClaim == "" {
		c.RoleClaim = "roles"
	}
	if c.Roles == nil {
		c.Roles = map[string]dp.Role{}
		for _, r := range []dp.Role{dp.Product, dp.Analyst, dp.Officer, dp.Custodian, dp.Auditor} {
			c.Roles[string(r)] = r
		}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.HTTP == nil {
		c.HTTP = http.DefaultTransport
	}
	names := make([]string, 0, 10)
	for _, a := range algorithms() {
		names = append(names, string(a))
	}
	return &Issuer{config: c, keys: newKeys(c), verifying: &oidc.Config{ClientID: c.Audience, SupportedSigningAlgs: names, Now: c.Clock}}, nil
}

// checkURL holds an address to https, so that nobody on the way names other keys.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("must be an address that begins with https://")
	case u.Scheme == "http" && !onThisMachine(u.Hostname()):
		return errors.New("must be reached over https: http is for this machine alone")
	}
	return nil
}

// checkSafe holds an address that an issuer names to what the issuer itself is held to: https, unless that is of this machine.
func checkSafe(issuer, text string) error {
	if strings.HasPrefix(issuer, "https:") && !strings.HasPrefix(text, "https:") {
		return errors.New("must be reached over https, as the issuer is")
	}
	return checkURL(text)
}

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Check implements api.Tokens.
func (i *Issuer) Check(ctx context.Context, token string) (subject string, roles []dp.Role, err error) {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return "", nil, errToken()
	}
	signed, err := jose.ParseSignedCompact(token, algorithms())
	if err != nil || len(signed.Signatures) != 1 || !i.plausible(signed) {
		return "", nil, errToken()
	}
	header := signed.Signatures[0].Header
	keys, err := i.keys.named(ctx, header.KeyID, header.Algorithm)
	if err != nil {
		return "", nil, err
	}
	checked, err := oidc.NewVerifier(i.config.URL, &oidc.StaticKeySet{PublicKeys: keys}, i.verifying).Verify(ctx, token)
	if err != nil {
		return "", nil, errToken()
	}
	var claims map[string]any
	if err := checked.Claims(&claims); err != nil {
		return "", nil, errToken()
	}
	subject, ok := i.subject(claims)
	if !ok {
		return "", nil, errToken()
	}
	return subject, i.roles(claims), nil
}

// plausible passes over, before any key is looked for, what no key could make good: a token of another kind, of another
// issuer, or from the past. Nobody has the issuer called by sending such.
func (i *Issuer) plausible(signed *jose.JSONWebSignature) bool {
	// A JWT says what it is where it could be mistaken (RFC 8725, section 3.11); access tokens are at+jwt (RFC 9068).
	switch kind, _ := signed.Signatures[0].Header.ExtraHeaders[jose.HeaderType].(string); strings.TrimPrefix(strings.ToLower(kind), "application/") {
	case "", "jwt", "at+jwt":
	default:
		return false
	}
	var says struct {
		Issuer string  `json:"iss"`
		Expiry float64 `json:"exp"`
	}
	err := json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &says)
	return err == nil && says.Issuer == i.config.URL && says.Expiry > float64(i.config.Clock().Unix())
}

// errToken refuses a token. Which of the reasons it is, who holds the token can read in it.
func errToken() error {
	return &dp.Error{Code: dp.CodeUnauthenticated, Err: dp.KeyFault("token-refused"), Message: "This token is not in force here: it must be whole, signed by the issuer that this server trusts, for this server's audience, and within its times. Get a new one from the issuer."}
}

// subject reads whom a token is about.
func (i *Issuer) subject(claims map[string]any) (string, bool) {
	name := i.config.SubjectClaim
	subject, ok := claims[name].(string)
	if name == "email" && claims["email_verified"] != true && claims["email_verified"] != "true" {
		return "", false // anybody could have written it
	}
	return subject, ok && subject != "" && len(subject) <= maxSubject && utf8.ValidString(subject)
}

// roles reads what a token says that its subject may be.
func (i *Issuer) roles(claims map[string]any) (roles []dp.Role) {
	var texts []any
	switch value := at(claims, i.config.RoleClaim).(type) {
	case string:
		texts = []any{value}
	case []any:
		texts = value[:min(len(value), maxRoles)]
	}
	for _, t := range texts {
		text, _ := t.(string)
		if role, ok := i.config.Roles[text]; ok && !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	return roles
}

// at finds a claim by its name, else by the steps of a path to it.
func at(claims map[string]any, name string) any {
	if value, ok := claims[name]; ok {
		return value
	}
	step, rest, more := strings.Cut(name, ".")
	inner, ok := claims[step].(map[string]any)
	if !more || !ok {
		return nil
	}
	return at(inner, rest)
}
