package api

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

func TestChangeThatWaitsIsAnsweredByItsProposal(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	after := f.policies[0]
	after.Version, after.Cap.Epsilon, after.TwoPerson = 4, 8*dp.EpsilonOne, true
	p := dp.Proposal{ID: "pro_1", By: "officer", Reason: "the launch", Made: day(1), Expires: time.Now().Add(time.Hour), Change: dp.ProposedChange{Policy: &dp.PolicyChange{After: after}}}
	f.refuse = &office.Waiting{Proposal: p}
	for _, call := range []struct{ method, path, body string }{
		{"PUT", "/v1/datasets/transactions", policySource},
		{"POST", "/v1/consumers", `{"name":"grace","role":"officer"}`},
		{"PATCH", "/v1/consumers/product", `{"role":"officer"}`},
		{"POST", "/v1/consumers/officer/keys", `{}`},
		{"PUT", "/v1/consumers/product/allotments/transactions", `{"epsilon":1}`},
	} {
		headers := []string{"If-Match", `"3"`, "Discreet-Reason", "the launch"}
		if call.method == "PUT" && strings.HasSuffix(call.path, "/transactions") && !strings.Contains(call.path, "allot") {
			headers = append(headers, "Content-Type", "application/yaml")
		}
		resp := send(t, v, "officer", call.method, call.path, call.body, headers...)
		if at := resp.Header.Get("Location"); at != "/v1/proposals/pro_1" {
			t.Errorf("%s %s: it is at %q", call.method, call.path, at)
		}
		got := read[wire.Proposal](t, resp, http.StatusAccepted)
		want := []string{"- cap: {epsilon: 6, delta: 0.000000001}", "+ cap: {epsilon: 8, delta: 0.000000001}", "+ two_person: true"}
		if got.ID != "pro_1" || got.State != "open" || got.Kind != "policy" || got.On != "transactions" || got.Seen != 3 || got.End != nil || !slices.Equal(got.Changes, want) {
			t.Errorf("%s %s: got %+v", call.method, call.path, got)
		}
	}
}

