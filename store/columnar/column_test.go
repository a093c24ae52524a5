package columnar

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestNumbersAreReadAsTheyWereWritten(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	widths := map[int]bool{}
	for range 3000 {
		spread := uint64(1) << random.IntN(64)
		base := int64(random.Uint64())
		if random.IntN(4) == 0 {
			base = math.MinInt64
		}
		values := make([]int64, random.IntN(40))
		var valid []bool
		if random.IntN(2) == 0 {
			valid = make([]bool, len(values))
		}
		for i := range values {
			values[i] = int64(uint64(base) + random.Uint64N(spread))
			if valid != nil {
				valid[i] = random.IntN(3) > 0
			}
		}
		n, rest, err := readNumbers(append(appendNumbers(nil, values, valid), "rest"...))
		if err != nil || string(rest) != "rest" || n.count != len(values) {
			t.Fatalf("%v: %v", values, err)
		}
		widths[n.width] = true
		for i, want := range values {
			present := valid == nil || valid[i]
			if got, ok := n.at(i); ok != present || present && got != want {
				t.Fatalf("number %d of %v %v: got %d, %v", i, values, valid, got, ok)
			}
		}
	}
	if len(widths) != 5 {
		t.Errorf("widths met: %v", widths)
	}
}

func TestTextsAndCustomersAreReadAsTheyWereWritten(t *testing.T) {
	body := appendTexts(nil, []string{"", "Köln", "a/b"}, []int64{3, 0, 1, 2, 3})
	read, err := readTexts(body)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		text string
		ok   bool
	}{{"a/b", true}, {"", false}, {"", true}, {"Köln", true}, {"a/b", true}} {
		if got, ok := read.at(i); got != want.text || ok != want.ok {
			t.Errorf("text %d: %q %v", i, got, ok)
		}
	}
	c, err := readCustomers(appendCustomers(nil, []uint64{0, 7, math.MaxUint64}, []int64{1, 300, 2}), 303)
	if err != nil || c.id(2) != math.MaxUint64 || c.lengths.count != 3 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestColumnsThatCannotBeAreDamage(t *testing.T) {
	good := appendTexts(nil, []string{"a"}, []int64{1, 0})
	for name, body := range map[string][]byte{
		"empty":             {},
		"cut":               good[:len(good)-1],
		"longer":            append(slices.Clone(good), 0),
		"code out of range": appendTexts(nil, []string{"a"}, []int64{1, 2}),
		"huge dictionary":   {0xff, 0xff, 0xff, 0xff, 0x0f},
	} {
		if _, err := readTexts(body); err == nil {
			t.Errorf("texts, %s: read", name)
		}
	}
	for name, body := range map[string][]byte{
		"not ascending": appendCustomers(nil, []uint64{2, 2}, []int64{1, 1}),
		"no rows":       appendCustomers(nil, []uint64{1, 2}, []int64{2, 0}),
		"too few rows":  appendCustomers(nil, []uint64{1}, []int64{1}),
		"too many rows": appendCustomers(nil, []uint64{1}, []int64{3}),
		"cut":           appendCustomers(nil, []uint64{1}, []int64{2})[:12],
	} {
		if _, err := readCustomers(body, 2); err == nil {
			t.Errorf("customers, %s: read", name)
		}
	}
}

func TestSealCoversKeyVersionAndBody(t *testing.T) {
	key, body := []byte("key"), []byte("body")
	value := seal(key, body)
	if got, err := unseal(key, value); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := unseal([]byte("kez"), value); err == nil {
		t.Error("another's value was taken")
	}
	for i := range value {
		flipped := slices.Clone(value)
		flipped[i] ^= 1
		if _, err := unseal(key, flipped); err == nil {
			t.Errorf("byte %d flipped: read", i)
		}
	}
}

func FuzzColumnsNeverPanic(f *testing.F) {
	f.Add(appendTexts(nil, []string{"a"}, []int64{1, 0}))
	f.Add(appendCustomers(nil, []uint64{1, 2}, []int64{1, 1}))
	f.Fuzz(func(t *testing.T, body []byte) {
		if texts, err := readTexts(body); err == nil {
			for i := range texts.codes.count {
				texts.at(i)
			}
		}
		if c, err := readCustomers(body, 2); err == nil && c.lengths.count > 2 {
			t.Error("two rows of more than two customers")
		}
	})
}
