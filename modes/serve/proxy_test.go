package serve

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/serve/servetest"
	"fenc/wire/fuzztest"
	"fenc/wire/v3"
)

// signature begins a PROXY header of version 2.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// saidFrom is a connection of a peer at an address.
type saidFrom struct {
	*servetest.Said
	peer net.Addr
}

func (s saidFrom) RemoteAddr() net.Addr { return s.peer }

// FuzzProxyHeader has a peer at one of several addresses, some of them a balancer's, say
// anything at all. The connection ends; whom it is counted for and logged as is the
// peer, or for a balancer whom the header names; and without one a balancer is not answered.
func FuzzProxyHeader(tf *testing.F) {
	f := fuzztest.New(tf)
	must := func(err error) {
		f.Helper()
		if err != nil {
			f.Fatal(err)
		}
	}
	dir := f.TempDir()
	store, err := storage.OpenFolder(filepath.Join(dir, "files"))
	must(err)
	catalogue, err := model.Open(filepath.Join(dir, "fenc.db"), model.Options{})
	must(err)
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := archive.Open(catalogue, store, logger)
	must(err)
	f.Cleanup(func() { a.Close() })
	s := New(a, Settings{
		MaxSessions: 10, MaxUnadmitted: 10, MaxPerAddress: 1, IdleTimeout: time.Minute, Protocol3: true,
		ProxyFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/16")},
	}, logger)
	peers := []struct {
		addr     net.Addr
		balances bool
	}{
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7}, true}, // 16 bytes, as accepted of both families
		{&net.TCPAddr{IP: net.ParseIP("fd00::1"), Port: 7, Zone: "eth0"}, true},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7).To4(), Port: 7}, false},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 7}, false},
		{&net.UnixAddr{Name: "10.0.0.1:7", Net: "unix"}, false},
	}

	var registers bytes.Buffer // and is refused, as registration is closed
	must(v3.WriteRegistration(&registers, "x"))
	v2 := func(command, family byte, rest ...byte) string {
		return signature + string(append([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}, rest...))
	}
	tcp4 := []byte{192, 0, 2, 1, 192, 0, 2, 9, 3, 0xe9, 4, 0xd2}
	tcp6 := append(append(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::9").AsSlice()...), 3, 0xe9, 4, 0xd2)
	for _, header := range []string{
		"", "PROXY", "PROXY TCP4 192.0.2.1 192.0.2.9 1001 1234\r\n", "PROXY TCP6 2001:db8::1 2001:db8::9 1001 1234\r\n",
		"PROXY TCP6 ::ffff:192.0.2.1 ::1 1001 1234\r\n", "PROXY UNKNOWN\r\n", "PROXY UNKNOWN 1 2 3 4\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.9 65536 1234\r\n", "PROXY TCP4 10.0.0.1 10.0.0.1 0 0\n", "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
		v2(0x20, 0), v2(0x21, 0), v2(0x21, 0x11, tcp4...), v2(0x21, 0x21, tcp6...), v2(0x20, 0x11, tcp4...),
		v2(0x21, 0x11, append(tcp4[:12:12], 4, 0, 3, 'a', 'b', 'c')...), v2(0x21, 0x11, append(tcp4[:12:12], 4, 0xff, 0xff)...),
		v2(0x21, 0x12, tcp4...), v2(0x21, 0x31, make([]byte, 216)...), v2(0x21, 0x11, tcp4[:11]...), signature + "\x21\x11\xff\xff",
	} {
		for i := range peers {
			f.Add(uint8(i), []byte(header+registers.String()))
		}
	}
	address := regexp.MustCompile(`"address":"([^"]*)"`)
	f.Fuzz(func(t *testing.T, at uint8, said []byte) {
		peer := peers[int(at)%len(peers)]
		c := saidFrom{servetest.NewSaid(said), peer.addr}
		log.Reset()
		s.begin(t.Context(), c)
		heard, ended := c.Heard()
		if !ended {
			t.Fatal("the connection does not end")
		}
		s.waiting.Wait() // for its last line
		named, isHeader := namedBy(said)
		for _, logged := range address.FindAllStringSubmatch(log.String(), -1) {
			if logged[1] != peer.addr.String() && !(peer.balances && named.IsValid() && logged[1] == net.TCPAddrFromAddrPort(named).String()) {
				t.Errorf("%s is logged as %s, the header names %v", peer.addr, logged[1], named)
			}
		}
		switch text := log.String(); {
		case text == "" || strings.Contains(text, "crashed"):
			t.Errorf("the log has %q", text)
		case len(heard) > 0 && peer.balances && !isHeader:
			t.Errorf("%s is answered without a header", peer.addr)
		}
		if s.introduced+s.places.strangers+s.places.admitted+len(s.places.addresses)+len(s.sessions) > 0 {
			t.Errorf("left over: %d introduced, %+v, %d sessions", s.introduced, s.places, len(s.sessions))
		}
	})
}

// namedBy returns whom a PROXY header is about that said begins with, if it names
// anybody, and whether there may be one.
func namedBy(said []byte) (netip.AddrPort, bool) {
	if line, isHeader := bytes.CutPrefix(said, []byte("PROXY ")); isHeader {
		line, _, _ = bytes.Cut(line, []byte("\r\n"))
		words := strings.Split(string(line), " ")
		if len(words) != 5 {
			return netip.AddrPort{}, true
		}
		named, err := netip.ParseAddrPort(net.JoinHostPort(words[1], words[3]))
		return named, err == nil || words[0] == "UNKNOWN"
	}
	rest, isHeader := bytes.CutPrefix(said, []byte(signature))
	if !isHeader || len(rest) < 4 {
		return netip.AddrPort{}, false
	}
	size := 0
	switch rest = rest[4:]; [2]byte(said[len(signature):]) {
	case [2]byte{0x21, 0x11}:
		size = 4
	case [2]byte{0x21, 0x21}:
		size = 16
	}
	if size == 0 || len(rest) < 2*size+2 {
		return netip.AddrPort{}, true
	}
	ip, _ := netip.AddrFromSlice(rest[:size])
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(rest[2*size:])), true
}
