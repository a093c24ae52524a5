package main

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// engagementQuestions are what a product team asks of page views in the sixteen days of January that the file has.
func engagementQuestions() map[string][]string {
	return map[string][]string{
		"daily": {"active_users", "sessions", "--by", "time.day"},
		"all":   {"active_users", "active_days", "sessions", "stickiness"},
		// Of those who came first so early that the seventh day after is in the range, too.
		"retention": {"customers", "--by", "since.day", "--where", "since.day=0,7", "--where", "first.day<=2014-01-15"},
	}
}

// engagementByHand works the same out of the file: by question and group, then by metric. Of the sessions of one reader, at most
// so many count in each group.
func engagementByHand(t *testing.T, path string, mostSessions float64) map[string]map[string]float64 {
	t.Helper()
	times := map[string][]time.Time{}
	for _, r := range records(t, path) {
		at, err := time.Parse(time.RFC3339, r["timestamp"])
		if err != nil {
			t.Fatal(err)
		}
		times[r["uuid"]] = append(times[r["uuid"]], at)
	}
	figures := map[string]map[string]float64{}
	sessions := map[string]float64{} // of the reader at hand, by group
	add := func(group, metric string) {
		if figures[group] == nil {
			figures[group] = map[string]float64{}
		}
		if metric == "sessions" {
			if sessions[group]++; sessions[group] > mostSessions {
				return
			}
		}
		figures[group][metric]++
	}
	for _, of := range times {
		slices.SortFunc(of, time.Time.Compare)
		clear(sessions)
		add("all", "active_users")
		first := of[0].Truncate(24 * time.Hour)
		seen := map[string]bool{}
		for i, at := range of {
			day := at.Format(time.DateOnly)
			pause := i == 0 || at.Sub(of[i-1]) > 30*time.Minute
			if pause {
				add("all", "sessions")
			}
			if pause || !seen[day] { // of a day, a session begins with the day
				add("daily "+day, "sessions")
			}
			if !seen[day] {
				add("all", "active_days")
				add("daily "+day, "active_users")
				since := int(at.Truncate(24*time.Hour).Sub(first).Hours() / 24)
				if since == 0 && !first.After(time.Date(2014, 1, 15, 0, 0, 0, 0, time.UTC)) {
					add("retention 0", "customers")
				}
				if since == 7 {
					add("retention 7", "customers")
				}
			}
			seen[day] = true
		}
	}
	figures["all"]["stickiness"] = figures["all"]["active_days"] / figures["all"]["active_users"] / 16
	return figures
}

// askEngagement gives every figure of a served dataset of these bounds, by question and group, then by metric.
func askEngagement(t *testing.T, noise mechanism.Noise, maxRows string) map[string]map[string]wire.Value {
	t.Helper()
	h, analyst, _ := loaded(t, noise, example(t, "wikimedia-sessions", "max_rows: 400", "max_rows: "+maxRows), realData(t, "wikimedia-sessions/session_dataset.csv"))
	figures := map[string]map[string]wire.Value{}
	for name, question := range engagementQuestions() {
		var release wire.Release
		h.mustJSON(&release, analyst, append(append([]string{"query", "wikimedia-sessions"}, question...),
			"--from", "2014-01-07", "--to", "2014-01-22", "--purpose", "product-analytics", "--epsilon", "1", "--delta", "1e-7")...)
		for _, g := range release.Groups {
			figures[strings.TrimSpace(name+" "+strings.Join(keyOf(g, release.By), " "))] = g.Values
		}
	}
	return figures
}

func TestEngagementOfWikimediaEqualsCountingByHand(t *testing.T) {
	want := engagementByHand(t, realData(t, "wikimedia-sessions/session_dataset.csv"), 400)
	got := askEngagement(t, exact{}, "400")
	if len(got) != len(want) || len(want) != 16+1+2 {
		t.Errorf("%d groups are answered, %d were counted", len(got), len(want))
	}
	for group, of := range want {
		for metric, figure := range of {
			if v := got[group][metric].Value; math.Abs(v-figure) > 1e-9 {
				t.Errorf("%s of %s is %v, by hand %v", metric, group, v, figure)
			}
		}
	}
}

// TestEngagementOfWikimediaLiesInItsIntervals with noise: of all figures the share that is promised, at a false-alarm rate
// below 1e-6; a fifth of each interval would not do. Sessions have noise for as many as one reader may add: at most four here.
func TestEngagementOfWikimediaLiesInItsIntervals(t *testing.T) {
	want := engagementByHand(t, realData(t, "wikimedia-sessions/session_dataset.csv"), 4)
	got := askEngagement(t, mechanism.Secure(), "4")
	covered, narrow, n := 0, 0, 0
	for group, of := range want {
		for metric, figure := range of {
			v := got[group][metric]
			t.Logf("%-16s %-12s by hand %9.4f answered %9.4f in %9.4f to %9.4f", group, metric, figure, v.Value, v.Low, v.High)
			covered += count(v.Low <= figure && figure <= v.High)
			narrow += count(math.Abs(v.Value-figure) <= (v.High-v.Low)/10)
			n++
		}
	}
	if !plausible(covered, n, 0.95) {
		t.Errorf("%d of %d figures lie in their intervals", covered, n)
	}
	if plausible(narrow, n, 0.95) {
		t.Errorf("the test would accept a fifth of each interval: %d of %d", narrow, n)
	}
}
