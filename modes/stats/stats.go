// Package stats counts what a server does, and knows what is under way now. Its
// numbers are those of this process: they begin at 0 with it.
//
// Names and addresses in it are as peers sent them: whoever shows them quotes or
// escapes them.
package stats

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Result is how an upload ended.
type Result string

const (
	Verified    Result = "verified"    // durable, catalogued and equal to what its sender read
	Unchanged   Result = "unchanged"   // stood there already, with the same content
	Mismatch    Result = "mismatch"    // what came is not what was sent; its sender may send again
	Refused     Result = "refused"     // the client may not send this, or broke the protocol
	Failed      Result = "failed"      // the server could not keep it
	Interrupted Result = "interrupted" // its connection ended first
)

// Results are all of them.
var Results = []Result{Verified, Unchanged, Mismatch, Refused, Failed, Interrupted}

// Good reports whether the file is here now.
func (r Result) Good() bool { return r == Verified || r == Unchanged }

// File is an upload that has ended.
type File struct {
	Ended    time.Time `json:"ended"`
	Client   string    `json:"client"`
	Address  string    `json:"address"`
	Protocol int       `json:"protocol"`
	Path     string    `json:"path"`
	Bytes    int64     `json:"bytes"`
	Seconds  float64   `json:"seconds"` // from its offer to its answer
	Result   Result    `json:"result"`
	Reason   string    `json:"reason,omitempty"` // why it is not good
}

// Transfer is a file that is on its way.
type Transfer struct {
	Path     string    `json:"path"`
	Bytes    int64     `json:"bytes"`    // of the whole file
	Done     int64     `json:"done"`     // of them, what is here, or has been sent
	Outgoing bool      `json:"outgoing"` // to the client, which gets it back
	Since    time.Time `json:"since"`
}

// Open is a session that is open.
type Open struct {
	Client    string     `json:"client"` // empty until it is admitted
	Address   string     `json:"address"`
	Protocol  int        `json:"protocol"`
	Since     time.Time  `json:"since"`
	Files     int64      `json:"files"`     // that came and are here
	Bytes     int64      `json:"bytes"`     // of content that came
	Sent      int64      `json:"sent"`      // bytes of content that went to the client
	UnderWay  int        `json:"under_way"` // files on their way now
	Transfers []Transfer `json:"transfers"` // the first of those
}

// maxTransfers is how many of a session's transfers Sessions returns.
const maxTransfers = 16

const (
	maxRecent   = 200              // files that Recent knows
	maxFailures = 100              // files that Failures knows
	pace        = 10 * time.Second // what one Throughput is of
	maxPaces    = 360              // an hour of them
)

// Throughput is what came in ten seconds.
type Throughput struct {
	Begun time.Time `json:"begun"`
	Bytes int64     `json:"bytes"` // of content
	Files int64     `json:"files"` // that are here
}

// Stats is what one server counts. Its methods may be called from any number of
// goroutines.
type Stats struct {
	Began time.Time // when the server did
	metrics
	now func() time.Time

	mu       sync.Mutex
	sessions map[*Session]struct{}
	recent   ring[File] // of results that are good
	failures ring[File] // of others
	paces    ring[Throughput]
}

// New begins to count.
func New() *Stats { return newStats(time.Now) }

func newStats(now func() time.Time) *Stats {
	s := &Stats{
		Began: now(), now: now, sessions: make(map[*Session]struct{}),
		recent: ring[File]{most: maxRecent}, failures: ring[File]{most: maxFailures}, paces: ring[Throughput]{most: maxPaces},
	}
	s.register(s)
	return s
}

// Session is one session's part.
type Session struct {
	stats     *Stats
	protocol  int
	address   string
	begun     time.Time
	transfers func() []Transfer

	client      atomic.Pointer[string]
	files       atomic.Int64
	bytes, sent atomic.Int64
}

// Begin counts a session that has begun, from address, by protocol 3 or 4.
// transfers lists its transfers, oldest first, and is called from other
// goroutines. End must follow.
func (s *Stats) Begin(protocol int, address string, transfers func() []Transfer) *Session {
	k := &Session{stats: s, protocol: protocol, address: address, begun: s.now(), transfers: transfers}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[k] = struct{}{}
	return k
}

// Admitted tells whose session it is.
func (k *Session) Admitted(client string) {
	if k.client.Swap(&client) == nil {
		k.stats.of(k.protocol).admitted.Inc()
	}
}

