package columnar

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
)

// linkedClicks is clicks whose last column is consent.
func linkedClicks() dp.VersionedPolicy {
	p := clicks()
	p.Link = &dp.Link{Consent: "secret"}
	return p
}

// consents counts the rows of a block by whether they carry consent, as the segments have them.
func consents(t *testing.T, s *Store, dataset, block string) map[bool]int {
	t.Helper()
	count := map[bool]int{}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	from := &reader{txn: txn, cache: s.columns}
	p := clicks()
	want := wanted{Needs: bounding.Needs{Dimensions: make([]bool, 1), Measures: make([]bool, 1)}, consent: true}
	for shard := range s.shards {
		at := shardOf{dataset, block, shard}
		loads, err := s.committed(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		m, err := readMerged(from, at)
		if err != nil {
			t.Fatal(err)
		}
		chains, err := s.chains(from, at, m, loads)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chains {
			for ; c.first < c.last; c.first++ {
				segment, err := readSegment(from, c.prefix, c.first, &p.Policy, want)
				if err != nil {
					t.Fatal(err)
				}
				for i := range segment.header.Rows {
					count[segment.consents(i)]++
				}
			}
		}
	}
	return count
}

// bytesOfConsent is how long the columns of consent are, with their frames.
func bytesOfConsent(t *testing.T, s *Store) (bytes int) {
	t.Helper()
	walk(t, s, func(key, value []byte) {
		if strings.HasPrefix(string(key), "rows/") && key[len(key)-1] == byte(consentColumn) {
			bytes += len(value)
		}
	})
	return bytes
}

// manyClicks has a row of each of so many customers, of whom every other one agrees.
func manyClicks(customers int) string {
	var text strings.Builder
	text.WriteString(clicksHeader)
	for i := range customers {
		fmt.Fprintf(&text, "user%d,2026-01-05,home,1,%s\n", i, []string{"2026-01-02", ""}[i%2])
	}
	return text.String()
}

func TestConsentTakesABitWhereRowsDifferAndNothingElsewhere(t *testing.T) {
	const rows = 8000
	for name, c := range map[string]struct {
		policy dp.VersionedPolicy
		text   string
		most   int // bytes of each segment
	}{
		"no link":       {clicks(), manyClicks(rows), 0},
		"nobody agrees": {linkedClicks(), strings.ReplaceAll(manyClicks(rows), "2026-01-02", "no"), 0},
		"all agree":     {linkedClicks(), strings.ReplaceAll(manyClicks(rows), ",\n", ",yes\n"), 20},
		"some agree":    {linkedClicks(), manyClicks(rows), rows/8/3 + 60},
	} {
		s := open(t, t.TempDir(), newCatalog(), small())
		mustLoad(t, s, c.policy, spec("one"), c.text)
		if got := bytesOfConsent(t, s); got > c.most*s.shards {
			t.Errorf("%s: %d bytes", name, got)
		}
	}
}

// Rows that were loaded before the policy had a link, while it had one, and after, are merged, and some of their customers
// are erased: each row that is left has the consent that it came with.
func TestConsentOutlivesMergersAndPolicies(t *testing.T) {
	s := open(t, t.TempDir(), newCatalog(), small())
	check := func(when string, agree, others int) {
		t.Helper()
		if got, want := consents(t, s, "clicks", "2026-01"), (map[bool]int{true: agree, false: others}); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	mustLoad(t, s, clicks(), spec("before"), manyClicks(500))
	if r := mustLoad(t, s, linkedClicks(), spec("before"), manyClicks(500)); !r.Repeated {
		t.Error("the same file under another policy was loaded twice")
	}
	if got := consents(t, s, "clicks", "2026-01"); got[true] != 0 || got[false] != 500 {
		t.Errorf("before: %v", got)
	}
	mustLoad(t, s, linkedClicks(), spec("while"), manyClicks(800))
	if r := mustLoad(t, s, linkedClicks(), spec("while"), manyClicks(800)); !r.Repeated {
		t.Error("the same file was loaded twice")
	}
	check("loaded", 400, 900)
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("merged", 400, 900)
	mustLoad(t, s, clicks(), spec("after"), manyClicks(300))
	mustErase(t, s, clicks(), "user0", "user1", "user2", "user700")
	if err := s.RunErasures(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("erased", 400-3, 900-1+300-3-3)
}
