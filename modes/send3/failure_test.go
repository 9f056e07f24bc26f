package send3

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/modes/send"
	"fenc/wire/v3"
)

// step is a place in the conversation where the server must answer. reach goes
// there, request and all; right is the right answer.
type step struct {
	name  string // as a message calls it
	reach func(p *peer) (right []byte)
}

func bytesOf(p *peer, code v3.Code, msg any) []byte {
	var b bytes.Buffer
	if err := v3.WriteResponse(&b, code, msg); err != nil {
		p.fail("%v", err)
	}
	return b.Bytes()
}

var steps = []step{
	{"registering", func(p *peer) []byte {
		p.request(v3.CodeRegister, nil)
		return bytesOf(p, v3.CodeRegistered, &v3.Registered{ClientID: p.id})
	}},
	{"agreeing on a key", func(p *peer) []byte {
		p.register()
		return bytesOf(p, v3.CodeKey, p.askedKey())
	}},
	{"answering the content", func(p *peer) []byte {
		p.register()
		p.agreeKey()
		f := p.fileHead()
		return bytesOf(p, v3.CodeFileReceived, received(f, crc32.ChecksumIEEE(p.content(f))))
	}},
	{"concluding with 1104 (checksum valid)", func(p *peer) []byte {
		p.register()
		p.agreeKey()
		p.answered(0)
		p.request(v3.CodeValid, &v3.Verdict{})
		return bytesOf(p, v3.CodeReceived, nil)
	}},
}

// firstContact holds the whole conversation and returns what went wrong.
func firstContact(ctx context.Context, t *testing.T, settings Settings, src *send.Source) error {
	t.Helper()
	s, err := Connect(ctx, settings)
	if err != nil {
		return err
	}
	defer s.Close()
	who := me(t)
	if who.ID, err = s.Register(who.Name); err != nil {
		return err
	}
	if err := s.AgreeKey(who); err != nil {
		return err
	}
	return s.SendFile(src, new(send.Progress)).Err
}

// mustSay checks that an error is there and says each of the texts.
func mustSay(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want one with %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error: got %q, want %q in it", err, text)
		}
	}
}

func TestLostServerIsReportedWithTheStep(t *testing.T) {
	t.Parallel()
	for _, st := range steps {
		t.Run(st.name+": closed", func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(p *peer) { st.reach(p) })
			err := firstContact(t.Context(), t, s.settings(), tempFile(t, "a", []byte("abc")))
			mustSay(t, err, s.addr, "closed the connection in the middle of "+st.name)
		})
		t.Run(st.name+": reset", func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(p *peer) { st.reach(p); p.reset() })
			err := firstContact(t.Context(), t, s.settings(), tempFile(t, "a", []byte("abc")))
			mustSay(t, err, s.addr, "broke off the connection in the middle of "+st.name)
		})
		t.Run(st.name+": interrupted", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			s := newServer(t, func(p *peer) { st.reach(p); cancel(); p.ended() })
			err := firstContact(ctx, t, s.settings(), tempFile(t, "a", []byte("abc")))
			mustSay(t, err, "interrupted in the middle of "+st.name)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled in it", err)
			}
		})
		t.Run(st.name+": cut at every byte", func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("one conversation per byte")
			}
			for n := 0; ; n++ {
				length := make(chan int, 1)
				s := newServer(t, func(p *peer) {
					defer close(length)
					right := st.reach(p)
					if _, err := p.Write(right[:min(n, len(right))]); err != nil {
						p.fail("%v", err)
					}
					length <- len(right)
					if n == len(right) && st.name == steps[3].name {
						p.ended()
					}
				})
				err := firstContact(t.Context(), t, s.settings(), tempFile(t, "a", []byte("abc")))
				whole := <-length
				if n >= whole {
					return // 4 conversations in full are in other tests
				}
				if err == nil || !strings.Contains(err.Error(), "closed the connection in the middle of "+st.name) {
					t.Errorf("after %d of %d bytes: got %v, want closed in the middle of %s", n, whole, err, st.name)
				}
			}
		})
	}
}

