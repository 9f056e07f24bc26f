package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"fenc/config/need"
)

var injectEvery = flag.Int("inject.every", 0, "TestSystemCallFaults injects one fault of so many; 1: all; 0: one of 11, with -short of 37")

// injection is a fault that strace puts in place of system calls of the server.
type injection struct {
	call, errno string
	when        string // as strace has it, counted by thread
}

func (i injection) String() string { return i.call + " " + i.errno + " " + i.when }

// injections are the faults: each call by which bytes and names reach the disk (the
// server calls no syncfs), with each way to fail, at the first of a thread,
// at a later one, and always.
func injections() []injection {
	var all []injection
	for _, call := range []string{"fsync", "fdatasync", "pwrite64", "openat", "renameat", "linkat", "ftruncate"} {
		for _, errno := range []string{"EIO", "ENOSPC", "EDQUOT", "EMFILE"} {
			for _, when := range []string{"1", "2", "4", "1+"} {
				if call == "fdatasync" && when != "1" && when != "1+" || call == "ftruncate" && when == "4" {
					continue // few are that alone
				}
				all = append(all, injection{call, errno, when})
			}
		}
	}
	return append(all, []injection{
		{"fallocate", "ENOSPC", "1+"}, {"fallocate", "EDQUOT", "1+"}, {"fallocate", "EIO", "1"}, {"fsetxattr", "ENOSPC", "1+"}, {"fsetxattr", "EDQUOT", "2"},
		{"fsetxattr", "EIO", "1"}, {"mkdirat", "ENOSPC", "1+"}, {"mkdirat", "EROFS", "1"}, {"unlinkat", "EIO", "1+"}, {"unlinkat", "EROFS", "2"},
		{"openat", "EACCES", "2"}, {"renameat", "EROFS", "1+"}, {"linkat", "EMLINK", "1+"}, {"linkat", "EPERM", "1"},
	}...)
}

// said are the words that a fault must be reported in, by its error number.
var said = map[string][]string{
	"EIO":    {"input/output error", "disk I/O error"},
	"ENOSPC": {"no space left", "not enough space", "disk is full", "disk I/O error"},
	"EDQUOT": {"quota exceeded", "not enough space", "disk I/O error"},
	"EMFILE": {"too many open files", "disk I/O error", "unable to open database"},
	"EROFS":  {"read-only file system"}, "EACCES": {"permission denied", "unable to open database"},
	"EMLINK": {"too many links"}, "EPERM": {"operation not permitted"},
}

// Whatever system call fails, and however: who asked is told, nothing that was
// verified is lost, what failed leaves nothing behind, and once the fault is gone
// the same clients are served, by the same process or, where the catalogue was
// hit, by the next.
func TestSystemCallFaults(t *testing.T) {
	t.Parallel()
	need.Program(t, "strace", "strace")
	var injected, refused atomic.Int64
	var cases errgroup.Group
	cases.SetLimit(4) // a case is waiting, most of the time
	tried, every := 0, need.Rounds(*injectEvery, 11, 37)
	for n, i := range injections() {
		if n%every != 0 {
			continue
		}
		tried++
		cases.Go(func() error {
			t.Run(i.String(), func(t *testing.T) {
				c := &injectionCase{T: t, injection: i, dir: memoryDir(t), kept: newLedger()}
				c.run()
				if c.faults > 0 {
					injected.Add(1)
				}
				if c.failed > 0 {
					refused.Add(1)
				}
			})
			return nil
		})
	}
	cases.Wait()
	t.Logf("%d faults injected of %d tried, %d of them stopped a transfer; nothing lost", injected.Load(), tried, refused.Load())
	if injected.Load() < int64(tried)*8/10 {
		t.Errorf("%d faults of %d reached a system call, want most", injected.Load(), tried)
	}
}

// injectionCase is a server that a fault is injected into.
type injectionCase struct {
	*testing.T
	injection
	dir     string
	kept    *ledger
	clients []*sender
	server  *child
	faults  int // that reached a system call
	failed  int // transfers that were not verified
}

func (c *injectionCase) run() {
	c.start()
	for _, protocol := range []int{3, 4} {
		client := newSender(c.T, fmt.Sprint("grace-", protocol), protocol, c.kept)
		client.random = rand.New(rand.NewPCG(1, uint64(protocol)))
		c.clients = append(c.clients, client)
	}
	c.reconnect()
	for _, client := range c.clients {
		client.send(c.Context(), map[string][]byte{"before": client.bytes(5000)}).want(c, 0)
	}
	stop := c.inject()
	var heard strings.Builder // what clients were told of what failed
	for _, client := range c.clients {
		for _, r := range client.work(c.Context()) {
			if r.status == 0 {
				continue
			}
			c.failed++
			heard.WriteString(r.out + r.errors)
			said := r.out + r.errors
			if r.status != 1 && r.status != 3 || !strings.Contains(said, "not verified") && !strings.Contains(said, "fenc: send: connect") {
				c.Errorf("a client ended with %d and said:\n%s\nwant 1 or 3, and which file is not verified, or that there is no connection", r.status, said)
			}
			if strings.Contains(said, c.dir) {
				c.Errorf("a client is told of the operator's folders:\n%s", said)
			}
		}
	}
	stop()
	c.wantSaid(heard.String())
	c.wantServiceAgain()
	c.end()
	c.start() // settles
	c.kept.checkCatalogue(c, c.dir)
	c.end()
	c.kept.checkTree(c, filepath.Join(c.dir, "files"))
	wantNoStrays(c.T, c.dir)
	checkDeep(c, c.dir)
	if c.Failed() {
		c.Logf("the server said:\n%s\nclients were told:\n%s", c.server.log, &heard)
	}
}

