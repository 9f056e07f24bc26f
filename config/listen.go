package config

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
)

// LoopbackByDefault returns an address to listen at, host:port, whose empty host
// is this machine alone: for what tells others about the server.
func LoopbackByDefault(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port)
}

// ProxyPrefixes returns the addresses of ProxyProtocolFrom, which was validated.
func (s *Server) ProxyPrefixes() []netip.Prefix {
	all := make([]netip.Prefix, len(s.ProxyProtocolFrom))
	for i, text := range s.ProxyProtocolFrom {
		all[i], _ = parsePrefix(text)
	}
	return all
}

// parsePrefix reads an address or a prefix, such as 10.0.0.1 or 10.0.0.0/8.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return p, errors.New("neither an address nor a prefix")
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if p.Addr().Is4In6() {
		return p, errors.New("an IPv4 address written as IPv6")
	}
	return p, nil
}

func checkPrefix(text string) error {
	_, err := parsePrefix(text)
	return err
}

func checkOwnListen(addr string) error {
	if addr == "" {
		return nil
	}
	return checkAddress(addr, true)
}
