package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
)

// keptNote is a checkpoint as it is kept in a file, with the key that it was verified with.
type keptNote struct {
	Key  string `json:"key"`
	Note string `json:"note"`
}

// checkpoint is what a log was at one moment, as its key signed it.
type checkpoint struct {
	keptNote
	log  string
	size int64
	root tlog.Hash
}

// open verifies a signed note under a key and reads what it states. Without a key it only reads.
func open(signed, key string) (c checkpoint, err error) {
	c.keptNote = keptNote{Key: key, Note: signed}
	verifiers, name := note.VerifierList(), ""
	if key != "" {
		v, err := note.NewVerifier(key)
		if err != nil {
			return c, usagef("the key of the log is none: it is written as name+hash+base64")
		}
		verifiers, name = note.VerifierList(v), v.Name()
	}
	n, err := note.Open([]byte(signed), verifiers)
	var unverified *note.UnverifiedNoteError
	if key == "" && errors.As(err, &unverified) {
		n, err = unverified.Note, nil
	}
	if err != nil {
		return c, errors.New("the checkpoint is not signed by the log's key: the server is another one, or its secrets were changed, or somebody stands between")
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] == "" || name != "" && lines[0] != name {
		return c, errors.New("the checkpoint is not one of this log")
	}
	c.log = lines[0]
	if c.size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.size < 0 || strconv.FormatInt(c.size, 10) != lines[1] {
		return c, errors.New("the checkpoint does not state a size")
	}
	if c.root, err = tlog.ParseHash(lines[2]); err != nil {
		return c, errors.New("the checkpoint does not state a root")
	}
	return c, nil
}

// fetchCheckpoint fetches the checkpoint of now and verifies it: under the key that is given, or else under the one
// that the server says is the log's.
func fetchCheckpoint(ctx context.Context, server *client.Client, key string) (checkpoint, error) {
	got, err := server.AuditCheckpoint(ctx)
	if err != nil {
		return checkpoint{}, err
	}
	if key == "" {
		key = got.Key
	}
	if key == "" {
		return checkpoint{}, errors.New("the server does not say what the log's key is: give it with --log-key")
	}
	return open(got.Note, key)
}

// continues checks that the log is what another checkpoint signed, and more. What fails says that it was rewritten.
func (c checkpoint) continues(ctx context.Context, server *client.Client, before checkpoint) error {
	switch {
	case c.log != before.log:
		return fmt.Errorf("the log is another one: it was %s and is %s", before.log, c.log)
	case c.size < before.size:
		return fmt.Errorf("the log was rewritten: it has %d entries and had %d, so that entries were lost or an older copy was restored", c.size, before.size)
	case c.size == before.size && c.root != before.root:
		return fmt.Errorf("the log was rewritten: its %d entries are not those that were seen", c.size)
	case c.size == before.size || before.size == 0:
		return nil
	}
	p, err := server.AuditConsistency(ctx, uint64(before.size), uint64(c.size))
	if err != nil {
		return err
	}
	hashes, err := parseHashes(p.Hashes)
	if err != nil {
		return err
	}
	if tlog.CheckTree(hashes, c.size, c.root, before.size, before.root) != nil {
		return fmt.Errorf("the log was rewritten: its first %d entries are not those that were seen", before.size)
	}
	return nil
}

// proves checks that an entry is in the log.
func (c checkpoint) proves(p wire.AuditProof, index uint64) error {
	hashes, err := parseHashes(p.Hashes)
	if err != nil {
		return err
	}
	leaf := tlog.RecordHash(p.Entry)
	if p.Index != index || p.Size != uint64(c.size) || p.LeafHash != leaf.String() || tlog.CheckRecord(hashes, c.size, c.root, int64(index), leaf) != nil {
		return fmt.Errorf("the proof does not hold: entry %d is not in the log that the server signed", index)
	}
	return nil
}

func parseHashes(texts []string) (hashes []tlog.Hash, err error) {
	for _, text := range texts {
		h, err := tlog.ParseHash(text)
		if err != nil {
			return nil, errors.New("the server's proof is malformed")
		}
		hashes = append(hashes, h)
	}
	return hashes, nil
}

// readKept reads a checkpoint that was kept: one that keep wrote, or a signed note alone. It is nil where there is no file.
func readKept(path string) (*keptNote, error) {
	const most = 1 << 20
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint that was seen last: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint that was seen last: %w", err)
	}
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return &keptNote{Note: string(text)}, nil
	}
	var k keptNote
	if err := json.Unmarshal(text, &k); err != nil || k.Note == "" {
		return nil, fmt.Errorf("%s does not hold a checkpoint: move it away only if you know what became of it", path)
	}
	return &k, nil
}

// keep writes a checkpoint into a file, whole or not at all.
func (c checkpoint) keep(path string) error {
	text, err := json.MarshalIndent(c.keptNote, "", "  ")
	if err != nil {
		return fmt.Errorf("keeping the checkpoint: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("keeping the checkpoint: %w", err)
	}
	_, err = file.Write(append(text, '\n'))
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keeping the checkpoint: %w", err), os.Remove(file.Name()))
	}
	return nil
}
