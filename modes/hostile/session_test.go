package hostile_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/model"
	"fenc/wire/v4"
)

var none [16]byte // no token, no instance

// invite makes an invite and returns its token.
func (s *target) invite(t testing.TB, name string, expires time.Duration) (token [16]byte) {
	t.Helper()
	secret := v4.NewToken()
	copy(token[:], secret[:])
	must(t, s.archive.Catalogue.Invite(model.Invite{
		TokenHash: sha256.Sum256(token[:]), Name: name, Rights: model.AllRights, ExpiresAt: model.Time{Time: time.Now().Add(expires)},
	}))
	return token
}

// rights changes what a client may.
func (a *attacker) rights(r model.Rights) {
	a.Helper()
	must(a.T, a.target.archive.Catalogue.SetRights(a.name, r))
}

// first sends a frame in place of a hello, which must end the session.
func first(b []byte) func(*attacker) {
	return func(a *attacker) {
		a.Helper()
		l := a.connect()
		l.says(b)
		l.ended(7)
	}
}

// then sends bytes after the welcome, which must end the session as a breach of
// the protocol.
func then(b ...[]byte) func(*attacker) {
	return func(a *attacker) {
		a.Helper()
		l := a.session()
		l.says(b...)
		l.ended(7)
	}
}

// header is a frame's header alone.
func header(version, code int, size uint32) []byte {
	return slices.Concat(u8(version), u16(code), u32(size))
}

