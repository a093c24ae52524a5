//go:build race

package verify

// thin leaves out so many of each so many cases: the race detector slows them down and has little to find here,
// where nothing is concurrent.
const thin = 8
