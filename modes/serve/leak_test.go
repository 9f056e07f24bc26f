package serve_test

import (
	"crypto/tls"
	"flag"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenc/model"
	"fenc/modes/session4"
	"fenc/wire/v4"
)

var leakSessions = flag.Int("leak.sessions", 200, "TestSessionsLeakNothing: how many, one after another")

// Nothing that a test starts outlives the tests. Processes that fuzz end when they are
// told to, in the middle of something.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// footprint is what the process holds.
type footprint struct {
	goroutines, descriptors int
	heap                    uint64 // bytes in use
}

func measure(t *testing.T) footprint {
	t.Helper()
	runtime.GC()
	runtime.GC() // what pools held is free only now
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f := footprint{goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil { // elsewhere there is none
		f.descriptors = len(entries)
	}
	return f
}

// Sessions of every kind, well ended and not, one after another: at the end the
// process holds as many goroutines, descriptors and bytes as after the first ones.
func TestSessionsLeakNothing(t *testing.T) {
	id := newIdentity(t)
	s := start(t, t.TempDir(), withProtocol4(id))
	dial(t, s).Close()
	s.log.Await(t, "session ended") // the server runs
	idle := runtime.NumGoroutine()
	grace := hello(t, s, "grace")
	grace.Close()
	ada := newNewcomer(t, s, id, "127.0.0.1", "ada")
	ada.Dial = nil
	run := session4.NewRun()
	open := func(t *testing.T) *session4.Session {
		t.Helper()
		session, err := session4.Open(t.Context(), ada.Settings, ada.me, run, 0)
		if err != nil {
			t.Fatal(err)
		}
		return session
	}
	offer := func(t *testing.T, session *session4.Session) {
		t.Helper()
		accepted := make(chan any, 1)
		err := session.Begin(func(m any) { accepted <- m }, func(number uint32) any {
			return &v4.Offer{Number: number, Path: "begun", Size: 3 << 20}
		})
		if err != nil {
			t.Fatal(err)
		}
		m, ok := (<-accepted).(*v4.Accept)
		if !ok {
			t.Fatalf("an offer is answered by %+v", m)
		}
		block := make([]byte, v4.BlockHeadSize+1000)
		if err := session.SendBlock(m.Number, 2<<20, block, 1000); err != nil {
			t.Fatal(err)
		}
	}
	back := func(t *testing.T) *peer { return grace.back(t, s, "grace") }
	kinds := []func(t *testing.T){
		func(t *testing.T) { session := open(t); keep(t, session, "a"); session.Close() },
		func(t *testing.T) { session := open(t); keep(t, session, "a"); session.Cut() },
		func(t *testing.T) { session := open(t); offer(t, session); session.Close() },
		func(t *testing.T) { session := open(t); offer(t, session); session.Cut() },
		func(t *testing.T) { p := back(t); p.keep("a", "1"); p.Close() },
		func(t *testing.T) {
			p := back(t)
			m := p.file("b", p.encrypted("never whole"))
			p.send(m[:len(m)-1])
			p.Close()
		},
		func(t *testing.T) {
			p := dial(t, s)
			p.send([]byte("GET / HTTP/1.1\r\n\r\n"))
			p.wantNothing()
			p.Close()
		},
		func(t *testing.T) { p := dial(t, s); halfHandshake(t, p); p.Close() },
		func(t *testing.T) {
			p := dial(t, s)
			config := v4.ClientTLS(newIdentity(t), true, id.Fingerprint())
			config.NextProtos = []string{"h2"}
			if tls.Client(p, config).Handshake() == nil {
				t.Error("a handshake for another protocol succeeded")
			}
			p.Close()
		},
		func(t *testing.T) { dial(t, s).Close() },
	}
	some := func(n int) {
		for range n / len(kinds) {
			t.Run("", func(t *testing.T) { // which lets its connections go
				for _, kind := range kinds {
					kind(t)
				}
			})
		}
	}
	// settled waits for the last sessions to end, and for what ends with them.
	settled := func(goroutines int) footprint {
		t.Helper()
		open(t).Close() // its epoch ends the earlier sessions of its run
		for late := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			if runtime.NumGoroutine() <= goroutines {
				s.log.Reset()
				return measure(t)
			}
			if time.Now().After(late) {
				buf := make([]byte, 1<<20)
				t.Fatalf("%d goroutines became %d:\n%s", goroutines, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
			}
		}
	}
	some(10 * len(kinds)) // what is made once, is made
	before := settled(idle)
	some(*leakSessions)
	after := settled(idle)
	t.Logf("before %+v, after %d sessions %+v", before, *leakSessions, after)
	if after.descriptors > before.descriptors {
		t.Errorf("%d descriptors became %d in %d sessions", before.descriptors, after.descriptors, *leakSessions)
	}
	// A little comes and goes with rows that wait for their end, and the cache of the database.
	if grown := int64(after.heap) - int64(before.heap); grown > 1<<20 {
		t.Errorf("the heap grew by %d KiB in %d sessions", grown>>10, *leakSessions)
	}
	if uploads, err := s.archive.Catalogue.Uploads(model.UploadOpen); err != nil || len(uploads) != 1 {
		t.Errorf("%d uploads are open, %v, want the one that is gone on with again and again", len(uploads), err)
	}
}
