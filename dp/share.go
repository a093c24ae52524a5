package dp

// ShareOf is the part that e is of a whole, for people to read: never the ground of a decision. Of nothing it is 0.
func (e Epsilon) ShareOf(whole Epsilon) float64 {
	if whole <= 0 {
		return 0
	}
	return float64(e) / float64(whole)
}
