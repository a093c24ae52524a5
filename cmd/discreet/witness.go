package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// stateHome is where this machine keeps what belongs to it alone, and what no backup of a data directory
// brings back.
func stateHome() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/discreet", nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the XDG Base Directory Specification has others ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding the directory of the witness (--witness names one): %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "discreet"), nil
}

// findWitness reads --witness: a file, or a directory, which exists or ends with a slash.
func findWitness(flag, data string, from surroundings) (witness, error) {
	if flag == "" {
		dir, err := from.state()
		return witness{dir: dir}, err
	}
	inside, err := within(flag, data)
	if err != nil {
		return witness{}, err
	}
	if inside {
		return witness{}, usagef("--witness must lie outside of --data: what restores the one must not restore the other")
	}
	if info, err := os.Stat(flag); err == nil && info.IsDir() || strings.HasSuffix(flag, string(filepath.Separator)) {
		return witness{dir: flag}, nil
	}
	return witness{file: flag}, nil
}

// within tells whether a path lies in a directory, as far as names tell.
func within(path, dir string) (bool, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return false, fmt.Errorf("finding the witness: %w", err)
	}
	base, err := filepath.Abs(dir)
	if err != nil {
		return false, fmt.Errorf("finding the data directory: %w", err)
	}
	relative, err := filepath.Rel(base, absolute)
	return err == nil && relative != ".." && !strings.HasPrefix(relative, ".."+string(filepath.Separator)), nil
}
