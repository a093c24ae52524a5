package main

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
)

func TestConditionsAreReadAsTheyAreWritten(t *testing.T) {
	for written, want := range map[string]string{
		`country=DE`:                `{"field":"country","eq":"DE"}`,
		`country=DE,FR`:             `{"field":"country","in":["DE","FR"]}`,
		`country = DE, FR`:          `{"field":"country","in":["DE","FR"]}`,
		`platform!=web`:             `{"field":"platform","not_in":["web"]}`,
		`platform!=web,ios`:         `{"field":"platform","not_in":["web","ios"]}`,
		`amount>=10`:                `{"field":"amount","gte":"10"}`,
		`amount<=-1.5`:              `{"field":"amount","lte":"-1.5"}`,
		`time.month>=2026-01`:       `{"field":"time.month","gte":"2026-01"}`,
		`merchant="Oak, Elm",Birch`: `{"field":"merchant","in":["Oak, Elm","Birch"]}`,
		`merchant=a=b`:              `{"field":"merchant","eq":"a=b"}`,
	} {
		c, err := parseCondition(written)
		if err != nil {
			t.Errorf("%s: %v", written, err)
			continue
		}
		if got, err := json.Marshal(c); err != nil || string(got) != want {
			t.Errorf("%s is read as %s, %v, want %s", written, got, err, want)
		}
	}
}

func TestUnclearConditionsAreRefusedAsWrongUse(t *testing.T) {
	for _, written := range []string{
		"", "country", "=DE", "country=", "country=DE,,FR", "amount>10", "amount<10", "amount>=1,2", `merchant="Oak`, "a!b", "x=\"a\nb\"\nc",
	} {
		_, err := parseCondition(written)
		var usage usageError
		if !errors.As(err, &usage) {
			t.Errorf("%q gives %v, want a usage error", written, err)
		}
	}
}