var sessionAttacks = []attack{
	{name: "an offer before the hello", do: first(offer(1, 0, 5, v4.Digest{}, "a")), log: "1103 before 1100"},
	{name: "a small file before the hello", do: first(small(1, "a", "x")), log: "1111 before 1100"},
	{name: "a block before the hello", do: first(block(1, 0, "x")), log: "1108 before 1100"},
	{name: "a list before the hello", do: first(list(1, 10, "", "")), log: "1112 before 1100"},
	{name: "a fetch before the hello", do: first(fetch(1, 0, v4.Digest{}, "a")), log: "1113 before 1100"},
	{name: "a ping before the hello", do: first(frame(1114, u64(1))), log: "1114 before 1100"},
	{name: "a bye before the hello", do: first(frame(1115)), log: "1115 before 1100"},
	{name: "a welcome in place of the hello", do: first(frame(2100, make([]byte, 66))), log: "2100 before 1100"},
	{name: "a hello of 4 GiB announced", do: first(header(4, 1100, 1<<32-1)), log: "announces 4294967295 bytes"},
	{name: "a hello of no bytes", do: first(frame(1100)), log: "announces 0 bytes"},
	{name: "a hello of protocol 3", do: first(header(3, 1100, 50)), log: "version 3"},
	{name: "HTTP within the channel", do: first([]byte("GET / HTTP/1.1\r\n\r\n")), log: "version 71"},
	{name: "a hello cut by one byte", do: func(a *attacker) {
		b := helloOf(7, 0, none, 1, none, a.name)
		b = slices.Concat(header(4, 1100, uint32(len(b)-8)), b[7:len(b)-1])
		first(b)(a)
	}, log: "too short"},
	{name: "a hello with one byte more", do: func(a *attacker) {
		first(frame(1100, helloOf(7, 0, none, 1, none, a.name)[7:], u8(0)))(a)
	}, log: "1 bytes too many"},
	{name: "a name that is longer than its frame", do: func(a *attacker) {
		first(frame(1100, u8(0), u8(7), u8(0), none[:], u64(1), none[:], u16(100), []byte("short")))(a)
	}, log: "too short"},
	{name: "a name of 64 KiB", do: func(a *attacker) {
		first(frame(1100, u8(0), u8(7), u8(0), none[:], u64(1), none[:], u16(0xffff), make([]byte, 150)))(a)
	}, log: "65535 bytes, over 127"},
	{name: "a name of 128 bytes", do: first(helloOf(7, 0, none, 1, none, strings.Repeat("x", 128))), log: "128 bytes, over 127"},
	{name: "a name that is not UTF-8", do: first(helloOf(7, 0, none, 1, none, "gr\xffce")), log: "not UTF-8"},
	{name: "a name with an escape", do: first(helloOf(7, 0, none, 1, none, "\x1b]0;owned\x07")), log: "control character"},
	{name: "a name of two lines", do: first(helloOf(7, 0, none, 1, none, "grace\nlevel=ERROR")), log: "control character"},
	{name: "a name with a C1 control", do: first(helloOf(7, 0, none, 1, none, "a\u009b2Jb")), log: "control character"},
	{name: "a name with a line separator", do: first(helloOf(7, 0, none, 1, none, "a\u2028b")), log: "control character"},
	{name: "a name of NULs", do: first(helloOf(7, 0, none, 1, none, "\x00\x00")), log: "control character"},
	{name: "software that is not UTF-8", do: func(a *attacker) {
		first(frame(1100, u8(0), u8(7), u8(0), none[:], u64(1), none[:], text(a.name), text("\xc0\xaf")))(a)
	}, log: "not UTF-8"},
	{name: "no name and no invite", do: func(a *attacker) {
		l := a.connect()
		l.says(helloOf(7, 0, none, 1, none, ""))
		l.ended(1)
	}, log: "not admitted"},
	{name: "the bystander's name", do: func(a *attacker) {
		l := a.connect()
		l.says(helloOf(7, 0, none, 1, none, "bystander"))
		l.ended(2)
	}, log: "name in use"},
	{name: "the bystander's name, turned round", do: func(a *attacker) { // U+202E is no control character: it must show as what it is
		l := a.connect()
		l.says(helloOf(7, 0, none, 1, none, "\u202erednatsyb"))
		l.welcome()
		l.bye()
	}, log: `\\u202erednatsyb`},
	{name: "another name than its own", do: func(a *attacker) {
		a.session().bye()
		l := a.connect()
		l.says(helloOf(7, 0, none, 1, none, "bystander"))
		l.ended(13)
	}, log: "unknown client"},
	{name: "a name that means a folder", do: func(a *attacker) {
		for _, name := range []string{"..", ".", ".fenc", "../files", "/", "a/../..", "C:\\x", "con", "lost+found"} {
			c := a.target.newClient(a.T, name)
			l := c.session(a.T)
			l.keeps(1, "x", "content")
			l.bye()
			if k, ok, _ := a.target.archive.Catalogue.ClientNamed(name); !ok || strings.ContainsAny(k.Folder, `/\:`) || strings.HasPrefix(k.Folder, ".") {
				a.Errorf("client %q has the folder %q", name, k.Folder)
			}
		}
		a.session().bye()
	}, log: "session ended"},
	{name: "hello twice", do: func(a *attacker) { then(helloOf(7, 0, a.instance, 9, none, a.name))(a) }, log: "may not come now"},
	{name: "4 GiB announced", do: then(header(4, 1111, 1<<32-1)), log: "announces 4294967295 bytes"},
	{name: "a block of 4 GiB announced", do: then(header(4, 1108, 1<<32-1)), log: "announces 4294967295 bytes"},
	{name: "a block of one byte too many announced", do: then(header(4, 1108, 12+1<<20+1)), log: "announces"},
	{name: "a bye with a payload", do: then(frame(1115, u8(0))), log: "announces 1 bytes"},
	{name: "a ping of seven bytes", do: then(frame(1114, make([]byte, 7))), log: "announces 7 bytes"},
	{name: "the code 0", do: then(frame(0)), log: "unknown code 0"},
	{name: "the code 65535", do: then(frame(65535)), log: "unknown code 65535"},
	{name: "a code of protocol 3", do: then(frame(1101, make([]byte, 415))), log: "unknown code 1101"},
	{name: "the version 0", do: then(header(0, 1114, 8), u64(1)), log: "version 0"},
	{name: "the version 255", do: then(header(255, 1114, 8), u64(1)), log: "version 255"},
	{name: "a welcome of the client's", do: then(frame(2100, make([]byte, 66))), log: "may not come now"},
	{name: "a received of the client's", do: then(frame(2103, make([]byte, 45))), log: "may not come now"},
	{name: "a list of 2^32-1 chunks", do: then(frame(1105, numbered(1), u32(1<<32-1))), log: "4294967295 elements"},
	{name: "a list of chunks that does not come", do: then(frame(1105, numbered(1), u32(16384), u32(1))), log: "too short"},
	{name: "the number 0", do: then(small(0, "a", "x")), log: "number 0 was never given"},
	{name: "one number twice", do: then(offer(1, 2, 5, v4.Digest{}, "a"), offer(1, 2, 5, v4.Digest{}, "b")), log: "number 1 after 1"},
	{name: "a number that goes back", do: then(offer(9, 2, 5, v4.Digest{}, "a"), list(8, 1, "", "")), log: "number 8 after 9"},
	{name: "a block of a number never given", do: then(block(77, 0, "x")), log: "number 77 was never given"},
	{name: "a finish of a number never given", do: then(finish(77, "x")), log: "number 77 was never given"},
	{name: "a resend of a number never given", do: then(frame(1105, numbered(77), u32(0))), log: "number 77 was never given"},
	{name: "a copy of a number never given", do: then(frame(1116, numbered(77), u32(1), u32(0))), log: "number 77 was never given"},
	{name: "giving up a number never given", do: then(frame(1106, numbered(77))), log: "number 77 was never given"},
	{name: "more requests than the window has", do: func(a *attacker) {
		l := a.session()
		var offers []byte
		for number := 1; number <= 1025; number++ {
			offers = append(offers, offer(number, 2, 5, v4.Digest{}, "a")...)
		}
		l.says(offers)
		l.ended(7)
	}, log: "more than the window of 1024 requests"},
	{name: "an unknown invite", do: func(a *attacker) {
		l := a.connect()
		l.says(helloOf(7, 0, none, 1, [16]byte{1, 2, 3}, a.name))
		l.ended(3)
	}, log: "no such invite"},
	{name: "an invite that was used", do: func(a *attacker) {
		other := a.target.newClient(a.T, a.name+" the first")
		other.token = a.target.invite(a.T, "", time.Hour)
		other.session(a.T).bye()
		l := a.connect()
		l.says(helloOf(7, 0, none, 1, other.token, a.name))
		l.ended(4)
	}, log: "has been used"},
	{name: "an invite that has expired", do: func(a *attacker) {
		token := a.target.invite(a.T, "", -time.Second)
		l := a.connect()
		l.says(helloOf(7, 0, none, 1, token, a.name))
		l.ended(5)
	}, log: "has expired"},
	{name: "an invite that was taken back", do: func(a *attacker) {
		name := a.name + " invited"
		token := a.target.invite(a.T, name, time.Hour)
		taken, err := a.target.archive.Catalogue.RevokeInvite(name)
		if err != nil || len(taken) != 1 {
			a.Fatalf("take the invite back: %v, %v", taken, err)
		}
		l := a.connect()
		l.says(helloOf(7, 0, none, 1, token, a.name))
		l.ended(5)
	}, log: "taken back"},
	{name: "an invite in other words", do: func(a *attacker) { // of 16 bytes all must be right
		token := a.target.invite(a.T, "", time.Hour)
		token[15] ^= 1
		l := a.connect()
		l.says(helloOf(7, 0, none, 1, token, a.name))
		l.ended(3)
	}, log: "no such invite"},
	{name: "one invite by many at once", do: func(a *attacker) {
		token := a.target.invite(a.T, "", time.Hour)
		var all sync.WaitGroup
		var admitted atomic.Int64
		for i := range need.Rounds(0, 200, 20) {
			all.Go(func() {
				c := a.target.newClient(a.T, fmt.Sprintf("%s, %d", a.name, i))
				l := c.connect(a.T)
				l.says(helloOf(7, 0, none, 1, token, c.name))
				switch code, payload, err := l.hears(); {
				case err == nil && code == 2100:
					admitted.Add(1)
					l.bye()
				case err != nil || code != 2101 || le.Uint16(payload) != 4:
					a.Errorf("got %d (%.100q), %v, want 2101 for the reason 4", code, payload, err)
				}
			})
		}
		all.Wait()
		if n := admitted.Load(); n != 1 {
			a.Errorf("%d were admitted by one invite", n)
		}
		a.session().bye()
	}, log: "session ended"},
	{name: "an older epoch", do: func(a *attacker) {
		l := a.connect()
		l.says(helloOf(7, 0, a.instance, 5, none, a.name))
		l.welcome()
		old := a.connect()
		old.says(helloOf(7, 0, a.instance, 4, none, a.name))
		old.ended(11)
		l.alive()
	}, log: "a later session"},
	{name: "the highest epoch of all", do: func(a *attacker) {
		l := a.connect()
		l.says(helloOf(7, 0, a.instance, 1<<64-1, none, a.name))
		l.welcome()
		l.bye()
		l = a.session() // of the same instance: there is nothing of the former left
		l.bye()
	}, log: "session ended"},
	{name: "an instance of zeros that the bystander has too", do: func(a *attacker) {
		b := a.target.bystander.connect(a.T)
		b.says(helloOf(7, 0, none, 1, none, "bystander"))
		b.welcome()
		l := a.connect()
		l.says(helloOf(7, 0, none, 2, none, a.name))
		l.welcome()
		b.alive()
		b.bye()
		l.bye()
	}, log: "session ended"},
	{name: "a further connection of no session", do: func(a *attacker) {
		l := a.connect()
		l.says(helloOf(7, 200, a.instance, 1, none, a.name))
		l.welcome()
		l.bye()
	}, log: "session ended"},
	{name: "rights that do not exist", do: func(a *attacker) {
		l := a.connect()
		l.says(helloOf(255, 0, a.instance, 1, none, a.name))
		if w := l.welcome(); w.Rights != 7 {
			a.Errorf("granted %b", w.Rights)
		}
		l.bye()
	}, log: "session ended"},
	{name: "rights that it has not got", do: func(a *attacker) {
		a.session().bye()
		a.rights(model.RightSend)
		l := a.connect()
		l.says(helloOf(7, 0, a.instance, 9, none, a.name))
		if w := l.welcome(); w.Rights != 1 || w.UsedFiles != 0 {
			a.Errorf("granted %b, and %d files told", w.Rights, w.UsedFiles)
		}
		l.keeps(1, "a", "sent")
		l.says(list(2, 10, "", ""))
		l.refused(2, 20)
		l.says(fetch(3, 0, v4.Digest{}, "a"))
		l.refused(3, 20)
		l.says(offer(4, 3, 4, digestOf("sent"), "a")) // would be unchanged
		if payload := l.gets(2105); payload[4] != 1 {
			a.Errorf("got 2105 %x, want the whole file wanted", payload)
		}
		l.says(small(4, "a", "other"))
		l.refused(4, 32)
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": "sent"}},
	{name: "sending with the right to read alone", do: func(a *attacker) {
		a.session().bye()
		a.rights(model.RightRead)
		l := a.session()
		l.says(small(1, "a", "x"))
		l.refused(1, 20)
		l.says(offer(2, 0, 5<<20, v4.Digest{}, "a"))
		l.refused(2, 20)
		l.says(offer(3, 3, 5, digestOf("12345"), "a"))
		l.refused(3, 20)
		l.bye()
	}, log: "session ended"},
	{name: "rights taken in the middle of an upload", do: func(a *attacker) {
		l := a.session()
		content := pattern(3 << 20)
		l.offers(1, uint64(len(content)), "a")
		l.says(blocks(1, content))
		a.rights(model.RightRead)
		l.says(small(2, "b", "x"))
		l.refused(2, 20)
		l.bye()
	}, log: "session ended"},
	{name: "revoked in the middle of an upload", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3<<20, "a")
		l.says(block(1, 0, pattern(1<<20)))
		c, _, _ := a.target.archive.Catalogue.ClientNamed(a.name)
		must(a.T, a.target.archive.Catalogue.Revoke(a.name))
		a.target.server.Recheck([]model.ID{c.ID})
		l.ended(6)
		a.turnedAway(nil)
	}, log: "handshake"},
	{name: "the bystander's files", do: func(a *attacker) {
		l := a.session()
		for number, path := range []string{"a", "folder/b", "../bystander/a", "bystander/a", "files/bystander/a"} {
			l.says(fetch(number+1, 0, v4.Digest{}, path))
			l.refused(number+1, 31)
		}
		l.says(fetch(6, 0, digestOf(untouched["a"]), "a"))
		l.refused(6, 31)
		l.says(offer(7, 3, uint64(len(untouched["a"])), digestOf(untouched["a"]), "a")) // equal, and another's
		if payload := l.gets(2105); payload[4] != 1 {
			a.Errorf("got 2105 %x, want the whole file wanted", payload)
		}
		l.says(frame(1106, numbered(7)))
		l.gets(2104)
		l.says(list(8, 1000, "", ""))
		if payload := l.gets(2113); le.Uint32(payload[5:]) != 0 {
			a.Errorf("got a list of %x, want none", payload)
		}
		l.bye()
	}, log: "session ended"},
	{name: "a page of no entries", do: then(list(1, 0, "", "")), log: "a page of 0 entries"},
	{name: "a page of 65535 entries", do: then(list(1, 65535, "", "")), log: "a page of 65535 entries"},
	{name: "lists of what is no path", do: func(a *attacker) {
		l := a.session()
		for i, p := range []string{"..", "/", "a/", "a//b", "a/../b", "\x1b[2J", "a\x00b", "%", "' OR 1=1 --"} {
			number := i + 1
			l.says(list(number, 10, p, ""))
			if p == "%" || strings.Contains(p, "OR") { // which are names as good as others
				if payload := l.gets(2113); le.Uint32(payload[5:]) != 0 {
					a.Errorf("%q: got %x, want no entries", p, payload)
				}
				continue
			}
			l.refused(number, 21)
		}
		l.says(list(20, 10, "", "../x"))
		l.refused(20, 21)
		l.bye()
	}, log: "session ended"},
	{name: "fetching from beyond the end", do: func(a *attacker) {
		l := a.session()
		l.keeps(1, "a", "12345")
		l.fetches(2, "a", "12345")
		l.says(fetch(3, 5, v4.Digest{}, "a")) // the very end is none
		l.gets(2114)
		l.gets(2116)
		l.says(fetch(4, 6, v4.Digest{}, "a"))
		l.ended(7)
	}, log: "offset 6 in a file of 5 bytes", keeps: map[string]string{"a": "12345"}},
	{name: "fetching from 2^63", do: func(a *attacker) {
		l := a.session()
		l.keeps(1, "a", "12345")
		l.says(fetch(2, 1<<63, v4.Digest{}, "a"))
		l.ended(7)
	}, log: "offset 9223372036854775808", keeps: map[string]string{"a": "12345"}},
	{name: "fetching another version", do: func(a *attacker) {
		l := a.session()
		l.keeps(1, "a", "old")
		l.keeps(2, "a", "new")
		l.says(fetch(3, 0, digestOf("old"), "a"))
		l.refused(3, 31)
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": "new"}},
	{name: "frames behind the bye", do: func(a *attacker) {
		l := a.session()
		l.says(frame(1115), small(1, "a", "late"), frame(1115), helloOf(7, 0, none, 9, none, a.name))
		l.gets(2120)
		l.closed()
	}, log: "session ended"},
	{name: "a hundred sessions that supersede each other", do: func(a *attacker) {
		var last *line
		for range 100 { // each ends the one before
			last = a.session()
		}
		last.alive()
		last.bye()
	}, log: "session ended"},
}

func TestAttacksOnTheSession(t *testing.T) {
	t.Parallel()
	withstand(t, serveTarget(t), sessionAttacks)
}
