package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Size is a number of bytes, written "4GiB", "10MB" or as a plain number.
type Size int64

// String returns s in the largest IEC unit that holds it exactly: "4GiB",
// "1536MiB", "1000B". UnmarshalText reads it back.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	u := 0
	for s%1024 == 0 && u < len(units)-1 {
		s, u = s/1024, u+1
	}
	return strconv.FormatInt(int64(s), 10) + units[u]
}

// UnmarshalText reads "4GiB", "10MB", "1.5GiB", "10M" or "4096". KB and the like
// are powers of 1000, KiB and the like of 1024, and so is K, as rsync has it.
func (s *Size) UnmarshalText(text []byte) error {
	if strings.Contains(string(text), ",") { // which humanize would skip: "1,5GiB" is no 15GiB
		return errors.New("not a size")
	}
	full := string(text)
	if n := len(full); n > 1 && strings.ContainsAny(full[n-1:], "kKmMgGtTpPeE") && strings.ContainsAny(full[n-2:n-1], "0123456789. ") {
		full += "iB"
	}
	n, err := humanize.ParseBytes(full)
	if err != nil {
		return errors.New("not a size")
	}
	if n > math.MaxInt64 {
		return fmt.Errorf("over %d bytes", int64(math.MaxInt64))
	}
	*s = Size(n)
	return nil
}

// MarshalText returns String's text.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Duration is a span of time, written "30s" or "1h30m": always with its unit.
type Duration time.Duration

// String returns d as "30s", "2m", "1h30m", or "7d" where it is whole days, more than one.
func (d Duration) String() string {
	if d > day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// UnmarshalText reads "30s", or "7d" and "1d12h" with days of 24 hours. A number
// without a unit is an error.
func (d *Duration) UnmarshalText(text []byte) error {
	rest := string(text)
	if rest != "" && strings.Trim(rest, "0123456789") == "" {
		return unitMissing(rest)
	}
	var days int64
	if n, after, ok := strings.Cut(rest, "d"); ok {
		var err error
		if days, err = strconv.ParseInt(n, 10, 64); err != nil || days < 0 || days > int64(math.MaxInt64/day) {
			return errors.New("not a duration")
		}
		if rest = after; rest == "" {
			rest = "0s"
		}
	}
	v, err := time.ParseDuration(rest)
	whole := Duration(days)*day + Duration(v)
	if err != nil || days > 0 && (v < 0 || whole < 0) {
		return errors.New("not a duration")
	}
	*d = whole
	return nil
}

// MarshalText returns String's text.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func unitMissing(n any) error { return fmt.Errorf("unit missing, as in \"%vs\"", n) }

// Secret is text that no log, message or JSON shows: it prints as "redacted".
// Only Reveal and TOML give it away.
type Secret string

const redacted = "redacted"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// Format prints "redacted" under every verb that vet lets a string have.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String returns "redacted".
func (Secret) String() string { return redacted }

// LogValue logs "redacted".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "redacted", for JSON and whatever else writes text.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalTOML returns the secret itself, as a TOML string.
func (s Secret) MarshalTOML() ([]byte, error) { return []byte(quote(string(s))), nil }
