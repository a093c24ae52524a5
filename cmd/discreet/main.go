// Command discreet is the whole of Discreet in one binary: the server, a demo, and the verbs that talk to a
// server. It owns configuration, wiring and what people see on a terminal. It never decides what a query costs
// or who may ask: the server does.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // policies name zones, and the machine may know none
)

func main() {
	// glog, which the noise library logs through, otherwise writes files and aborts the process if it cannot.
	if err := flag.CommandLine.Parse([]string{"-logtostderr"}); err != nil {
		os.Exit(exitFailed)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal drains; a second one ends the process, should the drain hang on a disk that went away.
	// What was acknowledged is synced either way.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], terminal{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, lookup: os.LookupEnv}, production())
	stop()
	os.Exit(code)
}
