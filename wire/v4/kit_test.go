package v4

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fenc/wire"
	"fenc/wire/v4/tree"
)

var update = flag.Bool("update", false, "write testdata/kit anew")

const kitDir = "testdata/kit"

// kitFile is one file of the test kit for other implementations, which part 17 of
// PROTOCOL.md describes.
type kitFile struct {
	header []string // "key: value"
	body   []byte
}

func (f kitFile) bytes() []byte {
	return append([]byte(strings.Join(f.header, "\n")+"\n\n"), f.body...)
}

// values are those of a key, in order.
func (f kitFile) values(key string) (all []string) {
	for _, line := range f.header {
		if k, v, ok := strings.Cut(line, ": "); ok && k == key {
			all = append(all, v)
		}
	}
	return all
}

func (f kitFile) value(key string) string { return strings.Join(f.values(key), "") }

func parseKit(t *testing.T, data []byte) kitFile {
	t.Helper()
	header, body, ok := bytes.Cut(data, []byte("\n\n"))
	if !ok {
		t.Fatal("no empty line ends the header")
	}
	return kitFile{strings.Split(string(header), "\n"), body}
}

// kit is the kit as it is generated.
type kit map[string]kitFile

func (k kit) add(name, kind string, success bool, body []byte, header ...string) {
	if _, twice := k[name]; twice {
		panic("kit: " + name + " twice")
	}
	expect := "expect: failure"
	if success {
		expect = "expect: success"
	}
	k[name] = kitFile{append([]string{"kind: " + kind, expect}, header...), body}
}

func generateKit() kit {
	k := make(kit)
	k.frames()
	k.brokenFrames()
	k.paths()
	k.names()
	k.invites()
	k.certificates()
	k.trees()
	k.conversations()
	return k
}

// fieldLines are a message's fields, one a line, as part 17 writes them.
func fieldLines(message any) (lines []string) {
	v := reflect.Indirect(reflect.ValueOf(message))
	for i := range v.NumField() {
		lines = append(lines, "field: "+v.Type().Field(i).Name+" "+fieldText(v.Field(i)))
	}
	return lines
}

func fieldText(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return strconv.Quote(v.String())
	case reflect.Array:
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		return fmt.Sprintf("%x", b)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf("%x", v.Bytes())
		}
		var all []string
		for i := range v.Len() {
			all = append(all, fieldText(v.Index(i)))
		}
		return "[" + strings.Join(all, " ") + "]"
	case reflect.Struct:
		var all []string
		for i := range v.NumField() {
			all = append(all, fieldText(v.Field(i)))
		}
		return "(" + strings.Join(all, " ") + ")"
	case reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	}
	return strconv.FormatUint(v.Uint(), 10)
}

func rawFrame(version byte, code Code, size uint32, payload ...byte) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{version}, uint16(code))
	return append(binary.LittleEndian.AppendUint32(b, size), payload...)
}

func framed(code Code, payload ...byte) []byte {
	return rawFrame(Version, code, uint32(len(payload)), payload...)
}

// frames are each message once as it may be, and in the ways in which all can be
// wrong.
func (k kit) frames() {
	for _, code := range slices.Sorted(maps.Keys(messageOf)) {
		r := rand.New(rand.NewPCG(uint64(code), 4))
		m := message(r, code, 3)
		whole := Append(nil, m)
		payload, size := whole[HeaderSize:], sizes[code]
		name := fmt.Sprintf("frame-%d-", code)
		about := fmt.Sprintf("code: %d", code)
		k.add(name+"good", "frame", true, whole, append([]string{about}, fieldLines(m)...)...)
		k.add(name+"over-the-most", "frame", false, rawFrame(Version, code, uint32(size.most+1), payload...), about,
			"why: the payload that is announced is longer than this code's")
		k.add(name+"of-4-gib", "frame", false, rawFrame(Version, code, 1<<32-1, payload...), about, "why: 4 GiB are announced")
		k.add(name+"cut", "frame", false, whole[:max(HeaderSize-1, len(whole)-1)], about, "why: the stream ends in the frame")
		if size.least > 0 {
			k.add(name+"under-the-least", "frame", false, framed(code, payload[:size.least-1]...), about,
				"why: the payload that is announced is shorter than this code's")
		}
		if last := messageOf[code]; size.most > size.least && last.Field(last.NumField()-1).Tag.Get("rest") == "" {
			k.add(name+"one-byte-more", "frame", false, framed(code, append(bytes.Clone(payload), 0)...), about, "why: a byte is left over behind the last field")
		}
	}
}

