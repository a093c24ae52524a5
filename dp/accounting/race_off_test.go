//go:build !race

package accounting

// raceDetector tells that everything runs about ten times slower. Tests in which nothing is concurrent do less.
const raceDetector = false
