package ledger

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// The bytes on disk name the fields of these types: to rename one is to change the format.
func TestRecordsKeepTheirBytes(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	lower := int64(-1)
	loss := dp.Loss{Epsilon: 1, Delta: 2, Rho: 3, DeltaZ: 4}
	charge := dp.Charge{ID: "c", Consumer: "u", Dataset: "d", Blocks: []string{"b"}, Loss: loss, At: at}
	for name, c := range map[string]struct {
		record func() ([]byte, error)
		want   string
	}{
		"meta":    {func() ([]byte, error) { return encode(metaRecord{1, "i", 2, []byte{3}}) }, `{"Format":1,"ID":"i","Openings":2,"Secrets":"Aw=="}`},
		"dataset": {func() ([]byte, error) { return encode(datasetRecord{1, dp.Budget{Epsilon: 2, Delta: 3}, 4, 5, nil}) }, `{"PolicyVersion":1,"Cap":{"Epsilon":2,"Delta":3},"Loads":4,"LoadedUnder":5,"WrittenOff":null}`},
		"written off": {func() ([]byte, error) { return encode(writtenOff{"b", loss, dp.Loss{Epsilon: 5}}) },
			`{"Through":"b","Cap":{"Epsilon":1,"Delta":2,"Rho":3,"DeltaZ":4},"Allotments":{"Epsilon":5,"Delta":0,"Rho":0,"DeltaZ":0}}`},
		"write-off": {func() ([]byte, error) {
			return encode(writeOffRecord{at, "a", "r", StateFork, "c", dp.Budget{Epsilon: 1, Delta: 2}, 3, []byte{4}, 5, []byte{6}, "t"})
		}, `{"At":"2026-01-02T03:04:05.000000006Z","Actor":"a","Reason":"r","State":"fork","Cause":"c","Amount":{"Epsilon":1,"Delta":2},"WitnessLength":3,"WitnessHead":"BA==","Length":5,"Head":"Bg==","Through":"t"}`},
		"policy": {func() ([]byte, error) {
			return encode(dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
				Name: "d", Kind: dp.Custom, Population: 2, Unit: dp.Unit{Column: "c", Block: dp.Month}, Time: &dp.TimeColumn{Column: "t", Timezone: "UTC", Format: "date"},
				Dimensions: []dp.Dimension{{Name: "x", Column: "y", Type: dp.IntDimension, Bin: &dp.Bin{Step: 3, Up: true}, Values: []string{"v"}}},
				Measures:   []dp.Measure{{Name: "m"}}, Metrics: []dp.Metric{{Name: "s", Aggregate: dp.Sum, Measure: "m", Lower: &lower}},
				Purposes: []string{"p"}, Audiences: []dp.Audience{dp.Internal}, Link: &dp.Link{Consent: "l"},
			}})
		}, `{"Name":"d","Kind":"custom","Population":2,"Unit":{"Column":"c","Row":false,"Block":"month"},"Time":{"Column":"t","Timezone":"UTC","Format":"date"},` +
			`"Dimensions":[{"Name":"x","Column":"y","Type":"int","Bin":{"Step":3,"Up":true},"Values":["v"],"Private":false,"Other":"","Missing":"","Parent":""}],` +
			`"Measures":[{"Name":"m","Column":"","Scale":0,"Lower":0,"Upper":0,"Level":false}],"Metrics":[{"Name":"s","Aggregate":"sum","Measure":"m","Rank":"","Numerator":"","Denominator":"","Of":"","Lower":-1,"Upper":null}],` +
			`"Bounds":{"MaxPartitions":0,"MaxRows":0},"Cap":{"Epsilon":0,"Delta":0},"Default":{"Epsilon":0,"Delta":0},"Purposes":["p"],"Audiences":["internal"],"Link":{"Consent":"l"},"Version":1}`},
		"erasure":     {func() ([]byte, error) { return encode(erasureRecord{"u", at, 2}) }, `{"By":"u","At":"2026-01-02T03:04:05.000000006Z","Units":2}`},
		"erasure end": {func() ([]byte, error) { return encode(erasureEndRecord{at}) }, `{"At":"2026-01-02T03:04:05.000000006Z"}`},
		"events": {func() ([]byte, error) {
			return encode(eventsRecord{Since: at, Lost: 4, Events: []dp.AuditEvent{
				{Kind: dp.AuditRefusal, Consumer: "c", Operation: "o", Code: "e", Dataset: "d", Release: "r", Key: "k", Object: "b", Further: true, Count: 2}, {Kind: dp.AuditFailedSignIn, Count: 3}}})
		}, `{"Since":"2026-01-02T03:04:05.000000006Z","Events":[{"Kind":"refusal","Consumer":"c","Operation":"o","Code":"e","Dataset":"d","Release":"r","Key":"k","Object":"b","Further":true,"Count":2},{"Kind":"failed-sign-in","Count":3}],"Lost":4}`},
		"pending": {func() ([]byte, error) { return encode(pendingRecord{"n", []string{"b"}, 1, at}) }, `{"Name":"n","Blocks":["b"],"PolicyVersion":1,"At":"2026-01-02T03:04:05.000000006Z"}`},
		"version": {func() ([]byte, error) { return encode(blockVersionRecord{1, 2}) }, `{"Load":1,"Repeat":2}`},
		"charge": {func() ([]byte, error) {
			return encode(chargeRecord{Number: 1, Charge: charge, Purpose: "p", Plan: "l", Snapshot: dp.Snapshot{Dataset: "d", PolicyVersion: 2, Blocks: []dp.BlockVersion{{Block: "b", Version: 3}}},
				Attempts: 1, Lease: at, Opening: 4, Failure: &dp.Error{Code: dp.CodeInternal, Message: "m"}})
		}, `{"Number":1,"Charge":{"ID":"c","Consumer":"u","Dataset":"d","Blocks":["b"],"Loss":{"Epsilon":1,"Delta":2,"Rho":3,"DeltaZ":4},"CapLoss":{"Epsilon":0,"Delta":0,"Rho":0,"DeltaZ":0},"At":"2026-01-02T03:04:05.000000006Z"},` +
			`"Purpose":"p","Plan":"l","Snapshot":{"Dataset":"d","PolicyVersion":2,"Blocks":[{"Block":"b","Version":3}]},"Source":"","Attempts":1,"Lease":"2026-01-02T03:04:05.000000006Z","Opening":4,"Release":"","Metrics":null,` +
			`"Failure":{"Code":"internal","Message":"m","Locations":null,"Required":null,"Left":null,"Alternatives":null,"Best":null,"RetryAfter":0,"Err":null}}`},
		"report": {func() ([]byte, error) { return encode(reportRecord{1, "c", "n", []byte{1}, []byte{2}, true, at}) },
			`{"Number":1,"Consumer":"c","Name":"n","Spec":"AQ==","Body":"Ag==","Scheduled":true,"Created":"2026-01-02T03:04:05.000000006Z"}`},
		"report end": {func() ([]byte, error) { return encode(reportEndRecord{at}) }, `{"At":"2026-01-02T03:04:05.000000006Z"}`},
		"charge of a report": {func() ([]byte, error) { return encode(chargeRecord{Report: "r"}) },
			`{"Number":0,"Charge":{"ID":"","Consumer":"","Dataset":"","Blocks":null,"Loss":{"Epsilon":0,"Delta":0,"Rho":0,"DeltaZ":0},"CapLoss":{"Epsilon":0,"Delta":0,"Rho":0,"DeltaZ":0},"At":"0001-01-01T00:00:00Z"},` +
				`"Purpose":"","Plan":"","Snapshot":{"Dataset":"","PolicyVersion":0,"Blocks":null},"Source":"","Report":"r","Attempts":0,"Lease":"0001-01-01T00:00:00Z","Opening":0,"Release":"","Metrics":null,"Failure":null}`},
		"charge of several parts": {func() ([]byte, error) {
			c := charge
			c.Also = []dp.Touched{{Dataset: "e", PolicyVersion: 5, Blocks: []string{"f"}, Loss: loss}}
			return encode(chargeRecord{Charge: c, Snapshot: dp.Snapshot{Also: []dp.Snapshot{{Dataset: "e", PolicyVersion: 5, Blocks: []dp.BlockVersion{{Block: "f", Version: 6}}}}}})
		}, `{"Number":0,"Charge":{"ID":"c","Consumer":"u","Dataset":"d","Blocks":["b"],"Loss":{"Epsilon":1,"Delta":2,"Rho":3,"DeltaZ":4},"CapLoss":{"Epsilon":0,"Delta":0,"Rho":0,"DeltaZ":0},` +
			`"Also":[{"Dataset":"e","PolicyVersion":5,"Blocks":["f"],"Loss":{"Epsilon":1,"Delta":2,"Rho":3,"DeltaZ":4}}],"At":"2026-01-02T03:04:05.000000006Z"},` +
			`"Purpose":"","Plan":"","Snapshot":{"Dataset":"","PolicyVersion":0,"Blocks":null,"Also":[{"Dataset":"e","PolicyVersion":5,"Blocks":[{"Block":"f","Version":6}]}]},"Source":"","Attempts":0,"Lease":"0001-01-01T00:00:00Z","Opening":0,"Release":"","Metrics":null,"Failure":null}`},
		"idempotency": {func() ([]byte, error) { return encode(idempotencyRecord{"c", []byte{1}}) }, `{"Charge":"c","Body":"AQ=="}`},
		"release": {func() ([]byte, error) {
			return encode(releaseRecord{1, "c", "b", 2, []byte{3}, dp.Release{ID: "r", AsOf: at, Charge: charge, Privacy: dp.Privacy{Loss: loss}}})
		}, `{"Number":1,"Charge":"c","Blob":"b","Bytes":2,"Sum":"Aw==","Summary":{"ID":"r","Dataset":"","PolicyVersion":0,"Plan":"","AsOf":"2026-01-02T03:04:05.000000006Z","Confidence":"","By":null,"Metrics":null,"Groups":null,"GroupsMayBeHidden":false,` +
			`"Privacy":{"Unit":"","Block":"","Mechanism":null,"Loss":{"Epsilon":1,"Delta":2,"Rho":3,"DeltaZ":4},"MaxPartitions":0,"MaxRows":0,"Clamp":null},` +
			`"Charge":{"ID":"c","Consumer":"u","Dataset":"d","Blocks":["b"],"Loss":{"Epsilon":1,"Delta":2,"Rho":3,"DeltaZ":4},"CapLoss":{"Epsilon":0,"Delta":0,"Rho":0,"DeltaZ":0},"At":"2026-01-02T03:04:05.000000006Z"},` +
			`"Blocks":null,"Notes":null,"CanonicalQuery":"","NoisedCoordinates":null,"PublishedByAttempt":0}}`},
		"group": {func() ([]byte, error) {
			return encode(dp.Group{Key: []string{"k"}, Values: []dp.Value{{Value: -1.5, Low: 2, High: 1e300, SD: 1. / 3}}})
		}, `{"Key":["k"],"Values":[{"Value":-1.5,"Low":2,"High":1e+300,"SD":0.3333333333333333}]}`},
		"unfinished": {func() ([]byte, error) { return encode(unfinishedRecord{"b", 1}) }, `{"Blob":"b","Pieces":1}`},
		"holder":     {func() ([]byte, error) { return encode(holderRecord{1, "c"}) }, `{"Number":1,"Charge":"c"}`},
		"draw":       {func() ([]byte, error) { return encode(drawRecord{"r", []byte{1}}) }, `{"Release":"r","Versions":"AQ=="}`},
		"consumer": {func() ([]byte, error) {
			return encode(dp.Consumer{Name: "n", Role: dp.Officer, Audience: dp.Internal, Created: at, Version: 1})
		},
			`{"Name":"n","Role":"officer","Organisation":"","Audience":"internal","Purposes":null,"Created":"2026-01-02T03:04:05.000000006Z","Version":1}`},
		"consumer that tokens sign in": {func() ([]byte, error) { return encode(dp.Consumer{Subject: "s"}) },
			`{"Name":"","Role":"","Organisation":"","Audience":"","Purposes":null,"Created":"0001-01-01T00:00:00Z","Version":0,"Subject":"s"}`},
		"key that its consumer made": {func() ([]byte, error) { return encode(dp.Key{ID: "k", Under: "u"}) },
			`{"ID":"k","Consumer":"","Hash":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"Created":"0001-01-01T00:00:00Z","Expires":"0001-01-01T00:00:00Z","Revoked":"0001-01-01T00:00:00Z","Under":"u"}`},
		"allotment": {func() ([]byte, error) {
			return encode(dp.Allotment{Consumer: "c", Dataset: "d", MaxEpsilonPerQuery: 1, Version: 2})
		},
			`{"Consumer":"c","Dataset":"d","Budget":{"Epsilon":0,"Delta":0},"MaxEpsilonPerQuery":1,"Expires":"0001-01-01T00:00:00Z","Paused":false,"Version":2}`},
		"request": {func() ([]byte, error) {
			return encode(requestRecord{Number: 1, Consumer: "c", Dataset: "d", Asked: dp.Terms{Budget: dp.Budget{Epsilon: 2, Delta: 3}, MaxEpsilonPerQuery: 4, Expires: at}, Reason: "r",
				Query: &dp.WantedQuery{Canonical: "q", Purpose: "p", Price: []dp.Touched{{Dataset: "d", PolicyVersion: 5, Blocks: []string{"b"}, Loss: loss}}}, Made: at})
		}, `{"Number":1,"Consumer":"c","Dataset":"d","Asked":{"Budget":{"Epsilon":2,"Delta":3},"MaxEpsilonPerQuery":4,"Expires":"2026-01-02T03:04:05.000000006Z"},"Reason":"r",` +
			`"Query":{"Canonical":"q","Purpose":"p","Price":[{"Dataset":"d","PolicyVersion":5,"Blocks":["b"],"Loss":{"Epsilon":1,"Delta":2,"Rho":3,"DeltaZ":4}}]},"Made":"2026-01-02T03:04:05.000000006Z"}`},
		"request without a query": {func() ([]byte, error) { return encode(requestRecord{}) },
			`{"Number":0,"Consumer":"","Dataset":"","Asked":{"Budget":{"Epsilon":0,"Delta":0},"MaxEpsilonPerQuery":0,"Expires":"0001-01-01T00:00:00Z"},"Reason":"","Made":"0001-01-01T00:00:00Z"}`},
		"grant": {func() ([]byte, error) {
			return encode(dp.RequestDecision{State: dp.RequestGranted, By: "o", At: at, Reason: "r", Seen: 1, Granted: &dp.Terms{MaxEpsilonPerQuery: 2}, Allotment: 3})
		}, `{"State":"granted","By":"o","At":"2026-01-02T03:04:05.000000006Z","Reason":"r","Seen":1,"Granted":{"Budget":{"Epsilon":0,"Delta":0},"MaxEpsilonPerQuery":2,"Expires":"0001-01-01T00:00:00Z"},"Allotment":3}`},
		"denial": {func() ([]byte, error) {
			return encode(dp.RequestDecision{State: dp.RequestDenied, By: "o", At: at, Reason: "r"})
		}, `{"State":"denied","By":"o","At":"2026-01-02T03:04:05.000000006Z","Reason":"r","Seen":0,"Granted":null,"Allotment":0}`},
		"suspended consumer": {func() ([]byte, error) { return encode(dp.Consumer{Name: "n", Suspended: true}) },
			`{"Name":"n","Role":"","Organisation":"","Audience":"","Purposes":null,"Suspended":true,"Created":"0001-01-01T00:00:00Z","Version":0}`},
		"proposal": {func() ([]byte, error) {
			return encode(proposalRecord{Number: 1, By: "o", Reason: "r", Made: at, Expires: at, Change: dp.ProposedChange{Consumer: &dp.ConsumerChange{Before: &dp.Consumer{Name: "n"}, After: dp.Consumer{Name: "n", Version: 1}}}})
		}, `{"Number":1,"By":"o","Reason":"r","Made":"2026-01-02T03:04:05.000000006Z","Expires":"2026-01-02T03:04:05.000000006Z","Change":{"Consumer":{` +
			`"Before":{"Name":"n","Role":"","Organisation":"","Audience":"","Purposes":null,"Created":"0001-01-01T00:00:00Z","Version":0},` +
			`"After":{"Name":"n","Role":"","Organisation":"","Audience":"","Purposes":null,"Created":"0001-01-01T00:00:00Z","Version":1}}}}`},
		"proposal of a grant": {func() ([]byte, error) {
			return encode(proposalRecord{Change: dp.ProposedChange{Allotment: &dp.AllotmentChange{After: dp.Allotment{Consumer: "c", Dataset: "d", Version: 1}, Request: "q"}}})
		}, `{"Number":0,"By":"","Reason":"","Made":"0001-01-01T00:00:00Z","Expires":"0001-01-01T00:00:00Z","Change":{"Allotment":{` +
			`"After":{"Consumer":"c","Dataset":"d","Budget":{"Epsilon":0,"Delta":0},"MaxEpsilonPerQuery":0,"Expires":"0001-01-01T00:00:00Z","Paused":false,"Version":1},"Request":"q"}}}`},
		"end of a proposal": {func() ([]byte, error) {
			return encode(dp.ProposalEnd{State: dp.ProposalConfirmed, By: "p", At: at, Reason: "r"})
		}, `{"State":"confirmed","By":"p","At":"2026-01-02T03:04:05.000000006Z","Reason":"r"}`},
		"change": {func() ([]byte, error) { return encode(changeRecord{at, "a", "r", []changedObject{{"policy", "d", 1}}}) },
			`{"At":"2026-01-02T03:04:05.000000006Z","Actor":"a","Reason":"r","Changed":[{"Kind":"policy","Name":"d","Version":1}]}`},
	} {
		got, err := c.record()
		check(t, err)
		if string(got) != "\x01"+c.want {
			t.Errorf("%s is written as\n%s, not\n%s", name, got[1:], c.want)
		}
	}
}

