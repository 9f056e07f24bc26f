package v3

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrName: a name that a field cannot hold, or a field that holds no name.
var ErrName = errors.New("bad name")

// ClientID is the 16 bytes of the UUID that registration gives.
type ClientID [16]byte

// ParseClientID reads 32 hexadecimal digits, in either case.
func ParseClientID(s string) (ClientID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(ClientID{}) {
		return ClientID{}, fmt.Errorf("client id %q: want 32 hexadecimal digits", s)
	}
	return ClientID(b), nil
}

// String returns the id as the first client writes it: 32 upper-case digits.
func (id ClientID) String() string { return fmt.Sprintf("%X", id[:]) }

// IsZero reports whether the id is all zeros, as before registration.
func (id ClientID) IsZero() bool { return id == ClientID{} }

// Name is a name field: the name, then NULs.
type Name [NameSize]byte

// NewName makes a field of a name of 1 to 255 bytes without a NUL. Any other is
// refused with ErrName, never cut.
func NewName(s string) (Name, error) {
	var n Name
	if len(s) == 0 || len(s) > len(n) || strings.Contains(s, "\x00") {
		return Name{}, fmt.Errorf("%w: %q of %d bytes, want 1 to %d without NUL", ErrName, cut(s), len(s), len(n))
	}
	copy(n[:], s)
	return n, nil
}

// String returns the field without its trailing NULs.
func (n Name) String() string { return strings.TrimRight(string(n[:]), "\x00") }

// Text returns the name, or ErrName if the field is empty or goes on after a NUL.
func (n Name) Text() (string, error) {
	s := n.String()
	if s == "" || strings.Contains(s, "\x00") {
		return "", fmt.Errorf("%w: field holds %q", ErrName, cut(s))
	}
	return s, nil
}

// cut keeps a quoted name in an error short.
func cut(s string) string { return s[:min(len(s), 100)] }
