//go:build unix

package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

var (
	stepTimes = flag.Int("step.times", 0, "how often TestKilledAtEveryStep kills a server at each step of each scenario; 0: once at each kind of step, with -short at one kind of six")
	stepSeed  = flag.Uint64("step.seed", 1, "what it draws contents from, and the moments of second kills")
)

// crashSite is a server that is killed again and again, and a client of it.
type crashSite struct {
	*testing.T
	*sender
	dir string
}

func newCrashSite(t *testing.T, protocol int, seed uint64) *crashSite {
	t.Helper()
	c := newSender(t, "grace", protocol, newLedger())
	c.random = rand.New(rand.NewPCG(seed, uint64(protocol)))
	return &crashSite{t, c, memoryDir(t)}
}

// serveUntil starts a server that ends itself at a step.
func (s *crashSite) serveUntil(step string) *child {
	s.Helper()
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	return startCommand(s.T, s.dir, []string{"FENC_REGISTRATION=open", crashVariable + "=" + step}, exec.Command(self, "serve", "--listen", "127.0.0.1:0"))
}

// reachable has the client's way lead to a server, and returns whether that has got
// as far as to listen.
func (s *crashSite) reachable(c *child) bool {
	listening := make(chan string, 1)
	go func() {
		defer close(listening)
		for {
			c.log.mu.Lock()
			text, changed := c.log.text.String(), c.log.changed
			c.log.mu.Unlock()
			if m := listeningAt.FindStringSubmatch(text); m != nil {
				listening <- m[1]
				return
			}
			select {
			case <-changed:
			case <-c.ended:
				return
			}
		}
	}()
	address, ok := <-listening
	if ok {
		s.way.server.Store(&address)
	}
	return ok
}

var listeningAt = regexp.MustCompile(`msg=listening address=(\S+)`)

// What clients do while a server is killed at a step. Each returns what is to be
// sent in the end.
var crashScenarios = map[string]func(s *crashSite) map[string][]byte{
	"file": func(s *crashSite) map[string][]byte {
		files := map[string][]byte{"same": s.bytes(1<<20 + s.random.IntN(1000)), fmt.Sprintf("new-%x", s.random.Uint32()): s.bytes(300<<10 + s.random.IntN(1000))}
		s.send(s.Context(), files)
		return files
	},
	"small": func(s *crashSite) map[string][]byte {
		files := map[string][]byte{"same": s.bytes(s.random.IntN(1000)), fmt.Sprintf("new-%x", s.random.Uint32()): s.bytes(s.random.IntN(1000))}
		s.send(s.Context(), files)
		return files
	},
	"group": func(s *crashSite) map[string][]byte {
		files := make(map[string][]byte)
		for i := range 20 {
			name := fmt.Sprintf("g-%d", i)
			if s.protocol == 4 {
				name = fmt.Sprintf("g/%d/%d", i%3, i)
			}
			files[name] = s.bytes(s.random.IntN(1000))
			if s.protocol == 3 && i == 3 {
				break // one after the other in any case
			}
		}
		s.send(s.Context(), files)
		return files
	},
	"partial": func(s *crashSite) map[string][]byte {
		files := map[string][]byte{"same": s.bytes(2<<20 + s.random.IntN(1000))}
		ctx, interrupt := context.WithCancel(s.Context())
		s.way.after(1<<20+100<<10, interrupt)
		s.send(ctx, files)
		s.way.after(1<<62, nil)
		interrupt()
		s.way.idle() // the server has taken note
		s.send(s.Context(), files)
		return files
	},
}

// A server that is killed before any step of the order of writes, of its end, and
// often of its next start as well: what it called verified is there, nothing else
// is, and clients go on.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	var all stepKills
	t.Cleanup(func() { // when all scenarios have ended
		if kills, rounds := all.kills.Load(), all.rounds.Load(); kills < rounds*8/10 {
			t.Errorf("%d of %d servers were killed at their step, want about all", kills, rounds)
		}
	})
	for _, protocol := range []int{3, 4} {
		for name, run := range crashScenarios {
			t.Run(fmt.Sprintf("%s, protocol %d", name, protocol), func(t *testing.T) {
				t.Parallel()
				killAtEveryStep(newCrashSite(t, protocol, *stepSeed), run, &all)
			})
		}
	}
}

// stepKills counts servers that were to end at a step and those that did: a step may
// not come again, where moments decide how many files make a group.
type stepKills struct{ rounds, kills atomic.Int64 }

