package api

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// reached is a Book to which only what the office finds valid comes.
type reached struct{}

var errReached = errors.New("it was found valid")

func (reached) Change(context.Context, office.Change, func(office.Tx) error) error { return errReached }

func rich(t *testing.T) dp.Policy {
	p := testPolicy(t)
	p.Dimensions = append(p.Dimensions,
		dp.Dimension{Name: "minutes", Column: "minutes", Type: dp.IntDimension, Bin: &dp.Bin{Step: 10}, Values: []string{"10", "20", "none"}, Missing: "none"},
		dp.Dimension{Name: "country", Column: "country", Type: dp.StringDimension, Values: []string{"DE", "FR"}},
		dp.Dimension{Name: "city", Column: "city", Type: dp.StringDimension, Private: true, Parent: "country"})
	p.Derived = []dp.Derived{{Name: "kind", Of: "merchant_category", Groups: []dp.LabelGroup{{Label: "daily", Values: []string{"grocery", "fuel"}}}, Other: "rest"}}
	low, high := int64(100), int64(200)
	p.Metrics = append(p.Metrics,
		dp.Metric{Name: "ticket", Aggregate: dp.Mean, Measure: "amount", Lower: &low, Upper: &high},
		dp.Metric{Name: "p90", Aggregate: dp.Quantile, Measure: "amount", Rank: "0.9"},
		dp.Metric{Name: "per_head", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "customers"})
	return p
}

