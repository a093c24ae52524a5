//go:build race

package faults

// raceEnabled makes tests that only need repetition shorter where every step is watched.
const raceEnabled = true
