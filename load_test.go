//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"fenc/modes/send"
	"fenc/modes/send4"
	"fenc/modes/session4"
	"fenc/wire/v4"
	"fenc/wire/v4/tree"
)

var (
	loadIdle    = flag.Int("load.idle", 100, "TestLoad: connections that idle")
	loadUploads = flag.Int("load.uploads", 16, "TestLoad: files that are sent at once")
	loadSize    = flag.Int("load.size", 4, "TestLoad: MiB of each")
	loadAnswer  = flag.Duration("load.answer", patience, "TestLoad: longest that a newcomer may wait for his first answer while files are sent")
)

// loadClient is a client of protocol 4 with an address of its own in 127.0.0.0/8.
type loadClient struct {
	session4.Settings
	me session4.Identity
}

func newLoadClient(t *testing.T, addr string, server v4.Fingerprint, ip net.IP, name string) *loadClient {
	t.Helper()
	id, err := v4.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}
	return &loadClient{
		session4.Settings{
			Server: addr, Pins: []v4.Fingerprint{server}, RequirePQ: true, ConnectTimeout: patience, Timeout: patience, Dial: dialer.DialContext,
		},
		session4.Identity{Name: name, Key: id},
	}
}

func (c *loadClient) open(ctx context.Context) (*session4.Session, error) {
	return session4.Open(ctx, c.Settings, c.me, session4.NewRun(), 0)
}

// keep sends a small file over the session and has it verified.
func keep(s *session4.Session, path string, content []byte) error {
	answer := make(chan any, 1)
	err := s.Begin(func(m any) {
		select {
		case answer <- m:
		default:
		}
	}, func(number uint32) any {
		return &v4.Small{Number: number, Path: path, Digest: v4.Digest(tree.Sum(content, 0, true)), Data: content}
	})
	if err != nil {
		return err
	}
	select {
	case m := <-answer:
		if _, ok := m.(*v4.Received); !ok {
			return fmt.Errorf("%s is answered by %+v", path, m)
		}
		return nil
	case <-s.Done():
		return s.Err()
	}
}

// send sends one file by chunks.
func (c *loadClient) send(ctx context.Context, path, name string) error {
	items := []send4.Item{{Path: path, Name: name}}
	next := func() (send4.Item, bool) {
		if len(items) == 0 {
			return send4.Item{}, false
		}
		item := items[0]
		items = nil
		return item, true
	}
	ended := errors.New("no result")
	err := send4.Run(ctx, send4.Settings{Settings: c.Settings, Streams: 1}, c.me, session4.NewRun(), nil, next, send.Results(func(r send.Result) { ended = r.Err }))
	return errors.Join(err, ended)
}

// memory returns a field of /proc/PID/status, in bytes.
func (c *child) memory(t *testing.T, field string) int64 {
	t.Helper()
	for line := range strings.Lines(readFile(t, fmt.Sprintf("/proc/%d/status", c.Process.Pid))) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no %s of the process", field)
	return 0
}

func (c *child) fingerprint(t *testing.T) v4.Fingerprint {
	t.Helper()
	f, err := v4.ParseFingerprint(c.log.await(t, `server_key=(\S+)`, c.ended)[1])
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Many connections that idle after having sent something, many files at once, and
// newcomers meanwhile: every file arrives, newcomers are served, and memory stays
// bounded.
func TestLoad(t *testing.T) {
	t.Parallel()
	// 400 MiB for 2,000 idle connections and 64 uploads.
	most := int64(100<<20 + *loadIdle*75<<10 + *loadUploads*2400<<10)
	dir := t.TempDir()
	server := start(t, dir, []string{"FENC_REGISTRATION=open"}, "serve", "--listen", "127.0.0.1:0")
	addr, key := server.address(t), server.fingerprint(t)
	ip := func(i int) net.IP { return net.IPv4(127, 0, 1, byte(1+i/500)) }

	var opening errgroup.Group
	opening.SetLimit(16)
	idle := make([]*session4.Session, *loadIdle)
	for i := range idle {
		c := newLoadClient(t, addr, key, ip(i), fmt.Sprintf("idle %d", i))
		opening.Go(func() (err error) {
			if idle[i], err = c.open(t.Context()); err != nil {
				return fmt.Errorf("%s: %w", c.me.Name, err)
			}
			return keep(idle[i], "a", []byte(c.me.Name))
		})
	}
	err := opening.Wait()
	defer func() {
		var closing sync.WaitGroup
		for _, s := range idle {
			if s != nil {
				closing.Go(s.Cut)
			}
		}
		closing.Wait()
	}()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d idle connections: server at %d MiB", *loadIdle, server.memory(t, "VmRSS")>>20)

	content := benchContent(*loadSize << 20)
	file := write(t, filepath.Join(t.TempDir(), "file"), string(content))
	ctx, sent := context.WithCancel(t.Context())
	defer sent()
	begun := time.Now()
	var uploads errgroup.Group
	var left atomic.Int64
	left.Store(int64(*loadUploads))
	for i := range *loadUploads {
		c := newLoadClient(t, addr, key, net.IPv4(127, 0, 2, 1), fmt.Sprintf("upload %d", i))
		uploads.Go(func() error {
			defer func() {
				if left.Add(-1) == 0 {
					sent()
				}
			}()
			return c.send(t.Context(), file, "file")
		})
	}
	var answers []time.Duration
	for i := 0; i == 0 || ctx.Err() == nil; i++ {
		c := newLoadClient(t, addr, key, net.IPv4(127, 0, 3, byte(1+i%200)), fmt.Sprintf("newcomer %d", i))
		arrived := time.Now()
		s, err := c.open(t.Context())
		if err != nil {
			t.Fatalf("a newcomer is not served: %v", err)
		}
		answers = append(answers, time.Since(arrived))
		s.Cut()
		select { // several a second
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if err := uploads.Wait(); err != nil {
		t.Errorf("files sent at once: %v", err)
	}
	took := time.Since(begun)
	for _, s := range idle {
		if err := s.Err(); err != nil {
			t.Errorf("an idle connection ended: %v", err)
			break
		}
	}
	for i := range *loadUploads {
		stored, err := os.ReadFile(filepath.Join(dir, "files", fmt.Sprintf("upload %d", i), "file"))
		if err != nil || !bytes.Equal(stored, content) {
			t.Errorf("upload %d: %d bytes, %v, that are not what was sent", i, len(stored), err)
		}
	}
	slices.Sort(answers)
	peak := server.memory(t, "VmHWM")
	t.Logf("%d files of %d MiB at once in %.1f s; %d newcomers heard their first answer after %s, at most %s; the server took %d MiB at most, %d MiB now",
		*loadUploads, *loadSize, took.Seconds(), len(answers), answers[len(answers)/2].Round(time.Millisecond),
		answers[len(answers)-1].Round(time.Millisecond), peak>>20, server.memory(t, "VmRSS")>>20)
	if peak > most && !raceDetector() { // which takes several times as much
		t.Errorf("the server took %d MiB, want %d at most", peak>>20, most>>20)
	}
	if longest := answers[len(answers)-1]; longest > *loadAnswer {
		t.Errorf("a newcomer waited %s, want %s at most", longest, *loadAnswer)
	}
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
}
