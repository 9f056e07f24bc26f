package v4

import (
	"crypto/ed25519"
	"encoding/hex"
)

// weakKeys are the Ed25519 public keys by which signatures hold that nobody made:
// the encodings of the curve's eight points of small order (RFC 8032, section 5.1),
// of which some have more than one, without the bit that is the sign of x.
var weakKeys = map[[ed25519.PublicKeySize]byte]bool{
	weakKey("0000000000000000000000000000000000000000000000000000000000000000"): true, // y = 0, order 4
	weakKey("0100000000000000000000000000000000000000000000000000000000000000"): true, // y = 1, order 1
	weakKey("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"): true, // order 8
	weakKey("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"): true, // order 8
	weakKey("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"): true, // y = p - 1, order 2
	weakKey("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"): true, // y = p, which is 0
	weakKey("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"): true, // y = p + 1, which is 1
}

func weakKey(encoding string) (key [ed25519.PublicKeySize]byte) {
	if n, err := hex.Decode(key[:], []byte(encoding)); err != nil || n != len(key) {
		panic("a key of the list is none: " + encoding)
	}
	return key
}

// weak reports whether signatures by key prove nothing.
func weak(key ed25519.PublicKey) bool {
	if len(key) != ed25519.PublicKeySize {
		return true
	}
	masked := [ed25519.PublicKeySize]byte(key)
	masked[len(masked)-1] &= 0x7f
	return weakKeys[masked]
}
