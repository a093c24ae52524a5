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
		if from := random.IntN(len(values) + 1); len(values) > 0 {
			decoded := make([]int64, len(values)-from)
			n.decode(decoded, from)
			for i, got := range decoded {
				if n.has(from+i) && got != values[from+i] {
					t.Fatalf("number %d of %v decoded from %d: got %d", from+i, values, from, got)
				}
			}
		}
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
	for _, used := range [][]uint32{{1, 2, 300000}, {mostEntries}, {}} {
		positions := []int64{0}
		want := []uint32{0}
		for i, code := range used {
			positions, want = append(positions, int64(i+1), int64(i+1)), append(want, code, code)
		}
		read, err := readTexts(appendTexts(nil, used, positions))
		if err != nil {
			t.Fatal(err)
		}
		for i, code := range want {
			if got := read.code(i); got != code {
				t.Errorf("row %d of %v: code %d, want %d", i, used, got, code)
			}
		}
	}
	c, err := readCustomers(appendCustomers(nil, []uint64{0, 7, math.MaxUint64}, []int64{1, 300, 2}), 303)
	if err != nil || c.id(2) != math.MaxUint64 || c.lengths.count != 3 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestColumnsThatCannotBeAreDamage(t *testing.T) {
	good := appendTexts(nil, []uint32{1}, []int64{1, 0})
	for name, body := range map[string][]byte{
		"empty":                 {},
		"cut":                   good[:len(good)-1],
		"longer":                append(slices.Clone(good), 0),
		"position out of range": appendTexts(nil, []uint32{1}, []int64{1, 2}),
		"codes not ascending":   appendTexts(nil, []uint32{1, 1}, []int64{1, 2}),
		"code too large":        appendTexts(nil, []uint32{mostEntries + 1}, []int64{1, 1}),
		"negative position":     appendTexts(nil, []uint32{1}, []int64{-1, 0}),
		"huge dictionary":       {0xff, 0xff, 0xff, 0xff, 0x0f},
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
	f.Add(appendTexts(nil, []uint32{7}, []int64{1, 0}))
	f.Add(appendCustomers(nil, []uint64{1, 2}, []int64{1, 1}))
	f.Fuzz(func(t *testing.T, body []byte) {
		if texts, err := readTexts(body); err == nil {
			for i := range texts.positions.count {
				texts.code(i)
			}
			if table, err := texts.narrow(make([]int64, 100)); err == nil && texts.positions.count < 1<<20 { // what a column of width 0 claims costs nothing to claim
				texts.positions.lookUp(make([]int64, texts.positions.count), 0, table, true)
			}
		}
		if c, err := readCustomers(body, 2); err == nil && c.lengths.count > 2 {
			t.Error("two rows of more than two customers")
		}
	})
}