// End is the end of Begin.
func (k *Session) End() {
	if k.client.Load() == nil {
		k.stats.of(k.protocol).refused.Inc()
	}
	k.stats.mu.Lock()
	defer k.stats.mu.Unlock()
	delete(k.stats.sessions, k)
}

// Received counts bytes of content as they come.
func (k *Session) Received(n int) {
	k.bytes.Add(int64(n))
	k.stats.of(k.protocol).received.Add(float64(n))
	k.stats.mu.Lock()
	defer k.stats.mu.Unlock()
	k.stats.current().Bytes += int64(n)
}

// Sent counts bytes of content that went to the client.
func (k *Session) Sent(n int) {
	k.sent.Add(int64(n))
	k.stats.of(k.protocol).sent.Add(float64(n))
}

// Ended counts an upload that has ended; f tells its path, bytes, result, reason and
// how long it took.
func (k *Session) Ended(f File) {
	f.Ended, f.Protocol, f.Address = k.stats.now(), k.protocol, k.address
	if client := k.client.Load(); client != nil {
		f.Client = *client
	}
	counters := k.stats.of(k.protocol)
	counters.uploads[f.Result].Inc()
	if f.Result == Verified {
		counters.verified.Add(float64(f.Bytes))
		counters.seconds.Observe(f.Seconds)
	}
	k.stats.mu.Lock()
	defer k.stats.mu.Unlock()
	if !f.Result.Good() {
		k.stats.failures.add(f)
		return
	}
	k.files.Add(1)
	k.stats.current().Files++
	k.stats.recent.add(f)
}

// current is the pace of now. s.mu is held.
func (s *Stats) current() *Throughput {
	begun := s.now().Truncate(pace)
	if last := s.paces.last(); last != nil && !last.Begun.Before(begun) {
		return last
	}
	return s.paces.add(Throughput{Begun: begun})
}

// Sessions returns the sessions that are open, oldest first.
func (s *Stats) Sessions() []Open {
	s.mu.Lock()
	sessions := make([]*Session, 0, len(s.sessions))
	for k := range s.sessions {
		sessions = append(sessions, k)
	}
	s.mu.Unlock()
	slices.SortFunc(sessions, func(a, b *Session) int {
		return cmp.Or(a.begun.Compare(b.begun), cmp.Compare(a.address, b.address))
	})
	all := make([]Open, len(sessions))
	for i, k := range sessions { // without s.mu: a session counts with its own lock held
		transfers := k.transfers()
		all[i] = Open{
			Address: k.address, Protocol: k.protocol, Since: k.begun, Files: k.files.Load(), Bytes: k.bytes.Load(), Sent: k.sent.Load(),
			UnderWay: len(transfers), Transfers: transfers[:min(len(transfers), maxTransfers):min(len(transfers), maxTransfers)],
		}
		if client := k.client.Load(); client != nil {
			all[i].Client = *client
		}
	}
	return all
}

// Recent returns the newest files that are here, newest first: 200 at most.
func (s *Stats) Recent() []File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent.newest()
}

// Failures returns the newest uploads that ended otherwise, newest first: 100 at
// most.
func (s *Stats) Failures() []File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failures.newest()
}

// Throughput returns what came in the last hour, in steps of ten seconds, oldest
// first, the step of now last. It has 360 of them.
func (s *Stats) Throughput() []Throughput {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Throughput, maxPaces)
	end := s.now().Truncate(pace)
	for i := range all {
		all[i].Begun = end.Add(-time.Duration(maxPaces-1-i) * pace)
	}
	for _, t := range s.paces.list {
		if i := maxPaces - 1 - int(end.Sub(t.Begun)/pace); i >= 0 && i < maxPaces {
			all[i] = t
		}
	}
	return all
}

// ring keeps the newest of what is added.
type ring[T any] struct {
	most int
	list []T
	next int // index of the oldest, once it is full
}

func (r *ring[T]) add(t T) *T {
	if len(r.list) < r.most {
		r.list = append(r.list, t)
		return &r.list[len(r.list)-1]
	}
	at := r.next
	r.list[at] = t
	r.next = (r.next + 1) % r.most
	return &r.list[at]
}

// last returns the newest; nil where there is none.
func (r *ring[T]) last() *T {
	if len(r.list) == 0 {
		return nil
	}
	return &r.list[(r.next+len(r.list)-1)%len(r.list)]
}

func (r *ring[T]) newest() []T {
	all := slices.Concat(r.list[r.next:], r.list[:r.next])
	slices.Reverse(all)
	return all
}