func (k kit) brokenFrames() {
	fail := func(name, why string, b []byte) { k.add("frame-"+name, "frame", false, b, "why: "+why) }
	ping := make([]byte, 8)
	for _, version := range []byte{0, 3, 5, 255} {
		fail(fmt.Sprintf("of-version-%d", version), "another version", rawFrame(version, CodePing, 8, ping...))
	}
	for _, code := range []Code{0, 1099, 1101, 1102, 1104, 1117, 2099, 2102, 2119, 2121, 65535} {
		fail(fmt.Sprintf("of-code-%d", code), "no such code", framed(code))
	}
	fail("of-nothing", "the stream ends before the frame", nil)
	fail("header-cut", "the stream ends in the header", framed(CodePing)[:3])
	text := func(s string) []byte {
		return append(binary.LittleEndian.AppendUint16(nil, uint16(len(s))), s...)
	}
	refusal := func(again byte, t []byte) []byte { return framed(CodeRefusal, append([]byte{1, 0, again}, t...)...) }
	fail("bool-of-2", "a bool that is neither 0 nor 1", refusal(2, text("x")))
	fail("bool-of-255", "a bool that is neither 0 nor 1", refusal(255, text("x")))
	fail("text-not-utf-8", "a text that is not UTF-8", refusal(0, text("\xff")))
	fail("text-overlong-utf-8", "a text in overlong UTF-8", refusal(0, text("\xc0\xaf")))
	fail("text-surrogate", "a text with half of a pair", refusal(0, text("\xed\xa0\x80")))
	fail("text-beyond-unicode", "a text with what is beyond Unicode", refusal(0, text("\xf4\x90\x80\x80")))
	fail("text-cut-in-a-letter", "a text that ends within a letter", refusal(0, text("\xc3")))
	fail("text-over-its-bound", "a text of 128 bytes where 127 may be", framed(CodeHello, slices.Concat(make([]byte, 43), text(strings.Repeat("x", 128)), text(""))...))
	fail("text-over-its-frame", "a text that is longer than its frame", refusal(0, append([]byte{100, 0}, "short"...)))
	fail("list-over-its-frame", "a list that is longer than its frame", framed(CodeMissing, append(make([]byte, 4), 2, 0, 0, 0, 9, 9, 9, 9)...))
	fail("list-of-2-32", "a list of 4,294,967,295 elements", framed(CodeMissing, append(make([]byte, 4), 255, 255, 255, 255)...))
	fail("list-over-its-bound", "a list of 16,385 elements", framed(CodeAccept, append(append(make([]byte, 29), 1, 64, 0, 0), make([]byte, 1000)...)...))
	fail("entries-over-their-bound", "a list of 1,001 entries", framed(CodeEntries, append(append(make([]byte, 5), 0xe9, 3, 0, 0), make([]byte, 1000)...)...))
	k.add("frame-text-of-nothing", "frame", true, refusal(0, text("")), append([]string{"code: 2101"}, fieldLines(&Refusal{Reason: 1})...)...)
	k.add("frame-block-of-one-byte", "frame", true, Append(nil, &Block{Number: 1, Data: []byte("x")}), append([]string{"code: 1108"}, fieldLines(&Block{Number: 1, Data: []byte("x")})...)...)
	highest := &Offer{Number: 1<<32 - 1, Flags: 255, Size: 1<<64 - 1, ModTime: -1 << 63, Mode: 1<<16 - 1, Path: "x"}
	k.add("frame-highest-numbers", "frame", true, Append(nil, highest), append([]string{"code: 1103", "why: a frame is right whatever its numbers mean"}, fieldLines(highest)...)...)
}

// spelled is a word of a file's name.
func spelled(i int) string { return fmt.Sprintf("%02d", i) }