func TestWrongAnswerIsRefused(t *testing.T) {
	t.Parallel()
	for _, st := range steps {
		for what, test := range map[string]struct {
			spoil func(right []byte) []byte
			want  string
		}{
			"wrong version": {func(b []byte) []byte { b[0] = 4; return b }, "does not speak protocol 3 (wrong version: 4, want 3)"},
			"unknown code":  {func(b []byte) []byte { b[1], b[2] = 0xff, 0xff; return b }, "65535 (unknown) is no response"},
			"a request": {func(b []byte) []byte {
				b[1], b[2] = 1104&0xff, 1104>>8
				return b
			}, "1104 (checksum valid) is no response"},
			"other response": {func(b []byte) []byte {
				if bytes.Equal(b[1:3], []byte{2104 & 0xff, 2104 >> 8}) {
					return append([]byte{3, 2100 & 0xff, 2100 >> 8, 16, 0, 0, 0}, make([]byte, 16)...)
				}
				return []byte{3, 2104 & 0xff, 2104 >> 8, 0, 0, 0, 0}
			}, "unexpected code: got 21"},
			"size too small": {func(b []byte) []byte { b[3]--; return b }, "wrong size"},
			"size of 4 GiB":  {func(b []byte) []byte { copy(b[3:7], "\xff\xff\xff\xff"); return b }, "wrong size"},
			"HTTP":           {func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }, "does not speak protocol 3"},
		} {
			t.Run(st.name+": "+what, func(t *testing.T) {
				t.Parallel()
				s := newServer(t, func(p *peer) {
					if _, err := p.Write(test.spoil(st.reach(p))); err != nil {
						p.fail("%v", err)
					}
					p.Conn.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, p)
				})
				err := firstContact(t.Context(), t, s.settings(), tempFile(t, "a", []byte("abc")))
				mustSay(t, err, s.addr, test.want, "in the middle of "+st.name)
			})
		}
	}
}

func TestAnswerAboutSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	reachFile := func(change func(*v3.FileReceived)) func(p *peer) {
		return func(p *peer) {
			p.register()
			p.agreeKey()
			f := p.fileHead()
			answer := received(f, crc32.ChecksumIEEE(p.content(f)))
			change(answer)
			p.respond(v3.CodeFileReceived, answer)
			p.ended() // no verdict on it
		}
	}
	key := func(change func(p *peer, k *v3.Key)) func(p *peer) {
		return func(p *peer) {
			p.register()
			k := p.askedKey()
			change(p, k)
			p.respond(v3.CodeKey, k)
			p.ended()
		}
	}
	otherName, err := v3.NewName("b\x1b[2J")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		script func(p *peer)
		want   string
	}{
		"2100 with an id of zeros": {func(p *peer) {
			p.request(v3.CodeRegister, nil)
			p.respond(v3.CodeRegistered, &v3.Registered{})
			p.ended()
		}, "id of zeros"},
		"2102 for another client":   {key(func(_ *peer, k *v3.Key) { k.ClientID[0]++ }), "key of another client"},
		"2102 with a broken key":    {key(func(_ *peer, k *v3.Key) { k.Wrapped[5]++ }), "cannot open"},
		"2103 for another client":   {reachFile(func(r *v3.FileReceived) { r.ClientID[0]++ }), "answered about another file"},
		"2103 of another size":      {reachFile(func(r *v3.FileReceived) { r.ContentSize += 16 }), "answered about another file"},
		"2103 about another name":   {reachFile(func(r *v3.FileReceived) { r.FileName = otherName }), `answered about another file ("b\x1b[2J", 16 bytes)`},
		"2103 without a name at it": {reachFile(func(r *v3.FileReceived) { r.FileName = v3.Name{} }), "answered about another file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, test.script)
			err := firstContact(t.Context(), t, s.settings(), tempFile(t, "a", []byte("abc")))
			mustSay(t, err, s.addr, test.want)
		})
	}
}

func TestRefusalSaysHowToGoOn(t *testing.T) {
	t.Parallel()
	t.Run("name in use", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, func(p *peer) {
			p.request(v3.CodeRegister, nil)
			p.respond(v3.CodeRefused, &v3.Registered{})
		})
		err := firstContact(t.Context(), t, s.settings(), tempFile(t, "a", nil))
		mustSay(t, err, `"grace" is in use`, s.addr, "--name", "--me")
		if !errors.Is(err, send.ErrRefused) {
			t.Errorf("got %v, want send.ErrRefused", err)
		}
	})
	for name, payload := range map[string]bool{"unknown identity": true, "unknown identity, without the payload": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(p *peer) {
				p.askedKey()
				refusal := bytesOf(p, v3.CodeRefused, &v3.Registered{})
				if !payload {
					refusal = refusal[:v3.ResponseHeaderSize]
				}
				p.Write(refusal)
			})
			results, err := runAll(t.Context(), t, s.settings(), tempFile(t, "a", nil), tempFile(t, "b", nil))
			for _, err := range []error{err, results[0].Err, results[1].Err} {
				mustSay(t, err, `"grace"`, s.addr, "--me")
				if !errors.Is(err, send.ErrRefused) {
					t.Errorf("got %v, want send.ErrRefused", err)
				}
			}
		})
	}
}

func TestConnectionRefusedIsInPlainWords(t *testing.T) {
	t.Parallel()
	addr := need.DeadAddress(t)
	settings := Settings{Server: addr, ConnectTimeout: patience, Timeout: patience}
	results, err := runAll(t.Context(), t, settings, tempFile(t, "a", nil), tempFile(t, "b", nil), tempFile(t, "c", nil))
	for _, err := range []error{err, results[0].Err, results[1].Err, results[2].Err} {
		mustSay(t, err, "connect to "+addr+": refused", "is fenc serve running")
	}
}

