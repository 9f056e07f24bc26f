package wire

import "bytes"

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

// Sniff judges a connection by its first bytes, and again with more of them as
// they arrive. decided is false while it depends on bytes that have not; once
// true, later bytes change nothing.
//
// TLS: 16 03 01|03, byte 5 = 01 (ClientHello), bytes 9 and 10 = 03 03. Version 3:
// a header that can open a session, which is 1100 with 1 to 255 bytes of payload
// or 1101 with 415; an id never begins with 16 (protocol 4, part 4).
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
	const decisive = 11 // bytes
	for i, b := range first[:min(len(first), decisive)] {
		var ok bool
		switch i {
		case 1, 9, 10:
			ok = b == 3
		case 2:
			ok = b == 1 || b == 3
		case 5:
			ok = b == 1
		default: // the type, and lengths
			ok = true
		}
		if !ok {
			return KindUnknown, true
		}
	}
	if len(first) < decisive {
		return KindUnknown, false
	}
	return KindTLS, true
}

// sniffV3 looks behind the id: version, code and payload size, little-endian.
func sniffV3(first []byte) (Kind, bool) {
	const idLen, sizeAt = 16, 3
	register := [...]byte{3, 1100 & 0xff, 1100 >> 8, 1, 0, 0, 0} // or any size to 255
	publicKey := [...]byte{3, 1101 & 0xff, 1101 >> 8, 415 & 0xff, 415 >> 8, 0, 0}
	registers, bringsKey := true, true
	for i, b := range first[min(len(first), idLen):min(len(first), SniffLen)] {
		registers = registers && (b == register[i] || i == sizeAt && b != 0)
		bringsKey = bringsKey && b == publicKey[i]
	}
	switch {
	case !registers && !bringsKey:
		return KindUnknown, true
	case len(first) < SniffLen:
		return KindUnknown, false
	default:
		return KindV3, true
	}
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
