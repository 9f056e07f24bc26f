package progress

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"fenc/modes/send"
	"fenc/wire"
)

// maxLeft is how many files that were left in the middle are remembered by name.
const maxLeft = 3

// ledger counts what a transfer reports. Of files that have ended it keeps sums.
type ledger struct {
	counting sync.Mutex
	begun    time.Time // when the first file was on its way
	sums     sums
	active   []*active // in the order they began
	left     []leftover
	resume   time.Time
	rate     rate
}

// sums are what a ledger counts.
type sums struct {
	found, foundBytes int64
	counted           bool // found is all
	verified          int64
	verifiedBytes     int64 // unchanged ones too
	unchanged         int64 // of verified
	failed            int64
	refused           int64 // of failed: the server said no, and would say it again
	failedBytes       int64
	skipped           int64
	retries           int64
	moved             int64         // bytes of files that have ended
	paused            time.Duration // after lost connections
	left              int64         // files that failed and of which the receiver holds a part
}

// active is a file on its way.
type active struct {
	*send.Progress
	begun time.Time
}

// leftover is a file that failed and of which the receiver holds a part.
type leftover struct {
	name       string
	size, held int64
}

// Found implements send.Reporter.
func (l *ledger) Found(files, bytes int64) {
	l.counting.Lock()
	defer l.counting.Unlock()
	l.sums.found += files
	l.sums.foundBytes += bytes
}

// Counted implements send.Reporter.
func (l *ledger) Counted() {
	l.counting.Lock()
	defer l.counting.Unlock()
	l.sums.counted = true
}

// Begin implements send.Reporter.
func (l *ledger) Begin(p *send.Progress) {
	l.counting.Lock()
	defer l.counting.Unlock()
	now := time.Now()
	if l.begun.IsZero() {
		l.begun = now
	}
	l.active = append(l.active, &active{p, now})
}

// End is that of send.Reporter.
func (l *ledger) End(p *send.Progress, r send.Result) {
	l.counting.Lock()
	defer l.counting.Unlock()
	var c send.Counters
	if p != nil {
		c = p.Counters()
		if i := slices.IndexFunc(l.active, func(a *active) bool { return a.Progress == p }); i >= 0 {
			l.active = slices.Delete(l.active, i, i+1)
		}
	}
	l.sums.moved += c.Moved
	if r.Err == nil {
		l.sums.verified++
		l.sums.verifiedBytes += r.Size
		if r.Unchanged {
			l.sums.unchanged++
		}
		return
	}
	l.sums.failed++
	if errors.Is(r.Err, send.ErrRefused) {
		l.sums.refused++
	}
	l.sums.failedBytes += r.Size
	if p != nil && p.Acknowledged && c.Held > 0 {
		if l.sums.left++; len(l.left) < maxLeft {
			l.left = append(l.left, leftover{p.Name, p.Size, min(c.Held, p.Size)})
		}
	}
}

// Skip is that of send.Reporter.
func (l *ledger) Skip(string, string) {
	l.counting.Lock()
	defer l.counting.Unlock()
	l.sums.skipped++
}

// Retry is that of send.Reporter.
func (l *ledger) Retry(_ error, pause time.Duration) {
	l.counting.Lock()
	defer l.counting.Unlock()
	l.sums.retries++
	l.sums.paused += pause
	l.resume = time.Now().Add(pause)
}

// Files returns how many files were verified, and how many ended otherwise.
func (l *ledger) Files() (verified, failed int64) {
	l.counting.Lock()
	defer l.counting.Unlock()
	return l.sums.verified, l.sums.failed
}

// Refused reports whether all files ended by a refusal of the server, and there were some.
func (l *ledger) Refused() bool {
	l.counting.Lock()
	defer l.counting.Unlock()
	return l.sums.verified == 0 && l.sums.failed > 0 && l.sums.refused == l.sums.failed
}

// Left says what the receiver holds of files that failed: "43 % of big and 10 % of
// b"; empty if that is nothing. The first names are enough to know what it is about.
func (l *ledger) Left() string {
	l.counting.Lock()
	defer l.counting.Unlock()
	var parts []string
	for _, f := range l.left {
		parts = append(parts, fmt.Sprintf("%d %% of %s", percent(f.held, f.size), wire.Printable(f.name)))
	}
	if more := l.sums.left - int64(len(l.left)); more > 0 {
		parts = append(parts, fmt.Sprintf("parts of %d more", more))
	}
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}

