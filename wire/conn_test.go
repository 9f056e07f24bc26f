package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const idle = time.Minute

// socket is an end of a net.Pipe that takes deadlines after the peer has closed,
// as a socket does, so that a read finds the end and not a closed pipe.
type socket struct{ net.Conn }

func (s socket) SetReadDeadline(t time.Time) error {
	if err := s.Conn.SetReadDeadline(t); err != io.ErrClosedPipe {
		return err
	}
	return nil
}

// inBubble runs test with both ends of a connection and a clock of its own.
func inBubble(t *testing.T, test func(t *testing.T, c *Conn, peer net.Conn)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		c := NewConn(socket{a}, idle)
		defer func() {
			c.Close()
			b.Close()
			time.Sleep(3 * idle) // for goroutines that sleep before they see it
		}()
		test(t, c, b)
	})
}

// send writes n bytes, one piece each pause, until an error.
func send(w io.Writer, n, piece int, pause time.Duration) {
	for ; n > 0; n -= piece {
		time.Sleep(pause)
		if _, err := w.Write(make([]byte, piece)); err != nil {
			return
		}
	}
}

func wantTimeout(t *testing.T, err error, text string) {
	t.Helper()
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want a timeout that says %q", err, text)
	}
}

func TestConnSilenceEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, c *Conn, _ net.Conn) {
		begun := time.Now()
		_, err := c.Read(make([]byte, 9))
		wantTimeout(t, err, "silent for 1m0s")
		if took := time.Since(begun); took != idle {
			t.Errorf("ended after %s, want %s", took, idle)
		}
	})
}

func TestConnDribblingEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
		go send(peer, 1<<20, 1, time.Second)
		begun := time.Now()
		n, err := io.Copy(io.Discard, c)
		wantTimeout(t, err, "only ")
		if took := time.Since(begun); took != idle || n > 60 {
			t.Errorf("ended after %s and %d bytes, want %s and at most 60", took, n, idle)
		}
	})
}

func TestConnDribblingEndsLater(t *testing.T) {
	inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
		go func() {
			send(peer, 600<<10, 1<<10, time.Second/2) // 2 KiB a second for five minutes
			send(peer, 1<<20, 1, time.Second)
		}()
		c.Expect()
		begun := time.Now()
		n, err := io.Copy(io.Discard, c)
		wantTimeout(t, err, "only ")
		if n < 600<<10 {
			t.Errorf("ended after %d bytes, want 600 KiB and some", n)
		}
		if took := time.Since(begun) - 5*time.Minute; took > idle {
			t.Errorf("dribbled for %s, want %s at most", took, idle)
		}
	})
}

// A server that was busy writing to its disk for longer than the idle time once
// called the client silent, though its bytes were waiting.
func TestConnOwnPauseIsNotThePeers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
		go send(peer, 1<<10, 1<<9, 0)
		for range 2 {
			if _, err := io.ReadFull(c, make([]byte, 1<<9)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * idle)
		}
	})
}

func TestConnExpectBeginsAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
		go send(peer, 5, 1, 50*time.Second)
		for range 5 {
			c.Expect()
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestConnShortIdleStillAsksForOneKiB(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		idle time.Duration
		want int64
	}{{time.Millisecond, 1 << 10}, {time.Second, 1 << 10}, {time.Minute, 60 << 10}} {
		if got := NewConn(nil, test.idle).leastProgress(); got != test.want {
			t.Errorf("idle %s: got %d bytes, want %d", test.idle, got, test.want)
		}
	}
}

func TestConnWriteToSilenceEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, c *Conn, _ net.Conn) {
		begun := time.Now()
		n, err := c.Write(make([]byte, 1<<20))
		wantTimeout(t, err, "")
		if took := time.Since(begun); took != idle || n != 0 {
			t.Errorf("ended after %s and %d bytes, want %s and none", took, n, idle)
		}
	})
}

func TestConnWriteToDribblingEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
		go func() {
			for b := make([]byte, 1); ; time.Sleep(time.Second) {
				if _, err := peer.Read(b); err != nil {
					return
				}
			}
		}()
		begun := time.Now()
		_, err := c.Write(make([]byte, 1<<20))
		wantTimeout(t, err, "")
		if took := time.Since(begun); took != idle {
			t.Errorf("ended after %s, want %s", took, idle)
		}
	})
}

func TestConnWriteHasIdleForEachPiece(t *testing.T) {
	inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
		go func() {
			for b := make([]byte, writePiece); ; {
				time.Sleep(50 * time.Second)
				if _, err := io.ReadFull(peer, b); err != nil {
					return
				}
			}
		}()
		if n, err := c.Write(make([]byte, 4*writePiece)); n != 4*writePiece || err != nil {
			t.Errorf("got %d bytes and %v, want all", n, err)
		}
	})
}

// writes counts the writes that reach the connection below.
type writes struct {
	net.Conn
	sizes []int
}

func (w *writes) Write(p []byte) (int, error) { w.sizes = append(w.sizes, len(p)); return len(p), nil }

