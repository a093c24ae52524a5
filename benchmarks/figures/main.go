// Command figures compares the error of a mean and of a variance with that of the objects of Google's library at the same
// loss: the same rows, epsilon 1, delta 1e-6, one customer per row. Both are drawn anew in every run, and the standard
// deviations of what they give are stated in units of half the clamp's width, squared for a variance, over the rows.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"

	"github.com/google/differential-privacy/go/v3/dpagg"
	"github.com/google/differential-privacy/go/v3/noise"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

const (
	lower, upper = 0, 1000 // fixed-point units
	half         = (upper - lower) / 2
)

func main() {
	runs := flag.Int("runs", 2000, "draws of each figure")
	count := flag.Int("rows", 10_000, "rows, spread evenly over the clamp")
	flag.Parse()
	if err := run(*runs, *count); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run(runs, count int) error {
	if runs < 2 || count < 2 {
		return errors.New("give at least two runs and two rows")
	}
	random := rand.New(rand.NewPCG(1, 2))
	rows := make([]int64, count)
	for i := range rows {
		rows[i] = lower + random.Int64N(upper-lower+1)
	}
	var ours, theirs [2][]float64
	for range runs {
		for i, draw := range []func([]int64) (float64, error){mean, variance} {
			v, err := draw(rows)
			if err != nil {
				return err
			}
			ours[i] = append(ours[i], v)
		}
		for i, draw := range []func([]int64) (float64, error){libraryMean, libraryVariance} {
			v, err := draw(rows)
			if err != nil {
				return err
			}
			theirs[i] = append(theirs[i], v)
		}
	}
	fmt.Printf("%d rows, %d draws each, epsilon 1, delta 1e-6\n\n", count, runs)
	fmt.Println("| figure | Discreet, sd | library's object, sd | theirs over ours |")
	fmt.Println("|---|---|---|---|")
	for i, name := range []string{"mean", "variance"} {
		unit := math.Pow(half, float64(i+1)) / float64(count)
		a, b := sd(ours[i])/unit, sd(theirs[i])/unit
		fmt.Printf("| %s | %.2f | %.2f | %.2f |\n", name, a, b, b/a)
	}
	return nil
}

func priced(v mechanism.Vector) (mechanism.Vector, error) {
	return mechanism.ForLoss(v, dp.EpsilonOne, dp.DeltaOne/1_000_000, false, mechanism.DefaultConfidence)
}

// drawn adds the noise of a vector to its exact coordinates.
func drawn(v mechanism.Vector, exact ...int64) ([]int64, error) {
	source, noised := mechanism.Secure(), make([]int64, len(exact))
	for i, x := range exact {
		var err error
		if noised[i], err = source.Add(x, v.Draw(i)); err != nil {
			return nil, err
		}
	}
	return noised, nil
}

func mean(rows []int64) (float64, error) {
	v, err := priced(mechanism.Vector{Partitions: 1, Bounds: []int64{upper - lower, 1}})
	if err != nil {
		return 0, err
	}
	sum := int64(0)
	for _, x := range rows {
		sum += 2*x - lower - upper
	}
	n, err := drawn(v, sum, int64(len(rows)))
	if err != nil {
		return 0, err
	}
	value, _, _, _ := mechanism.MeanInterval(n[0], n[1], v, lower, upper, mechanism.DefaultConfidence)
	return value, nil
}

func variance(rows []int64) (float64, error) {
	v, err := priced(mechanism.VarianceBounds(1, 1, lower, upper))
	if err != nil {
		return 0, err
	}
	sum, squares := int64(0), int64(0)
	for _, x := range rows {
		w := 2*x - lower - upper
		sum += w
		squares += 2*w*w - (upper-lower)*(upper-lower)
	}
	n, err := drawn(v, 2*int64(len(rows)), 2*sum, squares)
	if err != nil {
		return 0, err
	}
	value, _, _, _ := mechanism.VarianceInterval(n[0], n[1], n[2], v, lower, upper, mechanism.DefaultConfidence)
	return value, nil
}

func libraryMean(rows []int64) (float64, error) {
	m, err := dpagg.NewBoundedMean(&dpagg.BoundedMeanOptions{
		Epsilon: 1, Delta: 1e-6, MaxPartitionsContributed: 1, MaxContributionsPerPartition: 1, Lower: lower, Upper: upper, Noise: noise.Gaussian(),
	})
	if err != nil {
		return 0, err
	}
	for _, x := range rows {
		if err := m.Add(float64(x)); err != nil {
			return 0, err
		}
	}
	return m.Result()
}

func libraryVariance(rows []int64) (float64, error) {
	m, err := dpagg.NewBoundedVariance(&dpagg.BoundedVarianceOptions{
		Epsilon: 1, Delta: 1e-6, MaxPartitionsContributed: 1, MaxContributionsPerPartition: 1, Lower: lower, Upper: upper, Noise: noise.Gaussian(),
	})
	if err != nil {
		return 0, err
	}
	for _, x := range rows {
		if err := m.Add(float64(x)); err != nil {
			return 0, err
		}
	}
	return m.Result()
}

func sd(values []float64) float64 {
	sum, squares := 0.0, 0.0
	for _, v := range values {
		sum += v
	}
	average := sum / float64(len(values))
	for _, v := range values {
		squares += (v - average) * (v - average)
	}
	return math.Sqrt(squares / float64(len(values)-1))
}
