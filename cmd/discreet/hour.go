package main

import (
	"errors"
	"time"
)

// hour is a time of the day, as flags give it: 03:00.
type hour time.Duration

// UnmarshalText reads hours and minutes.
func (h *hour) UnmarshalText(text []byte) error {
	at, err := time.Parse("15:04", string(text))
	if err != nil {
		return errors.New("a time of the day is hours and minutes, such as 03:00")
	}
	*h = hour(time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute)
	return nil
}
