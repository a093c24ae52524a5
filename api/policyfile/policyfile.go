// Package policyfile reads and writes policy files: the YAML (or JSON, which is YAML) in which a privacy
// officer declares a dataset, as dp.Policy.
//
// It owns the file's shape and every rule that a policy can break on its own, and names each problem by line
// and column with what to write instead. It never sees rows, ledgers or requests: whether a policy may
// replace another is decided elsewhere.
package policyfile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
)

// Limits bounds what Parse and Draft take on. Zero values refuse everything; start from DefaultLimits.
type Limits struct {
	Bytes      int // of a file
	Tokens     int // words, brackets, colons and the like of a file
	Keys       int // of all mappings; the YAML library's work grows with their square
	Depth      int // of nested lists and mappings
	Problems   int // reported at once; more are counted only
	Dimensions int
	Measures   int
	Metrics    int
	Values     int // of one dimension, ranges expanded, labels of other and missing included
	Purposes   int
	LabelBytes int // of one value, label or header
}

// DefaultLimits are generous for people and tight for programs.
func DefaultLimits() Limits {
	return Limits{
		Bytes:      1 << 20,
		Tokens:     200_000,
		Keys:       5_000,
		Depth:      12,
		Problems:   100,
		Dimensions: 64,
		Measures:   64,
		Metrics:    256,
		Values:     10_000,
		Purposes:   64,
		LabelBytes: 256,
	}
}

// Parse reads a policy file. Every error is a *dp.Error with code invalid-policy whose locations name all
// problems found: line:column, the field, and what to write instead. No value of the file is repeated.
func Parse(source []byte, limits Limits) (dp.Policy, error) {
	r := &reader{limits: limits}
	root := r.parseTree(source)
	if root == nil {
		return dp.Policy{}, r.failure()
	}
	p := r.policy(root)
	if r.count > 0 {
		return dp.Policy{}, r.failure()
	}
	return p, nil
}

// reader walks one file and gathers its problems.
type reader struct {
	limits   Limits
	problems []problem
	count    int // of problems, listed or not
	blanks   []blank
}

type problem struct {
	at      position
	message string
}

// problem notes what is wrong at a place of the file; field is its path, empty for the file itself.
func (r *reader) problem(at position, field, format string, args ...any) {
	r.count++
	if len(r.problems) >= r.limits.Problems {
		return
	}
	message := fmt.Sprintf(format, args...)
	if field != "" {
		message = field + ": " + message
	}
	r.problems = append(r.problems, problem{at, message})
}

// failure gives the problems in the order of the file.
func (r *reader) failure() error {
	slices.SortStableFunc(r.problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.column, b.at.column))
	})
	locations := make([]dp.Location, len(r.problems))
	for i, p := range r.problems {
		locations[i] = dp.Location{Path: p.at.String(), Message: p.message}
	}
	message := "the policy has a problem: correct it and apply it again"
	switch listed := len(r.problems); {
	case r.count > listed:
		message = fmt.Sprintf("the policy has %d problems, of which the first %d are listed: correct them and apply it again", r.count, listed)
	case r.count > 1:
		message = fmt.Sprintf("the policy has %d problems: correct them and apply it again", r.count)
	}
	return &dp.Error{Code: dp.CodeInvalidPolicy, Message: message, Locations: locations}
}
