package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// offline is a data directory that a verb opens itself, without a server.
type offline struct {
	Data    string `help:"Data directory of a server." required:"" placeholder:"DIR"`
	Witness string `help:"Witness that the server keeps outside of --data, or its directory; looked for where serve and demo put theirs when absent." placeholder:"PATH"`
	encryptionFlag
}

func (o offline) ledger() string { return filepath.Join(o.Data, "ledger") }

// check refuses what is no data directory.
func (o offline) check() error {
	info, err := os.Stat(o.ledger())
	if err != nil || !info.IsDir() {
		return fmt.Errorf("%s holds no ledger: name the data directory of a server with --data", o.Data)
	}
	return nil
}

// id is the ledger's, as the file beside its database says; empty where it cannot be read.
func (o offline) id() string {
	text, err := os.ReadFile(filepath.Join(o.ledger(), "created"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

// witness gives the path of the witness: the one that was named, or the one that stands where serve and demo put
// theirs; empty where there is none.
func (o offline) witness(from surroundings) (string, error) {
	where, err := findWitness(o.Witness, o.Data, from)
	if err != nil {
		return "", err
	}
	if where.file != "" {
		return where.file, nil
	}
	named := filepath.Join(where.dir, o.id()+".witness")
	if o.Witness != "" {
		return named, nil
	}
	for _, path := range []string{named, filepath.Clean(o.Data) + ".witness"} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", nil
}