func TestFlagsBecomeTheQuestion(t *testing.T) {
	c := queryCommand{
		Dataset: "transactions", Metrics: []string{"customers,spend", "ticket"}, By: []string{"country"}, Purpose: "reporting",
		From: "2026-01-01", To: "2026-01-31", Within: map[string]string{"customers": "35"}, Delta: "1e-11", Confidence: "0.9",
		Clamp: map[string]string{"spend": "0:500"}, Define: []string{"ticket=mean:amount"}, Where: []string{"amount>=10"},
		SpendAtMost: "0.5", MaxPartitions: 3, Fresh: true, Totals: true, Top: "spend:5",
	}
	q, err := c.query()
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"dataset":"transactions","metrics":["customers","spend","ticket"],"define":[{"name":"ticket","aggregate":"mean","measure":"amount"}],` +
		`"by":["country"],"where":[{"field":"amount","gte":"10"}],"from":"2026-01-01","to":"2026-01-31","purpose":"reporting",` +
		`"within":{"customers":35},"delta":1e-11,"confidence":0.9,"clamp":{"spend":[0,500]},"max_partitions":3,"spend_at_most":{"epsilon":0.5},"fresh":true,"totals":true,"top":{"metric":"spend","n":5}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDefinitionsAreReadFromOneText(t *testing.T) {
	for text, want := range map[string]wire.Definition{
		"ticket=mean:amount":                {Name: "ticket", Aggregate: "mean", Measure: "amount"},
		"low=min:amount":                    {Name: "low", Aggregate: "min", Measure: "amount"},
		"heads=customers":                   {Name: "heads", Aggregate: "customers"},
		"p90=quantile:amount:0.9":           {Name: "p90", Aggregate: "quantile", Measure: "amount", Rank: "0.9"},
		"per_head=ratio:spend/customers":    {Name: "per_head", Aggregate: "ratio", Numerator: "spend", Denominator: "customers"},
		"part=share:spend":                  {Name: "part", Aggregate: "share", Of: "spend"},
		"odd=median:amount":                 {Name: "odd", Aggregate: "median", Measure: "amount"}, // the server says what there is
		"unequal=variance:duration":         {Name: "unequal", Aggregate: "variance", Measure: "duration"},
		"big=quantile:amount:0.99@customer": {Name: "big", Aggregate: "quantile", Measure: "amount", Rank: "0.99", Per: "customer"},
		"many=quantile::0.9@customer":       {Name: "many", Aggregate: "quantile", Rank: "0.9", Per: "customer"},
		"chats=rows[event=bank_chat]":       {Name: "chats", Aggregate: "rows", Where: []wire.Condition{{Field: "event", Eq: textOf("bank_chat")}}},
		"big=mean:amount@customer[amount>=100][channel=a,b]": {Name: "big", Aggregate: "mean", Measure: "amount", Per: "customer",
			Where: []wire.Condition{{Field: "amount", Gte: textOf("100")}, {Field: "channel", In: []wire.Text{"a", "b"}}}},
		"kinds=mean@customer:event+time.day": {Name: "kinds", Aggregate: "mean", Per: "customer", Distinct: []string{"event", "time.day"}},
		"per_row=ratio:active_users/rows":    {Name: "per_row", Aggregate: "ratio", Numerator: "active_users", Denominator: "rows"},
	} {
		got, err := parseDefinition(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"p90", "=mean:amount", "p90=", "p90=quantile", "p90=quantile:amount", "p90=quantile:amount:", "p90=quantile::0.9", "p90=quantile:amount:much",
		"m=mean:amount@", "m=mean:amount@household", "r=ratio", "r=ratio:spend", "r=ratio:/customers", "r=ratio:spend/", "s=share", "s=share:", "c=rows[", "c=rows[]", "c=rows[amount]", "c=rows[amount>=1",
	} {
		_, err := parseDefinition(text)
		if exitCode(err) != exitUsage || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q gives %v, want one line of a usage error", text, err)
		}
	}
}

func TestNumbersThatAreNoneAreRefusedAsWrongUse(t *testing.T) {
	for name, c := range map[string]queryCommand{
		"epsilon": {Epsilon: "much"}, "within": {Within: map[string]string{"customers": "3x"}}, "clamp": {Clamp: map[string]string{"spend": "0"}},
		"clamp bound": {Clamp: map[string]string{"spend": "0:x"}}, "spend at most": {SpendAtMost: "-"}, "top": {Top: "spend"}, "top of none": {Top: "spend:0"}, "top of nothing": {Top: ":3"},
		"totals as rows": {Totals: true, output: output{Format: "csv"}}, "define": {Define: []string{"mean"}},
	} {
		_, err := c.query()
		if exitCode(err) != exitUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFiguresShowTheDigitsThatTheIntervalDeserves(t *testing.T) {
	for _, c := range []struct {
		value         wire.Value
		shown, around string
	}{
		{wire.Value{Value: 1234, Low: 1199, High: 1269}, "1234", "± 35"},
		{wire.Value{Value: 1234, Low: 1231, High: 1237}, "1234.0", "± 3.0"},
		{wire.Value{Value: 44.7971, Low: 44.4871, High: 45.1071}, "44.80", "± 0.31"},
		{wire.Value{Value: 2, Low: 0, High: 9}, "2.0", "0 .. 9.0"},
		{wire.Value{Value: 470222, Low: 420225, High: 520219}, "470000", "± 50000"},
		{wire.Value{Value: -6007, Low: -56004, High: 43990}, "-6000", "± 50000"},
		{wire.Value{Value: 8111, Low: 8011, High: 8211}, "8110", "± 100"},
		{wire.Value{Value: -0.2, Low: -35.2, High: 34.8}, "0", "± 35"},
		{wire.Value{Value: 5, Low: 5, High: 5}, "5", "± 0"},
	} {
		shown, around := figures(c.value)
		if shown.String() != c.shown || string(around) != c.around {
			t.Errorf("%+v is shown as %s %s, want %s %s", c.value, shown, around, c.shown, c.around)
		}
	}
}

// What is shown as the best can be asked for.
func TestTheBestHalfWidthIsShownShortAndNeverTooSmall(t *testing.T) {
	for best, want := range map[wire.Decimal]string{
		"25.080084942937653": "25.09", "25.08": "25.08", "25.0899999": "25.09", "0.00123449": "0.001235", "9.99901": "10", "7": "7", "123456789": "1.235e+08", "300": "300",
	} {
		if got := attainable(best); got != want {
			t.Errorf("%s is shown as %s, want %s", best, got, want)
		}
	}
}

func TestSharesAndConfidencesKeepTheirDigits(t *testing.T) {
	for share, want := range map[float64]string{1: "100", 0.637: "64", 0.0196: "2.0", 0.0027: "0.27", 0: "0"} {
		if got := percent(share); got != want {
			t.Errorf("%g is shown as %s %%, want %s %%", share, got, want)
		}
	}
	for confidence, want := range map[wire.Decimal]string{"0.95": " 95 %", "0.999": " 99.9 %"} {
		if line := protectionLine(wire.Privacy{}, confidence, false); !strings.HasSuffix(line, want) {
			t.Errorf("%s is shown as %q", confidence, line)
		}
	}
}

func TestPriceNamesWhatFurtherBlocksCost(t *testing.T) {
	c := wire.Charge{Epsilon: "0.1", Delta: "0", Blocks: []string{"2026-01", "2026-02"}, Also: []wire.Touch{
		{Dataset: "shop", Blocks: []string{"2026-03"}, Epsilon: "0.3", Delta: "0"}, {Dataset: "bank", Blocks: []string{"2026-02", "2026-03"}, Epsilon: "0.2", Delta: "0"},
	}}
	if got, want := priceLine("price", c), "price       epsilon 0.1 on each of 2 blocks, 2026-01 to 2026-02; and epsilon 0.3 on shop 2026-03; and epsilon 0.2 on bank 2026-02 to 2026-03"; got != want {
		t.Errorf("the price is %q", got)
	}
}

func textOf(s wire.Text) *wire.Text { return &s }

func TestDatasetsSayWhatAMetricReads(t *testing.T) {
	for want, m := range map[string]wire.Metric{
		"[event=bank_chat]": {Aggregate: "rows", Where: []wire.Condition{{Field: "event", In: []wire.Text{"bank_chat"}}}},
		"amount:0.5@customer[amount>=1][amount<=9][channel!=a,b]": {Measure: "amount", Rank: "0.5", Per: "customer",
			Where: []wire.Condition{{Field: "amount", Gte: textOf("1"), Lte: textOf("9")}, {Field: "channel", NotIn: []wire.Text{"a", "b"}}}},
		"@customer:event+time.day": {Per: "customer", Distinct: []string{"event", "time.day"}},
	} {
		if got := metricOf(m) + ofWhat(m); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
