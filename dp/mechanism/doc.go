// Package mechanism turns an exact integer into a noised one and says how far off it is.
//
// It owns the choice between Laplace and Gaussian noise, the price of either in both certificates, the
// threshold of partition selection, and intervals. It is the only importer of google/differential-privacy,
// of which it uses noise.AddNoiseInt64 and noise.SigmaForGaussian and nothing else: bounding, thresholds,
// composition and intervals are Discreet's own. Parameters on which that library hangs, wraps or leaks
// are refused before it is called.
//
// It never reads a row, keeps no account, and never decides whether a price may be paid. What is proved of
// it is in PRIVACY.md.
package mechanism
