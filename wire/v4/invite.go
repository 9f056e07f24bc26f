package v4

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"unicode"
)

// Token is an invite's secret: 16 random bytes. It prints as "redacted".
type Token [16]byte

// NewToken makes a token.
func NewToken() (t Token) {
	rand.Read(t[:]) // never fails, see crypto/rand
	return t
}

// Hash is the SHA-256 of the token, which is all that the server keeps of it.
func (t Token) Hash() [32]byte { return sha256.Sum256(t[:]) }

// Format prints "redacted" under every verb.
func (Token) Format(f fmt.State, _ rune) { io.WriteString(f, "redacted") }

// LogValue logs "redacted".
func (Token) LogValue() slog.Value { return slog.StringValue("redacted") }

// MarshalText returns "redacted".
func (Token) MarshalText() ([]byte, error) { return []byte("redacted"), nil }

// Invite is what one line carries to whoever is invited.
type Invite struct {
	Address string // of the server, host:port
	Server  Fingerprint
	Token   Token
}

const (
	invitePrefix = "fenc4-"
	checkLen     = 4 // bytes of SHA-256, so that a slip is recognised
)

// ErrInvite: a line that is no invite, or was cut short or mistyped.
var ErrInvite = errors.New("not a fenc invite")

// Line is the invite in one word that needs no quotes in a shell:
//
//	fenc4-ADDRESS/DATA
//
// DATA is base64url without padding of the server's fingerprint (32 bytes), the
// token (16) and the first 4 bytes of the SHA-256 of ADDRESS and these. The
// brackets of an IPv6 address are left out.
func (i Invite) Line() string {
	data := append(append([]byte{}, i.Server[:]...), i.Token[:]...)
	data = append(data, i.check(data)...)
	return invitePrefix + strings.NewReplacer("[", "", "]", "").Replace(i.Address) + "/" + base64.RawURLEncoding.EncodeToString(data)
}

func (i Invite) check(data []byte) []byte {
	sum := sha256.Sum256(append([]byte(i.Address), data...))
	return sum[:checkLen]
}

// ParseInvite reads a line that Line wrote, with space around it. It returns
// ErrInvite, with what is wrong, and never shows the token.
func ParseInvite(line string) (Invite, error) {
	text, ok := strings.CutPrefix(strings.TrimFunc(line, unicode.IsSpace), invitePrefix)
	if !ok {
		return Invite{}, fmt.Errorf("%w: it begins with %s", ErrInvite, invitePrefix)
	}
	address, encoded, ok := strings.Cut(text, "/")
	if !ok {
		return Invite{}, fmt.Errorf("%w: it was cut short", ErrInvite)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	want := len(Fingerprint{}) + len(Token{}) + checkLen
	if err != nil || len(data) != want || strings.ContainsAny(encoded, "\r\n") { // which base64 would pass over
		return Invite{}, fmt.Errorf("%w: it was cut short or mistyped", ErrInvite)
	}
	if at := strings.LastIndexByte(address, ':'); at >= 0 {
		address = net.JoinHostPort(address[:at], address[at+1:])
	}
	i := Invite{Address: address}
	rest := data[copy(i.Server[:], data):]
	copy(i.Token[:], rest)
	if body := data[:want-checkLen]; string(i.check(body)) != string(data[want-checkLen:]) {
		return Invite{}, fmt.Errorf("%w: it was mistyped (its checksum differs)", ErrInvite)
	}
	return i, nil
}
