package main

import (
	"context"
	"encoding/hex"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp/office"
)

// keyGroup deals with credentials.
type keyGroup struct {
	Add    keyAdd    `cmd:"" help:"Make a key; its text is shown this once."`
	New    keyNew    `cmd:"" help:"Draw a key for yourself, here and without a server: an officer issues it by its hash, and nobody else sees it."`
	List   keyList   `cmd:"" help:"List the keys of a consumer."`
	Rotate keyRotate `cmd:"" help:"Make a key that takes the place of all others of a consumer, which end after a grace."`
	Revoke keyRevoke `cmd:"" help:"End a key at once, and those that its consumer made under it."`
	Own    ownKeys   `cmd:"" help:"Your own keys, which need no officer."`
}

// ownKeys deals with the caller's credentials.
type ownKeys struct {
	Add    ownKeyAdd    `cmd:"" help:"Make a further key, which ends no later than the one that you use."`
	List   ownKeyList   `cmd:"" help:"List your keys."`
	Rotate ownKeyRotate `cmd:"" help:"Make a key that takes the place of the one that you use, which ends after a grace."`
	Revoke ownKeyRevoke `cmd:"" help:"End one of your keys at once; those made under it stay."`
}

type keyAdd struct {
	Consumer       string `arg:"" help:"Whose key."`
	Expires        string `help:"Last date on which it is in force, or an RFC 3339 time." placeholder:"DATE"`
	Hash           string `help:"SHA-256 of a key that its consumer drew with discreet key new; without it, the key is drawn by the server and shown to you." placeholder:"HEX"`
	IdempotencyKey string `help:"Repeated calls with this key issue one key." placeholder:"TEXT"`

	reason
	remote
	output
}

// Run makes a key.
func (c *keyAdd) Run(ctx context.Context, t terminal) error {
	expires, err := parseExpiry(c.Expires)
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	issued, err := server.IssueKey(ctx, c.Consumer, wire.NewKey{Expires: expires, Hash: strings.ToLower(c.Hash)}, client.Change{Reason: c.Reason, IdempotencyKey: c.IdempotencyKey})
	if err != nil {
		return c.waits(t, err)
	}
	v := issuedView(issued)
	if c.Hash != "" {
		v.lines = []string{"It is in force for whoever holds the key of this hash."}
	}
	return c.print(t.stdout, v)
}

type keyNew struct {
	output
}

// Run draws a key.
func (c *keyNew) Run(t terminal) error {
	secret, hash := office.NewSecret()
	drawn := struct {
		Text string `json:"text"`
		Hash string `json:"hash"`
	}{secret, hex.EncodeToString(hash[:])}
	return c.print(t.stdout, view{
		body: drawn, columns: []string{"key", "hash"}, rows: [][]any{{drawn.Text, drawn.Hash}},
		lines: []string{"Keep the key to yourself: it is stored nowhere. Tell the hash to an officer, who issues it with discreet key add YOU --hash " + drawn.Hash + "."},
	})
}

// issuedView shows a new key, and what it takes the place of.
func issuedView(issued wire.IssuedKey) view {
	v := view{
		body: issued, columns: []string{"consumer", "id", "key", "expires"},
		rows:  [][]any{{issued.Consumer, issued.ID, issued.Text, optional(issued.Expires)}},
		lines: []string{"Keep it now: it is stored nowhere and never shown again."},
	}
	for _, k := range issued.Ending {
		v.lines = append(v.lines, keyLine(k))
	}
	return v
}

type keyRotate struct {
	Consumer string        `arg:"" help:"Whose keys."`
	Grace    time.Duration `help:"How long the others stay in force; ${default} when absent, 0s: not at all." default:"24h" placeholder:"DURATION"`
	Expires  string        `help:"Last date on which the new key is in force, or an RFC 3339 time." placeholder:"DATE"`

	reason
	remote
	output
}

// Run rotates.
func (c *keyRotate) Run(ctx context.Context, t terminal) error {
	expires, err := parseExpiry(c.Expires)
	if err != nil {
		return err
	}
	grace, err := graceSeconds(c.Grace)
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	issued, err := server.IssueKey(ctx, c.Consumer, wire.NewKey{Expires: expires, GraceSeconds: &grace}, client.Change{Reason: c.Reason})
	if err != nil {
		return err
	}
	return c.print(t.stdout, issuedView(issued))
}

