package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/term"
)

// toFile is where a verb writes what is for programs.
type toFile struct {
	Out string `help:"Write to this file, once all of it is there." aliases:"output" placeholder:"FILE"`
}

// write has f write to the file, or else to standard output. A file that was there before stays as it is unless f succeeds.
func (o toFile) write(stdout io.Writer, binary bool, f func(io.Writer) error) error {
	if o.Out == "" {
		if file, ok := stdout.(*os.File); binary && ok && term.IsTerminal(int(file.Fd())) {
			return usagef("this format is not for people: name a file with --out, or send it on to a program")
		}
		return f(stdout)
	}
	if info, err := os.Stat(o.Out); err == nil && !info.Mode().IsRegular() { // /dev/stdout, or a pipe
		return o.writeInto(f)
	}
	part, err := os.CreateTemp(filepath.Dir(o.Out), filepath.Base(o.Out)+".part-*") // only its owner reads it
	if err != nil {
		return usagef("%v", fileError(err))
	}
	err = f(part)
	if closed := part.Close(); err == nil && closed != nil {
		err = fmt.Errorf("writing %s: %w", o.Out, fileError(closed))
	}
	if err == nil {
		if err = os.Rename(part.Name(), o.Out); err != nil {
			err = fmt.Errorf("writing %s: %w", o.Out, fileError(err))
		}
	}
	if err != nil {
		_ = os.Remove(part.Name()) // what went wrong before is what is told
	}
	return err
}

// writeInto writes to what is there and cannot be put in place of.
func (o toFile) writeInto(f func(io.Writer) error) error {
	file, err := os.OpenFile(o.Out, os.O_WRONLY, 0)
	if err != nil {
		return usagef("%v", fileError(err))
	}
	return errors.Join(f(file), file.Close())
}
