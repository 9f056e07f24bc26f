package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"fenc/model"
	"fenc/modes/stats"
	"fenc/wire"
)

const (
	lookEvery  = time.Second      // for events whose time has come, and for what an operator did
	notShown   = time.Second      // until an event is looked at again whose file the tree does not show yet
	lastGrace  = 5 * time.Second  // that deliveries under way get when the server ends
	firstPause = time.Second      // before the first retry; each further one is twice as long
	longPause  = time.Hour        // the longest
	maxDead    = 100_000          // dead events that are kept
	tidyEvery  = 10 * time.Minute // how often there may be more
	faultPause = 5 * time.Second  // after a fault of the catalogue
)

// Delivery delivers the events of one destination: those of a file in order, each
// at least once, again after pauses that grow, until it is taken or dead.
type Delivery struct {
	Destination string
	Catalogue   *model.Catalogue
	Runner      *Runner
	// Shown reports whether what the event is about can be seen: until then it is
	// not delivered.
	Shown    func(model.Event) bool
	AtOnce   int           // deliveries at once
	RetryFor time.Duration // from the event to its death
	Log      *slog.Logger
	Stats    *stats.Stats

	stopped atomic.Bool // the destination wants no more
	busy    map[int64]bool
	ended   chan int64 // events whose delivery is over
}

// Run delivers until ctx ends. What is under way then has a moment to end; what
// does not is delivered again by the next start.
func (d *Delivery) Run(ctx context.Context) {
	d.busy, d.ended = make(map[int64]bool), make(chan int64, d.AtOnce)
	look, tidy := time.NewTicker(lookEvery), time.NewTicker(tidyEvery)
	defer look.Stop()
	defer tidy.Stop()
	// Deliveries outlive ctx by the last grace.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for ctx.Err() == nil {
		d.begin(work)
		select {
		case <-ctx.Done():
		case seq := <-d.ended:
			delete(d.busy, seq)
		case <-d.Catalogue.News(d.Destination):
		case <-look.C:
		case <-tidy.C:
			d.tidy()
		}
	}
	late := time.AfterFunc(lastGrace, stop)
	defer late.Stop()
	for len(d.busy) > 0 {
		delete(d.busy, <-d.ended)
	}
}

// begin begins as many deliveries as there is room for.
func (d *Delivery) begin(ctx context.Context) {
	if d.stopped.Load() {
		return
	}
	busy := make([]int64, 0, len(d.busy))
	for seq := range d.busy {
		busy = append(busy, seq)
	}
	due, err := d.Catalogue.Due(d.Destination, busy, d.AtOnce-len(busy))
	if err != nil {
		d.Log.Error("events are not seen for now", "destination", d.Destination, "error", err)
		return
	}
	for _, e := range due {
		d.busy[e.Seq] = true
		go func() {
			defer func() { d.ended <- e.Seq }()
			if err := d.deliver(ctx, e); err != nil {
				d.Log.Error("event will be delivered again", "event", strings.ToLower(e.EventID.String()), "destination", d.Destination, "error", err)
				select { // not at once: the same would come of it
				case <-time.After(faultPause):
				case <-ctx.Done():
				}
			}
		}()
	}
}

// deliver delivers an event once and records what came of it.
func (d *Delivery) deliver(ctx context.Context, e model.Event) error {
	if !d.Shown(e) {
		e.DueAt = model.Time{Time: time.Now().Add(notShown)}
		return d.Catalogue.Postpone(e)
	}
	begun := time.Now()
	a, err := d.Runner.Deliver(ctx, d.Destination, newsOf(e))
	if ctx.Err() != nil || errors.Is(err, ErrEnded) {
		return nil // the server ends; the event waits
	}
	if err != nil {
		a = Answer{Outcome: failed, Text: err.Error()}
	}
	log := d.Log.With("event", strings.ToLower(e.EventID.String()), "kind", string(e.Kind), "destination", d.Destination, "client", wire.Printable(e.ClientName),
		"file", wire.Printable(e.FileName), "attempt", e.Attempts+1, "seconds", time.Since(begun).Seconds())
	if a.Output != "" {
		log = log.With("output", wire.Printable(a.Output))
	}
	if a.Outcome == done {
		if err := d.Catalogue.Delivered(e); err != nil {
			return err
		}
		d.Stats.Delivery(d.Destination, stats.Delivered)
		log.Info("event delivered")
		return nil
	}
	e.Attempts++
	e.Error = a.Text
	log = log.With("reason", wire.Printable(a.Text))
	pause := max(pauseAfter(e.Attempts), a.RetryAfter)
	now := time.Now()
	if a.Outcome == gone {
		d.stopped.Store(true)
		d.Log.Error("deliveries stop until the next start: the webhook wants no more, take webhook_url out or mend it", "destination", d.Destination)
	}
	if a.Outcome == gone || now.Add(pause).Sub(e.Since.Time) > d.RetryFor {
		d.Stats.Delivery(d.Destination, stats.Dead)
		log.Error("event is dead: fenc events --dead lists such, fenc events retry or drop ends it")
		return d.Catalogue.Bury(e)
	}
	e.DueAt = model.Time{Time: now.Add(pause)}
	d.Stats.Delivery(d.Destination, stats.Retried)
	log.Warn("event not delivered", "again_in", pause.Round(time.Millisecond).String())
	return d.Catalogue.Postpone(e)
}

// pauseAfter is the pause after so many failures, more or less, so that what failed
// together does not come again together.
func pauseAfter(failures int) time.Duration {
	pause := longPause
	if failures < 13 {
		pause = min(firstPause<<(failures-1), longPause)
	}
	return pause*4/5 + rand.N(pause*2/5)
}

// tidy keeps the list of the dead within its bound.
func (d *Delivery) tidy() {
	forgotten, err := d.Catalogue.ForgetDead(maxDead)
	if err != nil {
		d.Log.Error("dead events are not counted for now", "error", err)
	}
	if forgotten > 0 {
		d.Log.Error("the oldest dead events are forgotten: there are too many", "forgotten", forgotten, "kept", maxDead)
	}
}

func newsOf(e model.Event) News {
	n := News{
		ID: strings.ToLower(e.EventID.String()), Kind: string(e.Kind), Client: e.ClientName, Name: e.FileName, Path: e.FilePath, Size: e.Size,
		Version: e.Version, Time: e.At.Time, Attempt: e.Attempts + 1,
	}
	n.BLAKE3, n.CRC32 = sums(e.Digest, e.Checksum)
	return n
}

// sums writes a digest and a checksum as fenc files does.
func sums(digest model.Hash, checksum uint32) (blake3, crc32 string) {
	if digest.IsZero() {
		return "", fmt.Sprintf("%08x", checksum)
	}
	return digest.String(), ""
}
