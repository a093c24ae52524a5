// Package wire holds the JSON bodies of the HTTP API, as both the server and the Go client write and read them.
// Budgets and other exact numbers are decimal text (Decimal), so that 0.1 stays 0.1 on both sides.
//
// It holds shapes only: it computes nothing, and imports nothing of Discreet. The struct tags doc, example,
// enum and the like feed the published OpenAPI document.
package wire
