package bandwidth

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fenc/modes/send"
)

// pair is two ends of a line that is as fast as its ends.
func pair(t *testing.T, l *Limit) (limited, other net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	limited = l.Conn(a, new(send.Waits))
	t.Cleanup(func() {
		limited.Close()
		b.Close()
	})
	return limited, b
}

// The clock of a synctest bubble stands still while anything can run, so that the
// times are exact.
func TestKeepsToTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(func(time.Time) int64 { return 64 << 10 })
		limited, other := pair(t, l)
		go io.Copy(io.Discard, other)
		begun := time.Now()
		if _, err := limited.Write(make([]byte, 10*64<<10)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 9*time.Second || took > 10*time.Second {
			t.Errorf("640 KiB written at 64 KiB a second took %s", took)
		}
	})
}

func TestBoundOfReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited, other := pair(t, New(func(time.Time) int64 { return 64 << 10 }))
		content := bytes.Repeat([]byte("0123456789abcdef"), 5*64<<10/16)
		go func() {
			other.Write(content)
			other.Close()
		}()
		begun := time.Now()
		got, err := io.ReadAll(limited)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("got %d bytes, %v, want %d", len(got), err, len(content))
		}
		if took := time.Since(begun); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("320 KiB read at 64 KiB a second took %s", took)
		}
	})
}

func TestConnectionsShareTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(func(time.Time) int64 { return 64 << 10 })
		done := make(chan error, 2)
		begun := time.Now()
		for range 2 {
			limited, other := pair(t, l)
			go io.Copy(io.Discard, other)
			go func() {
				_, err := limited.Write(make([]byte, 5*64<<10))
				done <- err
			}()
		}
		if err := errors.Join(<-done, <-done); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 9*time.Second {
			t.Errorf("two of 320 KiB at 64 KiB a second took %s", took)
		}
	})
}

func TestBoundChangesWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		l := New(func(now time.Time) int64 {
			if now.Sub(begun) < 10*time.Second {
				return 64 << 10
			}
			return 0 // off
		})
		limited, other := pair(t, l)
		go io.Copy(io.Discard, other)
		if _, err := limited.Write(make([]byte, 100*64<<10)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("6400 KiB at 64 KiB a second for 10 s, then without bound, took %s", took)
		}
	})
}

func TestCloseEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited, other := pair(t, New(func(time.Time) int64 { return 1 }))
		go io.Copy(io.Discard, other)
		var ended atomic.Bool
		go func() {
			if _, err := limited.Write(make([]byte, 1<<20)); errors.Is(err, net.ErrClosed) {
				ended.Store(true)
			}
		}()
		synctest.Wait()
		limited.Close()
		synctest.Wait()
		if !ended.Load() {
			t.Error("Write waits on after Close")
		}
	})
}
