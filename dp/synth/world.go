package synth

import (
	"math"
	"strconv"
)

// world is what customers choose from. It is never changed after it was made.
type world struct {
	platforms  weighted[string]
	countries  weighted[*country]
	actions    weighted[action]
	categories []category

	appWeekdays, appWeekends   weighted[int]
	shopWeekdays, shopWeekends weighted[int]

	founders, streets []string // what names of merchants are made of
}

// country is where a customer lives or is.
type country struct {
	code   string
	cities weighted[string]
}

// action is something that can be done in the app.
type action struct {
	event   string
	seconds float64 // median time spent on it
}

// category is a kind of merchant.
type category struct {
	name           string
	weight         float64 // of an ordinary day
	median, sigma  float64 // of one amount, lognormal
	online         float64 // share that is paid online
	advent, summer float64 // multiply the weight at the end of Advent and in summer
	abroad         float64 // multiplies the weight on holiday
	trade          []string
}

func newWorld() *world {
	return &world{
		platforms: weigh(choice[string]{"android", 0.46}, choice[string]{"ios", 0.41}, choice[string]{"web", 0.13}),
		countries: weigh(
			choice[*country]{land("DE", "Berlin", "Hamburg", "Munich", "Cologne", "Frankfurt", "Stuttgart", "Leipzig", "Dresden", "Bremen", "Essen", "Nuremberg", "Freiburg"), 0.50},
			choice[*country]{land("FR", "Paris", "Marseille", "Lyon", "Toulouse", "Nice", "Nantes", "Strasbourg", "Bordeaux", "Lille"), 0.18},
			choice[*country]{land("ES", "Madrid", "Barcelona", "Valencia", "Seville", "Malaga", "Palma", "Bilbao"), 0.10},
			choice[*country]{land("IT", "Rome", "Milan", "Naples", "Turin", "Bologna", "Florence", "Verona"), 0.09},
			choice[*country]{land("NL", "Amsterdam", "Rotterdam", "Utrecht", "Eindhoven"), 0.06},
			choice[*country]{land("AT", "Vienna", "Graz", "Linz", "Salzburg"), 0.05},
			choice[*country]{land("PT", "Lisbon", "Porto", "Faro"), 0.015},
			choice[*country]{land("DK", "Copenhagen", "Aarhus"), 0.005},
		),
		actions: weigh(
			choice[action]{action{"card_view", 20}, 0.30},
			choice[action]{action{"transfer", 45}, 0.22},
			choice[action]{action{"budget_view", 40}, 0.17},
			choice[action]{action{"bank_chat", 120}, 0.12},
			choice[action]{action{"settings", 30}, 0.08},
			choice[action]{action{"support", 180}, 0.05},
			choice[action]{action{"statement_export", 15}, 0.06}, // in no policy's domain: becomes other
		),
		categories: []category{
			{"grocery", 0.40, 24, 0.75, 0.07, 1.4, 0.9, 0.8, []string{"Markt", "Foods", "Grocers"}},
			{"dining", 0.20, 17, 0.70, 0.12, 1.2, 1.2, 3.0, []string{"Café", "Kitchen", "Bistro"}},
			{"fuel", 0.09, 52, 0.40, 0.00, 1.0, 1.3, 1.0, []string{"Energy", "Fuels"}},
			{"fashion", 0.09, 46, 0.80, 0.55, 2.0, 0.9, 1.0, []string{"Mode", "Outfitters", "Shoes"}},
			{"electronics", 0.05, 89, 1.00, 0.60, 3.0, 0.8, 0.3, []string{"Digital", "Electronics"}},
			{"health", 0.07, 19, 0.60, 0.15, 1.1, 1.0, 0.5, []string{"Pharmacy", "Optics"}},
			{"entertainment", 0.06, 15, 0.60, 0.70, 1.2, 1.1, 1.5, []string{"Cinema", "Games", "Tickets"}},
			{"travel", 0.03, 140, 0.95, 0.75, 0.7, 2.2, 4.0, []string{"Rail", "Hotels", "Air"}},
			{"pets", 0.01, 28, 0.60, 0.35, 1.1, 1.0, 0.1, []string{"Pets"}}, // in no policy's domain: becomes other
		},
		appWeekdays:  hourly([24]float64{3, 2, 1, 1, 1, 3, 14, 30, 36, 30, 27, 28, 38, 34, 26, 25, 27, 34, 40, 45, 48, 38, 22, 9}),
		appWeekends:  hourly([24]float64{6, 4, 2, 1, 1, 1, 4, 10, 22, 34, 40, 40, 38, 34, 31, 30, 31, 34, 38, 42, 44, 36, 24, 13}),
		shopWeekdays: hourly([24]float64{2, 1, 1, 0, 0, 2, 9, 22, 26, 27, 30, 38, 58, 50, 34, 34, 44, 62, 66, 50, 34, 22, 12, 5}),
		shopWeekends: hourly([24]float64{6, 5, 3, 1, 0, 0, 2, 6, 16, 34, 52, 60, 58, 54, 52, 50, 46, 42, 40, 38, 32, 25, 18, 11}),
		founders: []string{
			"Alder", "Birch", "Cedar", "Dorn", "Elm", "Fenn", "Gale", "Hazel", "Iris", "Juniper",
			"Kestrel", "Linden", "Maple", "Nord", "Oak", "Poppy", "Quince", "Rowan", "Sorrel", "Thorn",
		},
		streets: []string{
			"", "Old Town", "Harbour", "Station", "Bridge", "Garden", "Mill", "Castle", "Market", "Lake",
		},
	}
}

// land gives a country whose cities are the smaller the later they are named.
func land(code string, cities ...string) *country {
	var weights []choice[string]
	for i, city := range cities {
		weights = append(weights, choice[string]{city, 1 / float64(i+1)})
	}
	return &country{code: code, cities: weigh(weights...)}
}

// Merchants of a category follow Zipf's law: a few chains, and a long tail of shops.
const (
	usualMerchants   = 5400
	merchantExponent = 1.25
	merchantOffset   = 2.0
)

// zipf is the law of so many ranks, from 0: the weight of rank k is (k + offset)^-exponent.
func zipf(ranks int) law {
	weights := make([]float64, ranks)
	for k := range weights {
		weights[k] = math.Pow(float64(k)+merchantOffset, -merchantExponent)
	}
	return newLaw(weights)
}

// merchant writes the name of the merchant of a rank, in every category a different one.
func (m *maker) merchant(c *category, rank int) {
	r := &m.record
	r.line = append(r.line, m.founders[rank%len(m.founders)]...)
	r.line = append(r.line, ' ')
	r.line = append(r.line, c.trade[rank%len(c.trade)]...)
	if street := m.streets[rank/len(m.founders)%len(m.streets)]; street != "" {
		r.line = append(r.line, ' ')
		r.line = append(r.line, street...)
	}
	if branch := rank / (len(m.founders) * len(m.streets)); branch > 0 {
		r.line = append(r.line, ' ')
		r.line = strconv.AppendInt(r.line, int64(branch+1), 10)
	}
	r.close()
}
