//go:build unix

package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"fenc/wire/v3"
)

// manager is what a service tells systemd.
type manager struct {
	*net.UnixConn
	t testing.TB
}

// manage listens at path, or at an abstract one that begins with @.
func manage(t testing.TB, path string) *manager {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(patience))
	return &manager{c, t}
}

// await returns the next message that has the line, and passes over others.
func (m *manager) await(line string) string {
	m.t.Helper()
	buf := make([]byte, 4096)
	for {
		n, err := m.Read(buf)
		if err != nil {
			m.t.Fatalf("await %s: %v", line, err)
		}
		if message := string(buf[:n]); strings.Contains("\n"+message+"\n", "\n"+line+"\n") {
			return message
		}
	}
}

// The server takes the sockets that systemd passes, in place of listening itself, and
// tells it how it gets on, confined as it is.
func TestUnderSystemd(t *testing.T) {
	t.Parallel()
	for name, abstract := range map[string]bool{"a path": false, "an abstract address": true} {
		if abstract && runtime.GOOS != "linux" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, home := t.TempDir(), t.TempDir()
			at := filepath.Join(t.TempDir(), "notify")
			if abstract {
				at = "@" + at
			}
			systemd := manage(t, at)
			var files []*os.File
			var addrs []string
			for range 3 { // two to serve, one for metrics
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				addrs = append(addrs, l.Addr().String())
				f, err := l.(*net.TCPListener).File()
				if err != nil {
					t.Fatal(err)
				}
				l.Close() // of this process; what is passed stays open
				defer f.Close()
				files = append(files, f)
			}
			path, err := binary()
			if err != nil {
				t.Fatal(err)
			}
			settings := write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:1\"\n")
			command := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, path, "serve", "--config", settings)
			command.ExtraFiles = files
			server := startCommand(t, dir, []string{
				"NOTIFY_SOCKET=" + at, "LISTEN_FDS=3", "LISTEN_FDNAMES=fenc.socket:fenc.socket:metrics", "WATCHDOG_USEC=2000000",
			}, command)
			if ready := systemd.await("READY=1"); !strings.Contains(ready, "STATUS=takes connections at "+addrs[0]) && !strings.Contains(ready, addrs[1]) {
				t.Errorf("got %q", ready)
			}
			write(t, filepath.Join(home, "a.txt"), "abc")
			for i, addr := range addrs[:2] {
				name := string(rune('a' + i))
				start(t, home, nil, "send", "--server", addr, "--protocol", "3", "--name", name, "--me", name+".toml", "a.txt").result(t).want(t, 0, "verified")
			}
			if status, _ := get(t, "http://"+addrs[2]+"/readyz"); status != 200 {
				t.Errorf("/readyz: %d", status)
			}
			systemd.await("WATCHDOG=1")
			systemd.await("WATCHDOG=1")

			write(t, settings, "listen = \"127.0.0.1:1\"\nlog_format = \"json\"\n")
			server.signal(t, syscall.SIGHUP)
			if reloading := systemd.await("RELOADING=1"); runtime.GOOS == "linux" && !regexp.MustCompile(`(?m)^MONOTONIC_USEC=\d+$`).MatchString(reloading) {
				t.Errorf("got %q, want when it began", reloading)
			}
			systemd.await("READY=1")
			write(t, settings, "wrong")
			server.signal(t, syscall.SIGHUP)
			systemd.await("RELOADING=1")
			if ready := systemd.await("READY=1"); !strings.Contains(ready, "STATUS=settings not read again: ") {
				t.Errorf("got %q", ready)
			}
			server.signal(t, syscall.SIGTERM)
			systemd.await("STOPPING=1")
			server.result(t).want(t, 0)
			if said := server.log.String(); runtime.GOOS == "linux" && !strings.Contains(said, "onfined") || strings.Contains(said, "systemd") {
				t.Errorf("the log: got\n%s", said)
			}
		})
	}
}

