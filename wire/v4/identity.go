package v4

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"strings"
	"time"
)

// Fingerprint is the SHA-256 of a key's SubjectPublicKeyInfo.
type Fingerprint [32]byte

const fingerprintPrefix = "SHA256:"

// String is "SHA256:" and unpadded base64, as ssh shows keys.
func (f Fingerprint) String() string {
	return fingerprintPrefix + base64.RawStdEncoding.EncodeToString(f[:])
}

// IsZero reports whether f is unset.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// ParseFingerprint reads what String writes.
func ParseFingerprint(s string) (Fingerprint, error) {
	text, ok := strings.CutPrefix(s, fingerprintPrefix)
	if !ok {
		return Fingerprint{}, fmt.Errorf("fingerprint %q: want SHA256: and 43 characters, as fenc serve logs it", s)
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(Fingerprint{}) || strings.ContainsAny(text, "\r\n") { // which base64 would pass over
		return Fingerprint{}, fmt.Errorf("fingerprint %q: want SHA256: and 43 characters of base64", s)
	}
	return Fingerprint(raw), nil
}

// Identity is an Ed25519 key and the certificate that carries it. It prints as
// "redacted", and as an address where a value that holds it is printed by its
// fields: what a function holds, fmt does not find.
type Identity struct {
	held func() *pair // nil: none
}

type pair struct {
	key         ed25519.PrivateKey
	certificate tls.Certificate
}

// Format prints "redacted" under every verb.
func (Identity) Format(f fmt.State, _ rune) { io.WriteString(f, "redacted") }

// LogValue logs "redacted".
func (Identity) LogValue() slog.Value { return slog.StringValue("redacted") }

// MarshalText returns "redacted".
func (Identity) MarshalText() ([]byte, error) { return []byte("redacted"), nil }

// NewIdentity makes a new key.
func NewIdentity() (Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make a key: %w", err)
	}
	return newIdentity(key)
}

// ParseIdentity reads the base64 of PKCS#8 that Text writes.
func ParseIdentity(text string) (Identity, error) {
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return Identity{}, errors.New("private key: not base64")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return Identity{}, errors.New("private key: not PKCS#8")
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Identity{}, errors.New("private key: not Ed25519: it is an identity of protocol 3")
	}
	return newIdentity(key)
}

// certificateTemplate is the same for every key: the certificate only carries it,
// and nobody looks at names, authority or dates.
var certificateTemplate = x509.Certificate{
	SerialNumber: big.NewInt(1),
	NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
	NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
}

func newIdentity(key ed25519.PrivateKey) (Identity, error) {
	t := certificateTemplate
	der, err := x509.CreateCertificate(rand.Reader, &t, &t, key.Public(), key)
	if err != nil {
		return Identity{}, fmt.Errorf("make the key's certificate: %w", err)
	}
	held := &pair{key, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: crypto.Signer(key)}}
	return Identity{func() *pair { return held }}, nil
}

// Text is the key as me.toml and the server's key file have it: base64 of PKCS#8.
func (id Identity) Text() string {
	der, err := x509.MarshalPKCS8PrivateKey(id.held().key)
	if err != nil {
		panic(err) // not for an Ed25519 key
	}
	return base64.StdEncoding.EncodeToString(der)
}

// PublicKey is the public key as DER SubjectPublicKeyInfo, 44 bytes.
func (id Identity) PublicKey() []byte { return publicKey(id.held().key.Public().(ed25519.PublicKey)) }

func publicKey(key ed25519.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err) // not for an Ed25519 key
	}
	return der
}

// Fingerprint is the fingerprint of the public key.
func (id Identity) Fingerprint() Fingerprint { return sha256.Sum256(id.PublicKey()) }