// The office refuses what the reader of policy files refuses, whoever wrote the policy and in whichever form it came.
func TestPolicyIsHeldToTheSameWhereverItComesFrom(t *testing.T) {
	o := office.New(reached{}, time.Now)
	f := newFakes(t)
	v := newTestServer(t, f)
	byOffice := func(p dp.Policy) error {
		_, _, err := o.ApplyPolicy(t.Context(), "officer", p, nil, "")
		return err
	}
	if err := byOffice(rich(t)); !errors.Is(err, errReached) {
		t.Fatal(err)
	}
	files, err := filepath.Glob("policyfile/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := policyfile.Parse(text, policyfile.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if err := byOffice(p); !errors.Is(err, errReached) {
			t.Errorf("%s: %v", file, err)
		}
	}
	for name, spoil := range map[string]func(*dp.Policy){
		"bounds of a measure":         func(p *dp.Policy) { p.Measures[0].Lower = p.Measures[0].Upper },
		"scale of a measure":          func(p *dp.Policy) { p.Measures[0].Scale = 10 },
		"bounds of a metric":          func(p *dp.Policy) { low := int64(200); p.Metrics[1].Lower = &low },
		"bounds over the measure's":   func(p *dp.Policy) { low := int64(60_000); p.Metrics[1].Lower, p.Metrics[1].Upper = &low, nil },
		"measure of a metric":         func(p *dp.Policy) { p.Metrics[0].Measure = "profit" },
		"no measure":                  func(p *dp.Policy) { p.Metrics[0].Measure = "" },
		"aggregate":                   func(p *dp.Policy) { p.Metrics[0].Aggregate = "median" },
		"rank":                        func(p *dp.Policy) { p.Metrics[2].Rank = "1" },
		"ratio of a mean":             func(p *dp.Policy) { p.Metrics[3].Numerator = "ticket" },
		"ratio of nothing":            func(p *dp.Policy) { p.Metrics[3].Denominator = "profit" },
		"ratio of itself":             func(p *dp.Policy) { p.Metrics[3].Denominator = "spend" },
		"metric twice":                func(p *dp.Policy) { p.Metrics[2].Name = "ticket" },
		"metric and dimension":        func(p *dp.Policy) { p.Metrics[2].Name = "minutes" },
		"dimension twice":             func(p *dp.Policy) { p.Dimensions[1].Name = "merchant_category" },
		"derived twice":               func(p *dp.Policy) { p.Derived[0].Name = "minutes" },
		"measure and dimension":       func(p *dp.Policy) { p.Measures[0].Name = "minutes" },
		"name of time":                func(p *dp.Policy) { p.Dimensions[1].Name = "time" },
		"name that cannot be":         func(p *dp.Policy) { p.Dimensions[1].Name = "Minutes" },
		"value twice":                 func(p *dp.Policy) { p.Dimensions[0].Values = append(p.Dimensions[0].Values, "grocery") },
		"empty value":                 func(p *dp.Policy) { p.Dimensions[0].Values[0] = "" },
		"no values":                   func(p *dp.Policy) { p.Dimensions[2].Values = nil },
		"int that is none":            func(p *dp.Policy) { p.Dimensions[1].Values[0] = "1.5" },
		"int of no bin":               func(p *dp.Policy) { p.Dimensions[1].Values[0] = "15" },
		"bin of a text":               func(p *dp.Policy) { p.Dimensions[0].Bin = &dp.Bin{Step: 2} },
		"bin of nothing":              func(p *dp.Policy) { p.Dimensions[1].Bin = &dp.Bin{} },
		"private with others":         func(p *dp.Policy) { p.Dimensions[3].Other = "other" },
		"parent that is not":          func(p *dp.Policy) { p.Dimensions[3].Parent = "continent" },
		"parent that leads back":      func(p *dp.Policy) { p.Dimensions[2].Parent = "city" },
		"customers as a dimension":    func(p *dp.Policy) { p.Dimensions[1].Column = "customer_id" },
		"customers as a measure":      func(p *dp.Policy) { p.Measures[0].Column = "customer_id" },
		"derived of nothing":          func(p *dp.Policy) { p.Derived[0].Of = "city_size" },
		"derived without labels":      func(p *dp.Policy) { p.Derived[0].Groups = nil },
		"derived of a value twice":    func(p *dp.Policy) { p.Derived[0].Groups[0].Values = []string{"fuel", "fuel"} },
		"derived of what is not":      func(p *dp.Policy) { p.Derived[0].Groups[0].Values = []string{"yachts"} },
		"derived without the rest":    func(p *dp.Policy) { p.Derived[0].Other = "" },
		"default above the cap":       func(p *dp.Policy) { p.Default.Epsilon = p.Cap.Epsilon + 1 },
		"default delta above the cap": func(p *dp.Policy) { p.Default.Delta = p.Cap.Delta/4 + 1 },
		"no default":                  func(p *dp.Policy) { p.Default.Epsilon = 0 },
		"cap that protects nothing":   func(p *dp.Policy) { p.Cap.Epsilon = 701 * dp.EpsilonOne },
		"time zone":                   func(p *dp.Policy) { p.Time.Timezone = "Europe/Atlantis" },
		"format of times":             func(p *dp.Policy) { p.Time.Format = "when" },
		"audience twice":              func(p *dp.Policy) { p.Audiences = []dp.Audience{dp.Internal, dp.Internal} },
		"bounds that overflow":        func(p *dp.Policy) { p.Bounds = dp.Bounds{MaxPartitions: 1 << 40, MaxRows: 1 << 40} },
	} {
		p := rich(t)
		spoil(&p)
		var refusal *dp.Error
		if err := byOffice(p); !errors.As(err, &refusal) || refusal.Code != dp.CodeInvalidPolicy {
			t.Errorf("%s: the office says %v", name, err)
		}
		yaml, err := policyfile.Format(p)
		if err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(policyfile.JSON(p))
		if err != nil {
			t.Fatal(err)
		}
		for form, text := range map[string]string{"application/yaml": string(yaml), "application/json": string(asJSON)} {
			resp := send(t, v, "officer", "PUT", "/v1/datasets/transactions", text, "Content-Type", form)
			if resp.StatusCode != 400 {
				t.Errorf("%s as %s: status %d", name, form, resp.StatusCode)
				continue
			}
			if p := refused(t, resp, 400, "invalid-policy"); len(p.Errors) == 0 {
				t.Errorf("%s as %s: no place is named", name, form)
			}
		}
	}
	if len(f.changes) > 0 {
		t.Errorf("%d of them reached the office", len(f.changes))
	}
}
