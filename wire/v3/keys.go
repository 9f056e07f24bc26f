package v3

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"strings"
)

const (
	rsaBits     = 1024
	rsaExponent = 17 // with 65537 the key's DER would be 162 bytes and not fit 1101
)

// ErrKey: a public or private key that protocol 3 does not use.
var ErrKey = errors.New("bad key")

// SessionKey is the AES-128 key of one session. It prints as "redacted".
type SessionKey [16]byte

// NewSessionKey makes a random key.
func NewSessionKey() SessionKey {
	var k SessionKey
	rand.Read(k[:]) // never fails
	return k
}

// Hex returns the key's 32 digits, for the catalogue's column shared_key.
func (k SessionKey) Hex() string { return hex.EncodeToString(k[:]) }

const redacted = "redacted"

// String implements fmt.Stringer.
func (SessionKey) String() string { return redacted }

// Format implements fmt.Formatter.
func (SessionKey) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// LogValue implements slog.LogValuer.
func (SessionKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (SessionKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// GenerateKey makes the RSA-1024 key with e = 17 that an identity needs.
// (crypto/rsa's own GenerateKey knows only e = 65537.)
func GenerateKey() (*rsa.PrivateKey, error) {
	e, one := big.NewInt(rsaExponent), big.NewInt(1)
	for {
		p, err := rand.Prime(rand.Reader, rsaBits/2)
		if err != nil {
			return nil, err
		}
		q, err := rand.Prime(rand.Reader, rsaBits/2)
		if err != nil {
			return nil, err
		}
		n := new(big.Int).Mul(p, q)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, phi)
		if n.BitLen() != rsaBits || p.Cmp(q) == 0 || d == nil {
			continue
		}
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: rsaExponent}, D: d, Primes: []*big.Int{p, q}}
		key.Precompute()
		if err := key.Validate(); err != nil {
			return nil, fmt.Errorf("make an RSA key: %w", err)
		}
		return key, nil
	}
}

// MarshalPublicKey returns the 160 bytes of 1101's key field. It returns ErrKey
// for a key that does not come to exactly that.
func MarshalPublicKey(key *rsa.PublicKey) ([PublicKeySize]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || len(der) != PublicKeySize {
		return [PublicKeySize]byte{}, fmt.Errorf("%w: %d-bit RSA key with e = %d takes %d bytes, the field has %d", ErrKey, key.N.BitLen(), key.E, len(der), PublicKeySize)
	}
	return [PublicKeySize]byte(der), nil
}

// ParsePublicKey reads 1101's key field: exactly one RSA-1024 key. Anything else
// is ErrKey.
func ParsePublicKey(der [PublicKeySize]byte) (*rsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok || key.N.BitLen() != rsaBits || key.N.Bit(0) == 0 || key.E < 3 || key.E%2 == 0 {
		return nil, fmt.Errorf("%w: want RSA-%d", ErrKey, rsaBits)
	}
	return key, nil
}

// MarshalPrivateKey returns key as base64 of PKCS#8, as the first client keeps it.
func MarshalPrivateKey(key *rsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	return base64.StdEncoding.EncodeToString(der), nil
}

// ParsePrivateKey reads base64 of PKCS#8, over one line or several: an RSA-1024
// key whose public half fits 1101. Anything else is ErrKey.
func ParsePrivateKey(text string) (*rsa.PrivateKey, error) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, fmt.Errorf("%w: not base64", ErrKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: want RSA", ErrKey)
	}
	if _, err := MarshalPublicKey(&key.PublicKey); err != nil {
		return nil, err
	}
	return key, nil
}

// WrapKey encrypts the session's key for the client: RSA-OAEP with SHA-1 and
// MGF1-SHA-1 (RFC 8017, section 7.1).
func WrapKey(to *rsa.PublicKey, key SessionKey) ([WrappedKeySize]byte, error) {
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, to, key[:], nil)
	if err != nil {
		return [WrappedKeySize]byte{}, fmt.Errorf("%w: wrap the session's key: %w", ErrKey, err)
	}
	if len(wrapped) != WrappedKeySize {
		return [WrappedKeySize]byte{}, fmt.Errorf("%w: the wrapped key takes %d bytes, the field has %d", ErrKey, len(wrapped), WrappedKeySize)
	}
	return [WrappedKeySize]byte(wrapped), nil
}

// UnwrapKey decrypts what WrapKey made.
func UnwrapKey(key *rsa.PrivateKey, wrapped [WrappedKeySize]byte) (SessionKey, error) {
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, key, wrapped[:], nil)
	if err != nil {
		return SessionKey{}, fmt.Errorf("%w: unwrap the session's key: %w", ErrKey, err)
	}
	if len(plain) != len(SessionKey{}) {
		return SessionKey{}, fmt.Errorf("%w: a session key of %d bytes, want %d", ErrKey, len(plain), len(SessionKey{}))
	}
	return SessionKey(plain), nil
}
