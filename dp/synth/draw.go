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
	bank     uint64   // the bank's seed, mixed
	busier   float64  // multiplies payments
	ranks    *law     // of merchants
	linkDays []string // the bank's
	seconds  []int    // scratch: times within one customer's day
	record   record   // scratch: the row that is handed out
}

func newMaker(b *Bank) *maker {
	source := rand.NewPCG(0, 0)
	return &maker{
		Rand:     rand.New(source),
		world:    b.world,
		source:   source,
		bank:     mix(b.size.Seed),
		busier:   b.busier,
		ranks:    &b.ranks,
		linkDays: b.linkDays,
	}
}

// stream keeps the draws of traits and of each table apart.
type stream uint64

const (
	traits stream = iota + 1
	engagement
	transactions
	imagined
	habits
)

// key is what all draws of a stream have in common.
func (m *maker) key(s stream) uint64 { return mix(m.bank + uint64(s)) }

// lot is 64 bits for a customer's day. They are that day's first draw and seed all others: on most days there is
// no other.
func lot(key, customer, day uint64) uint64 { return mix(mix(customer+key) + day) }

func (m *maker) seed(key, lot uint64) { m.source.Seed(key, lot) }

// unit makes a number in [0, 1) of 64 bits.
func unit(bits uint64) float64 { return float64(bits>>11) / (1 << 53) }

// uniform is Float64 without the way through an interface.
func (m *maker) uniform() float64 { return unit(m.source.Uint64()) }

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
func (m *maker) poisson(mean float64) int { return m.poissonFrom(m.uniform(), mean) }

// surelyNone is negative only where poissonFrom gives 0. It costs no exponential: 1-mean is below exp(-mean).
func surelyNone(first, mean float64) int { return int(math.Float64bits(first - (1 - mean - 1e-9))) }

// poissonFrom is poisson whose first uniform is known.
func (m *maker) poissonFrom(first, mean float64) int {
	limit, product, n := math.Exp(-min(mean, mostPerDay)), first, 0
	for product > limit {
		product *= m.uniform()
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
func pick[T any](m *maker, w *weighted[T]) *T { return &w.items[w.at(m.uniform())] }

// pickIndex draws the position of an item in a short list.
func pickIndex[T any](m *maker, w *weighted[T]) uint8 { return uint8(w.at(m.uniform())) }

// weighted is a finite distribution of items.
type weighted[T any] struct {
	items []T
	law
}

// choice is an item with its weight, before weights are made to add up to 1.
type choice[T any] struct {
	item   T
	weight float64
}

func weigh[T any](choices ...choice[T]) weighted[T] {
	var w weighted[T]
	var weights []float64
	for _, c := range choices {
		w.items = append(w.items, c.item)
		weights = append(weights, c.weight)
	}
	w.law = newLaw(weights)
	return w
}

// law is a finite distribution of the numbers from 0.
type law struct {
	cumulative []float64 // ends in 1, or next to it
	// guide says for each of its equal parts of [0, 1) at which number to begin looking (Chen and Asau, "On
	// generating random variates from an empirical distribution", AIIE Transactions 6, 1974).
	guide []uint32
}

// newLaw makes weights, of which some may be 0, add up to 1.
func newLaw(weights []float64) law {
	total := 0.0
	for _, w := range weights {
		total += w
	}
	l := law{cumulative: make([]float64, len(weights)), guide: make([]uint32, max(64, 2*len(weights)))}
	sum := 0.0
	for i, w := range weights {
		sum += w
		l.cumulative[i] = sum / total
	}
	i := 0
	for part := range l.guide {
		for i < len(weights)-1 && float64(part)/float64(len(l.guide)) >= l.cumulative[i] {
			i++
		}
		l.guide[part] = uint32(i)
	}
	return l
}

// at is the first number whose cumulative weight is above u, or the last. u is in [0, 1).
func (l *law) at(u float64) int {
	i := int(l.guide[int(u*float64(len(l.guide)))])
	for i < len(l.cumulative)-1 && u >= l.cumulative[i] {
		i++
	}
	return i
}
