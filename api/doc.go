// Package api speaks HTTP: it authenticates, authorises, decodes a request into the words of dp, calls the
// service that decides, and encodes what comes back. It owns the JSON of every body, the mapping of dp.Code to
// HTTP status, the table of which role may call what, and the OpenAPI document.
//
// It never prices, charges, adds noise or stores, never reads a row that is not being uploaded, and never
// imports a store: it declares the small interfaces that it needs (Services).
//
// The OpenAPI document is made from the code; openapi.json is its copy, which a test compares. After a change:
//
//	go test ./api -run OpenAPI -update
package api
