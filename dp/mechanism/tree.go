package mechanism

// Tree is a tree of counts over the bins of a histogram: each node counts the rows of the bins below it. From its
// noised nodes the number of rows in any range of bins is the sum of a few of them, so that one draw serves every
// quantile (Hay, Rastogi, Miklau and Suciu, "Boosting the Accuracy of Differentially Private Histograms Through
// Consistency", 2010, who go on to make it consistent).
type Tree struct {
	Leaves int // bins; 0: no tree
}

// Branches is how many children a node has.
const Branches = 4

// MaxLeaves is the most bins of a tree.
const MaxLeaves = 1024

// Height is how many levels are noised. There is no node for all bins: the top level adds up to it.
func (t Tree) Height() (height int) {
	for below := 1; below < t.Leaves; below *= Branches {
		height++
	}
	return max(height, 1)
}

// level is how many nodes the level has whose nodes cover so many bins each.
func (t Tree) level(covers int) int { return (t.Leaves + covers - 1) / covers }

// Nodes is how many numbers are noised.
func (t Tree) Nodes() (nodes int64) {
	for covers := 1; ; covers *= Branches {
		nodes += int64(t.level(covers))
		if t.level(covers) <= Branches {
			return nodes
		}
	}
}

// Counts gives the nodes of a histogram, level by level from the leaves up.
func (t Tree) Counts(bins []int64) []int64 {
	nodes := append(make([]int64, 0, t.Nodes()), bins...)
	for covers, from := 1, 0; t.level(covers) > Branches; covers *= Branches {
		below := nodes[from : from+t.level(covers)]
		from += len(below)
		for len(below) > 0 {
			sum, n := int64(0), min(Branches, len(below))
			for _, v := range below[:n] {
				sum += v
			}
			nodes, below = append(nodes, sum), below[n:]
		}
	}
	return nodes
}
