package v4

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// ALPN is the protocol's name in the TLS handshake.
const ALPN = "fenc/4"

// maxCertificate bounds a peer's certificate, in bytes of DER.
const maxCertificate = 1024

// ErrServerKey: the server's key is not among those that are pinned.
var ErrServerKey = errors.New("the server has another key than the one that is pinned")

// ServerKeyError is an ErrServerKey.
type ServerKeyError struct {
	Got  Fingerprint
	Want []Fingerprint
}

func (e *ServerKeyError) Error() string {
	want := make([]string, len(e.Want))
	for i, f := range e.Want {
		want[i] = f.String()
	}
	return fmt.Sprintf("%v: it shows %s, pinned is %s", ErrServerKey, e.Got, strings.Join(want, " or "))
}

func (e *ServerKeyError) Unwrap() error { return ErrServerKey }

// ServerTLS is the server's side of the channel: TLS 1.3 alone, the client's key
// demanded, no tickets. refuse may refuse a key inside the handshake; nothing else
// may be taken from it, since the key is not proved yet.
func ServerTLS(id Identity, requirePQ bool, refuse func(Fingerprint) error) *tls.Config {
	c := base(requirePQ, func(f Fingerprint) error { return refuse(f) })
	c.Certificates = []tls.Certificate{id.held().certificate}
	c.ClientAuth = tls.RequireAnyClientCert
	return c
}

// ClientTLS is the client's side: the server's key must be one of pins, before it
// is shown ours.
func ClientTLS(id Identity, requirePQ bool, pins ...Fingerprint) *tls.Config {
	c := base(requirePQ, func(f Fingerprint) error {
		if !slices.Contains(pins, f) {
			return &ServerKeyError{f, pins}
		}
		return nil
	})
	c.Certificates = []tls.Certificate{id.held().certificate}
	c.InsecureSkipVerify = true // VerifyConnection looks at the key, and at nothing else
	return c
}

func base(requirePQ bool, judge func(Fingerprint) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13, NextProtos: []string{ALPN},
		SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			f, _, err := Peer(cs)
			if err != nil {
				return err
			}
			if requirePQ && !hybrid(cs.CurveID) {
				return fmt.Errorf("key exchange %s can be undone by a quantum computer: update the other side, or set require_pq = false", cs.CurveID)
			}
			return judge(f)
		},
	}
}

func hybrid(group tls.CurveID) bool {
	switch group {
	case tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024:
		return true
	}
	return false
}

// Peer returns who the peer is: its key's fingerprint and SubjectPublicKeyInfo. It
// counts only after the handshake has returned. The error says what of the peer is
// not as protocol 4 has it.
func Peer(cs tls.ConnectionState) (Fingerprint, []byte, error) {
	switch {
	case cs.Version != tls.VersionTLS13:
		return Fingerprint{}, nil, fmt.Errorf("%s, want TLS 1.3", tls.VersionName(cs.Version))
	case cs.NegotiatedProtocol != ALPN:
		return Fingerprint{}, nil, fmt.Errorf("speaks %q, want %q", cs.NegotiatedProtocol, ALPN)
	case len(cs.PeerCertificates) != 1:
		return Fingerprint{}, nil, fmt.Errorf("%d certificates, want 1", len(cs.PeerCertificates))
	case len(cs.PeerCertificates[0].Raw) > maxCertificate:
		return Fingerprint{}, nil, fmt.Errorf("a certificate of %d bytes, want %d at most", len(cs.PeerCertificates[0].Raw), maxCertificate)
	}
	key, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return Fingerprint{}, nil, fmt.Errorf("a key of the kind %s, want Ed25519", cs.PeerCertificates[0].PublicKeyAlgorithm)
	}
	if weak(key) {
		return Fingerprint{}, nil, errors.New("a weak key: anybody can sign by it")
	}
	der := publicKey(key)
	return sha256.Sum256(der), der, nil
}

// Probe returns the fingerprint of the key that the server on conn proves to have,
// without showing it one of ours.
func Probe(ctx context.Context, conn net.Conn) (Fingerprint, error) {
	c := base(false, func(Fingerprint) error { return nil })
	c.InsecureSkipVerify = true
	secured := tls.Client(conn, c)
	if err := secured.HandshakeContext(ctx); err != nil {
		return Fingerprint{}, fmt.Errorf("handshake: %w", err)
	}
	f, _, err := Peer(secured.ConnectionState())
	return f, err
}