func TestProposalsAreShownAndDecided(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	was := dp.Allotment{Consumer: "product", Dataset: "transactions", Budget: dp.Budget{Epsilon: dp.EpsilonOne}, Version: 2}
	granted := was
	granted.Budget.Epsilon, granted.Version, granted.MaxEpsilonPerQuery = 3*dp.EpsilonOne, 3, dp.EpsilonOne/2
	hired := dp.Consumer{Name: "grace", Role: dp.Officer, Audience: dp.Internal, Version: 1}
	moved := dp.Consumer{Name: "product", Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting", "ads"}, Version: 3}
	before := moved
	before.Version, before.Role, before.Purposes = 2, dp.Product, []string{"reporting"}
	key := dp.Key{ID: "key_9", Consumer: "grace", Hash: [32]byte{0xab}, Expires: day(30)}
	for i, c := range []dp.ProposedChange{
		{Allotment: &dp.AllotmentChange{Before: &was, After: granted, Request: "req_1"}},
		{Consumer: &dp.ConsumerChange{After: hired}},
		{Consumer: &dp.ConsumerChange{Before: &before, After: moved}},
		{Key: &key},
		{Allotment: &dp.AllotmentChange{After: was}},
	} {
		f.proposals = append(f.proposals, dp.Proposal{ID: fmt.Sprint("pro_", i), By: "officer", Reason: "r", Made: day(1), Expires: day(8), Change: c})
	}
	f.proposals[1].End = &dp.ProposalEnd{State: dp.ProposalConfirmed, By: "mary", At: day(2), Reason: "agreed"}
	want := []struct {
		state, kind, on string
		seen            uint64
		changes         []string
	}{
		{"expired", "grant", "product/transactions", 2, []string{"- epsilon: 1", "+ epsilon: 3", "- max_epsilon_per_query: none", "+ max_epsilon_per_query: 0.5"}},
		{"confirmed", "consumer", "grace", 0, []string{"+ name: grace", "+ role: officer", "+ organisation: ", "+ audience: internal", "+ purposes: []", "+ subject: ", "+ suspended: false"}},
		{"expired", "consumer", "product", 2, []string{"- role: product", "+ role: analyst", "- purposes: [reporting]", "+ purposes: [reporting, ads]"}},
		{"expired", "key", "grace", 0, []string{"+ key: key_9", "+ sha256: ab" + strings.Repeat("0", 62), "+ expires: 2026-01-30T12:00:00Z"}},
		{"expired", "allotment", "product/transactions", 1, []string{"+ epsilon: 1", "+ delta: 0", "+ max_epsilon_per_query: none", "+ expires: never", "+ paused: false"}},
	}
	for _, who := range []string{"officer", "auditor"} {
		list := read[wire.ProposalList](t, send(t, v, who, "GET", "/v1/proposals", ""), 200)
		for i, w := range want {
			got := list.Items[i]
			if got.State != w.state || got.Kind != w.kind || got.On != w.on || got.Seen != w.seen || !slices.Equal(got.Changes, w.changes) {
				t.Errorf("proposal %d is %+v", i, got)
			}
		}
		if d := list.Items[1].End; d == nil || d.By != "mary" || d.Reason != "agreed" || list.Items[0].Request != "req_1" {
			t.Errorf("got %+v", list.Items[:2])
		}
		if open := read[wire.ProposalList](t, send(t, v, who, "GET", "/v1/proposals?open=true", ""), 200); len(open.Items) != 4 {
			t.Errorf("%d are open", len(open.Items))
		}
		read[wire.Proposal](t, send(t, v, who, "GET", "/v1/proposals/pro_3", ""), 200)
		refused(t, send(t, v, who, "GET", "/v1/proposals/pro_none", ""), 404, "not-found")
	}
	for _, confirm := range []bool{true, false} {
		read[wire.Proposal](t, send(t, v, "officer", "POST", "/v1/proposals/pro_3/confirmation", fmt.Sprintf(`{"confirm": %v}`, confirm), "Discreet-Reason", "seen"), 200)
		if c := f.changes[len(f.changes)-1]; c.what != "confirm" || c.confirm != confirm || c.on != "pro_3" || c.actor != "officer" || c.reason != "seen" {
			t.Errorf("decided %+v", c)
		}
	}
	refused(t, send(t, v, "officer", "POST", "/v1/proposals/pro_3/confirmation", `{}`), 400, "invalid-input")
	if p := read[wire.Proposal](t, send(t, v, "officer", "DELETE", "/v1/proposals/pro_3", "", "Discreet-Reason", "a mistake"), 200); p.State != "withdrawn" {
		t.Errorf("got %+v", p)
	}
	f.refuse = &dp.Error{Code: dp.CodeConflict, Message: "It changed."}
	refused(t, send(t, v, "officer", "POST", "/v1/proposals/pro_3/confirmation", `{"confirm": true}`, "Discreet-Reason", "seen"), 409, "conflict")
}

func TestKeyIsIssuedByItsHash(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	hash := strings.Repeat("0f", 32)
	k := read[wire.IssuedKey](t, send(t, v, "officer", "POST", "/v1/consumers/product/keys", `{"hash":"`+hash+`"}`, "Idempotency-Key", "k"), 201)
	if n := f.changes[0].issue; k.Text != "" || n.Hash == nil || n.Hash[31] != 0x0f || n.Repeat != "k" || n.Consumer != "product" {
		t.Errorf("issued %+v for %+v", k, n)
	}
	for _, bad := range []string{"", hash[:62], hash + "00", strings.ToUpper(hash), "zz" + hash[2:]} {
		if bad != "" {
			refused(t, send(t, v, "officer", "POST", "/v1/consumers/product/keys", `{"hash":"`+bad+`"}`), 400, "invalid-input")
		}
	}
}

// Whoever confirms a proposal confirms all of it: no field of what changes may be left out of what is shown.
func TestProposalShowsEveryField(t *testing.T) {
	check := func(kind reflect.Type, hidden []string, lines func(reflect.Value) []string) {
		for i := range kind.NumField() {
			if slices.Contains(hidden, kind.Field(i).Name) {
				continue
			}
			was, is := reflect.New(kind).Elem(), reflect.New(kind).Elem()
			switch field := is.Field(i); field.Kind() {
			case reflect.String:
				field.SetString("x")
			case reflect.Bool:
				field.SetBool(true)
			case reflect.Int64:
				field.SetInt(7)
			case reflect.Slice:
				field.Set(reflect.ValueOf([]string{"x"}))
			case reflect.Struct:
				if field.Type() == reflect.TypeFor[time.Time]() {
					field.Set(reflect.ValueOf(day(1)))
				} else {
					field.Field(0).SetInt(7)
				}
			default:
				t.Fatalf("%s.%s is of a kind that this test does not know", kind, kind.Field(i).Name)
			}
			if len(changedLines(lines(was), lines(is))) == 0 {
				t.Errorf("a change of %s.%s is not shown in a proposal", kind, kind.Field(i).Name)
			}
		}
	}
	check(reflect.TypeFor[dp.Consumer](), []string{"Created", "Version"}, func(v reflect.Value) []string { return consumerLines(v.Interface().(dp.Consumer)) })
	check(reflect.TypeFor[dp.Allotment](), []string{"Consumer", "Dataset", "Version"}, func(v reflect.Value) []string { return allotmentLines(v.Interface().(dp.Allotment)) })
}

// What the office takes for narrower roles may do a part of what the wider ones may.
func TestNarrowerRolesMayDoAPart(t *testing.T) {
	may := func(r rule, role dp.Role) bool { return len(r.roles) == 0 || slices.Contains(r.roles, role) }
	for id, r := range rules() {
		if may(r, dp.Product) && !may(r, dp.Analyst) || may(r, dp.Auditor) && !may(r, dp.Officer) {
			t.Errorf("%s admits a role that dp/office takes for narrower than one that it does not admit: see roleNarrows", id)
		}
	}
}

func TestChangedLinesAreThoseThatDiffer(t *testing.T) {
	lines := func(text string) []string { return strings.Split(text, "") }
	for _, c := range []struct{ before, after, want string }{
		{"abc", "abc", ""}, {"", "", ""}, {"abc", "", "-a-b-c"}, {"abc", "axc", "-b+x"}, {"abcd", "bd", "-a-c"}, {"bd", "abcd", "+a+c"}, {"ab", "ba", "-a+a"},
	} {
		got := strings.ReplaceAll(strings.Join(changedLines(lines(c.before), lines(c.after)), ""), " ", "")
		if got != c.want {
			t.Errorf("%q to %q: %s, want %s", c.before, c.after, got, c.want)
		}
	}
}
