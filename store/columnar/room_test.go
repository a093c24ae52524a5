package columnar

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

func TestLoadsAreRefusedWithoutRoomAndLeaveNothing(t *testing.T) {
	c := newCatalog()
	full := &dp.Error{Code: dp.CodeUnavailable, Message: "full"}
	asked, after := 0, 0 // how often there is room yet
	o := small()
	o.BufferRows = 1
	o.Room = func() error {
		if asked++; asked > after {
			return full
		}
		return nil
	}
	s := open(t, t.TempDir(), c, o)
	text := clicksHeader + "ann,2026-01-05,home,1.5,x\nbob,2026-01-05,home,1.5,x\n"
	for after = range 3 { // before the load begins, at its first segment, at its second
		asked = 0
		_, err := s.Load(context.Background(), clicks(), spec("one"), strings.NewReader(text), func() error { return nil })
		if !errors.Is(err, full) {
			t.Errorf("with room %d times: %v", after, err)
		}
		if left := stored(t, s); len(left) != 0 {
			t.Errorf("with room %d times, this is left: %v", after, left)
		}
		if len(c.pending) != 0 {
			t.Errorf("with room %d times, a load is still under way", after)
		}
	}
	asked, after = 0, 1<<20
	mustLoad(t, s, clicks(), spec("one"), text)
	checkTotals(t, s, c, []string{"2026-01"}, 2, 2, 2)
}

func TestRowsOpenWhileTheCatalogWritesNothing(t *testing.T) {
	c := newCatalog()
	begun, _, err := c.BeginLoad(context.Background(), "clicks", 1, "died", []string{"2026-01"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := open(t, dir, refusing{c}, small())
	checkTotals(t, s, c, []string{"2026-01"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, c, small())
	if _, still := c.pending[numbered(begun)]; still {
		t.Error("the load that died is still under way once the catalog writes again")
	}
}

// refusing is a catalog that writes nothing at the moment.
type refusing struct{ *catalog }

func (refusing) AbandonLoad(context.Context, dp.Load) error {
	return &dp.Error{Code: dp.CodeUnavailable, Message: "full"}
}
