//go:build race

package answer

// raceDetector tells that everything runs about ten times slower. Tests in which nothing is concurrent do less.
const raceDetector = true