func TestDamagedRecordIsRefused(t *testing.T) {
	good, err := encode(holderRecord{1, "c"})
	check(t, err)
	for name, value := range map[string][]byte{
		"empty":           {},
		"another version": append([]byte{recordVersion + 1}, good[1:]...),
		"cut":             good[:len(good)-2],
		"another field":   []byte("\x01" + `{"Number":1,"Renamed":"c"}`),
	} {
		if _, err := decode[holderRecord](value); !errors.Is(err, errDamaged) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAccountNeverShrinks(t *testing.T) {
	f := newFixture(t)
	key := accountKey("d", "b", "")
	before := accountRecord{Spent: dp.Loss{Epsilon: 5, Delta: 6, Rho: dp.RhoUnknown, DeltaZ: 8}, Charges: 1}
	check(t, f.write(ctx, func(t *tx) error {
		t.kind = entryCharge
		return saveAccount(t, key, accountRecord{}, before)
	}))
	check(t, f.read(ctx, func(v view) error {
		got, err := loadAccount(v, key)
		if got != before {
			t.Errorf("read %+v", got)
		}
		return err
	}))
	for name, shrink := range map[string]func(*accountRecord){
		"epsilon": func(a *accountRecord) { a.Spent.Epsilon-- },
		"delta":   func(a *accountRecord) { a.Spent.Delta-- },
		"rho":     func(a *accountRecord) { a.Spent.Rho-- },
		"deltaz":  func(a *accountRecord) { a.Spent.DeltaZ-- },
		"wrapped": func(a *accountRecord) { a.Spent.Epsilon = math.MinInt64 },
		"charges": func(a *accountRecord) { a.Charges-- },
	} {
		after := before
		after.Charges++
		shrink(&after)
		if f.write(ctx, func(t *tx) error { return saveAccount(t, key, before, after) }) == nil {
			t.Errorf("%s shrank", name)
		}
	}
}

func TestDamagedAccountIsRefused(t *testing.T) {
	f := newFixture(t)
	f.charge(ask(alice, "plan"))
	good := []byte(f.dump()[string(accountKey(dataset, "2026-01", alice))])
	if _, err := decodeAccount(good); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string][]byte{
		"cut":             good[:len(good)-1],
		"another version": append([]byte{9}, good[1:]...),
		"negative":        slices.Concat(good[:1], bytes.Repeat([]byte{0xff}, 8), good[9:]),
		"no charges":      slices.Concat(good[:accountBytes-8], make([]byte, 8)),
	} {
		if _, err := decodeAccount(value); !errors.Is(err, errDamaged) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNoPartOfAKeyPassesForAnother(t *testing.T) {
	parts := []string{"", "a", "ab", "b", "\x00", "\x00\x01", "\x00\xff", "a\x00", "a\x00\x01b", "\xff"}
	seen := map[string][2]string{}
	for _, x := range parts {
		for _, y := range parts {
			key := makeKey('T', x, y)
			if other, ok := seen[string(key)]; ok {
				t.Fatalf("%q and %q have one key", other, [2]string{x, y})
			}
			seen[string(key)] = [2]string{x, y}
			if got := partsOf(key); !slices.Equal(got, []string{x, y}) {
				t.Fatalf("parts of %q, %q read as %q", x, y, got)
			}
			if x != y && bytes.HasPrefix(makeKey('T', y), makeKey('T', x)) {
				t.Fatalf("the keys under %q include those under %q", x, y)
			}
			if (x < y) != (bytes.Compare(makeKey('T', x), makeKey('T', y)) < 0) && x != y {
				t.Fatalf("%q and %q do not sort as text", x, y)
			}
		}
	}
}
