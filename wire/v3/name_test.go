package v3

import (
	"errors"
	"strings"
	"testing"
)

func TestNameBothWays(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a", "note.txt", "é日本", " ", "\xff", strings.Repeat("n", 254), strings.Repeat("n", 255)} {
		n, err := NewName(s)
		if err != nil {
			t.Errorf("NewName(%q) = %v, want none", s, err)
			continue
		}
		if got, err := n.Text(); got != s || n.String() != s || err != nil {
			t.Errorf("got %q, %q and %v, want %q", got, n, err, s)
		}
	}
}

func TestNameRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", strings.Repeat("n", 256), "a\x00b", "a\x00", "\x00"} {
		if n, err := NewName(s); !errors.Is(err, ErrName) || n != (Name{}) {
			t.Errorf("NewName(%q) = %q, %v, want ErrName", s, n, err)
		}
	}
	for _, field := range []Name{{}, {'a', 0, 'b'}, {0, 'a'}, {254: 'z'}} {
		if s, err := field.Text(); !errors.Is(err, ErrName) || s != "" {
			t.Errorf("%q: got %q and %v, want ErrName", field.String(), s, err)
		}
	}
}

func TestClientID(t *testing.T) {
	t.Parallel()
	const text = "A0BA8A12189C4E049B42316ECA2E0A12"
	for _, s := range []string{text, strings.ToLower(text), "a0BA8A12189C4E049B42316ECA2E0a12"} {
		id, err := ParseClientID(s)
		if err != nil || id.String() != text || id.IsZero() {
			t.Errorf("ParseClientID(%s) = %s, %v, want %s", s, id, err, text)
		}
	}
	for _, s := range []string{"", text[:31], text[:30], text + "00", "G" + text[1:], "0x" + text[2:], "a0ba8a12-189c-4e04-9b42-316eca2e0a12", " " + text} {
		if id, err := ParseClientID(s); err == nil || !id.IsZero() {
			t.Errorf("ParseClientID(%q) = %s, %v, want an error", s, id, err)
		}
	}
	if !(ClientID{}).IsZero() || (ClientID{15: 1}).IsZero() {
		t.Error("IsZero is wrong")
	}
}