func (k kit) paths() {
	for i, p := range []string{
		"a", "a/b", "a/b/c", ".hidden", "...", "a.", " ", "a b", "é", "e\u0301", "日本", "a\\b", "C:\\x", "x:y", "CON", "-rf", "*", "\u202ex", "\u200b",
		"\U0001f4be", ".fenc/x", strings.Repeat("x", 255), strings.Repeat("é", 127), strings.Repeat("a/", 511) + "bc"[:1],
		strings.Repeat(strings.Repeat("x", 204)+"/", 4) + strings.Repeat("y", 204),
	} {
		k.add("path-good-"+spelled(i), "path", true, []byte(p))
	}
	for i, p := range []struct{ path, why string }{
		{"", "empty"}, {"/", "a slash alone"}, {"/a", "absolute"}, {"a/", "a slash at the end"}, {"a//b", "an empty part"}, {".", "a part ."}, {"..", "a part .."},
		{"a/.", "a part ."}, {"a/..", "a part .."}, {"a/../b", "a part .."}, {"./a", "a part ."}, {"../a", "a part .."}, {"a\x00b", "a NUL"}, {"a\x00", "a NUL at the end"},
		{"a\nb", "a line break"}, {"a\rb", "a carriage return"}, {"a\tb", "a tab"}, {"\x1b[2J", "an escape"}, {"a\x7f", "a DEL"}, {"a\u0080", "a C1 control"},
		{"a\u009bm", "a C1 control"}, {"a\u2028b", "a line separator"}, {"a\u2029b", "a paragraph separator"}, {"a\xff", "not UTF-8"}, {"a\xc0\xaf", "overlong UTF-8"},
		{"a\xed\xa0\x80", "half of a pair"}, {strings.Repeat("x", 256), "a part of 256 bytes"}, {"a/" + strings.Repeat("x", 256) + "/b", "a part of 256 bytes"},
		{strings.Repeat("é", 128), "a part of 256 bytes"}, {strings.Repeat("a/", 512) + "b", "1,025 bytes"},
	} {
		k.add("path-bad-"+spelled(i), "path", false, []byte(p.path), "why: "+p.why)
	}
}

func (k kit) names() {
	for i, n := range []string{"grace", "a/b", "..", "grace hopper", "é", "\u202ex", strings.Repeat("x", 127)} {
		k.add("name-good-"+spelled(i), "name", true, []byte(n))
	}
	for i, n := range []struct{ name, why string }{
		{"", "empty"}, {strings.Repeat("x", 128), "128 bytes"}, {"a\x00", "a NUL"}, {"a\nb", "a line break"}, {"\x1b", "an escape"}, {"\u0085", "a C1 control"},
		{"a\u2028", "a line separator"}, {"\xff", "not UTF-8"},
	} {
		k.add("name-bad-"+spelled(i), "name", false, []byte(n.name), "why: "+n.why)
	}
}

