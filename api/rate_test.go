package api

import (
	"errors"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

func TestConsumerThatAsksTooFastWaitsAndOthersDoNot(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	r := newRates(2, func() time.Time { return now })
	for i := range 20 { // ten seconds' worth at once
		if err := r.admit("fast"); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	var refused *dp.Error
	for range 3 { // refusals take nothing
		if err := r.admit("fast"); !errors.As(err, &refused) || refused.Code != dp.CodeRateLimited || refused.RetryAfter != time.Second/2 {
			t.Fatalf("the next one: %+v", err)
		}
	}
	if err := r.admit("slow"); err != nil {
		t.Errorf("another consumer: %v", err)
	}
	now = now.Add(time.Second)
	for want := range 3 {
		if err := r.admit("fast"); (err != nil) != (want == 2) {
			t.Errorf("request %d after a second: %v", want, err)
		}
	}
}

func TestServerRefusesRequestsBeyondTheRate(t *testing.T) {
	v := newTestServer(t, newFakes(t), func(o *Options) { o.Rate = 0.1 })
	read := func(key, path string) int {
		resp := send(t, v, key, "GET", path, "")
		if resp.StatusCode == 429 {
			refused(t, resp, 429, "rate-limited")
			if resp.Header.Get("Retry-After") == "" {
				t.Error("it does not say when to ask again")
			}
		}
		return resp.StatusCode
	}
	if first, second := read("product", "/v1/me"), read("product", "/v1/me"); first != 200 || second != 429 {
		t.Errorf("two requests of one consumer get %d and %d", first, second)
	}
	if other, open := read("analyst", "/v1/me"), read("product", "/livez"); other != 200 || open != 200 {
		t.Errorf("another consumer gets %d, who needs no key %d", other, open)
	}
}
