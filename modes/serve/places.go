package serve

import (
	"net"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

const (
	handshakeBurst = 10 // seconds over which handshakes are averaged
	// settledTime is how long a stranger's place is safe from a newcomer whose address has
	// as many: an honest handshake takes a few round trips.
	settledTime = 5 * time.Second
	// maxPaces bounds the addresses whose handshakes are remembered.
	maxPaces = 8192
)

// places are the connections that there are, bounded so that strangers take neither
// the places of clients nor the time of the processor. Its user locks.
type places struct {
	limits    Settings
	admitted  int
	strangers int
	addresses map[netip.Prefix]*address // that have a connection
	paces     paces
}

// address is what one address has.
type address struct {
	admitted  int
	strangers []*connection // oldest first
}

func newPlaces(limits Settings) *places {
	return &places{limits: limits, addresses: make(map[netip.Prefix]*address), paces: newPaces(limits.MaxHandshakes)}
}

// limit bounds what comes from now on by other limits; who is there stays.
func (p *places) limit(limits Settings) {
	if limits.MaxHandshakes != p.limits.MaxHandshakes {
		p.paces = newPaces(limits.MaxHandshakes)
	}
	p.limits = limits
}

// over reports whether one more than n is over the limit.
func over(n, limit int) bool { return limit > 0 && n >= limit }

// enter gives k a stranger's place. Where all of those are taken, one is taken from
// the address that has the most, or from who has been undecided for long: displaced
// is to be closed. Where k gets none, full is the key of the limit and its value.
func (p *places) enter(k *connection) (displaced *connection, full string, most int) {
	a := p.addresses[k.from]
	if a == nil {
		a = &address{}
	}
	switch {
	case over(p.admitted, p.limits.MaxSessions):
		return nil, "max_sessions", p.limits.MaxSessions
	case over(a.admitted+len(a.strangers), p.limits.MaxPerAddress):
		return nil, "max_sessions_per_address", p.limits.MaxPerAddress
	case !p.paces.allow(k.from, k.begun):
		return nil, "max_handshakes_per_address", p.limits.MaxHandshakes
	case over(p.strangers, p.limits.MaxUnadmitted):
		if displaced = p.displaceable(len(a.strangers), k.begun); displaced == nil {
			return nil, "max_unadmitted", p.limits.MaxUnadmitted
		}
		p.leave(displaced)
	}
	a.strangers = append(a.strangers, k)
	p.strangers++
	p.addresses[k.from] = a
	k.place = stranger
	return displaced, "", 0
}

// displaceable returns the stranger to make room for one more of an address that has
// so many; nil where the newcomer must go.
func (p *places) displaceable(mine int, now time.Time) *connection {
	var greatest, oldest *connection
	most := mine + 1
	for _, a := range p.addresses {
		if len(a.strangers) == 0 {
			continue
		}
		first := a.strangers[0]
		if len(a.strangers) > most {
			most, greatest = len(a.strangers), first
		}
		if oldest == nil || first.begun.Before(oldest.begun) {
			oldest = first
		}
	}
	if greatest == nil && oldest != nil && now.Sub(oldest.begun) > settledTime {
		return oldest
	}
	return greatest
}

// admit gives a stranger a client's place. It reports false where there is none, or
// the stranger has been displaced.
func (p *places) admit(k *connection) bool {
	if k.place != stranger || over(p.admitted, p.limits.MaxSessions) {
		return false
	}
	a := p.addresses[k.from]
	p.leave(k)
	p.addresses[k.from] = a
	a.admitted++
	p.admitted++
	k.place = client
	return true
}

// leave gives k's place back, if it has one.
func (p *places) leave(k *connection) {
	a := p.addresses[k.from]
	switch k.place {
	case stranger:
		for i, s := range a.strangers {
			if s == k {
				a.strangers = append(a.strangers[:i], a.strangers[i+1:]...)
				break
			}
		}
		p.strangers--
	case client:
		a.admitted--
		p.admitted--
	default:
		return
	}
	k.place = nowhere
	if a.admitted == 0 && len(a.strangers) == 0 {
		delete(p.addresses, k.from)
	}
}

// paces are how fast addresses have begun connections. What is forgotten of an
// address is that it may go on at full speed; only with more addresses than maxPaces
// in ten seconds is more than that forgotten, and not the memory filled.
type paces struct {
	perSecond    int // 0: nothing is bounded
	recent, past map[netip.Prefix]*rate.Limiter
	turned       time.Time // recent became past
}

func newPaces(perSecond int) paces {
	return paces{perSecond: perSecond, recent: make(map[netip.Prefix]*rate.Limiter)}
}

// allow reports whether the address may begin a connection now.
func (p *paces) allow(from netip.Prefix, now time.Time) bool {
	if p.perSecond == 0 {
		return true
	}
	if len(p.recent) >= maxPaces/2 || now.Sub(p.turned) > handshakeBurst*time.Second {
		p.past, p.recent, p.turned = p.recent, make(map[netip.Prefix]*rate.Limiter), now
	}
	pace := p.recent[from]
	if pace == nil {
		if pace = p.past[from]; pace == nil {
			pace = rate.NewLimiter(rate.Limit(p.perSecond), p.perSecond*handshakeBurst)
		}
		p.recent[from] = pace
	}
	return pace.AllowN(now, 1)
}

// prefixOf is what counts as one address: an IPv4 address, or the /64 that one
// site of IPv6 has.
func prefixOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