func (c *injectionCase) start() {
	c.Helper()
	c.server = start(c.T, c.dir, []string{"FENC_REGISTRATION=open"}, "serve", "--listen", "127.0.0.1:0")
	c.server.address(c.T)
}

func (c *injectionCase) reconnect() {
	address := c.server.address(c.T)
	for _, client := range c.clients {
		client.way.server.Store(&address)
	}
}

func (c *injectionCase) end() {
	c.Helper()
	c.server.signal(c.T, syscall.SIGTERM)
	c.server.result(c.T).want(c, 0)
}

// inject has strace stand between the running server and the kernel until stop is
// called. The server forbids others to look into it: strace must be root's.
func (c *injectionCase) inject() (stop func()) {
	c.Helper()
	trace := filepath.Join(c.TempDir(), "trace")
	strace := exec.Command("strace", "-f", "-p", fmt.Sprint(c.server.Process.Pid), "-o", trace,
		"-e", "trace="+c.call, "-e", fmt.Sprintf("inject=%s:error=%s:when=%s", c.call, c.errno, c.when))
	said, ended := newOutput(), make(chan struct{})
	strace.Stderr = said
	if err := strace.Start(); err != nil {
		c.Fatal(err)
	}
	go func() {
		strace.Wait()
		close(ended)
	}()
	c.Cleanup(func() {
		strace.Process.Kill()
		<-ended
	})
	said.await(c, `attached with|ttach`, ended)
	if strings.Contains(said.String(), "ptrace") {
		c.Skipf("the server cannot be traced here: %s", said)
	}
	return func() {
		// A strace that lets go of a server that is just ending waits for its first
		// thread, which waits for the others, which nobody reaps: for ever. The
		// kernel lets go of all of them once strace is gone.
		strace.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(patience / 20):
			strace.Process.Kill()
			<-ended
		}
		text, err := os.ReadFile(trace)
		if err != nil {
			c.Fatal(err)
		}
		c.faults = strings.Count(string(text), "(INJECTED)")
	}
}

// work is what a client does while the fault is there.
func (s *sender) work(ctx context.Context) []result {
	small := make(map[string][]byte)
	for i := range 18 {
		small[fmt.Sprintf("many/%d", i)] = s.bytes(100 + i)
	}
	if s.protocol == 3 {
		small = map[string][]byte{"few": s.bytes(1000), "before": s.bytes(2000)}
	}
	large := map[string][]byte{"large": s.bytes(1<<20 + 300<<10)}
	results := []result{s.send(ctx, small), s.send(ctx, map[string][]byte{"one": s.bytes(3000)})}
	cut, interrupt := context.WithCancel(ctx)
	defer interrupt()
	s.way.after(1<<20+100<<10, interrupt) // an upload that has been begun
	s.send(cut, large)
	s.way.after(1<<62, nil)
	s.way.idle()
	return append(results, s.send(ctx, large))
}

// wantSaid looks in the log for the fault that clients were told of, and whether
// clients were told the operator's details, which are none of theirs.
func (c *injectionCase) wantSaid(heard string) {
	c.Helper()
	if c.failed == 0 {
		return
	}
	eventually(c, fmt.Sprintf("%d transfers failed, and the log says one of %q", c.failed, said[c.errno]), func() bool {
		log := c.server.log.String() // of which the end may be on its way here
		return slices.ContainsFunc(said[c.errno], func(words string) bool { return strings.Contains(log, words) })
	})
}

// wantServiceAgain has the clients send until everything is verified. A server whose
// catalogue was hit ends, and the next one serves.
func (c *injectionCase) wantServiceAgain() {
	c.Helper()
	restarted := false
	for late := time.Now().Add(patience); ; {
		select {
		case <-c.server.ended:
			if got := c.server.ProcessState.ExitCode(); restarted || got != 1 || !strings.Contains(c.server.log.String(), "catalogue broken") {
				c.Fatalf("the server ended with %d, want 1, once, and a word on the catalogue; it said:\n%s", got, c.server.log)
			}
			restarted = true
			c.start()
			c.reconnect()
		default:
		}
		failed := 0
		for _, client := range c.clients {
			for _, r := range client.work(c.Context()) {
				if r.status != 0 {
					failed++
				}
			}
		}
		if failed == 0 {
			return
		}
		if time.Now().After(late) {
			c.Fatalf("the fault is gone, and the server does not work again; it said:\n%s", c.server.log)
		}
	}
}
