package main

import (
	"testing"
	"time"
)

func TestHoursAreReadAsTimesOfTheDay(t *testing.T) {
	for text, want := range map[string]time.Duration{"00:00": 0, "03:00": 3 * time.Hour, "23:59": 24*time.Hour - time.Minute} {
		var got hour
		if err := got.UnmarshalText([]byte(text)); err != nil || time.Duration(got) != want {
			t.Errorf("%s: %v, %v", text, time.Duration(got), err)
		}
	}
	for _, text := range []string{"", "3", "24:00", "12:60", "-1:00", "3pm", "03:00:00", "03:00Z"} {
		var got hour
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %v", text, time.Duration(got))
		}
	}
}
