package v4

import (
	"crypto/ed25519"
	"encoding/binary"
	"testing"
)

// Each key of the list is one by which somebody without any private key can sign,
// and a key that was made as keys are is not among them.
func TestWeakKeysAreWeak(t *testing.T) {
	t.Parallel()
	for key := range weakKeys {
		for _, sign := range []byte{0, 0x80} {
			public := key
			public[len(public)-1] |= sign
			if !weak(public[:]) {
				t.Errorf("%x is not taken for weak", public)
			}
			if !forgeable(public[:]) {
				t.Errorf("%x: no forgery holds, so it is no weak key", public)
			}
		}
	}
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if weak(public) || forgeable(public) {
		t.Errorf("%x, an honest key, is taken for weak", public)
	}
}

// forgeable tries signatures that need no private key: S is zero and R, like the
// key, a point of small order. Of eight messages about one fits a key of order 8.
func forgeable(public ed25519.PublicKey) bool {
	for n := range uint64(64) {
		message := binary.BigEndian.AppendUint64(nil, n)
		for r := range weakKeys {
			for _, sign := range []byte{0, 0x80} {
				signature := make([]byte, ed25519.SignatureSize)
				copy(signature, r[:])
				signature[len(r)-1] |= sign
				if ed25519.Verify(public, message, signature) {
					return true
				}
			}
		}
	}
	return false
}
