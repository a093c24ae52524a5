//go:build race

package ledger

// raceEnabled makes tests that only need size smaller where every step is watched.
const raceEnabled = true
