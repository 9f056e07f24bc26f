package hostile_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fenc/model"
	"fenc/wire/v4"
)

const mib = 1 << 20

// resend and copied are 1105 and 1116.
func resend(number int, chunks ...uint32) []byte { return chunkList(1105, number, chunks) }
func copied(number int, chunks ...uint32) []byte { return chunkList(1116, number, chunks) }

func chunkList(code, number int, chunks []uint32) []byte {
	var b []byte
	for _, c := range chunks {
		b = append(b, u32(c)...)
	}
	return frame(code, numbered(number), u32(uint32(len(chunks))), b)
}

// refuses has a request refused, and the session go on.
func refuses(reason int, b []byte) func(*attacker) {
	return func(a *attacker) {
		a.Helper()
		l := a.session()
		l.says(b)
		l.refused(1, reason)
		l.bye()
	}
}

// uploading opens an upload of 3 MiB under the number 1, and says bytes that must
// end the session as a breach of the protocol.
func uploading(b ...[]byte) func(*attacker) {
	return func(a *attacker) {
		a.Helper()
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(b...)
		l.ended(7)
	}
}

// kept has a verified file of 3 MiB, whose content it returns.
func (l *line) kept(number int, path string) string {
	l.t.Helper()
	content := pattern(3 * mib)
	l.offers(number, 3*mib, path)
	l.says(blocks(number, content), finish(number, content))
	l.received(number, content)
	return content
}

var whole = pattern(3 * mib)

