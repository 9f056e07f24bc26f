package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pires/go-proxyproto"

	"fenc/wire"
)

const (
	// maxProxyHeader bounds a PROXY header, in bytes. Version 1 has 107 at most, and
	// version 2, with all that balancers put into it, a few hundred.
	maxProxyHeader = 4 << 10
	proxyTimeout   = 5 * time.Second // for the header, which the balancer sends at once
)

// behind reports whether addr is a balancer's that says by a PROXY header whom a
// connection is from (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt).
func (s *Settings) behind(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range s.ProxyFrom {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// await begins to read the PROXY header of a balancer's connection. s.mu is held.
func (s *Server) await(ctx context.Context, c net.Conn, settings *Settings) {
	if over(s.introduced, settings.MaxUnadmitted) {
		s.turnAway(c, "max_unadmitted", settings.MaxUnadmitted)
		return
	}
	k := &connection{conn: wire.NewConn(c, min(settings.IdleTimeout, proxyTimeout)), begun: time.Now()}
	k.stop = k.conn.Interrupt
	s.sessions[k] = struct{}{}
	s.introduced++
	s.waiting.Go(func() { s.introduce(ctx, k) })
}

// introduce reads the PROXY header of a connection of a balancer's, and begins the
// session of whom it is from. k is the connection until then.
func (s *Server) introduce(ctx context.Context, k *connection) {
	c := k.conn.Conn
	real, err := readProxyHeader(k.conn, c)
	s.mu.Lock()
	delete(s.sessions, k)
	s.introduced--
	if err == nil {
		s.enter(ctx, real)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	c.Close()
	if errors.Is(err, io.EOF) || errors.Is(err, wire.ErrInterrupted) { // it looked whether somebody listens
		s.log.Debug("session ended", "address", c.RemoteAddr().String(), "reason", err.Error())
		return
	}
	s.stats.Stranger()
	s.log.Warn("session ended", "address", c.RemoteAddr().String(), "reason", err.Error())
}

// readProxyHeader reads a header from r, which is c with a time limit, and returns
// the connection behind it.
func readProxyHeader(r io.Reader, c net.Conn) (net.Conn, error) {
	buffered := bufio.NewReaderSize(io.LimitReader(r, maxProxyHeader), maxProxyHeader)
	if _, err := buffered.Peek(1); err != nil {
		return nil, fmt.Errorf("await a PROXY header, as proxy_protocol_from says: %w", err)
	}
	header, err := proxyproto.Read(buffered)
	if err != nil {
		return nil, fmt.Errorf("no PROXY header, as proxy_protocol_from says: %w", err)
	}
	rest, err := buffered.Peek(buffered.Buffered())
	if err != nil {
		return nil, err
	}
	p := &proxied{Conn: c, rest: rest, from: c.RemoteAddr()}
	if header.Command != proxyproto.LOCAL { // which is the balancer itself
		source, ok := header.SourceAddr.(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("PROXY header: %v is not TCP", header.TransportProtocol)
		}
		p.from = source
	}
	return p, nil
}

// proxied is a connection whose other end is behind a balancer.
type proxied struct {
	net.Conn
	rest []byte // read with the header
	from net.Addr
}

func (p *proxied) RemoteAddr() net.Addr { return p.from }

func (p *proxied) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.rest)
	if p.rest = p.rest[n:]; len(p.rest) == 0 {
		p.rest = nil
	}
	return n, nil
}

// CloseWrite closes the half that is written to.
func (p *proxied) CloseWrite() error {
	half, ok := p.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}
