package session4

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"fenc/modes/send"
	"fenc/wire/v4"
)

// Retry makes sessions until what they are for is done, or nothing helps.
type Retry struct {
	// For is how long to try, from the last sign of progress.
	For time.Duration
	// Reporter is told why there is a pause and how long it is.
	Reporter send.Reporter

	mu       sync.Mutex
	progress time.Time
}

// Advance notes that something got on.
func (r *Retry) Advance() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = time.Now()
}

func (r *Retry) progressed() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress
}

// Do calls session until it reports that all is done, after pauses that grow where
// it fails. reached is whether the server has been reached before, or is to be waited
// for all the same. The error is
// the last session's, or that of ctx.
func (r *Retry) Do(ctx context.Context, reached bool, session func() (done bool, err error)) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 200*time.Millisecond, 30*time.Second
	r.Advance()
	for {
		before := r.progressed()
		done, err := session()
		if err == nil {
			if done {
				return nil
			}
			continue // what another session may not meet
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var connection *ConnectionError
		var refusal *RefusalError
		reached = reached || errors.As(err, &refusal) || errors.As(err, &connection) && connection.Reached
		if !worthRetrying(err, reached) {
			return err
		}
		if r.For == 0 {
			return err
		}
		if r.progressed().After(before) {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		if time.Since(r.progressed())+wait > r.For {
			return fmt.Errorf("%w (given up after %s without progress, retry_for)", err, r.For)
		}
		r.Reporter.Retry(err, wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// worthRetrying reports whether another session may do better. A server that was
// never reached because the address is wrong, or nobody listens there, is more
// likely a slip than an outage.
func worthRetrying(err error, reached bool) bool {
	var refusal *RefusalError
	var connection *ConnectionError
	switch {
	case errors.As(err, &refusal):
		return refusal.Again
	case errors.Is(err, v4.ErrFrame):
		return false
	case errors.Is(err, send.ErrOtherServer): // nor will it be one
		return false
	case errors.As(err, &connection):
		return reached || !errors.Is(err, syscall.ECONNREFUSED) && !isNotFound(err)
	}
	return false
}

func isNotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}