// snapshot is how far a transfer is at a moment.
type snapshot struct {
	sums
	elapsed time.Duration // since the first file was on its way
	// held and settled are bytes, of files on their way and of verified ones.
	held, settled int64
	rate          float64       // bytes a second, lately
	retryIn       time.Duration // the rest of the pause, 0 where there is none
	active        []fileState   // of long lists the first, see maxActive
	more          int           // files on their way that active does not have
	left          []leftover
	now           time.Time
}

// fileState is how far a file is at a moment.
type fileState struct {
	file *send.Progress
	send.Counters
	age time.Duration
}

// maxActive bounds how many files on their way are looked at one by one.
const maxActive = 16

// snapshot returns how far everything is now.
func (l *ledger) snapshot() *snapshot {
	l.counting.Lock()
	defer l.counting.Unlock()
	now := time.Now()
	s := &snapshot{sums: l.sums, held: l.sums.verifiedBytes, settled: l.sums.verifiedBytes, left: slices.Clone(l.left), now: now}
	if !l.begun.IsZero() {
		s.elapsed = now.Sub(l.begun)
	}
	if wait := l.resume.Sub(now); wait > 0 {
		s.retryIn = wait
	}
	alone := len(l.active) == 1
	for _, a := range l.active {
		c := a.Counters()
		s.moved += c.Moved
		s.settled += min(a.Size, max(c.Settled, c.Held))
		s.held += min(a.Size, c.Held)
		if !a.Acknowledged && !alone {
			continue // small ones that wait for an answer: they are in the sums
		}
		if len(s.active) < maxActive {
			s.active = append(s.active, fileState{a.Progress, c, now.Sub(a.begun)})
		} else {
			s.more++
		}
	}
	s.rate = l.rate.at(now, s.moved)
	return s
}

// whole reports whether all there was to transfer is verified.
func (s *snapshot) whole() bool { return s.counted && s.failed == 0 && s.verified >= s.found }

// percent is how much of everything the receiver holds: 100 only when all is
// verified, and -1 while it is not known how much there is.
func (s *snapshot) percent() int {
	switch {
	case !s.counted:
		return -1
	case s.whole():
		return 100
	}
	return percent(s.held, s.foundBytes)
}

// fraction is percent of 1, in more steps.
func (s *snapshot) fraction() float64 {
	switch {
	case s.whole():
		return 1
	case s.foundBytes <= 0:
		return 0
	}
	return max(0, min(0.9999, float64(int64(10000*float64(s.held)/float64(s.foundBytes)))/10000))
}

// remaining is how long the rest will take, if it goes on as lately; negative where
// that cannot be known.
func (s *snapshot) remaining() time.Duration {
	rest := s.foundBytes - s.failedBytes - s.settled
	if !s.counted || s.rate < 1 || s.retryIn > 0 || rest < 0 {
		return -1
	}
	return time.Duration(float64(rest) / s.rate * float64(time.Second))
}

// percent is part of whole, rounded down, and at most 99: what is whole is not
// verified yet.
func percent(part, whole int64) int {
	if whole <= 0 {
		return 0
	}
	return int(max(0, min(99, float64(part)/float64(whole)*100)))
}

// percent is how much of the file the receiver holds or, where it does not tell,
// has been sent.
func (f *fileState) percent() int {
	if f.file.Acknowledged {
		return percent(f.Held, f.file.Size)
	}
	return percent(f.Settled, f.file.Size)
}

// rate smooths how fast a counter grows.
type rate struct {
	last   time.Time
	before int64
	value  float64 // a second
	weight float64 // of what value is made of; less than 1 in the beginning
}

// rateOver is the time whose events make up two thirds of a rate.
const rateOver = 4 * time.Second

// at notes what the counter is now, and returns the rate.
func (r *rate) at(now time.Time, counter int64) float64 {
	if r.last.IsZero() {
		r.last, r.before = now, counter
		return 0
	}
	d := now.Sub(r.last)
	if d <= 0 {
		return r.smooth()
	}
	keep := math.Exp(-float64(d) / float64(rateOver))
	r.value = r.value*keep + float64(counter-r.before)/d.Seconds()*(1-keep)
	r.weight = r.weight*keep + 1 - keep
	r.last, r.before = now, counter
	return r.smooth()
}

func (r *rate) smooth() float64 {
	if r.weight == 0 {
		return 0
	}
	return max(0, r.value/r.weight)
}