func killAtEveryStep(s *crashSite, run func(*crashSite) map[string][]byte, all *stepKills) {
	// What a start takes of a storage that is laid out, and what a client does
	// after registering: the first round does that.
	server := s.serveUntil("none")
	s.reachable(server)
	s.send(s.Context(), map[string][]byte{"first": nil}).want(s, 0)
	server.signal(s.T, syscall.SIGTERM)
	server.result(s.T).want(s, 0)

	server = s.serveUntil("none")
	s.reachable(server)
	last := run(s)
	server.signal(s.T, syscall.SIGTERM)
	server.result(s.T).want(s, 0)
	steps := stepsOf(server.log.String())
	if len(steps) < 15 {
		s.Fatalf("%d steps, want more: are they announced?\n%s", len(steps), server.log)
	}
	announcedSteps := len(steps)
	rounds, kills, again := 0, 0, 0
	for i, step := range s.choose(steps) {
		for range max(1, *stepTimes) {
			rounds++
			server := s.serveUntil(step)
			if s.reachable(server) {
				last = run(s)
				server.Process.Signal(syscall.SIGTERM) // if it has not ended itself
			}
			server.await(s.T)
			if s.killed(server) {
				kills++
			}
			if s.random.IntN(2) == 0 {
				server = s.serveUntil("any:" + strconv.Itoa(layoutSteps+s.random.IntN(40)))
				if s.reachable(server) {
					server.Process.Kill()
				}
				server.await(s.T)
				again++
			}
			s.settles(last)
			if s.Failed() {
				s.Fatalf("after the kill at %s (seed %d, choice %d)", step, *stepSeed, i)
			}
			if rounds%progressEvery == 0 {
				s.Logf("%d servers of %d killed at a step so far, and %d at a step of the next start", kills, rounds, again)
			}
		}
	}
	s.Logf("%d steps; %d servers of %d killed at one, and %d at a step of the next start; %d answers of verified, none lost", announcedSteps, kills, rounds, again, s.kept.answers)
	all.rounds.Add(int64(rounds))
	all.kills.Add(int64(kills))
}

// stepsOf returns the steps that a server says it has taken since it listens.
func stepsOf(log string) []string {
	_, serving, _ := strings.Cut(log, "msg=listening")
	var steps []string
	for _, m := range announced.FindAllStringSubmatch(serving, -1) {
		steps = append(steps, m[1])
	}
	return steps
}

var announced = regexp.MustCompile(`(?m)^step (\S+)$`)

// inOrdinaryRun are the kinds of steps, in each protocol, that the ordinary run has
// killed a server at, in one scenario or another; a short run leaves most of them out.
var (
	inOrdinaryRun sync.Map
	ordinaryKinds atomic.Int64 // how many
)

// choose returns all steps; in the ordinary run one of each kind, and of those kinds
// only that no other scenario has taken.
func (s *crashSite) choose(steps []string) []string {
	if *stepTimes > 0 {
		return steps
	}
	return slices.DeleteFunc(steps, func(step string) bool {
		kind, _, _ := strings.Cut(step, ":")
		_, taken := inOrdinaryRun.LoadOrStore(fmt.Sprint(s.protocol, kind), step)
		return taken || testing.Short() && ordinaryKinds.Add(1)%6 != 1
	})
}

// layoutSteps is how many of a start's steps make folders that are there.
const layoutSteps = 250

func (s *crashSite) killed(server *child) bool {
	return server.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// settles starts the server that is released and wants everything in order, also
// after it has taken what clients were sending.
func (s *crashSite) settles(last map[string][]byte) {
	s.Helper()
	server := start(s.T, s.dir, nil, "serve", "--listen", "127.0.0.1:0")
	if !s.reachable(server) {
		s.Fatalf("the server does not start:\n%s", server.log)
	}
	s.kept.checkCatalogue(s, s.dir)
	checkDeep(s, s.dir)
	s.send(s.Context(), last).want(s, 0)
	server.signal(s.T, syscall.SIGTERM)
	server.result(s.T).want(s, 0)
	s.kept.checkTree(s, filepath.Join(s.dir, "files"))
	wantNoStrays(s.T, s.dir)
	if said := server.log.String(); s.Failed() || strings.Contains(said, "level=ERROR") {
		s.Errorf("the server says:\n%s", said)
	}
}
