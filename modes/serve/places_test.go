package serve

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestOneSiteOfIPv6IsOneAddress(t *testing.T) {
	t.Parallel()
	of := func(address string) netip.Prefix {
		return prefixOf(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 4)))
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"fe80::1%eth0", "fe80::1%eth1", true},
	} {
		if got := of(c.a) == of(c.b); got != c.same {
			t.Errorf("%s and %s are one address: got %v, want %v", c.a, c.b, got, c.same)
		}
	}
}

// arrivals brings connections into places at a time that it tells.
type arrivals struct {
	*places
	t   *testing.T
	now time.Time
}

func newArrivals(t *testing.T, limits Settings) *arrivals {
	return &arrivals{newPlaces(limits), t, time.Unix(1e9, 0)}
}

// from brings one connection of the address and checks what it displaces, or the
// limit that it meets.
func (a *arrivals) from(address string, displaces *connection, full string) *connection {
	a.t.Helper()
	k := &connection{from: netip.MustParsePrefix(address + "/32"), begun: a.now}
	displaced, gotFull, _ := a.enter(k)
	if displaced != displaces || gotFull != full {
		a.t.Errorf("from %s: displaced %p, full %q, want %p, %q", address, displaced, gotFull, displaces, full)
	}
	return k
}

func TestNewcomerTakesThePlaceOfWhoHasMost(t *testing.T) {
	t.Parallel()
	a := newArrivals(t, Settings{MaxSessions: 9, MaxUnadmitted: 4})
	first := a.from("10.0.0.1", nil, "")
	a.from("10.0.0.1", nil, "")
	a.from("10.0.0.1", nil, "")
	other := a.from("10.0.0.2", nil, "")
	a.from("10.0.0.1", nil, "max_unadmitted") // it has most itself
	a.from("10.0.0.3", first, "")
	if a.admit(first) {
		t.Error("one that was displaced is admitted")
	}
	if a.strangers != 4 || len(a.addresses) != 3 {
		t.Errorf("%d strangers of %d addresses, want 4 of 3", a.strangers, len(a.addresses))
	}
	if !a.admit(other) {
		t.Error("a stranger is not admitted")
	}
	a.from("10.0.0.4", nil, "") // into the place that became free
	a.leave(other)
	a.leave(other)
	if _, left := a.addresses[other.from]; left || a.admitted != 0 || a.strangers != 4 {
		t.Errorf("after the end: %d admitted, %d strangers, address kept: %v", a.admitted, a.strangers, left)
	}
}

// Where everybody has as many, who has had the time for a handshake goes first, and
// who has not is left alone.
func TestNewcomerWaitsForThoseWhoHaveAsMany(t *testing.T) {
	t.Parallel()
	a := newArrivals(t, Settings{MaxSessions: 9, MaxUnadmitted: 2})
	oldest := a.from("10.0.0.1", nil, "")
	a.now = a.now.Add(time.Second)
	a.from("10.0.0.2", nil, "")
	a.from("10.0.0.3", nil, "max_unadmitted")
	a.now = a.now.Add(settledTime)
	a.from("10.0.0.3", oldest, "")
}

func TestHandshakesAreCountedOverTenSeconds(t *testing.T) {
	t.Parallel()
	a := newArrivals(t, Settings{MaxSessions: 1000, MaxHandshakes: 2})
	for range 2 * handshakeBurst {
		a.leave(a.from("10.0.0.1", nil, ""))
	}
	a.from("10.0.0.1", nil, "max_handshakes_per_address")
	a.from("10.0.0.2", nil, "")
	for range 30 { // however long it goes on, and whatever is forgotten meanwhile
		a.now = a.now.Add(time.Second)
		a.leave(a.from("10.0.0.1", nil, ""))
		a.leave(a.from("10.0.0.1", nil, ""))
		a.from("10.0.0.1", nil, "max_handshakes_per_address")
	}
}

func TestManyAddressesFillNoMemory(t *testing.T) {
	t.Parallel()
	a := newArrivals(t, Settings{MaxSessions: 1000, MaxUnadmitted: 10, MaxHandshakes: 5})
	for i := range 100_000 {
		k := &connection{from: netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255)), begun: a.now}
		a.enter(k)
	}
	if n := len(a.paces.recent) + len(a.paces.past); n > maxPaces || len(a.addresses) > 10 {
		t.Errorf("%d paces and %d addresses are kept", n, len(a.addresses))
	}
}
