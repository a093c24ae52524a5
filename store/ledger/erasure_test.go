package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

func TestErasuresAreListedUntilTheyEndAndAfter(t *testing.T) {
	f := newFixture(t)
	asked := func(n int) dp.Erasure {
		return dp.Erasure{ID: fmt.Sprintf("era_%02d", n), Dataset: dataset, By: "warehouse", At: firstDay.Add(time.Duration(n) * time.Hour), Units: int64(n)}
	}
	for n := range 5 {
		check(t, f.RecordErasure(ctx, asked(n+1)))
	}
	again := asked(2)
	again.Units = 99
	check(t, f.RecordErasure(ctx, again)) // changes nothing
	length := f.Status().Length
	check(t, f.EndErasure(ctx, dataset, "era_04"))
	check(t, f.EndErasure(ctx, dataset, "era_04"))
	if got := f.Status().Length - length; got != 1 {
		t.Errorf("to end one twice wrote %d entries", got)
	}
	f.reopen()
	pending, err := f.PendingErasures(ctx)
	check(t, err)
	if len(pending) != 4 || pending[1] != asked(2) || pending[3] != asked(5) {
		t.Errorf("pending are %+v", pending)
	}
	var all []dp.Erasure
	for cursor, more := "", true; more; more = cursor != "" {
		var page []dp.Erasure
		page, cursor, err = f.Erasures(ctx, dataset, cursor, 2)
		check(t, err)
		all = append(all, page...)
	}
	if len(all) != 5 || all[0] != asked(5) || all[4] != asked(1) || all[1].Ended.IsZero() {
		t.Errorf("the list is %+v", all)
	}
	if err := f.EndErasure(ctx, dataset, "era_06"); err == nil {
		t.Error("one ended that nobody asked for")
	}
	unknown := asked(6)
	unknown.Dataset = "nothing"
	wantCode(t, dp.CodeNotFound, f.RecordErasure(ctx, unknown))
	for _, e := range []dp.Erasure{{}, {ID: "era_07", Dataset: dataset, By: "warehouse"}, {ID: "era_07", Dataset: dataset, Units: 1}} {
		if f.RecordErasure(ctx, e) == nil {
			t.Errorf("%+v was recorded", e)
		}
	}
}
