//go:build linux

package main

import (
	"bufio"
	"bytes"
	"container/heap"
	endian "encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fenc/config/need"
)

var (
	lossySeeds = flag.Uint64("lossy.seeds", 0, "TestLossyLine: how many lines; 0: 2, with -short 1")
	lossySeed  = flag.Uint64("lossy.seed", 1, "TestLossyLine: the first one; those after it follow")
	lossySize  = flag.Int64("lossy.size", 4, "TestLossyLine: MiB to send over each")
)

// lossyLine is a network of one machine, in a namespace of its own: what is sent to there
// comes back as if from there, late, out of order, or not at all. The kernel's TCP at
// both ends has to make do with it.
type lossyLine struct {
	device *os.File
	random *rand.Rand
	mtu    int
	delay  time.Duration // one way, at least
	jitter time.Duration // mean of what comes on top, packet by packet
	loss   float64       // share of packets
	rate   float64       // bytes a second, each way
	outage [2]time.Duration

	mu      sync.Mutex
	queue   packets
	changed chan struct{}
	free    [2]time.Time // when the line has room again, each way

	passed, lost, overtook atomic.Int64
	latest                 [2]time.Time // at which a packet was delivered that came last
}

const (
	here  = "10.9.0.1"
	there = "10.9.0.2"
)

// newLossyLine makes the namespace that the calling goroutine's thread is in from here on,
// with all processes that it starts. The thread ends with the goroutine.
func newLossyLine(t *testing.T, seed uint64, long bool) *lossyLine {
	t.Helper()
	runtime.LockOSThread() // for good
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace to be had, which takes CAP_SYS_ADMIN: %v", err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no TUN device to be had: %v", err)
	}
	random := rand.New(rand.NewPCG(seed, 9))
	l := &lossyLine{
		random: random, changed: make(chan struct{}, 1),
		mtu: []int{1280, 1500, 9000}[random.IntN(3)], delay: time.Duration(random.ExpFloat64() * float64(5*time.Millisecond)),
		jitter: time.Duration(random.ExpFloat64() * float64(500*time.Microsecond)), loss: min(0.02, random.ExpFloat64()*0.004),
		rate: 2e6 * (1 + random.ExpFloat64()*10),
	}
	from := time.Duration(random.Int64N(int64(time.Second)))
	l.outage = [2]time.Duration{from, from + time.Duration(random.Int64N(int64(time.Second)))}
	if long { // as many bytes want a line on which they get somewhere
		l.mtu, l.delay, l.jitter = 9000, l.delay/4, l.jitter/8
		l.loss, l.rate = l.loss/40, l.rate*10
	}
	ifreq := func() *unix.Ifreq {
		r, err := unix.NewIfreq("line")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(control)
	set := func(what string, fd int, request uint, fill func(r *unix.Ifreq) error) {
		t.Helper()
		r := ifreq()
		if err := errors.Join(fill(r), unix.IoctlIfreq(fd, request, r)); err != nil {
			if what == "make the device" {
				t.Skipf("no TUN device to be had: %v", err)
			}
			t.Fatalf("%s: %v", what, err)
		}
	}
	set("make the device", fd, unix.TUNSETIFF, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI); return nil })
	l.device = os.NewFile(uintptr(fd), "tun") // not before it is one, or nothing is ever read from it
	set("set its address", control, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(net.ParseIP(here).To4()) })
	set("set its mask", control, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) })
	set("set its MTU", control, unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(uint32(l.mtu)); return nil })
	set("bring it up", control, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
	var ends sync.WaitGroup
	ends.Go(l.take)
	ends.Go(l.deliver)
	t.Cleanup(func() {
		l.device.Close()
		l.wake()
		ends.Wait()
	})
	return l
}

func (l *lossyLine) String() string {
	return fmt.Sprintf("MTU %d, %s + %s each way, %.3f %% lost, %.0f MB/s, out from %s to %s", l.mtu, l.delay.Round(time.Microsecond),
		l.jitter.Round(time.Microsecond), l.loss*100, l.rate/1e6, l.outage[0].Round(time.Millisecond), l.outage[1].Round(time.Millisecond))
}

// packet is one that is on its way.
type packet struct {
	at    time.Time
	order int64
	way   int
	data  []byte
}

type packets []packet

func (p packets) Len() int           { return len(p) }
func (p packets) Less(i, j int) bool { return p[i].at.Before(p[j].at) }
func (p packets) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }
func (p *packets) Push(x any)        { *p = append(*p, x.(packet)) }
func (p *packets) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}

