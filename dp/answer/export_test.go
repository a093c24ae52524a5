package answer

// RaceDetector is for the tests from outside of the package.
const RaceDetector = raceDetector
