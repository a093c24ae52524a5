package dp

import (
	"strings"
	"time"
)

// Error is a refusal or failure that a caller can act on. It never holds a row, a customer, a true value
// or a private key, and never echoes the input's value.
type Error struct {
	Code      Code
	Message   string     // one sentence that says what to do
	Locations []Location // where in the input, for InvalidQuery

	Required     *Loss              // BudgetExhausted: the price
	Left         *Left              // BudgetExhausted: the account with least room
	Alternatives []Alternative      // BudgetExhausted, AccuracyUnattainable: cheaper variants, each priced
	Best         map[string]float64 // AccuracyUnattainable: the best attainable half-width per metric
	RetryAfter   time.Duration      // RateLimited, Unavailable

	Err error // cause, for logs of the process; never shown to callers
}

// Location points into an input.
type Location struct {
	Path    string // for example where[1].field, or 12:3 for line and column
	Message string
}

// Alternative is a variant of a query that would cost less.
type Alternative struct {
	Change  string // what to change, in words
	Epsilon Epsilon
}

// Left is what an account can still admit.
type Left struct {
	Account        string
	Epsilon        Epsilon // largest pure-epsilon charge that would still be admitted
	Share          float64 // Epsilon over the budget's epsilon
	SimilarQueries int64   // how many more charges like this one
}

// Code names a kind of error; api maps each to one HTTP status.
type Code string

// The codes, which are also the last part of a problem document's type.
const (
	CodeInvalidQuery         Code = "invalid-query"
	CodeInvalidPolicy        Code = "invalid-policy"
	CodeInvalidInput         Code = "invalid-input"
	CodeUnauthenticated      Code = "unauthenticated"
	CodeForbidden            Code = "forbidden"
	CodePurposeNotAllowed    Code = "purpose-not-allowed"
	CodeBudgetExhausted      Code = "budget-exhausted"
	CodeNotFound             Code = "not-found"
	CodeNotAcceptable        Code = "not-acceptable"
	CodeConflict             Code = "conflict"
	CodePreconditionFailed   Code = "precondition-failed"
	CodePreconditionRequired Code = "precondition-required"
	CodeTooLarge             Code = "too-large"
	CodeAccuracyUnattainable Code = "accuracy-unattainable"
	CodeRateLimited          Code = "rate-limited"
	CodeUnavailable          Code = "unavailable"
	CodeInternal             Code = "internal"
)

// Error gives the code, the message and every location.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	b.WriteString(": ")
	b.WriteString(e.Message)
	for _, l := range e.Locations {
		b.WriteString("; ")
		b.WriteString(l.Path)
		b.WriteString(": ")
		b.WriteString(l.Message)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
