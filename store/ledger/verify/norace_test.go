//go:build !race

package verify

const thin = 1