func (k kit) invites() {
	in := Invite{Server: kitIdentity(0).Fingerprint(), Token: Token{16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}}
	good := func(name, line string, address string) {
		k.add("invite-good-"+name, "invite", true, []byte(line), "address: "+address, fmt.Sprintf("fingerprint: %s", in.Server), fmt.Sprintf("token: %x", [16]byte(in.Token)))
	}
	in.Address = "files.example:7171"
	line := in.Line()
	good("host", line, in.Address)
	good("white-space", " \t"+line+"\r\n", in.Address)
	for name, address := range map[string]string{"ipv4": "192.0.2.1:1", "ipv6": "[2001:db8::1]:65535", "ipv6-short": "[::1]:7171"} {
		in.Address = address
		good(name, in.Line(), address)
	}
	head, data, _ := strings.Cut(line, "/")
	for name, bad := range map[string]struct{ line, why string }{
		"empty":            {"", "nothing"},
		"no-prefix":        {line[len("fenc4-"):], "it does not begin with fenc4-"},
		"prefix-of-3":      {"fenc3" + line[5:], "it begins with fenc3-"},
		"capitals":         {"FENC4" + line[5:], "it begins with FENC4-"},
		"no-data":          {head, "there is no /"},
		"no-data-2":        {head + "/", "there is nothing behind the /"},
		"cut":              {line[:len(line)-1], "the last character is missing"},
		"cut-much":         {line[:len(line)-20], "20 characters are missing"},
		"longer":           {line + "A", "there is a character too many"},
		"padding":          {line + "==", "base64 with padding"},
		"standard-base64":  {head + "/" + strings.NewReplacer("-", "+", "_", "/").Replace(data[:60]) + "+" + data[61:], "base64 of the other alphabet"},
		"another-letter":   {head + "/B" + data[1:], "the checksum differs: a letter of the fingerprint"},
		"another-token":    {head + "/" + data[:50] + "A" + data[51:], "the checksum differs: a letter of the token"},
		"another-checksum": {head + "/" + data[:len(data)-3] + "AA" + data[len(data)-1:], "the checksum differs"},
		"another-host":     {strings.Replace(line, "files", "filez", 1), "the checksum differs: a letter of the address"},
		"another-port":     {strings.Replace(line, "7171", "7172", 1), "the checksum differs: a digit of the port"},
		"unused-bits":      {line[:len(line)-1] + string(data[len(data)-1]+1), "the last character has bits that are not used"},
		"space-within":     {head + " /" + data, "a space in the address"},
		"break-within":     {head + "/" + data[:30] + "\n" + data[30:], "a line break in the data"},
	} {
		k.add("invite-bad-"+name, "invite", false, []byte(bad.line), "why: "+bad.why)
	}
}

// kitIdentity has the key with the seed n, n+1, n+2 and so on.
func kitIdentity(n byte) Identity {
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = n + byte(i)
	}
	id, err := newIdentity(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		panic(err)
	}
	return id
}

func (k kit) certificates() {
	good := func(name string, id Identity, der []byte, why ...string) {
		k.add("certificate-good-"+name, "certificate", true, der, append(why, "fingerprint: "+id.Fingerprint().String())...)
	}
	a := kitIdentity(0)
	der := a.held().certificate.Certificate[0]
	good("0", a, der)
	good("1", kitIdentity(1), kitIdentity(1).held().certificate.Certificate[0])
	good("200", kitIdentity(200), kitIdentity(200).held().certificate.Certificate[0])
	template := certificateTemplate
	template.Subject.CommonName, template.DNSNames = "anybody", []string{strings.Repeat("x", 500)}
	template.NotAfter = template.NotBefore
	odd, err := x509.CreateCertificate(nil, &template, &template, a.held().key.Public(), a.held().key)
	if err != nil {
		panic(err)
	}
	good("with-names-and-expired", a, odd, "why: only the key counts")
	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	good("signature-not-looked-at", a, forged, "why: the self-signature is not looked at; the handshake proves the key")
	template.DNSNames = []string{strings.Repeat("x", 1000)}
	long, err := x509.CreateCertificate(nil, &template, &template, a.held().key.Public(), a.held().key)
	if err != nil {
		panic(err)
	}
	fail := func(name, why string, der []byte) {
		k.add("certificate-bad-"+name, "certificate", false, der, "why: "+why)
	}
	fail("over-1024", "more than 1,024 bytes", long)
	fail("empty", "nothing", nil)
	fail("cut", "the last byte is missing", der[:len(der)-1])
	fail("longer", "a byte is left over", append(bytes.Clone(der), 0))
	other := bytes.Clone(der)
	other[68] = 0x6e // id-X25519: 1.3.101.110
	fail("x25519", "the key is one of X25519, which signs nothing", other)
	short := bytes.Clone(der)
	short[59]-- // the SubjectPublicKeyInfo is a byte shorter than its content
	fail("lengths", "lengths that do not agree", short)
}

