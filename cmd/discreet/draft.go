package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/discreet-analytics/discreet/api/policyfile"
)

// datasetDraft proposes a policy.
type datasetDraft struct {
	File string `arg:"" help:"CSV file; only its first line is read."`
	Name string `help:"Name of the dataset; the file's when absent." placeholder:"NAME"`
}

// Run prints the proposal as a policy file.
func (c *datasetDraft) Run(t terminal) error {
	f, err := os.Open(c.File)
	if err != nil {
		return usagef("%v", fileError(err))
	}
	defer f.Close()
	header, err := readHeader(f)
	if err != nil {
		return err
	}
	name := c.Name
	if name == "" {
		name = datasetNameFor(c.File)
	}
	text, err := policyfile.Draft(header, name)
	if err != nil {
		return err
	}
	if _, err := t.stdout.Write(text); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// maxHeader bounds the header line of a CSV file.
const maxHeader = 64 << 10

func readHeader(r io.Reader) ([]string, error) {
	header, err := csv.NewReader(io.LimitReader(r, maxHeader)).Read()
	if errors.Is(err, io.EOF) {
		return nil, usagef("the file is empty: its first line must name the columns")
	}
	if err != nil {
		return nil, usagef("the first line is no CSV header of at most %d bytes", maxHeader)
	}
	header[0] = strings.TrimPrefix(header[0], "\ufeff")
	return header, nil
}

// datasetNameFor makes the name of a dataset out of a file's: small letters, digits, _ and -, a letter first.
func datasetNameFor(file string) string {
	const longest = 63
	base := filepath.Base(file)
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-':
			return r
		}
		return '_'
	}, strings.ToLower(strings.TrimSuffix(base, filepath.Ext(base))))
	if name = strings.Trim(name, "_-"); name == "" || name[0] < 'a' {
		name = strings.TrimSuffix("dataset_"+name, "_")
	}
	return name[:min(len(name), longest)]
}
