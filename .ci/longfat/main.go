//go:build linux

// Command longfat measures fenc over long and over slow lines: it makes two
// network namespaces, joins them by a line of its own making with a delay and a
// rate, and sends over it. It needs root and /dev/net/tun, and no queueing
// discipline of the kernel's.
//
//	go run ./.ci/longfat FENC
package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	size    = flag.Int64("size", 1<<30, "bytes of the file")
	streams = flag.String("streams", "1,4,8,16", "numbers of connections to measure over the long line")
	cases   = flag.String("cases", "long,delta", "long: 150 ms and 1 Gbit/s with as many streams as -streams says; delta: 1 % changed over 200 Mbit/s")
	verbose = flag.Bool("v", false, "show what fenc says")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: longfat [-size BYTES] [-cases long,delta] FENC")
	}
	fenc, err := filepath.Abs(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range strings.Split(*cases, ",") {
		run := map[string]func(string) error{"long": long, "delta": delta}[c]
		if run == nil {
			log.Fatalf("no case %q", c)
		}
		if err := run(fenc); err != nil {
			log.Fatalf("%s: %v", c, err)
		}
	}
}

// long sends one file over 1 Gbit/s with a round trip of 150 ms.
func long(fenc string) error {
	const rate = 1e9
	return over(fenc, rate, 75*time.Millisecond, func(b *bench) error {
		fmt.Printf("| %d MiB over 1 Gbit/s, round trip 150 ms | seconds | Mbit/s | of the line |\n|---|---:|---:|---:|\n", *size>>20)
		for streams := range strings.SplitSeq(*streams, ",") {
			took, err := b.send("--streams", streams, "--as", "file "+streams, "file")
			if err != nil {
				return err
			}
			speed := float64(*size) * 8 / took.Seconds()
			fmt.Printf("| %s streams | %.1f | %.0f | %.2f |\n", streams, took.Seconds(), speed/1e6, speed/rate)
		}
		return nil
	})
}

// delta sends a file over 200 Mbit/s, changes every hundredth chunk of it, and
// sends it again.
func delta(fenc string) error {
	return over(fenc, 200e6, 5*time.Millisecond, func(b *bench) error {
		fmt.Printf("| %d MiB over 200 Mbit/s, round trip 10 ms | seconds | times faster |\n|---|---:|---:|\n", *size>>20)
		whole, err := b.send("file")
		if err != nil {
			return err
		}
		fmt.Printf("| whole | %.1f | 1 |\n", whole.Seconds())
		f, err := os.OpenFile(filepath.Join(b.home, "file"), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		for off := int64(12345); off < *size; off += 100 << 20 {
			if _, err := f.WriteAt([]byte("changed"), off); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
		again, err := b.send("file")
		if err != nil {
			return err
		}
		fmt.Printf("| one MiB in a hundred changed | %.1f | %.1f |\n", again.Seconds(), whole.Seconds()/again.Seconds())
		return nil
	})
}

// bench is a server and a client, each in a namespace of its own.
type bench struct {
	fenc, home, near string
}

func (b *bench) send(args ...string) (time.Duration, error) {
	var said bytes.Buffer
	c := exec.Command("ip", append([]string{"netns", "exec", b.near, b.fenc, "send"}, args...)...)
	c.Dir, c.Stdout, c.Stderr = b.home, &said, &said
	c.Env = []string{"HOME=" + b.home, "PATH=" + os.Getenv("PATH")}
	begun := time.Now()
	err := c.Run()
	if *verbose || err != nil {
		os.Stderr.Write(said.Bytes())
	}
	return time.Since(begun), err
}

func over(fenc string, rate float64, delay time.Duration, do func(*bench) error) (err error) {
	work, err := os.MkdirTemp("", "fenc-longfat-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tag := fmt.Sprintf("%d", os.Getpid())
	near, far := "fenc-near-"+tag, "fenc-far-"+tag
	var ends [2]*os.File
	for i, n := range []struct{ name, address string }{{near, "10.99.1.2"}, {far, "10.99.1.1"}} {
		if err := ip("netns", "add", n.name); err != nil {
			return err
		}
		defer ip("netns", "del", n.name)
		if ends[i], err = openTun(n.name); err != nil {
			return fmt.Errorf("tun device: %w", err)
		}
		defer ends[i].Close()
		for _, args := range []string{"addr add " + n.address + "/24 dev line", "link set line mtu 1500 up", "link set lo up"} {
			if err := ip(append([]string{"-n", n.name}, strings.Fields(args)...)...); err != nil {
				return err
			}
		}
	}
	go carry(ends[0], ends[1], rate, delay)
	go carry(ends[1], ends[0], rate, delay)

	home, store := filepath.Join(work, "client"), filepath.Join(work, "server")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Mkdir(store, 0o700), random(filepath.Join(home, "file")), random0(filepath.Join(home, "tiny"))); err != nil {
		return err
	}
	server := exec.Command("ip", "netns", "exec", far, fenc, "serve", "--listen", "10.99.1.1:4000")
	server.Dir, server.Env = store, []string{"HOME=" + store, "FENC_REGISTRATION=open", "PATH=" + os.Getenv("PATH")}
	if *verbose {
		server.Stderr = os.Stderr
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		server.Process.Signal(os.Interrupt)
		server.Wait()
	}()
	b := &bench{fenc, home, near}
	for range 50 {
		if _, err = b.send("--server", "10.99.1.1:4000", "--name", "bench", "--accept-new", "--retry-for", "5s", "tiny"); err == nil {
			return do(b)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

func random(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for left := *size; left > 0; left -= int64(len(buf)) {
		rand.Read(buf)
		if _, err := f.Write(buf[:min(left, int64(len(buf)))]); err != nil {
			return err
		}
	}
	return f.Close()
}

func random0(path string) error { return os.WriteFile(path, []byte("tiny"), 0o600) }

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// openTun makes the device "line" in the namespace. It passes packets with their
// virtio header, so that large ones need not be cut up on the way.
func openTun(namespace string) (*os.File, error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, if its namespace cannot be set back
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(here)
	there, err := unix.Open("/var/run/netns/"+namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(there)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		var request *unix.Ifreq
		if request, err = unix.NewIfreq("line"); err == nil {
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4)
	}
	if err := unix.Setns(here, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	runtime.UnlockOSThread()
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "tun"), nil
}

// carry takes packets from one end to the other, as a line of this rate (bits a
// second) and this delay does. Its queue holds what a line of a quarter of a
// second holds; what comes to a full one is lost.
func carry(from, to *os.File, rate float64, delay time.Duration) {
	type packet struct {
		data []byte
		due  time.Time
	}
	queue := make(chan packet, 1<<16)
	go func() {
		for p := range queue {
			time.Sleep(time.Until(p.due))
			to.Write(p.data)
		}
	}()
	defer close(queue)
	const header = 10 // struct virtio_net_hdr
	free := time.Now()
	buf := make([]byte, 1<<16+header)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if free.Sub(now) > 250*time.Millisecond {
			continue
		}
		// Each segment of a large packet has its own headers on a real line.
		segments := 1 + (n-header)/1448
		bits := float64(n-header+segments*54) * 8
		free = free.Add(time.Duration(bits / rate * 1e9))
		queue <- packet{bytes.Clone(buf[:n]), free.Add(delay)}
	}
}
