package main

import (
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// instant writes a time for people, in UTC.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// optional writes a time that may be absent.
func optional(t *time.Time) string {
	if t == nil {
		return ""
	}
	return instant(*t)
}

// span names a run of blocks by its ends.
func span(blocks []string) string {
	switch len(blocks) {
	case 0:
		return ""
	case 1:
		return blocks[0]
	}
	return blocks[0] + " to " + blocks[len(blocks)-1]
}

// parseExpiry reads a date, which is in force until its end in UTC, or an RFC 3339 instant. Empty is never.
func parseExpiry(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	if date, err := rows.ParseDate(text); err == nil {
		_, end := rows.Span(date, date, time.UTC)
		at := time.UnixMilli(end).UTC()
		return &at, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, usagef("--expires must be a date such as 2027-01-31, or a time such as 2027-01-31T18:00:00Z")
	}
	return &at, nil
}
