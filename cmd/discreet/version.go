package main

import (
	"fmt"
	"runtime/debug"
)

// versionCommand prints what this binary is.
type versionCommand struct{}

// Run prints.
func (versionCommand) Run(t terminal) error {
	if _, err := fmt.Fprintln(t.stdout, "discreet "+version()); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// version is the module's, or the commit that was built.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = " " + s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	return v + commit + changed + " " + info.GoVersion
}

// revision is the commit that was built, as far as the build says.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	return commit + changed
}
