package disk

// Free is how many bytes the file system of dir has left for this user. On systems other than Linux it is not
// known, and the largest number.
func Free(dir string) (int64, error) { return newSystem().free(dir) }
