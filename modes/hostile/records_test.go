package hostile_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"
	"testing"
)

// Types of TLS records and messages (RFC 8446, sections 5.1 and 4).
const (
	recordAlert       = 21
	recordHandshake   = 22
	recordApplication = 23

	messageClientHello = 1
	messageTicket      = 4
	messageKeyUpdate   = 24
)

// records writes the records of an established TLS connection by hand, as
// crypto/tls never would. What the server says is still read through line.
type records struct {
	*line
	hash     func() hash.Hash
	keyLen   int
	secret   []byte
	aead     cipher.AEAD
	iv       []byte
	sequence uint64
}

// byHand connects, does the handshake as everybody, and goes on by hand.
func (c *client) byHand(t testing.TB) *records {
	t.Helper()
	var keys bytes.Buffer
	config := c.config()
	config.KeyLogWriter = &keys
	conn := tls.Client(c.target.dial(t), config)
	must(t, conn.Handshake())
	r := &records{line: &line{conn, t, c}}
	switch suite := conn.ConnectionState().CipherSuite; suite {
	case tls.TLS_AES_128_GCM_SHA256:
		r.hash, r.keyLen = sha256.New, 16
	case tls.TLS_AES_256_GCM_SHA384:
		r.hash, r.keyLen = sha512.New384, 32
	default:
		t.Skipf("records of %s are not written here", tls.CipherSuiteName(suite))
	}
	for entry := range strings.Lines(keys.String()) {
		if f := strings.Fields(entry); len(f) == 3 && f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			must(t, err)
			r.use(secret)
		}
	}
	return r
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
func (r *records) expand(label string, length int) []byte {
	label = "tls13 " + label
	info := append(binary.BigEndian.AppendUint16(nil, uint16(length)), byte(len(label)))
	info = append(append(info, label...), 0)
	out, err := hkdf.Expand(r.hash, r.secret, string(info), length)
	must(r.t, err)
	return out
}

// use has the next records be protected by the keys of a traffic secret.
func (r *records) use(secret []byte) {
	r.secret, r.sequence = secret, 0
	aesBlock, err := aes.NewCipher(r.expand("key", r.keyLen))
	must(r.t, err)
	r.aead, err = cipher.NewGCM(aesBlock)
	must(r.t, err)
	r.iv = r.expand("iv", r.aead.NonceSize())
}

// seal is a record of content.
func (r *records) seal(kind byte, content []byte) []byte {
	inner := append(bytes.Clone(content), kind)
	header := binary.BigEndian.AppendUint16([]byte{recordApplication, 3, 3}, uint16(len(inner)+r.aead.Overhead()))
	nonce := bytes.Clone(r.iv)
	for i := range 8 {
		nonce[len(nonce)-1-i] ^= byte(r.sequence >> (8 * i))
	}
	r.sequence++
	return r.aead.Seal(header, nonce, inner, header)
}

// put sends bytes below TLS.
func (r *records) put(b ...[]byte) error {
	_, err := r.NetConn().Write(bytes.Join(b, nil))
	return err
}

// says sends content as a record of application data.
func (r *records) says(content ...[]byte) {
	r.t.Helper()
	must(r.t, r.put(r.seal(recordApplication, bytes.Join(content, nil))))
}

// keyUpdate is the message, in its record, after which the next keys are used.
func (r *records) keyUpdate(answer byte) []byte {
	b := r.seal(recordHandshake, []byte{messageKeyUpdate, 0, 0, 1, answer})
	r.use(r.expand("traffic upd", r.hash().Size()))
	return b
}

// admitted says hello by hand, and hears the welcome.
func (r *records) admitted() {
	r.t.Helper()
	r.says(helloOf(7, 0, r.by.instance, r.by.epoch.Add(1), r.by.token, r.by.name))
	r.welcome()
}
