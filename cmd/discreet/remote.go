package main

import (
	"context"
	"strings"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/dp/office"
)

// remote is the server that a verb talks to.
type remote struct {
	URL string `help:"Address of the server; ${default} when absent." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Key string `help:"Your key (dk_…); better given as DISCREET_KEY, which other users of the machine do not see." placeholder:"KEY"`
}

func (r remote) client() (*client.Client, error) {
	if r.Key == "" {
		return nil, usagef("give your key with --key or DISCREET_KEY; an officer makes one with discreet key add")
	}
	if !strings.HasPrefix(r.Key, office.KeyPrefix) {
		return nil, usagef("what --key or DISCREET_KEY gives is no key: keys begin with %s", office.KeyPrefix)
	}
	c, err := client.New(r.URL, r.Key, nil)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return c, nil
}

// reason is given with changes that need one.
type reason struct {
	Reason string `help:"Why; kept with the change." placeholder:"TEXT"`
}

// every collects all pages of a list.
func every[T any](ctx context.Context, page func(context.Context, client.Page) (items []T, next string, err error)) ([]T, error) {
	all := []T{} // a list is never null in JSON
	for cursor := ""; ; {
		items, next, err := page(ctx, client.Page{Cursor: cursor})
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		cursor = next
	}
}
