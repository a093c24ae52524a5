package synth

import (
	"math"
	"math/rand/v2"
)

// maker draws. Its generator is seeded anew for every customer and day, so that no draw depends on what was
// made before.
type maker struct {
	*rand.Rand
	*world
	source   *rand.PCG
	bank     uint64 // the bank's seed, mixed
	merchant *rand.Zipf
	seconds  []int    // scratch: times within one customer's day
	record   []string // scratch: the row that is handed out
}

func newMaker(seed uint64, w *world) *maker {
	source := rand.NewPCG(0, 0)
	r := rand.New(source)
	return &maker{
		Rand:     r,
		world:    w,
		source:   source,
		bank:     mix(seed),
		merchant: rand.NewZipf(r, merchantExponent, merchantOffset, merchantsPerCategory-1),
	}
}

// stream keeps the draws of traits and of each table apart.
type stream uint64

const (
	traits stream = iota + 1
	engagement
	transactions
)

func (m *maker) seed(s stream, customer, day uint64) {
	m.source.Seed(mix(m.bank+uint64(s)), mix(mix(customer)+day))
}

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection on 64 bits whose
// outputs for neighbouring inputs look unrelated.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// poisson draws a count by multiplying uniforms (Knuth, The Art of Computer Programming, volume 2, 3.4.1),
// which is quick for the small means of one day.
func (m *maker) poisson(mean float64) int {
	limit, product := math.Exp(-min(mean, mostPerDay)), m.Float64()
	n := 0
	for product > limit {
		product *= m.Float64()
		n++
	}
	return n
}

// mostPerDay keeps the tail of one customer's day plausible.
const mostPerDay = 40.0

// lognormal draws with a median and a standard deviation of the logarithm.
func (m *maker) lognormal(median, sigma float64) float64 {
	return median * math.Exp(sigma*m.NormFloat64())
}

// pareto draws from [1, infinity) with a tail index.
func (m *maker) pareto(index float64) float64 { return math.Pow(1-m.Float64(), -1/index) }

// pick draws an item.
func pick[T any](m *maker, w weighted[T]) T {
	u := m.Float64()
	for i, upTo := range w.cumulative {
		if u < upTo {
			return w.items[i]
		}
	}
	return w.items[len(w.items)-1]
}

// weighted is a finite distribution.
type weighted[T any] struct {
	items      []T
	cumulative []float64 // ends in 1, or next to it
}

// choice is an item with its weight, before weights are made to add up to 1.
type choice[T any] struct {
	item   T
	weight float64
}

func weigh[T any](choices ...choice[T]) weighted[T] {
	total := 0.0
	for _, c := range choices {
		total += c.weight
	}
	var w weighted[T]
	sum := 0.0
	for _, c := range choices {
		sum += c.weight
		w.items = append(w.items, c.item)
		w.cumulative = append(w.cumulative, sum/total)
	}
	return w
}