func (w *writes) SetWriteDeadline(time.Time) error { return nil }

func TestConnWritesMessageAtOnce(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 438, writePiece} {
		below := &writes{}
		if n, err := NewConn(below, idle).Write(make([]byte, size)); n != size || err != nil {
			t.Errorf("%d bytes: got %d and %v", size, n, err)
		}
		if len(below.sizes) != 1 {
			t.Errorf("%d bytes: %d writes, want one", size, len(below.sizes))
		}
	}
}

func TestConnInterruptEndsRead(t *testing.T) {
	inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
		failed := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			failed <- err
		}()
		synctest.Wait()
		begun := time.Now()
		c.Interrupt()
		if err := <-failed; err != ErrInterrupted {
			t.Errorf("the read under way: got %v, want ErrInterrupted", err)
		}
		c.Expect()
		if _, err := c.Read(make([]byte, 1)); err != ErrInterrupted {
			t.Errorf("the next read: got %v, want ErrInterrupted", err)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("took %s, want no time", took)
		}
		go io.ReadFull(peer, make([]byte, 3))
		if _, err := c.Write(make([]byte, 3)); err != nil {
			t.Errorf("write: got %v, want none", err)
		}
	})
}

// The bytes that were sniffed once came out after an Interrupt.
func TestConnInterruptHoldsBackSniffedBytes(t *testing.T) {
	inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
		go peer.Write(hello(-1, 0))
		if _, _, err := c.Sniff(); err != nil {
			t.Fatal(err)
		}
		c.Interrupt()
		if n, err := c.Read(make([]byte, 11)); n != 0 || err != ErrInterrupted {
			t.Errorf("got %d bytes and %v, want none and ErrInterrupted", n, err)
		}
	})
}

// loopback returns both ends of a TCP connection.
func loopback(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	b, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return a, b
}

// TestConnInterruptRace: an Interrupt at any moment between two deadlines holds.
func TestConnInterruptRace(t *testing.T) {
	t.Parallel()
	for range 50 {
		a, b := loopback(t)
		c := NewConn(a, idle)
		var both sync.WaitGroup
		both.Go(func() {
			for {
				if _, err := b.Write([]byte{1}); err != nil {
					return
				}
			}
		})
		both.Go(func() {
			for {
				c.Expect()
				if _, err := c.Read(make([]byte, 1)); err != nil {
					if err != ErrInterrupted {
						t.Errorf("got %v, want ErrInterrupted", err)
					}
					b.Close()
					return
				}
			}
		})
		c.Interrupt()
		both.Wait()
	}
}

func TestConnSniffKeepsBytes(t *testing.T) {
	for name, test := range map[string]struct {
		sent []byte
		want Kind
	}{
		"v3":      {append(header(3, 1100, 5), "Grace"...), KindV3},
		"TLS":     {append(hello(-1, 0), make([]byte, 500)...), KindTLS},
		"unknown": {[]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), KindUnknown},
	} {
		for _, piece := range []int{1, 2, 16, 23, 1000} {
			t.Run(name, func(t *testing.T) {
				inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
					go func() {
						for sent := test.sent; len(sent) > 0; sent = sent[min(len(sent), piece):] {
							peer.Write(sent[:min(len(sent), piece)])
						}
						peer.Close()
					}()
					kind, first, err := c.Sniff()
					if kind != test.want || err != nil {
						t.Fatalf("got %d and %v, want %d", kind, err, test.want)
					}
					if len(first) > SniffLen || !bytes.HasPrefix(test.sent, first) {
						t.Errorf("sniffed %q", first)
					}
					if again, _, err := c.Sniff(); again != test.want || err != nil {
						t.Errorf("again: got %d and %v, want %d", again, err, test.want)
					}
					got, err := io.ReadAll(c)
					if err != nil || !bytes.Equal(got, test.sent) {
						t.Errorf("read %q and %v afterwards, want %q", got, err, test.sent)
					}
				})
			})
		}
	}
}

func TestConnSniffCutShort(t *testing.T) {
	for name, test := range map[string]struct {
		sent []byte
		want error
	}{
		"nothing":       {nil, io.EOF},
		"half a hello":  {hello(-1, 0)[:10], io.ErrUnexpectedEOF},
		"half a header": {header(3, 1100, 5)[:22], io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
				go func() { peer.Write(test.sent); peer.Close() }()
				kind, first, err := c.Sniff()
				if kind != KindUnknown || err != test.want || !bytes.Equal(first, test.sent) {
					t.Errorf("got %d, %x and %v, want %x and %v", kind, first, err, test.sent, test.want)
				}
			})
		})
	}
}

func TestConnSniffEnds(t *testing.T) {
	for name, pause := range map[string]time.Duration{"silence": 2 * idle, "byte by byte": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *Conn, peer net.Conn) {
				go send(peer, 23, 1, pause)
				begun := time.Now()
				_, _, err := c.Sniff()
				wantTimeout(t, err, "")
				if took := time.Since(begun); took != idle {
					t.Errorf("ended after %s, want %s", took, idle)
				}
			})
		})
	}
}
