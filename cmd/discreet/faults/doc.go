// Package faults holds tests alone: of what a ledger, the walk of queries over it, and its witness keep when
// processes end at any moment, clocks jump, engines are away, bits flip, and old copies come back.
//
// The simulation (simulation_test.go) is one program of one seed. It decides who asks what, which of several
// calls goes on, when the policy, the rows or the clock change, and when the process ends: between any two
// steps of the walk, or within one call of the ledger, when nothing, part or all of its last commit reached the
// disk and the witness knows of it or not. After every step a simple model is compared with the ledger, and at
// the end the whole history is verified by package verify. The same seed makes the same history, and a failing
// one says which command repeats it.
//
// What is lost when a process ends is decided by page: of the pages that an unacknowledged commit wrote, any may
// be missing. What a disk loses that said it had synced is not simulated here: the tests TestPowerCut* of
// cmd/discreet cut the power of a server, and of the steps in which a ledger and its witness are made, on a file system
// that keeps back what was not synced (benchmarks/forgetful).
package faults
