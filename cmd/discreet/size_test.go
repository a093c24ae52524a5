package main

import "testing"

func TestSizesAreReadAsBytes(t *testing.T) {
	for text, want := range map[string]size{"1MiB": 1 << 20, "2GiB": 2 << 30, "3TiB": 3 << 40, "1048577": 1048577} {
		var got size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "0MiB", "-1GiB", "1.5GiB", "1 GiB", "1GB", "9223372036854775807TiB", "1048575"} {
		var got size
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
}
