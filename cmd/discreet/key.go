package main

import (
	"context"
	"encoding/hex"
	"strings"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp/office"
)

// keyGroup deals with credentials.
type keyGroup struct {
	Add    keyAdd    `cmd:"" help:"Make a key; its text is shown this once."`
	New    keyNew    `cmd:"" help:"Draw a key for yourself, here and without a server: an officer issues it by its hash, and nobody else sees it."`
	List   keyList   `cmd:"" help:"List the keys of a consumer."`
	Revoke keyRevoke `cmd:"" help:"End a key at once."`
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
	v := view{
		body: issued, columns: []string{"consumer", "id", "key", "expires"},
		rows:  [][]any{{issued.Consumer, issued.ID, issued.Text, optional(issued.Expires)}},
		lines: []string{"Keep it now: it is stored nowhere and never shown again."},
	}
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
	v := view{body: wire.KeyList{Items: keys}, columns: []string{"id", "created", "expires", "revoked"}, empty: "It has no key."}
	for _, k := range keys {
		v.rows = append(v.rows, []any{k.ID, instant(k.Created), optional(k.Expires), optional(k.Revoked)})
	}
	return c.print(t.stdout, v)
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
