package config

import (
	"testing"
	"time"
)

func TestBandwidthByTheTime(t *testing.T) {
	t.Parallel()
	at := func(day, clock string) time.Time {
		when, err := time.ParseInLocation("2006-01-02 15:04", map[string]string{"Sat": "2026-08-01", "Sun": "2026-08-02", "Mon": "2026-08-03"}[day]+" "+clock, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for text, want := range map[string]map[time.Time]int64{
		"":    {at("Mon", "00:00"): 0},
		"off": {at("Mon", "00:00"): 0},
		"10M": {at("Mon", "00:00"): 10 << 20, at("Sat", "23:59"): 10 << 20},
		"08:00,1M 19:00,off": {
			at("Mon", "07:59"): 0, at("Mon", "08:00"): 1 << 20, at("Mon", "18:59"): 1 << 20, at("Mon", "19:00"): 0, at("Sun", "00:00"): 0, at("Sun", "08:00"): 1 << 20,
		},
		"19:00,0 08:00,512KB Sat-08:00,2MiB": {at("Sat", "07:59"): 0, at("Sat", "08:00"): 2 << 20, at("Sat", "19:00"): 0, at("Sun", "08:01"): 512_000},
		"Mon-09:00,1G sat-12:30,64k":         {at("Sun", "00:00"): 64 << 10, at("Mon", "08:59"): 64 << 10, at("Mon", "09:00"): 1 << 30, at("Sat", "12:29"): 1 << 30, at("Sat", "12:30"): 64 << 10},
	} {
		var b, back Bandwidth
		if err := b.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if err := back.UnmarshalText([]byte(b.String())); err != nil {
			t.Errorf("%q prints %q: %v", text, b, err)
		}
		for when, rate := range want {
			if got := b.At(when); got != rate || back.At(when) != rate {
				t.Errorf("%q at %s: got %d, want %d", text, when.Format("Mon 15:04"), got, rate)
			}
		}
	}
	for _, text := range []string{"10", "1K", "-1M", "fast", "8,1M", "24:00,1M", "08:00,1M 08:00,off", "08:00,1M 10M", "Mo-08:00,1M", "Mon-08:00,1M mon-08:00,2M", "08:00", "08:00,", ","} {
		var b Bandwidth
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken, as %v", text, b)
		}
	}
}
