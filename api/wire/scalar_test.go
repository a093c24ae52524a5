package wire

import (
	"encoding/json"
	"testing"
)

func TestDecimalKeepsItsText(t *testing.T) {
	for _, token := range []string{"0.1", "1e-11", "0.30000000000000000001", "-0", "1E+3", "123456789012345678901234567890"} {
		var d Decimal
		if err := json.Unmarshal([]byte(token), &d); err != nil || string(d) != token {
			t.Errorf("%s read as %s, %v", token, d, err)
		}
		if out, err := json.Marshal(d); err != nil || string(out) != token {
			t.Errorf("%s written as %s, %v", token, out, err)
		}
	}
	for _, token := range []string{`"0.1"`, "true", "[]", "{}"} {
		var d Decimal
		if json.Unmarshal([]byte(token), &d) == nil {
			t.Errorf("%s is taken for a number", token)
		}
	}
	for _, text := range []Decimal{"", "unknown", "1,5", ".5", "0x1", "NaN", " 1", "1 "} {
		if out, err := json.Marshal(text); err == nil {
			t.Errorf("%q is written as %s", text, out)
		}
	}
	if DecimalOf(0.1) != "0.1" || DecimalOf(1e-11) != "1e-11" || Decimal("0.25").Float() != 0.25 || Decimal("").Float() != 0 {
		t.Error("floats are converted otherwise")
	}
}

func TestTextTakesScalarsAsTheyAreWritten(t *testing.T) {
	for token, want := range map[string]Text{`"DE"`: "DE", `"a\nb"`: "a\nb", "10.50": "10.50", "1e3": "1e3", "true": "true", "false": "false", `""`: ""} {
		var got Text
		if err := json.Unmarshal([]byte(token), &got); err != nil || got != want {
			t.Errorf("%s read as %q, %v", token, got, err)
		}
	}
	for _, token := range []string{"[]", "{}", `["a"]`} {
		var got Text
		if json.Unmarshal([]byte(token), &got) == nil {
			t.Errorf("%s is taken for a scalar", token)
		}
	}
	if out, err := json.Marshal(Text("10")); err != nil || string(out) != `"10"` {
		t.Errorf("written as %s, %v", out, err)
	}
}

// A list that is there but empty is a condition that nothing meets; one that is not there is none.
func TestEmptyListsAreNotLeftOut(t *testing.T) {
	out, err := json.Marshal(Condition{Field: "country", In: []Text{}})
	if err != nil || string(out) != `{"field":"country","in":[]}` {
		t.Errorf("written as %s, %v", out, err)
	}
}