// graceSeconds is a grace as the API takes it, in whole seconds.
func graceSeconds(grace time.Duration) (int64, error) {
	if grace < 0 || grace%time.Second != 0 {
		return 0, usagef("--grace takes whole seconds from 0s on, such as 30m or 24h")
	}
	return int64(grace / time.Second), nil
}

type ownKeyAdd struct {
	Expires string `help:"Last date on which it is in force, or an RFC 3339 time; when the key ends that you use, when absent." placeholder:"DATE"`

	remote
	output
}

// Run makes a key.
func (c *ownKeyAdd) Run(ctx context.Context, t terminal) error {
	return issueOwn(ctx, t, c.remote, c.output, c.Expires, nil)
}

type ownKeyRotate struct {
	Grace   time.Duration `help:"How long the key that you use stays in force, a minute at least; ${default} when absent." default:"1h" placeholder:"DURATION"`
	Expires string        `help:"Last date on which the new key is in force, or an RFC 3339 time; when the key ends that you use, when absent." placeholder:"DATE"`

	remote
	output
}

// Run rotates.
func (c *ownKeyRotate) Run(ctx context.Context, t terminal) error {
	grace, err := graceSeconds(c.Grace)
	if err != nil {
		return err
	}
	return issueOwn(ctx, t, c.remote, c.output, c.Expires, &grace)
}

func issueOwn(ctx context.Context, t terminal, r remote, o output, until string, grace *int64) error {
	expires, err := parseExpiry(until)
	if err != nil {
		return err
	}
	server, err := r.client()
	if err != nil {
		return err
	}
	issued, err := server.IssueOwnKey(ctx, wire.NewOwnKey{Expires: expires, GraceSeconds: grace})
	if err != nil {
		return err
	}
	return o.print(t.stdout, issuedView(issued))
}

type ownKeyList struct {
	remote
	output
}

// Run lists.
func (c *ownKeyList) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	keys, err := every(ctx, func(ctx context.Context, p client.Page) ([]wire.Key, string, error) {
		list, err := server.OwnKeys(ctx, p)
		return list.Items, list.Next, err
	})
	if err != nil {
		return err
	}
	return c.print(t.stdout, keysView(keys))
}

type ownKeyRevoke struct {
	ID string `arg:"" help:"Which key, by its id (not its text)."`

	remote
}

// Run revokes.
func (c *ownKeyRevoke) Run(ctx context.Context) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	return server.RevokeOwnKey(ctx, c.ID)
}

type keyList struct {
	Consumer string `arg:"" help:"Whose keys."`

	remote
	output
}

// Run lists.
func (c *keyList) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	keys, err := keysOf(ctx, server, c.Consumer)
	if err != nil {
		return err
	}
	return c.print(t.stdout, keysView(keys))
}

// keysView lists keys. When one was last used tells whether a rotation can end.
func keysView(keys []wire.Key) view {
	v := view{body: wire.KeyList{Items: keys}, columns: []string{"id", "created", "expires", "revoked", "last used", "under"}, empty: "It has no key."}
	for _, k := range keys {
		v.rows = append(v.rows, []any{k.ID, instant(k.Created), optional(k.Expires), optional(k.Revoked), optional(k.LastUsed), k.Under})
	}
	return v
}

func keysOf(ctx context.Context, server *client.Client, consumer string) ([]wire.Key, error) {
	return every(ctx, func(ctx context.Context, p client.Page) ([]wire.Key, string, error) {
		list, err := server.Keys(ctx, consumer, p)
		return list.Items, list.Next, err
	})
}

// keyLine says which key, and whether it is in force.
func keyLine(k wire.Key) string {
	line := "key         " + k.ID + ", made " + instant(k.Created)
	switch {
	case k.Revoked != nil:
		line += ", revoked " + instant(*k.Revoked)
	case k.Expires != nil:
		line += ", until " + instant(*k.Expires)
	}
	return line
}

type keyRevoke struct {
	Consumer string `arg:"" help:"Whose key."`
	ID       string `arg:"" help:"Which key, by its id (not its text)."`

	reason
	remote
}

// Run revokes.
func (c *keyRevoke) Run(ctx context.Context) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	return server.RevokeKey(ctx, c.Consumer, c.ID, client.Change{Reason: c.Reason})
}
