package wire

import (
	"bytes"
	"strings"
	"testing"

	"fenc/wire/fuzztest"
)

// header is a version 3 request header with an id of zeros.
func header(version byte, code uint16, size uint32) []byte {
	return append(make([]byte, 16), version, byte(code), byte(code>>8),
		byte(size), byte(size>>8), byte(size>>16), byte(size>>24))
}

// hello is a ClientHello's first 11 bytes with one of them changed; -1 for none.
func hello(at int, to byte) []byte {
	b := []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}
	if at >= 0 {
		b[at] = to
	}
	return b
}

func TestSniff(t *testing.T) {
	t.Parallel()
	v3Hello := header(3, 1101, 415)
	copy(v3Hello, hello(-1, 0)) // what an id that begins 16 03 01 would look like
	tests := []struct {
		name  string
		first []byte
		kind  Kind
		at    int // bytes after which it is decided; 0 is never
	}{
		{"registration of one byte", header(3, 1100, 1), KindV3, 23},
		{"registration of 255 bytes", header(3, 1100, 255), KindV3, 23},
		{"registration of nothing", header(3, 1100, 0), KindUnknown, 20},
		{"registration of 256 bytes", header(3, 1100, 256), KindUnknown, 20},
		{"registration of 257 bytes", header(3, 1100, 257), KindUnknown, 21},
		{"registration of 4 GiB", header(3, 1100, 0xff0000ff), KindUnknown, 23},
		{"public key", header(3, 1101, 415), KindV3, 23},
		{"public key a byte short", header(3, 1101, 414), KindUnknown, 20},
		{"public key and 64 KiB", header(3, 1101, 415+1<<16), KindUnknown, 22},
		{"file cannot open a session", header(3, 1103, 291), KindUnknown, 18},
		{"response code", header(3, 2100, 16), KindUnknown, 18},
		{"right low byte, wrong high", header(3, 0x054c, 1), KindUnknown, 19},
		{"version 4 in a version 3 header", header(4, 1100, 4), KindUnknown, 17},
		{"23 zeros", make([]byte, 23), KindUnknown, 17},
		{"hello", hello(-1, 0), KindTLS, 11},
		{"hello of TLS 1.2 records", hello(2, 3), KindTLS, 11},
		{"hello of TLS 1.1 records", hello(2, 2), KindUnknown, 3},
		{"hello of SSL 2", hello(1, 2), KindUnknown, 2},
		{"server hello", hello(5, 2), KindUnknown, 6},
		{"hello of TLS 1.0 inside", hello(10, 1), KindUnknown, 11},
		{"hello of another major version inside", hello(9, 2), KindUnknown, 10},
		{"id that begins as a hello is TLS", v3Hello, KindTLS, 11},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: a\r\n"), KindUnknown, 17},
		{"SSH", []byte("SSH-2.0-OpenSSH_9.9 Debian"), KindUnknown, 17},
		{"half a hello", hello(-1, 0)[:10], KindUnknown, 0},
		{"half a header", header(3, 1100, 4)[:22], KindUnknown, 0},
		{"nothing", nil, KindUnknown, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for n := range len(test.first) + 1 {
				kind, decided := Sniff(test.first[:n])
				if want := test.at > 0 && n >= test.at; decided != want {
					t.Errorf("after %d bytes: decided %t, want %t", n, decided, want)
				}
				if want := test.kind; decided && kind != want {
					t.Errorf("after %d bytes: got %d, want %d", n, kind, want)
				}
			}
		})
	}
}

func TestGuess(t *testing.T) {
	t.Parallel()
	tests := []struct {
		first, want string
	}{
		{"", "nothing"},
		{"\x16\x03\x01\x02\x00\x01", "TLS"},
		{"GET / HTTP/1.1", "HTTP"},
		{"PRI * HTTP/2.0", "HTTP"},
		{"SSH-2.0-x", "SSH"},
		{"G", "unknown bytes"},
		{"\x00\x01", "unknown bytes"},
		{string(header(3, 1100, 9)), "protocol 3"},
	}
	for _, test := range tests {
		if got := Guess([]byte(test.first)); got != test.want {
			t.Errorf("Guess(%q) = %q, want %q", test.first, got, test.want)
		}
	}
}

// FuzzSniff: what is decided stays so, and what is undecided can still become
// something.
func FuzzSniff(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, seed := range [][]byte{
		{}, hello(-1, 0), hello(5, 2), header(3, 1100, 13), header(3, 1101, 415), header(3, 1103, 291),
		[]byte("GET / HTTP/1.1\r\nHost: a\r\n"), []byte("SSH-2.0-OpenSSH_9.9 Debian"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, first []byte) {
		all, ended := Sniff(first)
		if len(first) >= SniffLen && !ended {
			t.Fatalf("undecided after %d bytes", len(first))
		}
		for n := range min(len(first), SniffLen+1) {
			kind, decided := Sniff(first[:n])
			if decided && (kind != all || !ended) {
				t.Fatalf("%d after %d bytes, %d (decided: %t) after %d", kind, n, all, ended, len(first))
			}
			if !decided && !canBecome(first[:n]) {
				t.Fatalf("%x: undecided although nothing that is served begins so", first[:n])
			}
		}
		if guess := Guess(first); guess == "" || strings.ContainsFunc(guess, func(r rune) bool { return r < ' ' }) {
			t.Fatalf("guess %q", guess)
		}
	})
}

// canBecome reports whether some bytes after first would make it something that
// is served.
func canBecome(first []byte) bool {
	for _, whole := range [][]byte{hello(-1, 0), hello(2, 3), header(3, 1100, 1), header(3, 1101, 415)} {
		// The rest is the pattern's, at the same place.
		if len(first) > len(whole) {
			continue
		}
		if kind, _ := Sniff(append(bytes.Clone(first), whole[len(first):]...)); kind != KindUnknown {
			return true
		}
	}
	return false
}
