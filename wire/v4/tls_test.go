package v4

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

func newTestIdentity(t *testing.T) Identity {
	t.Helper()
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// shake has both sides shake hands, and the client hear the server's first bytes,
// which is when it knows that the server has taken it.
func shake(t *testing.T, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []net.Conn{near, far} {
		end.SetDeadline(time.Now().Add(30 * time.Second))
	}
	ended := make(chan error, 1)
	go func() {
		s := tls.Server(far, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		ended <- err
		far.Close()
	}()
	c := tls.Client(near, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	near.Close()
	return clientErr, <-ended
}

func certificateOf(t *testing.T, public, private any, size int) tls.Certificate {
	t.Helper()
	template := x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{strings.Repeat("x", size)}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private.(crypto.Signer)}
}

// Each side refuses a channel that is not as the specification has it, whatever the
// other one would put up with.
func TestChannelIsRefused(t *testing.T) {
	t.Parallel()
	server, client, other := newTestIdentity(t), newTestIdentity(t), newTestIdentity(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	elliptic256, large := certificateOf(t, &ec.PublicKey, ec, 1), certificateOf(t, edPublic, ed, 2000)
	classic := func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }
	unjudged := func(c *tls.Config) { c.VerifyConnection = nil }
	old := func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }
	nameless := func(c *tls.Config) { c.NextProtos = nil }
	shows := func(certificates ...tls.Certificate) func(*tls.Config) {
		return func(c *tls.Config) { c.Certificates = certificates }
	}
	two := client.held().certificate
	two.Certificate = append(two.Certificate, other.held().certificate.Certificate...)
	stolen := tls.Certificate{Certificate: client.held().certificate.Certificate, PrivateKey: crypto.Signer(other.held().key)}
	impostor := tls.Certificate{Certificate: server.held().certificate.Certificate, PrivateKey: crypto.Signer(other.held().key)}

	all := func(changes ...func(*tls.Config)) []func(*tls.Config) { return changes }
	for what, test := range map[string]struct {
		client, server []func(*tls.Config) // what each side has changed
		byClient       bool                // who must refuse
		why            string              // part of its error
	}{
		"nothing wrong":                     {},
		"server: TLS 1.2":                   {client: all(old, unjudged), why: "version"},
		"client: TLS 1.2":                   {server: all(old, unjudged), byClient: true, why: "version"},
		"server: no post-quantum exchange":  {client: all(classic, unjudged), why: "quantum computer"},
		"client: no post-quantum exchange":  {server: all(classic, unjudged), byClient: true, why: "quantum computer"},
		"server: another protocol":          {client: all(nameless, unjudged), why: `speaks "", want "fenc/4"`},
		"client: another protocol":          {server: all(nameless, unjudged), byClient: true, why: `speaks "", want "fenc/4"`},
		"server: no key":                    {client: all(shows()), why: "didn't provide a certificate"},
		"server: a key of another kind":     {client: all(shows(elliptic256)), why: "want Ed25519"},
		"client: a key of another kind":     {server: all(shows(elliptic256)), byClient: true, why: "want Ed25519"},
		"server: two certificates":          {client: all(shows(two)), why: "2 certificates"},
		"server: a long certificate":        {client: all(shows(large)), why: "want 1024 at most"},
		"server: another's certificate":     {client: all(shows(stolen)), why: "signature"},
		"client: the server's, without key": {server: all(shows(impostor)), byClient: true, why: "signature"},
		"client: another key than pinned":   {server: all(shows(other.held().certificate)), byClient: true, why: ErrServerKey.Error()},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			near, far := ClientTLS(client, true, server.Fingerprint()), ServerTLS(server, true, func(Fingerprint) error { return nil })
			for _, change := range test.client {
				change(near)
			}
			for _, change := range test.server {
				change(far)
			}
			shown := false
			judge := far.VerifyConnection
			far.VerifyConnection = func(cs tls.ConnectionState) error {
				shown = true
				if judge == nil {
					return nil
				}
				return judge(cs)
			}
			clientErr, serverErr := shake(t, near, far)
			if test.byClient && shown {
				t.Error("the client has shown who it is to a server that it refuses")
			}
			refusal := serverErr
			if test.byClient {
				refusal = clientErr
			}
			switch {
			case test.why == "" && (clientErr != nil || serverErr != nil):
				t.Errorf("got %v and %v, want a channel", clientErr, serverErr)
			case test.why != "" && (refusal == nil || !strings.Contains(refusal.Error(), test.why)):
				t.Errorf("got %v (and %v, %v), want it refused: %s", refusal, clientErr, serverErr, test.why)
			case test.why != "" && (clientErr == nil || serverErr == nil):
				t.Errorf("got %v and %v, want no channel on either side", clientErr, serverErr)
			}
			if test.why == ErrServerKey.Error() && !errors.Is(clientErr, ErrServerKey) {
				t.Errorf("got %v, want ErrServerKey", clientErr)
			}
		})
	}
}

// Where the other side cannot do better, require_pq = false lets it be.
func TestClassicExchangeWhereItIsAllowed(t *testing.T) {
	t.Parallel()
	server, client := newTestIdentity(t), newTestIdentity(t)
	near, far := ClientTLS(client, false, server.Fingerprint()), ServerTLS(server, false, func(Fingerprint) error { return nil })
	near.CurvePreferences = []tls.CurveID{tls.X25519}
	if a, b := shake(t, near, far); a != nil || b != nil {
		t.Errorf("got %v and %v, want a channel", a, b)
	}
}
