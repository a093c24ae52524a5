package ledger

import (
	"os"
	"syscall"
)

// syncData makes what was written into a file of fixed size durable, and leaves out its times, which would cost
// a commit of the file system's journal.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return err
		}
	}
}
