//go:build unix

package main

import (
	"io/fs"
	"os"
	"syscall"
)

// hasModes says that the permissions of a file are its mode.
const hasModes = true

// ownerOf is the user that a file belongs to.
func ownerOf(path string) (uid int, known bool) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}

// allocated is how many bytes of the disk a file has.
func allocated(info fs.FileInfo) (int64, bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int64(s.Blocks) * 512, true
}
