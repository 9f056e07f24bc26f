package session4

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// receiverLimited returns how long data could not be sent because the peer's window
// was full (tcp(7), TCP_INFO).
func receiverLimited(c net.Conn) (d time.Duration) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) { // fails on a closed connection: nothing is known then
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			d = time.Duration(info.Rwnd_limited) * time.Microsecond
		}
	})
	return d
}