// Where a balancer says whom a connection is from, that address counts and is logged.
func TestBehindABalancer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\nproxy_protocol_from = [\"127.0.0.1\"]\nprotocols = [3, 4]\nmax_sessions_per_address = 1\nlog_level = \"debug\"\n")
	server := start(t, dir, nil, "serve")
	addr := server.address(t)
	server.log.await(t, `protocol 3 is served beyond this machine`, server.ended)
	dial := func(header []byte) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_, err = c.Write(header)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		return c
	}
	from := func(version byte, source string) []byte {
		t.Helper()
		to := &net.TCPAddr{IP: net.ParseIP("192.0.2.9"), Port: 1234}
		if strings.HasPrefix(source, "[") {
			to.IP = net.ParseIP("2001:db8::9")
		}
		tcp, err := net.ResolveTCPAddr("tcp", source)
		if err != nil {
			t.Fatal(err)
		}
		header, err := proxyproto.HeaderProxyFromAddrs(version, tcp, to).Format()
		if err != nil {
			t.Fatal(err)
		}
		return header
	}
	for i, c := range []struct {
		version byte
		source  string
	}{{1, "192.0.2.1:1001"}, {2, "192.0.2.2:1002"}, {1, "[2001:db8:1::1]:1003"}, {2, "[2001:db8:2::1]:1004"}} {
		file := beginFileOn(t, dial(from(c.version, c.source)), "client "+string(rune('a'+i)), "big")
		// The same address a second time is one too many; the balancer's own counts for nothing.
		second := dial(from(2, c.source))
		if n, err := second.Read(make([]byte, 1)); err == nil {
			t.Errorf("got %d bytes, want no second connection from %s", n, c.source)
		}
		if i == 0 { // lines about that are kept to one a second
			server.log.await(t, `connections refused.*address="?`+regexp.QuoteMeta(c.source)+`"?.*max_sessions_per_address`, server.ended)
		}
		file.finish()
		server.log.await(t, `msg=file protocol=3 address="?`+regexp.QuoteMeta(c.source)+`.*verdict=verified`, server.ended)
	}

	// The header and what follows in one piece, and what the balancer asks for itself.
	both := dial(append(from(2, "192.0.2.5:1005"), registration("together")...))
	if h, err := v3.ReadResponseHeader(both); err != nil || h.Code != v3.CodeRegistered {
		t.Errorf("got %v, %v", h, err)
	}
	local := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC})
	text, err := local.Format()
	if err != nil {
		t.Fatal(err)
	}
	itself := dial(append(text, registration("itself")...))
	if h, err := v3.ReadResponseHeader(itself); err != nil || h.Code != v3.CodeRegistered {
		t.Errorf("got %v, %v", h, err)
	}
	both.Close()
	itself.Close()

	for name, c := range map[string]struct {
		header []byte
		says   string
	}{
		"none":              {registration("nobody"), "no PROXY header, as proxy_protocol_from says"},
		"not a header":      {[]byte("PROXY nonsense\r\n"), "no PROXY header"},
		"not ended":         {append([]byte("PROXY TCP4 "), bytes.Repeat([]byte("1"), 200)...), "no PROXY header"},
		"longer than bound": {append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"), make([]byte, 1<<16)...), "no PROXY header"},
		"silent":            {nil, "await a PROXY header, as proxy_protocol_from says: silent for 5s"},
		"datagrams":         {append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x0c"), make([]byte, 12)...), "is not TCP"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(nil)
			conn.Write(c.header) // of which the end may find the connection closed
			if n, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("got %d bytes, want the connection closed", n)
			}
			server.log.await(t, `session ended" address=`+regexp.QuoteMeta(conn.LocalAddr().String())+`.*`+regexp.QuoteMeta(c.says), server.ended)
		})
	}
	probe := dial(nil) // a balancer looks whether somebody listens
	probe.Close()
	server.log.await(t, `level=DEBUG msg="session ended" address=`+regexp.QuoteMeta(probe.LocalAddr().String()), server.ended)
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
}

// registration is a 1100 for name.
func registration(name string) []byte {
	var b bytes.Buffer
	if err := v3.WriteRegistration(&b, name); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// From others a PROXY header is not read: it is what somebody says of himself.
func TestHeaderOfSomebodyElseIsNotBelieved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := start(t, dir, []string{"FENC_PROXY_PROTOCOL_FROM=192.0.2.1, 2001:db8::/32"}, "serve", "--listen", "127.0.0.1:0")
	conn, err := net.Dial("tcp", server.address(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	conn.Write([]byte("PROXY TCP4 192.0.2.77 192.0.2.1 1001 1234\r\n"))
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("got %d bytes, want the connection closed", n)
	}
	server.log.await(t, `session ended" address=`+regexp.QuoteMeta(conn.LocalAddr().String())+`.*speaks no protocol`, server.ended)
	start(t, dir, []string{"FENC_PROXY_PROTOCOL_FROM=somewhere"}, "serve").result(t).want(t, 2, "entry 1: neither an address nor a prefix")
}

// Behind a balancer whoever reaches it reaches the server: protocol 3 is off there
// unless it is asked for, on loopback too.
func TestProtocol3IsOffBehindABalancer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env    []string
		header string
		served bool
	}{
		"none":                   {nil, "", true},
		"one":                    {[]string{"FENC_PROXY_PROTOCOL_FROM=127.0.0.1"}, "PROXY TCP4 192.0.2.1 192.0.2.9 1001 1234\r\n", false},
		"one, not by way of it":  {[]string{"FENC_PROXY_PROTOCOL_FROM=192.0.2.1"}, "", false},
		"one, and asked for, on": {[]string{"FENC_PROXY_PROTOCOL_FROM=192.0.2.1", "FENC_PROTOCOLS=3,4"}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t, t.TempDir(), append(c.env, "FENC_REGISTRATION=open"), "serve", "--listen", "127.0.0.1:0")
			conn, err := net.Dial("tcp", server.address(t))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Write(append([]byte(c.header), registration("grace")...)); err != nil {
				t.Fatal(err)
			}
			h, err := v3.ReadResponseHeader(conn)
			if served := err == nil && h.Code == v3.CodeRegistered; served != c.served {
				t.Errorf("got %v, %v, want protocol 3 served: %t", h, err, c.served)
			}
			if !c.served {
				server.log.await(t, "speaks no protocol that is served here: protocol 3", server.ended)
			}
		})
	}
}
