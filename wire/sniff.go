package wire

import (
	"bytes"
	"encoding/binary"
)

// Kind is what a connection's first bytes say is spoken on it.
type Kind int

const (
	// KindUnknown is nothing that is served.
	KindUnknown Kind = iota
	// KindV3 is protocol 3.
	KindV3
	// KindTLS is a TLS ClientHello, as protocol 4 begins.
	KindTLS
)

// SniffLen is how many first bytes decide at the most: a version 3 header.
const SniffLen = 23

// What a version 3 session may open with: the code and its payload's size.
const (
	v3Register, v3RegisterMost   = 1100, 255
	v3PublicKey, v3PublicKeySize = 1101, 415
)

// Sniff judges a connection by its first bytes. decided is false while more are
// needed.
//
// TLS: 16 03 01|03, byte 5 = 01 (ClientHello), bytes 9 and 10 = 03 03. Version 3:
// a header that can open a session; an id never begins with 16.
func Sniff(first []byte) (kind Kind, decided bool) {
	if len(first) == 0 {
		return KindUnknown, false
	}
	if first[0] == 0x16 {
		return sniffTLS(first)
	}
	return sniffV3(first)
}

func sniffTLS(first []byte) (Kind, bool) {
	for i, allowed := range map[int][]byte{1: {3}, 2: {1, 3}, 5: {1}, 9: {3}, 10: {3}} {
		if i < len(first) && !bytes.Contains(allowed, first[i:i+1]) {
			return KindUnknown, true
		}
	}
	if len(first) < 11 {
		return KindUnknown, false
	}
	return KindTLS, true
}

func sniffV3(first []byte) (Kind, bool) {
	if len(first) > 16 && first[16] != 3 {
		return KindUnknown, true
	}
	if len(first) < SniffLen {
		return KindUnknown, false
	}
	code, size := binary.LittleEndian.Uint16(first[17:]), binary.LittleEndian.Uint32(first[19:])
	switch {
	case code == v3Register && size >= 1 && size <= v3RegisterMost,
		code == v3PublicKey && size == v3PublicKeySize:
		return KindV3, true
	}
	return KindUnknown, true
}

// Guess names what the first bytes look like, for a log.
func Guess(first []byte) string {
	switch kind, _ := Sniff(first); {
	case len(first) == 0:
		return "nothing"
	case kind == KindV3:
		return "protocol 3"
	case first[0] == 0x16:
		return "TLS"
	case bytes.HasPrefix(first, []byte("SSH-")):
		return "SSH"
	}
	for _, method := range []string{"GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "CONNECT ", "DELETE ", "PATCH ", "PRI * HTTP"} {
		if bytes.HasPrefix(first, []byte(method)) {
			return "HTTP"
		}
	}
	return "unknown bytes"
}
