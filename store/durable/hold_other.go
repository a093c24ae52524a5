//go:build !unix

package durable

import (
	"errors"
	"os"
)

// Hold is errors.ErrUnsupported on this system.
func Hold(*os.File) error { return errors.ErrUnsupported }
