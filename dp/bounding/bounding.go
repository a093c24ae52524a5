// Package bounding limits what one customer can add to an answer: the readable reference that every engine
// must equal to the last integer, and the hash by which all of them choose what to keep.
//
// It works on rows in memory. It never draws noise, and never decides what a query costs.
package bounding

// Partition is one group of exact, bounded integers. It must not leave the process before noise.
type Partition struct {
	Key    []string // in the order of the plan's keys
	Totals []int64  // in the order of the plan's columns
}
