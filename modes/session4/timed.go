package session4

import (
	"net"

	"fenc/modes/send"
)

// timedConn notes how long a connection lets the caller wait.
type timedConn struct {
	net.Conn
	waits *send.Waits
}

func (c *timedConn) Read(p []byte) (int, error) {
	c.waits.Enter(send.Reading)
	defer c.waits.Leave(send.Reading)
	return c.Conn.Read(p)
}

func (c *timedConn) Write(p []byte) (int, error) {
	c.waits.Enter(send.Writing)
	defer c.waits.Leave(send.Writing)
	return c.Conn.Write(p)
}

// Close notes what the system has measured, and closes the connection.
func (c *timedConn) Close() error {
	c.waits.Receiver(receiverLimited(c.Conn))
	return c.Conn.Close()
}
