package need

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
)

// Address returns a loopback address, host:port, where a process that a test starts can
// listen, and listen again after it was killed. On Linux its host is one of its own, so
// that nobody who listens at any port of 127.0.0.1 is given it first, or meanwhile;
// elsewhere that may happen.
func Address() (string, error) {
	host := "127.0.0.1"
	if runtime.GOOS == "linux" { // which has all of 127.0.0.0/8
		host = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Listen listens at an address as Address returns it: nobody else is given that one once
// the listener is closed.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	address, err := Address()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// DeadAddress returns an address where nothing listens until the test ends: a connection
// has its port, so that nobody else is given it.
func DeadAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		far.Close()
	})
	return conn.LocalAddr().String()
}