// kitContent is byte i of a tree's content: i mod 251.
func kitContent(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func (k kit) trees() {
	const mib = tree.MinChunkSize
	for _, size := range []int{
		0, 1, 2, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 3073, 16383, 16384, 16385,
		mib - 1, mib, mib + 1, mib + 1024, 2*mib - 1, 2 * mib, 2*mib + 1, 3 * mib, 3*mib + 1025, 4*mib + 1, 5 * mib, 7*mib + 3, 8 * mib,
	} {
		content := kitContent(size)
		var header []string
		header = append(header, "why: the content is the bytes 0 1 … 250 0 1 …", fmt.Sprintf("size: %d", size), fmt.Sprintf("chunk-size: %d", mib))
		var hashes []tree.Hash
		for off := 0; off < size; off += mib {
			h := tree.Sum(content[off:min(size, off+mib)], int64(off), size <= mib)
			hashes = append(hashes, h)
			header = append(header, fmt.Sprintf("chunk: %x", h))
		}
		header = append(header, fmt.Sprintf("digest: %x", tree.Root(hashes)))
		k.add(fmt.Sprintf("tree-%07d", size), "tree", true, nil, header...)
	}
}

// conversations are what a client says from its hello on, in steps, and which answers
// each of them gets.
func (k kit) conversations() {
	type step struct {
		frames  []byte
		answers string
	}
	hello := Append(nil, &Hello{Wishes: 7, Instance: ID{1, 2, 3}, Epoch: 1, Name: "kit", Software: "kit/1"})
	sum := func(s string) Digest { return Digest(tree.Sum([]byte(s), 0, true)) }
	small := func(number uint32, path, content string) []byte {
		return Append(nil, &Small{Number: number, ModTime: 1767323045e9, Mode: 0o644, Digest: sum(content), Path: path, Data: []byte(content)})
	}
	talk := func(name, why string, success bool, steps ...step) {
		header := []string{"why: " + why}
		var body []byte
		for _, s := range append([]step{{hello, "2100"}}, steps...) {
			header = append(header, fmt.Sprintf("step: %d bytes, answered by %s", len(s.frames), s.answers))
			body = append(body, s.frames...)
		}
		k.add("conversation-"+name, "conversation", success, body, header...)
	}
	good := func(name, why string, steps ...step) {
		talk(name, why, true, append(steps, step{Append(nil, &Bye{}), "2120"})...)
	}
	breach := func(name, why string, frames ...[]byte) {
		talk(name, why, false, step{slices.Concat(frames...), "2101:7"})
	}
	whole := Append(nil, &Offer{Number: 1, Flags: OfferDigest | OfferWhole, Size: 5, Digest: sum("hello"), Path: "a"})
	blocks := Append(nil, &Offer{Number: 1, Size: 5, Path: "a"})
	good("hello-and-bye", "nothing is asked for")
	good("ping", "a ping", step{Append(nil, &Ping{Value: 7}), "2117"})
	good("small", "a small file", step{small(1, "a", "hello"), "2103"})
	good("small-empty", "an empty file", step{small(1, "a", ""), "2103"})
	good("small-twice", "the same file again", step{small(1, "a", "hello"), "2103"}, step{small(2, "a", "hello"), "2103"})
	good("small-asked", "a small file that is asked about first", step{whole, "2105"}, step{small(1, "a", "hello"), "2103"})
	good("small-given-up", "a small file that is asked about and given up", step{whole, "2105"}, step{Append(nil, &GiveUp{Number: 1}), "2104"})
	good("small-wrong-digest", "a small file that is not what its digest says", step{Append(nil, &Small{Number: 1, Digest: sum("x"), Path: "a", Data: []byte("y")}), "2110:36"})
	good("bad-path", "a path that no file can have", step{small(1, "../a", "x"), "2110:21"})
	good("file-below-a-file", "a file where a folder is needed", step{small(1, "a", "x"), "2103"}, step{small(2, "a/b", "y"), "2110:22"})
	good("blocks", "a file by blocks", step{blocks, "2105"},
		step{slices.Concat(Append(nil, &Block{Number: 1, Data: []byte("hel")}), Append(nil, &Block{Number: 1, Offset: 3, Data: []byte("lo")}), Append(nil, &Finish{Number: 1, Digest: sum("hello")})), "2103"})
	good("blocks-empty", "an empty file by blocks", step{Append(nil, &Offer{Number: 1, Path: "a"}), "2105"}, step{Append(nil, &Finish{Number: 1, Digest: sum("")}), "2103"})
	good("blocks-missing", "a finish before the content", step{blocks, "2105"}, step{Append(nil, &Finish{Number: 1, Digest: sum("hello")}), "2108"})
	good("blocks-differ", "content with another digest, mended", step{blocks, "2105"},
		step{slices.Concat(Append(nil, &Block{Number: 1, Data: []byte("jello")}), Append(nil, &Finish{Number: 1, Digest: sum("hello")})), "2109"},
		step{slices.Concat(Append(nil, &Resend{Number: 1, Chunks: []uint32{0}}), Append(nil, &Block{Number: 1, Data: []byte("hello")}), Append(nil, &Finish{Number: 1, Digest: sum("hello")})), "2103"})
	good("blocks-given-up", "an upload that is given up, and blocks behind it", step{blocks, "2105"},
		step{slices.Concat(Append(nil, &GiveUp{Number: 1}), Append(nil, &Block{Number: 1, Data: []byte("late")}), Append(nil, &Ping{})), "2104 2117"})
	good("barrier", "a barrier", step{Append(nil, &Barrier{Serial: 9}), "2112"})
	good("list-of-nothing", "a list", step{Append(nil, &List{Number: 1, Limit: 10}), "2113"})
	good("list-bad-prefix", "a list of what is no path", step{Append(nil, &List{Number: 1, Limit: 10, Prefix: "a/"}), "2110:21"})
	good("fetch", "a file and its content", step{small(1, "a", "hello"), "2103"}, step{Append(nil, &Fetch{Number: 2, Path: "a"}), "2114 2115 2116"})
	good("fetch-from-the-end", "a file from its very end", step{small(1, "a", "hello"), "2103"}, step{Append(nil, &Fetch{Number: 2, Offset: 5, Path: "a"}), "2114 2116"})
	good("fetch-of-nothing", "a file that is not there", step{Append(nil, &Fetch{Number: 1, Path: "none"}), "2110:31"})
	good("attach-to-nothing", "an upload that is not there", step{Append(nil, &Attach{Number: 1}), "2110:29"})
	good("over-2-63", "a file of 2^63 bytes", step{Append(nil, &Offer{Number: 1, Size: 1 << 63, Path: "a"}), "2110:23"})
	breach("hello-twice", "a second 1100", hello)
	breach("response", "a response's code", Append(nil, &Received{Number: 1}))
	breach("unknown-code", "a code that is not", framed(1199))
	breach("version-3", "a frame of version 3", rawFrame(3, CodePing, 8, make([]byte, 8)...))
	breach("number-0", "the number 0", small(0, "a", "x"))
	breach("number-twice", "a number twice", whole, whole)
	breach("number-back", "a number that goes back", Append(nil, &Offer{Number: 2, Flags: OfferWhole, Path: "a"}), whole)
	breach("number-unknown", "a block of what was never offered", Append(nil, &Block{Number: 9, Data: []byte("x")}))
	breach("finish-of-a-whole-file", "1110 of what comes in one 1111", whole, Append(nil, &Finish{Number: 1}))
	breach("small-for-blocks", "1111 of what comes by blocks", blocks, small(1, "a", "hello"))
	breach("page-of-0", "a page of no entries", Append(nil, &List{Number: 1}))
	breach("page-of-1001", "a page of 1,001 entries", Append(nil, &List{Number: 1, Limit: 1001}))
	breach("trailing-byte", "a byte behind the last field", framed(CodeList, append(Append(nil, &List{Number: 1, Limit: 1})[HeaderSize:], 0)...))
}

// TestKit generates the kit, compares it with testdata/kit, and holds our own code to
// what each file says. Conversations are held with a server in modes/hostile.
func TestKit(t *testing.T) {
	t.Parallel()
	made := generateKit()
	if len(made) < 200 {
		t.Errorf("%d files, want 200 at least", len(made))
	}
	if *update {
		if err := os.RemoveAll(kitDir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(kitDir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, f := range made {
			if err := os.WriteFile(filepath.Join(kitDir, name), f.bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(kitDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(made) {
		t.Errorf("%s has %d files, %d are generated: run go test ./wire/v4 -run TestKit -update", kitDir, len(entries), len(made))
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(kitDir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, made[e.Name()].bytes()) {
			t.Errorf("%s is not as it is generated: -update writes it anew", e.Name())
			continue
		}
		t.Run(e.Name(), func(t *testing.T) { parseKit(t, data).check(t) })
	}
}

// check holds our code to a file of the kit.
func (f kitFile) check(t *testing.T) {
	var err error
	switch f.value("kind") {
	case "frame":
		err = f.checkFrame(t)
	case "path":
		err = wire.CheckPath(string(f.body))
		if !isText(f.body) && err == nil {
			t.Error("taken, and not UTF-8")
		}
	case "name":
		err = wire.CheckName(string(f.body))
	case "invite":
		var in Invite
		in, err = ParseInvite(string(f.body))
		if err == nil && (in.Address != f.value("address") || in.Server.String() != f.value("fingerprint") || fmt.Sprintf("%x", [16]byte(in.Token)) != f.value("token")) {
			t.Errorf("reads as %s, %s", in.Address, in.Server)
		}
	case "certificate":
		var got Fingerprint
		got, err = certified(f.body)
		if err == nil && got.String() != f.value("fingerprint") {
			t.Errorf("fingerprint %s, want %s", got, f.value("fingerprint"))
		}
	case "tree":
		f.checkTree(t)
	case "conversation":
		return
	default:
		t.Fatalf("no such kind: %q", f.value("kind"))
	}
	if success := f.value("expect") == "success"; success != (err == nil) {
		t.Errorf("got %v, want success %v (%s)", err, success, f.value("why"))
	}
}

func isText(b []byte) bool { return strings.ToValidUTF8(string(b), "") == string(b) }

func (f kitFile) checkFrame(t *testing.T) error {
	r := NewReader(bytes.NewReader(f.body))
	h, err := r.Next()
	if err != nil {
		return err
	}
	m, err := r.Message(h)
	if err != nil {
		return err
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("behind the frame: %v", err)
	}
	if got, want := fieldLines(m), f.values("field"); fmt.Sprint(h.Code) != f.value("code") || len(got) != len(want) {
		t.Errorf("read as %s with %q", h.Code, got)
	} else {
		for i := range got {
			if got[i] != "field: "+want[i] {
				t.Errorf("read as %q, want %q", got[i], want[i])
			}
		}
	}
	if again := Append(nil, m); !bytes.Equal(again, f.body) {
		t.Errorf("written as % x, was % x", again, f.body)
	}
	return nil
}

// certified is what Peer says of a certificate whose key the handshake has proved.
func certified(der []byte) (Fingerprint, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return Fingerprint{}, err
	}
	f, _, err := Peer(tls.ConnectionState{Version: tls.VersionTLS13, NegotiatedProtocol: ALPN, PeerCertificates: []*x509.Certificate{c}})
	return f, err
}

func (f kitFile) checkTree(t *testing.T) {
	size, err := strconv.Atoi(f.value("size"))
	if err != nil {
		t.Fatal(err)
	}
	chunkSize, err := strconv.Atoi(f.value("chunk-size"))
	if err != nil {
		t.Fatal(err)
	}
	content := kitContent(size)
	var h tree.Hasher // in pieces of another size than the generator's
	var hashes []tree.Hash
	for off := 0; off < size; off += chunkSize {
		chunk := content[off:min(size, off+chunkSize)]
		h.Reset(int64(off), size <= chunkSize)
		for len(chunk) > 0 {
			n := min(len(chunk), 10_007)
			h.Write(chunk[:n])
			chunk = chunk[n:]
		}
		hashes = append(hashes, h.Sum())
	}
	chunks := f.values("chunk")
	if len(chunks) != len(hashes) {
		t.Fatalf("%d chunks, want %d", len(hashes), len(chunks))
	}
	for i, h := range hashes {
		if fmt.Sprintf("%x", h) != chunks[i] {
			t.Errorf("chunk %d: %x", i, h)
		}
	}
	if got := fmt.Sprintf("%x", tree.Root(hashes)); got != f.value("digest") {
		t.Errorf("digest %s", got)
	}
}
