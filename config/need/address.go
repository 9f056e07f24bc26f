package need

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
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
