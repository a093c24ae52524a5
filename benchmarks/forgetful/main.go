// Forgetful is a disk that forgets: a file system in memory, shown through FUSE, that loses what was not synced
// when its power is cut. Tests of the server run it as a process of its own, since a program that maps files of a
// file system it serves itself waits for itself.
//
// It is told what to do by lines on standard input, and answers on standard output. It knows nothing of what is
// stored on it.
//
//	after N       cut the power at the Nth change or sync from now; "cut" is printed when it happens
//	cut           cut it now
//	release       let whoever waits for the disk hear that it is gone: ask once they are being killed
//	lose SEED     mount what the power cut left; prints "mounted" and what was forgotten
//	(the end)     unmount and end
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"sync"
)

func main() {
	path := flag.String("mount", "", "an empty directory to mount the disk at")
	flag.Parse()
	if err := serve(*path); err != nil {
		fmt.Fprintln(os.Stderr, "forgetful:", err)
		os.Exit(1)
	}
}

func serve(path string) error {
	d := newDisk()
	server, err := mount(d, path)
	if err != nil {
		return err
	}
	var out sync.Mutex
	say := func(format string, values ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf(format+"\n", values...)
	}
	watch := func(d *disk) {
		select {
		case <-d.cut:
			say("cut")
		case <-d.dead:
		}
	}
	go watch(d)
	say("mounted")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var n uint64
		var verb string
		if _, err := fmt.Sscan(lines.Text(), &verb, &n); err != nil && verb != "cut" && verb != "release" {
			return fmt.Errorf("not an order: %q", lines.Text())
		}
		switch verb {
		case "after":
			d.mu.Lock()
			d.cutAt = d.steps + int64(n)
			d.mu.Unlock()
		case "cut":
			d.mu.Lock()
			d.goOff()
			d.mu.Unlock()
		case "release":
			d.release()
		case "lose":
			d.release()
			if err := server.Unmount(); err != nil {
				return fmt.Errorf("unmounting: %w", err)
			}
			after, l := d.lose(n)
			d = after
			if server, err = mount(d, path); err != nil {
				return err
			}
			go watch(d)
			say("mounted %+v", l)
		default:
			return fmt.Errorf("not an order: %q", lines.Text())
		}
	}
	d.release()
	return server.Unmount()
}

// release takes the power away, if it is not gone yet, and lets whoever waits hear of it.
func (d *disk) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	select {
	case <-d.dead:
	default:
		close(d.dead)
	}
}
