package send

import (
	"sync"
	"time"
)

// Stage is something that a transfer does. Its stages do not wait for each other,
// so several go on at once.
type Stage int

// The stages of a transfer.
const (
	Disk    Stage = iota // local files are read or written
	Hashing              // content is hashed or, by protocol 3, encrypted
	Sending              // content is encrypted, and given to the connection
	Writing              // the connection is written to: it takes no more at once
	Limited              // --bwlimit has writing or reading wait
	Reading              // the connection is read from: nothing has come yet
	Content              // content was asked for, and comes
	Asking               // an answer is awaited, without which this file does not get on
	stages
)

// Waits adds up where a transfer's time goes.
type Waits struct {
	mu    sync.Mutex
	in    [stages]int
	since time.Time // of the last change of in
	sum   Spent
}

// Spent is where time went. The parts overlap: the one that lasts nearly as long as
// the whole is what held the transfer back.
type Spent struct {
	Disk      time.Duration // local files were read or written
	Processor time.Duration // content was hashed, encrypted or decrypted
	Limit     time.Duration // the bound on bandwidth had the connection wait
	Network   time.Duration // the connection took, or gave, no more
	Server    time.Duration // nothing else could be done but to wait for the server's answer
	// Receiver is the part of Network for which the line had room and the program at
	// the other end had not read yet. Not every system tells.
	Receiver time.Duration
}

// Enter begins a stage.
func (w *Waits) Enter(s Stage) { w.change(s, 1) }

// Leave ends what Enter has begun.
func (w *Waits) Leave(s Stage) { w.change(s, -1) }

// Receiver adds to Spent.Receiver.
func (w *Waits) Receiver(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sum.Receiver += d
}

// Spent returns where time went until now.
func (w *Waits) Spent() Spent {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count(time.Now())
	return w.sum
}

func (w *Waits) change(s Stage, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count(time.Now())
	w.in[s] += by
}

// count adds the time since the last change to the parts that it belongs to.
func (w *Waits) count(now time.Time) {
	d := now.Sub(w.since)
	w.since = now
	on := func(s Stage) bool { return w.in[s] > 0 }
	receiving := on(Content) && on(Reading)
	if on(Disk) {
		w.sum.Disk += d
	}
	if on(Hashing) || on(Sending) && !on(Writing) || on(Content) && !on(Reading) && !on(Disk) {
		w.sum.Processor += d
	}
	switch {
	case on(Limited):
		w.sum.Limit += d
	case on(Writing) || receiving:
		w.sum.Network += d
	}
	if on(Asking) && !on(Disk) && !on(Hashing) && !on(Sending) && !on(Writing) && !on(Content) {
		w.sum.Server += d
	}
}