func (l *lossyLine) wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// take gets packets from the kernel, and has some of them lost.
func (l *lossyLine) take() {
	const source, destination = 12, 16 // in the header of IPv4
	begun := time.Now()
	buf := make([]byte, l.mtu)
	for order := int64(0); ; order++ {
		n, err := l.device.Read(buf)
		if err != nil {
			return
		}
		p := bytes.Clone(buf[:n])
		if len(p) < 24 || p[0] != 0x45 || !net.IP(p[destination:destination+4]).Equal(net.ParseIP(there)) {
			continue
		}
		// What was sent from here to there has been sent from there to here. The checksums
		// stay right: they are sums.
		copy(p[source:], p[destination:destination+4])
		copy(p[destination:], net.ParseIP(here).To4())
		way := up
		if endian.BigEndian.Uint16(p[20:]) < endian.BigEndian.Uint16(p[22:]) {
			way = down
		}
		now := time.Now()
		out := now.Sub(begun) > l.outage[0] && now.Sub(begun) < l.outage[1]
		l.mu.Lock()
		waits := l.free[way].Sub(now) // for those before it
		if out || l.random.Float64() < l.loss || waits > 100*time.Millisecond {
			l.lost.Add(1)
			l.mu.Unlock()
			continue
		}
		l.free[way] = now.Add(max(0, waits) + time.Duration(float64(n)/l.rate*float64(time.Second)))
		at := l.free[way].Add(l.delay + time.Duration(l.random.ExpFloat64()*float64(l.jitter)))
		if at.Before(l.latest[way]) {
			l.overtook.Add(1)
		} else {
			l.latest[way] = at
		}
		heap.Push(&l.queue, packet{at, order, way, p})
		l.mu.Unlock()
		l.passed.Add(1)
		l.wake()
	}
}

// deliver gives packets to the kernel when it is time.
func (l *lossyLine) deliver() {
	for {
		l.mu.Lock()
		var due []packet
		now, next := time.Now(), time.Hour
		for len(l.queue) > 0 {
			if next = l.queue[0].at.Sub(now); next > 0 {
				break
			}
			due = append(due, heap.Pop(&l.queue).(packet))
			next = time.Hour
		}
		l.mu.Unlock()
		for _, p := range due {
			if _, err := l.device.Write(p.data); errors.Is(err, os.ErrClosed) {
				return
			}
		}
		if len(due) > 0 {
			continue
		}
		timer := time.NewTimer(next)
		select {
		case <-l.changed:
			if _, err := l.device.Stat(); err != nil {
				timer.Stop()
				return
			}
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Over lines that delay, lose and reorder packets, narrow ones too, and are out for a
// while, a file arrives and is verified, whatever the seed.
func TestLossyLine(t *testing.T) {
	t.Parallel()
	if _, err := binary(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	writeLong(t, file, *lossySize<<20)
	for seed := *lossySeed; seed < *lossySeed+need.Rounds(*lossySeeds, 2, 1); seed++ {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			l := newLossyLine(t, seed, *lossySize > 64)
			t.Logf("replay with -lossy.seed=%d -lossy.seeds=1: %s", seed, l)
			dir, home := t.TempDir(), t.TempDir()
			server := start(t, dir, []string{"FENC_REGISTRATION=open"}, "serve", "--listen", here+":1234")
			server.address(t)
			begun := time.Now()
			client := start(t, home, nil, "send", "--server", there+":1234", "--accept-new", "--name", "grace", "--streams", fmt.Sprint(1+seed%4), file)
			<-client.ended // it gives up by itself
			client.result(t).want(t, 0, "verified")
			t.Logf("%d MiB in %.1f s; %d packets, %d lost, %d overtaken", *lossySize, time.Since(begun).Seconds(), l.passed.Load(), l.lost.Load(), l.overtook.Load())
			if n := l.passed.Load(); n < *lossySize<<20/int64(l.mtu) {
				t.Errorf("%d packets: the file did not go over the line", n)
			}
			wantSame(t, filepath.Join(dir, "files", "grace", "file"), file)
			server.signal(t, syscall.SIGTERM)
			server.result(t).want(t, 0)
			os.RemoveAll(dir)
		})
	}
}

// writeLong writes a file in which no two MiB are equal.
func writeLong(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := benchContent(1 << 20)
	for off := int64(0); off < size; off += int64(len(block)) {
		endian.LittleEndian.PutUint64(block, uint64(off))
		if _, err := f.Write(block[:min(int64(len(block)), size-off)]); err != nil {
			t.Fatal(err)
		}
	}
}

// wantSame compares two files.
func wantSame(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.Open(got)
	if err != nil {
		t.Error(err)
		return
	}
	defer a.Close()
	b, err := os.Open(want)
	if err != nil {
		t.Error(err)
		return
	}
	defer b.Close()
	left, right := bufio.NewReaderSize(a, 1<<20), bufio.NewReaderSize(b, 1<<20)
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(p)) {
		n, err := io.ReadFull(left, p)
		m, errWant := io.ReadFull(right, q)
		if n != m || !bytes.Equal(p[:n], q[:m]) {
			t.Errorf("%s differs from what was sent, behind %d bytes", strings.TrimPrefix(got, filepath.Dir(got)), off)
			return
		}
		if err != nil || errWant != nil {
			return
		}
	}
}
