package columnar

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4/fb"

	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/store/engine"
)

// Whichever bit flips in a table of a closed store, questions and merging fail or do as ever, and the process goes on.
func TestFlippedBitsEndNoProcessAndChangeNoAnswer(t *testing.T) {
	c := newCatalog()
	o := small()
	o.Shards, o.SegmentRows = 2, 20
	kept := t.TempDir()
	s := open(t, kept, c, o)
	var text strings.Builder
	text.WriteString(clicksHeader)
	for i := range 400 {
		fmt.Fprintf(&text, "user-%d,2026-0%d-05,PAGE-%d,1.5,x\n", i, 1+i%2, i%70)
	}
	mustLoad(t, s, clicks(), spec("one"), text.String())
	mustLoad(t, s, clicks(), spec("two"), clicksHeader+"ann,2026-01-05,PAGE77,1.5,x\nbob,2026-02-05,PAGE77,7.7,x\n")
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, s, clicks(), spec("three"), clicksHeader+"cid,2026-01-05,PAGE78,1.5,x\n")
	p := perBlock(clicks(), "2026-01", "2026-02")
	p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
	want := aggregate(t, s, c, p)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(kept, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%v, %v", tables, err)
	}
	noticed := 0
	for _, table := range tables {
		whole, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range places(t, whole) {
			dir := t.TempDir()
			copyTables(t, kept, dir)
			flipped := append([]byte{}, whole...)
			flipped[at] ^= 0x40
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(table)), flipped, 0o600); err != nil {
				t.Fatal(err)
			}
			err := askAndCompact(dir, c, o, p, want)
			if err != nil && !errors.Is(err, errDamaged) && !errors.Is(err, engine.ErrDamaged) {
				t.Errorf("byte %d of %d of %s: %v", at, len(whole), filepath.Base(table), err)
			}
			if err != nil {
				noticed++
				if strings.Contains(err.Error(), "PAGE") || strings.Contains(err.Error(), "user-") {
					t.Error("the error holds what is stored")
				}
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	if noticed == 0 {
		t.Error("no flip was noticed")
	}
}

// askAndCompact gives what was noticed.
func askAndCompact(dir string, c *catalog, o Options, p *plan.Plan, want any) (err error) {
	s, err := Open(dir, c, secrets{}, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for range 2 {
		got, asked := aggregateAt(context.Background(), s, p, c.now("clicks", p.Blocks))
		if asked == nil && !reflect.DeepEqual(got, want) {
			return fmt.Errorf("a wrong answer: %v", got)
		}
		err = errors.Join(err, asked, s.Compact(context.Background()))
		s.columns.Clear()
	}
	return err
}

// places are the ends of a table's blocks, by which Badger finds what is in them, and some of the rest.
func places(t *testing.T, table []byte) (all []int) {
	t.Helper()
	number := func(end int) int { return int(binary.BigEndian.Uint32(table[end-4 : end])) }
	end := len(table) - 4 - number(len(table))
	end -= 4 + number(end)
	index := fb.GetRootAsTableIndex(table[end:], 0)
	for i := 0; i < index.OffsetsLength(); i += 1 + index.OffsetsLength()/4 {
		var block fb.BlockOffset
		index.Offsets(&block, i)
		for back := 1; back < 16; back += 2 {
			all = append(all, int(block.Offset()+block.Len())-back)
		}
	}
	for at := 3; at < end; at += 1 + end/20 {
		all = append(all, at)
	}
	return all
}

func copyTables(t *testing.T, from, to string) {
	t.Helper()
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file.IsDir() || filepath.Ext(file.Name()) == ".mem" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(from, file.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, file.Name()), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