var uploadAttacks = []attack{
	{name: "a size of 2^63", do: refuses(23, offer(1, 0, 1<<63, v4.Digest{}, "a")), log: "session ended"},
	{name: "a size of 2^64-1", do: refuses(23, offer(1, 0, 1<<64-1, v4.Digest{}, "a")), log: "session ended"},
	{name: "a size of 2^63-1", do: refuses(25, offer(1, 0, 1<<63-1, v4.Digest{}, "a")), log: "session ended"},
	{name: "a size of 2^62", do: refuses(25, offer(1, 0, 1<<62, v4.Digest{}, "a")), log: "session ended"},
	{name: "a whole file of 2^63-1 bytes", do: func(a *attacker) {
		l := a.session()
		l.says(offer(1, 2, 1<<63-1, v4.Digest{}, "a"))
		l.gets(2105) // what comes in one 1111 is as long as it is
		l.says(small(1, "a", "short"))
		l.received(1, "short")
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": "short"}},
	{name: "a size over the quota by a sum that overflows", do: func(a *attacker) {
		l := a.session()
		l.keeps(1, "a", "12345")
		must(a.T, a.target.archive.Catalogue.SetQuota(a.name, 1<<40))
		l.says(offer(2, 0, 1<<63-1, v4.Digest{}, "b"))
		l.refused(2, 24)
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": "12345"}},
	{name: "open offers without end", do: func(a *attacker) {
		l := a.session()
		for number := 1; number <= 16; number++ {
			l.offers(number, mib+1, fmt.Sprint("a", number))
		}
		for number := 17; number <= 100; number++ {
			l.says(offer(number, 0, mib+1, v4.Digest{}, fmt.Sprint("a", number)))
			l.refused(number, 27)
		}
		for number := 1; number <= 16; number++ {
			l.says(frame(1106, numbered(number)))
			l.gets(2104)
		}
		l.bye()
	}, log: "session ended"},
	{name: "offers given up before they are accepted", do: func(a *attacker) { // each stayed open for good, until the server was started anew
		for range 20 {
			l := a.session()
			l.says(offer(1, 0, 3*mib, v4.Digest{}, "a"), frame(1106, numbered(1)))
			for {
				code, payload, err := l.hears()
				if err != nil || code == 2101 && le.Uint16(payload) == 7 {
					break
				}
				if code == 2104 {
					l.bye()
					break
				}
			}
		}
		l := a.session() // 16 may be open
		content := pattern(3 * mib)
		l.offers(1, 3*mib, "b")
		l.says(blocks(1, content), finish(1, content))
		l.received(1, content)
		l.bye()
	}, log: "session ended", keeps: map[string]string{"b": whole}},
	{name: "a small file in the place of an offer by blocks", do: func(a *attacker) {
		l := a.session()
		l.says(offer(1, 0, 3*mib, v4.Digest{}, "a"), small(1, "a", "short"))
		l.ended(7)
	}, log: "which waits for none"},
	{name: "a small file under the number of an upload", do: uploading(small(1, "a", "short")), log: "which waits for none"},
	{name: "a small file under the number of a fetch", do: func(a *attacker) {
		l := a.session()
		l.keeps(1, "a", "12345")
		l.says(fetch(2, 0, v4.Digest{}, "a"), small(2, "b", "short"))
		code, _, _ := l.hears()
		for code != 2101 && code != 2116 {
			code, _, _ = l.hears()
		}
		if code == 2116 { // it was over before
			l.bye()
		}
	}, log: "session ended", keeps: map[string]string{"a": "12345"}},
	{name: "times at both ends", do: func(a *attacker) {
		l := a.session()
		for i, at := range []int64{math.MinInt64, math.MaxInt64, -1, 0} {
			digest := digestOf("x")
			l.says(frame(1111, numbered(i+1), u64(uint64(at)), u16(mode), digest[:], text(fmt.Sprint("a", i)), []byte("x")))
			l.received(i+1, "x")
		}
		l.says(list(9, 10, "", ""))
		m, err := v4.Unmarshal(v4.CodeEntries, l.gets(2113))
		must(a.T, err)
		entries := m.(*v4.Entries).Entries
		if len(entries) != 4 || entries[0].ModTime != math.MinInt64 || entries[1].ModTime != math.MaxInt64 {
			a.Errorf("listed: %+v", entries)
		}
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a0": "x", "a1": "x", "a2": "x", "a3": "x"}},
	{name: "the mode 07777", do: func(a *attacker) {
		l := a.session()
		digest := digestOf("x")
		l.says(frame(1111, numbered(1), u64(modified), u16(0xffff), digest[:], text("a"), []byte("x")))
		l.received(1, "x")
		l.says(list(2, 10, "", ""))
		m, err := v4.Unmarshal(v4.CodeEntries, l.gets(2113))
		must(a.T, err)
		if got := m.(*v4.Entries).Entries[0].Mode; got != 0o777 {
			a.Errorf("listed with the mode %o", got)
		}
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": "x"}}, // wantNothingStray looks at the mode on the disk
	{name: "taking part in another client's upload", do: func(a *attacker) {
		b := a.target.newClient(a.T, a.name+"'s victim").session(a.T)
		upload := b.offers(1, 3*mib, "a")
		l := a.session()
		l.says(frame(1107, numbered(1), upload))
		l.refused(1, 29)
		l.bye()
		content := pattern(3 * mib)
		b.says(blocks(1, content), finish(1, content))
		b.received(1, content)
		b.bye()
	}, log: "session ended"},
	{name: "taking part in an upload that is over", do: func(a *attacker) {
		l := a.session()
		upload := l.offers(1, 3*mib, "a")
		l.says(blocks(1, whole), finish(1, whole))
		l.received(1, whole)
		l.says(frame(1107, numbered(2), upload))
		l.refused(2, 29)
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": whole}},
	{name: "taking part in an upload that never was", do: refuses(29, frame(1107, numbered(1), make([]byte, 16))), log: "session ended"},
	{name: "finishing under the number of a further connection", do: func(a *attacker) {
		l, upload := a.session(), []byte(nil)
		upload = l.offers(1, 3*mib, "a")
		l.says(blocks(1, whole), frame(1107, numbered(2), upload))
		l.gets(2107)
		l.says(finish(2, whole))
		l.ended(7)
	}, log: "1110"},
	{name: "giving up under the number of a further connection", do: func(a *attacker) {
		l := a.session()
		upload := l.offers(1, 3*mib, "a")
		l.says(frame(1107, numbered(2), upload))
		l.gets(2107)
		l.says(frame(1106, numbered(2)))
		l.ended(7)
	}, log: "1106"},
	{name: "a block past the end", do: uploading(block(1, 3*mib, "x")), log: "block out of place"},
	{name: "a block at 2^64-1", do: uploading(block(1, 1<<64-1, "x")), log: "block out of place"},
	{name: "a block at 2^63", do: uploading(block(1, 1<<63, "x")), log: "block out of place"},
	{name: "a block over the end of a chunk", do: uploading(block(1, 0, whole[:mib/2]), block(1, mib/2, whole[:mib])), log: "reach beyond chunk 0"},
	{name: "a block over the end of the file", do: uploading(block(1, 2*mib, whole[:mib-1]), block(1, 3*mib-1, "xx")), log: "reach beyond chunk 2"},
	{name: "a block that leaves a gap", do: uploading(block(1, 0, "x"), block(1, 2, "x")), log: "offset 2 in chunk 0, want 1"},
	{name: "a block that overlaps", do: uploading(block(1, 0, "xxxx"), block(1, 2, "xxxx")), log: "offset 2 in chunk 0, want 4"},
	{name: "a block twice", do: uploading(block(1, 0, "xxxx"), block(1, 0, "xxxx")), log: "offset 0 in chunk 0, want 4"},
	{name: "a chunk that begins in its middle", do: uploading(block(1, mib+5, "x")), log: "begins at 1048576"},
	{name: "a chunk twice", do: uploading(block(1, 0, whole[:mib]), frame(1109, u32(1)), block(1, 0, whole[:mib])), log: "block out of place"},
	{name: "a block of nothing", do: uploading(block(1, 0, "")), log: "0 bytes at 0"},
	{name: "a block for an empty file", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 0, "a")
		l.says(block(1, 0, "x"))
		l.ended(7)
	}, log: "block out of place"},
	{name: "a chunk by two connections with different bytes", do: func(a *attacker) {
		l := a.session()
		upload := l.offers(1, 3*mib, "a")
		other := a.client.connect(a.T)
		other.says(helloOf(7, 1, a.instance, a.epoch.Load(), none, a.name))
		other.welcome()
		other.says(frame(1107, numbered(1), upload))
		other.gets(2107)
		l.says(block(1, 0, whole[:1000]), frame(1109, u32(1)))
		l.gets(2112)
		other.says(block(1, 0, strings.Repeat("x", 1000)))
		other.ended(7)
		l.says(block(1, 1000, whole[1000:mib]), block(1, mib, whole[mib:2*mib]), block(1, 2*mib, whole[2*mib:]), finish(1, whole))
		l.received(1, whole)
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": whole}},
	{name: "one file over two sessions at once", do: func(a *attacker) {
		// Another instance: the upload of the first is not taken from it.
		l, other := a.session(), a.target.newClient(a.T, a.name)
		other.key, other.certificate = a.key, a.certificate
		second := other.session(a.T)
		l.offers(1, 3*mib, "a")
		second.offers(1, 3*mib, "a")
		reverse := []byte(whole)
		slices.Reverse(reverse)
		var both sync.WaitGroup
		both.Go(func() {
			second.says(blocks(1, string(reverse)), finish(1, string(reverse)))
			second.received(1, string(reverse))
		})
		l.says(blocks(1, whole), finish(1, whole))
		l.received(1, whole)
		both.Wait()
		l.keeps(2, "a", "the last")
		second.bye()
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": "the last"}},
	{name: "blocks after the finish", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(blocks(1, whole), finish(1, whole))
		l.received(1, whole)
		l.says(block(1, 0, strings.Repeat("x", 100)), resend(1, 0), copied(1, 0), finish(1, "x"), small(1, "b", "x"))
		l.alive()
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": whole}},
	{name: "other blocks while it is finished", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(blocks(1, whole), finish(1, whole), resend(1, 1), block(1, mib, strings.Repeat("x", mib)), frame(1114, u64(1)))
		for {
			code, payload, err := l.hears()
			if err != nil || code == 2101 || code == 2117 {
				break
			}
			if code == 2103 && !bytes.Equal(payload[13:], digestBytes(whole)) {
				a.Errorf("verified with the digest %x", payload[13:])
			}
		}
		// Whichever came first, what is kept is whole, or nothing is.
		l = a.session()
		l.says(fetch(1, 0, digestOf(whole), "a"))
		if code, _, _ := l.hears(); code != 2114 && code != 2110 {
			a.Errorf("got %d", code)
		}
		l.NetConn().Close()
		l = a.session()
		l.keeps(1, "a", "the end")
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": "the end"}},
	{name: "a finish with holes", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(block(1, mib, whole[mib:2*mib]), block(1, 2*mib, whole[2*mib:3*mib-1]), finish(1, whole))
		if payload := l.gets(2108); !bytes.Equal(payload, slices.Concat(u32(1), u32(2), u32(0), u32(2))) {
			a.Errorf("missing: %x, want the chunks 0 and 2", payload)
		}
		l.bye()
	}, log: "session ended"},
	{name: "a finish of nothing", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(finish(1, whole))
		l.gets(2108)
		l.bye()
	}, log: "session ended"},
	{name: "a digest of zeros", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(blocks(1, whole), frame(1110, numbered(1), make([]byte, 32)))
		l.gets(2109)
		l.bye()
	}, log: "session ended"},
	{name: "another's digest", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(blocks(1, whole), finish(1, untouched["a"]))
		l.gets(2109)
		l.bye()
	}, log: "session ended"},
	{name: "a wrong digest a hundred times", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(blocks(1, whole))
		for i := range 100 {
			l.says(finish(1, fmt.Sprint("guess ", i)))
			l.gets(2109)
		}
		l.says(finish(1, whole))
		l.received(1, whole)
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": whole}},
	{name: "finish twice at once", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(blocks(1, whole), finish(1, "x"), finish(1, "x"))
		for {
			code, payload, err := l.hears()
			must(a.T, err)
			if code == 2101 {
				if le.Uint16(payload) != 7 {
					a.Errorf("ended for the reason %d", le.Uint16(payload))
				}
				return
			}
			if code == 2109 { // the first was faster
				l.says(finish(1, "x"), finish(1, "x"))
			}
		}
	}, log: "1110 twice"},
	{name: "a finish before the offer is accepted", do: func(a *attacker) {
		l := a.session()
		l.says(offer(1, 0, 3*mib, v4.Digest{}, "a"), finish(1, whole))
		for {
			code, _, err := l.hears()
			must(a.T, err)
			if code == 2101 || code == 2108 { // it may have been accepted by then
				break
			}
		}
		l.Close()
	}, log: "session ended"},
	{name: "a finish of a whole file", do: func(a *attacker) {
		l := a.session()
		l.says(offer(1, 2, 5, v4.Digest{}, "a"))
		l.gets(2105)
		l.says(finish(1, "12345"))
		l.ended(7)
	}, log: "1110"},
	{name: "resends without end", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(blocks(1, whole))
		for range 20 {
			l.says(resend(1, 0), block(1, 0, "x"), block(1, 1, whole[1:mib]))
		}
		l.says(resend(1, 0, 1, 2), blocks(1, whole), finish(1, whole))
		for {
			code, _, err := l.hears()
			must(a.T, err)
			if code == 2103 {
				break
			}
			if code != 2109 {
				a.Fatalf("got %d", code)
			}
		}
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": whole}},
	{name: "a resend of a chunk that is not", do: uploading(resend(1, 3)), log: "chunk 3 of 3"},
	{name: "a resend of the chunk 2^32-1", do: uploading(resend(1, 1<<32-1)), log: "of 3"},
	{name: "a resend of a chunk on its way", do: uploading(block(1, 0, "x"), resend(1, 0)), log: "chunk 0 is on its way"},
	{name: "a copy of what never was", do: uploading(copied(1, 0)), log: "nothing to copy from"},
	{name: "a copy of no chunks", do: uploading(copied(1)), log: "a copy of nothing"},
	{name: "a copy of a chunk that is not", do: func(a *attacker) {
		l := a.session()
		l.kept(1, "a")
		l.says(offer(2, 0, 3*mib, v4.Digest{}, "a"))
		l.accepted(2)
		l.says(copied(2, 3))
		l.ended(7)
	}, log: "not in both versions", keeps: map[string]string{"a": whole}},
	{name: "a copy of a chunk twice", do: func(a *attacker) {
		l := a.session()
		l.kept(1, "a")
		l.says(offer(2, 0, 3*mib, v4.Digest{}, "a"))
		l.accepted(2)
		l.says(copied(2, 1, 1))
		l.ended(7)
	}, log: "has come already", keeps: map[string]string{"a": whole}},
	{name: "copies called content of one's own", do: func(a *attacker) {
		l := a.session()
		l.kept(1, "a")
		l.says(offer(2, 0, 3*mib, v4.Digest{}, "a"))
		l.accepted(2)
		l.says(copied(2, 0, 1, 2), finish(2, "not it"))
		l.gets(2109)
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": whole}},
	{name: "a small file with another digest", do: refuses(36, smallWith(1, "a", "content", digestOf("other"))), log: "session ended"},
	{name: "a small file with a digest of zeros", do: refuses(36, smallWith(1, "a", "content", v4.Digest{})), log: "session ended"},
	{name: "an empty file with another digest", do: refuses(36, smallWith(1, "a", "", digestOf("x"))), log: "session ended"},
	{name: "a small file of another size than offered", do: func(a *attacker) {
		l := a.session()
		l.says(offer(1, 3, 5, digestOf("12345"), "a"))
		l.gets(2105)
		l.says(small(1, "a", "123456"))
		l.received(1, "123456")
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": "123456"}},
	{name: "a small file of one byte too many", do: then(header(4, 1111, 46+2+1+mib+1024)), log: "1111"},
	{name: "a path within a small file that is longer than it", do: then(frame(1111, numbered(1), u64(0), u16(0), make([]byte, 32), u16(1000), []byte("a"))), log: "too short"},
	{name: "giving up twice", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3*mib, "a")
		l.says(frame(1106, numbered(1)), frame(1106, numbered(1)), block(1, 0, "dropped"))
		l.gets(2104)
		l.gets(2104)
		l.alive()
		l.bye()
	}, log: "session ended"},
	{name: "giving up a list", do: func(a *attacker) {
		l := a.session()
		l.says(list(1, 10, "", ""), frame(1106, numbered(1)))
		for {
			code, _, err := l.hears()
			must(a.T, err)
			if code == 2101 || code == 2104 { // it was answered, or was not yet
				break
			}
		}
		l.Close()
	}, log: "session ended"},
	{name: "replacing without the right to", do: func(a *attacker) {
		l := a.session()
		l.keeps(1, "a", "first")
		a.rights(model.RightSend | model.RightRead)
		l.says(small(2, "a", "second"))
		l.refused(2, 32)
		l.offers(3, 3*mib, "a")
		l.says(blocks(3, whole), finish(3, whole))
		l.refused(3, 32)
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": "first"}},
	{name: "more than the quota, file by file", do: func(a *attacker) {
		l := a.session()
		l.keeps(1, "a", "12345")
		must(a.T, a.target.archive.Catalogue.SetQuota(a.name, 10))
		l.keeps(2, "b", "12345")
		l.says(small(3, "c", "1"))
		l.refused(3, 24)
		l.says(offer(4, 0, 1, v4.Digest{}, "d"))
		l.refused(4, 24)
		l.keeps(5, "a", "12345") // what is there takes no more
		l.bye()
	}, log: "session ended", keeps: map[string]string{"a": "12345", "b": "12345"}},
	{name: "more than the quota, by files that come at once", do: func(a *attacker) {
		a.session().bye()
		must(a.T, a.target.archive.Catalogue.SetQuota(a.name, 100))
		l := a.session()
		var all []byte
		for number := 1; number <= 200; number++ {
			all = append(all, small(number, fmt.Sprint("a/", number), "0123456789")...)
		}
		l.says(all)
		for range 200 {
			if code, _, err := l.hears(); err != nil || code != 2103 && code != 2110 {
				a.Fatalf("got %d, %v", code, err)
			}
		}
		l.bye()
		c, _, _ := a.target.archive.Catalogue.ClientNamed(a.name)
		if _, bytes, _ := a.target.archive.Catalogue.Used(c.ID); bytes > 100 {
			a.Errorf("%d bytes are kept, over the quota of 100", bytes)
		}
		must(a.T, a.target.archive.Catalogue.SetQuota(a.name, 1<<40))
		l = a.session()
		l.says(list(1, 1000, "", ""))
		m, err := v4.Unmarshal(v4.CodeEntries, l.gets(2113))
		must(a.T, err)
		a.remember(m.(*v4.Entries).Entries)
		l.bye()
	}, log: "session ended", keeps: nil},
	{name: "a version 3 client's more than its quota", do: func(a *attacker) {
		p := a.target.greet3(a.T, a.name)
		a.last = p.LocalAddr().String()
		p.keeps("a", "12345")
		must(a.T, a.target.archive.Catalogue.SetQuota(a.name, 10))
		_, err := p.Write(p.file("b", strings.Repeat("x", 1000)))
		must(a.T, err)
		wantClosed(a.T, p)
	}, log: "quota", keeps: map[string]string{"a": "12345"}},
}

func digestBytes(content string) []byte { d := digestOf(content); return d[:] }

// remember has the folder not looked at: which files are in it was left open.
func (a *attacker) remember(entries []v4.Entry) {
	kept := make(map[string]string)
	for _, e := range entries {
		kept[e.Path] = "0123456789"
	}
	a.kept = kept
}

// What is to take a verified file's place shows nowhere before it is verified in turn,
// neither in the tree nor to who fetches it.
func TestReplacementShowsOnlyOnceItIsVerified(t *testing.T) {
	t.Parallel()
	s := serveTarget(t)
	c := s.newClient(t, "grace")
	l := c.session(t)
	number := 0
	next := func() int {
		number++
		return number
	}
	shows := func(content string) {
		t.Helper()
		s.wantFolder(t, "grace", map[string]string{"a": content})
		l.fetches(next(), "a", content)
	}
	first, second := l.kept(next(), "a"), strings.Repeat("another\n", 3*mib/8)

	upload := next()
	l.offers(upload, 3*mib, "a")
	shows(first)
	l.says(blocks(upload, second[:2*mib]), frame(1109, u32(1)))
	l.gets(2112)
	shows(first)
	l.says(block(upload, 2*mib, second[2*mib:]), finish(upload, "something else"))
	l.gets(2109)
	shows(first)
	l.says(frame(1106, numbered(upload)))
	l.gets(2104)
	shows(first)
	refused := next()
	l.says(smallWith(refused, "a", "short", digestOf("something else")))
	l.refused(refused, 36)
	shows(first)
	upload = next()
	l.offers(upload, 3*mib, "a")
	l.says(blocks(upload, second), frame(1109, u32(2)))
	l.gets(2112)
	l.NetConn().Close() // all of it is there, and nobody has said that it is whole
	s.log.Await(t, `"session ended"`, `"grace"`)

	number, l = 0, c.session(t)
	shows(first)
	upload = next()
	l.offers(upload, 3*mib, "a") // of which all is held
	l.says(finish(upload, second))
	l.received(upload, second)
	shows(second)
	l.bye()
}

func TestAttacksOnUploads(t *testing.T) {
	t.Parallel()
	withstand(t, serveTarget(t), uploadAttacks)
}

// A client that takes none of what it asked for keeps room in memory only of its
// own share: others send and fetch meanwhile.
func TestReaderWhoReadsNothingKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	s := serveTarget(t)
	a := &attacker{T: t, client: s.newClient(t, "attacker")}
	content := pattern(8 * mib)
	l := a.session()
	l.offers(1, uint64(len(content)), "a")
	l.says(blocks(1, content), finish(1, content))
	l.received(1, content)
	l.bye()
	for i := range 8 {
		l := a.client.connect(t)
		l.says(helloOf(7, i, a.instance, 77, none, a.name))
		l.welcome()
		var all []byte
		for number := 1; number <= 1000; number++ {
			all = append(all, fetch(number, 0, v4.Digest{}, "a")...)
		}
		l.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		l.Write(all) // as far as it is taken
	}
	honest := s.newClient(t, "honest").session(t)
	got := honest.kept(1, "a")
	honest.fetches(2, "a", got)
	honest.bye()
	s.serves(t)
}