func TestHostWithoutAddressIsNamed(t *testing.T) {
	t.Parallel()
	err := inWords(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "files.invalid", IsNotFound: true}}, time.Second)
	mustSay(t, err, `no address found for host "files.invalid"`)
}

func TestConnectTimesOutWithItsOwnLimit(t *testing.T) {
	t.Parallel()
	settings := Settings{Server: "127.0.0.1:1", ConnectTimeout: time.Nanosecond, Timeout: patience}
	_, err := Connect(t.Context(), settings)
	mustSay(t, err, "connect to 127.0.0.1:1: timed out after 1ns")
}

// TestAcknowledgementBeforeItsTurnIsNoVerification: 2104 in place of 2103.
func TestAcknowledgementBeforeItsTurnIsNoVerification(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(p *peer) {
		p.agreeKey()
		p.content(p.fileHead())
		p.respond(v3.CodeReceived, nil)
		p.ended()
	})
	results, _ := runAll(t.Context(), t, s.settings(), tempFile(t, "a", []byte("abc")))
	mustSay(t, results[0].Err, "got 2104 (received), want 2103 (file received)")
	if results[0].Checksum != "" {
		t.Errorf("checksum: got %q, want none", results[0].Checksum)
	}
}

// TestUnacknowledgedFileIsNotVerified: the checksum was right and 2104 is missing.
func TestUnacknowledgedFileIsNotVerified(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(p *peer) {
		p.agreeKey()
		p.answered(0)
		p.request(v3.CodeValid, &v3.Verdict{})
	})
	results, _ := runAll(t.Context(), t, s.settings(), tempFile(t, "a", []byte("abc")))
	mustSay(t, results[0].Err, "not confirmed, so send it again", "closed the connection")
	if results[0].Checksum != "" {
		t.Errorf("checksum: got %q, want none", results[0].Checksum)
	}
}

func TestServerGoneInTheMiddleOfTheContent(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p *peer){"closed": func(*peer) {}, "reset": (*peer).reset} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(p *peer) {
				p.agreeKey()
				p.fileHead()
				io.CopyN(io.Discard, p, 100_000)
				end(p)
			})
			results, _ := runAll(t.Context(), t, s.settings(), tempFile(t, "a", pattern(8<<20)))
			mustSay(t, results[0].Err, s.addr, "the connection in the middle of sending the content", "its log says why")
		})
	}
}

// All of them wait at once. A busy machine must not take as long for what comes before.
func TestSilentServerIsReportedWithTheStep(t *testing.T) {
	t.Parallel()
	const tooLong = 10 * time.Second
	var all sync.WaitGroup
	for _, st := range steps {
		all.Go(func() {
			t.Run(st.name, func(t *testing.T) {
				s := newServer(t, func(p *peer) { st.reach(p); p.ended() })
				settings := s.settings()
				settings.Timeout = tooLong
				err := firstContact(t.Context(), t, settings, tempFile(t, "a", []byte("abc")))
				mustSay(t, err, s.addr, "timed out after 10s in the middle of "+st.name)
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("got %v, want os.ErrDeadlineExceeded in it", err)
				}
			})
		})
	}
	all.Go(func() {
		t.Run("reads no more", func(t *testing.T) {
			done := make(chan struct{})
			s := newServer(t, func(p *peer) {
				p.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
				p.agreeKey()
				p.fileHead()
				<-done
			})
			defer close(done)
			settings := s.settings()
			settings.Timeout = tooLong
			results, _ := runAll(t.Context(), t, settings, tempFile(t, "a", pattern(32<<20)))
			mustSay(t, results[0].Err, "timed out after 10s in the middle of sending the content")
		})
	})
	all.Wait()
}

func TestLostConnectionCostsOneFile(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(p *peer) {
		p.agreeKey()
		p.content(p.fileHead())
	}, func(p *peer) {
		p.agreeKey()
		for range 2 {
			p.answered(0)
			p.concluded(v3.CodeValid)
		}
		p.ended()
	})
	results, err := runAll(t.Context(), t, s.settings(), tempFile(t, "a", []byte("a")), tempFile(t, "b", []byte("b")), tempFile(t, "c", []byte("c")))
	if err != nil {
		t.Errorf("Run: got %v, want nil: all was tried", err)
	}
	mustSay(t, results[0].Err, "closed the connection")
	for _, r := range results[1:] {
		if r.Err != nil {
			t.Errorf("%s: got %v, want verified on a new connection", r.Name, r.Err)
		}
	}
	if n := s.accepted.Load(); n != 2 {
		t.Errorf("connections: got %d, want 2", n)
	}
}

func TestInterruptReportsEveryFile(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := newServer(t, func(p *peer) {
		p.agreeKey()
		p.fileHead()
		cancel()
		io.Copy(io.Discard, p)
	})
	results, err := runAll(ctx, t, s.settings(), tempFile(t, "a", pattern(4<<20)), tempFile(t, "b", nil))
	for _, err := range []error{err, results[0].Err, results[1].Err} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled in it", err)
		}
		mustSay(t, err, "interrupted")
	}
}
