//go:build !unix

package ledger

import (
	"errors"
	"fmt"
	"os"
)

func lockFile(*os.File) error {
	return fmt.Errorf("a ledger needs a system on which a process can hold a file: %w", errors.ErrUnsupported)
}
