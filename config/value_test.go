package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"fenc/wire/fuzztest"
)

func TestSizeText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{"4GiB": 4 << 30, "4 GiB": 4 << 30, "10MB": 10_000_000, "1.5KiB": 1536, "4096": 4096, "0": 0, "10M": 10 << 20, "1.5g": 3 << 29, "2 k": 2048, "8191PiB": 8191 << 50} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for size, want := range map[Size]string{0: "0", 1: "1B", 1000: "1000B", 1024: "1KiB", 1536 << 20: "1536MiB", 4 << 30: "4GiB", math.MaxInt64: "9223372036854775807B"} {
		var back Size
		if got := size.String(); got != want || back.UnmarshalText([]byte(got)) != nil || back != size {
			t.Errorf("%d prints %q and reads %d, want %q", int64(size), got, int64(back), want)
		}
	}
}

func TestDurationText(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "0s", 30: "30ns", 10 * time.Second: "10s", 2 * time.Minute: "2m", 24 * time.Hour: "24h", 36 * time.Hour: "36h", 48 * time.Hour: "2d", 90 * 24 * time.Hour: "90d", 48*time.Hour + 1: "48h0m0.000000001s", 90 * time.Minute: "1h30m", 3601 * time.Second: "1h0m1s"} {
		var back Duration
		if got := Duration(d).String(); got != want || back.UnmarshalText([]byte(got)) != nil || back != Duration(d) {
			t.Errorf("%d prints %q and reads %d, want %q", int64(d), got, int64(back), want)
		}
	}
}

func TestSecretShowsNowhere(t *testing.T) {
	t.Parallel()
	const hidden = "MIICdQ"
	m := Me{Name: "n", PrivateKey: hidden}
	var out bytes.Buffer
	for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "10.2s", "T"} {
		fmt.Fprintf(&out, "%"+verb+" %"+verb+" %"+verb+"\n", m.PrivateKey, m, &m)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", "key", m.PrivateKey, "me", m)
	}
	if err := json.NewEncoder(&out).Encode(m); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&out, m.PrivateKey, m)
	for _, form := range []string{hidden, fmt.Sprintf("%x", hidden), fmt.Sprintf("%X", hidden)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%s shows in:\n%s", form, out.String())
		}
	}
	if !strings.Contains(out.String(), `"redacted"`) {
		t.Errorf("JSON does not say redacted:\n%s", out.String())
	}
	if m.PrivateKey.Reveal() != hidden {
		t.Errorf("reveals %q, want %q", m.PrivateKey.Reveal(), hidden)
	}
}

func TestSettingsSurviveTOML(t *testing.T) {
	t.Parallel()
	for _, in := range []any{&Me{Name: "n", ID: "00", PrivateKey: "a\"\\\nb"}, &Server{MaxFileSize: 4 << 30, IdleTimeout: day}} {
		text, err := toml.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		switch in := in.(type) {
		case *Me:
			var out Me
			if _, err := toml.Decode(string(text), &out); err != nil || out != *in {
				t.Errorf("%v: got back %+v from %s", err, out, text)
			}
		case *Server:
			var out Server
			if _, err := toml.Decode(string(text), &out); err != nil || out.MaxFileSize != in.MaxFileSize || out.IdleTimeout != in.IdleTimeout {
				t.Errorf("%v: got back %+v from %s", err, out, text)
			}
		}
	}
}

func FuzzSize(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, text := range []string{"4GiB", "1.5KiB", "10M", "0", "9223372036854775807B", "-1", "1e99"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, back Size
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s || s < 0 {
			t.Fatalf("%q is %d, which prints %q and reads %d, %v", text, int64(s), s.String(), int64(back), err)
		}
	})
}

func FuzzDuration(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, text := range []string{"10s", "1h30m", "7d", "0s", "30ns", "9e18h"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var d, back Duration
		if d.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := back.UnmarshalText([]byte(d.String())); err != nil || back != d {
			t.Fatalf("%q is %d, which prints %q and reads %d, %v", text, int64(d), d.String(), int64(back), err)
		}
	})
}
