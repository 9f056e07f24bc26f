package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	minRate      = 16 << 10 // bytes a second under which servers take a client for dead
	minutesOfDay = 24 * 60
)

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // as time.Weekday counts

// Bandwidth bounds bytes a second by the time of the day, in local time. The zero
// value is no bound.
//
// It is written as one rate ("10M"), or as a timetable: "08:00,1M 19:00,off" holds
// from 8 o'clock what stands behind it, and from 19 o'clock nothing back; a day of
// the week may stand in front ("Sat-00:00,off"). Before the week's first entry its
// last one holds. Rates are sizes with a unit, 16 KiB or more, "off" or 0.
type Bandwidth struct {
	text  string
	table []bandwidthFrom // in order; empty: none
}

// bandwidthFrom is what holds from a minute of the week on.
type bandwidthFrom struct {
	minute int   // since Sunday, 00:00
	rate   int64 // bytes a second; 0: no bound
	ofADay bool  // its day was named: it wins over what holds each day
}

// At returns the bytes a second that t may take; 0 is no bound.
func (b Bandwidth) At(t time.Time) int64 {
	if len(b.table) == 0 {
		return 0
	}
	t = t.Local()
	minute := int(t.Weekday())*minutesOfDay + t.Hour()*60 + t.Minute()
	next, there := slices.BinarySearchFunc(b.table, minute, func(f bandwidthFrom, m int) int { return cmp.Compare(f.minute, m) })
	if there {
		next++
	}
	return b.table[(next+len(b.table)-1)%len(b.table)].rate
}

// Bounds reports whether there is a bound at any time.
func (b Bandwidth) Bounds() bool {
	return slices.ContainsFunc(b.table, func(f bandwidthFrom) bool { return f.rate > 0 })
}

// String returns b as it was written.
func (b Bandwidth) String() string { return b.text }

// UnmarshalText reads a rate or a timetable.
func (b *Bandwidth) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	read := Bandwidth{text: strings.Join(words, " ")}
	if len(words) == 1 && !strings.Contains(words[0], ",") {
		rate, err := parseRate(words[0])
		if err != nil {
			return err
		}
		read.table = []bandwidthFrom{{rate: rate}}
		words = nil
	}
	for _, word := range words {
		from, rateText, ok := strings.Cut(word, ",")
		if !ok {
			return fmt.Errorf("%q is no HH:MM,RATE", cut(word, maxShown))
		}
		rate, err := parseRate(rateText)
		if err != nil {
			return fmt.Errorf("from %s: %w", cut(from, maxShown), err)
		}
		if err := read.add(from, rate); err != nil {
			return err
		}
	}
	slices.SortFunc(read.table, func(x, y bandwidthFrom) int { return cmp.Compare(x.minute, y.minute) })
	*b = read
	return nil
}

// MarshalText returns String's text.
func (b Bandwidth) MarshalText() ([]byte, error) { return []byte(b.text), nil }

// add adds what holds from a time of each day on, or of one day of the week.
func (b *Bandwidth) add(from string, rate int64) error {
	clock, days := from, []int{0, 1, 2, 3, 4, 5, 6}
	named, rest, ofADay := strings.Cut(from, "-")
	if ofADay {
		day := slices.Index(weekdays, strings.ToLower(named))
		if day < 0 {
			return fmt.Errorf("%q is no day of the week", cut(named, maxShown))
		}
		clock, days = rest, []int{day}
	}
	at, err := time.Parse("15:04", clock)
	if err != nil {
		return fmt.Errorf("%q is no time of the day", cut(clock, maxShown))
	}
	for _, day := range days {
		f := bandwidthFrom{day*minutesOfDay + at.Hour()*60 + at.Minute(), rate, ofADay}
		same := slices.IndexFunc(b.table, func(o bandwidthFrom) bool { return o.minute == f.minute })
		switch {
		case same < 0:
			b.table = append(b.table, f)
		case b.table[same].ofADay == ofADay:
			return fmt.Errorf("%s stands there twice", from)
		case ofADay:
			b.table[same] = f
		}
	}
	return nil
}

// parseRate reads bytes a second; 0 is no bound. Other programs take a bare number
// for KiB, sizes here for bytes: it is neither.
func parseRate(text string) (int64, error) {
	if text == "off" || text == "0" {
		return 0, nil
	}
	if text != "" && strings.Trim(text, "0123456789.") == "" {
		return 0, fmt.Errorf("unit missing, as in %sK", text)
	}
	var rate Size
	if err := rate.UnmarshalText([]byte(text)); err != nil {
		return 0, errors.New("not a rate")
	}
	return int64(rate), checkRange(rate, minRate, 1<<50)
}
