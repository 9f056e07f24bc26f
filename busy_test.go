//go:build unix

package main

import (
	"bytes"
	"net"
	"testing"
	"time"

	"fenc/wire/v3"
)

// busy is a client of protocol 3 in the middle of a file.
type busy struct {
	net.Conn
	t          testing.TB
	id         v3.ClientID
	file       v3.Name
	ciphertext []byte
	sent       int
}

// beginFile connects to addr as a new client and sends most of a file of 32 MiB,
// which is more than any buffer between the two holds.
func beginFile(t testing.TB, addr, client, file string) *busy {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return beginFileOn(t, conn, client, file)
}

func beginFileOn(t testing.TB, conn net.Conn, client, file string) *busy {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	b := &busy{Conn: conn, t: t}
	var registered v3.Registered
	b.must(v3.WriteRegistration(conn, client))
	b.answer(v3.CodeRegistered, &registered)
	b.id = registered.ClientID
	private, err := v3.GenerateKey()
	b.must(err)
	public, err := v3.MarshalPublicKey(&private.PublicKey)
	b.must(err)
	name, err := v3.NewName(client)
	b.must(err)
	b.must(v3.WriteRequest(conn, b.id, v3.CodePublicKey, &v3.PublicKey{Name: name, Key: public}, 0))
	var wrapped v3.Key
	b.answer(v3.CodeKey, &wrapped)
	key, err := v3.UnwrapKey(private, wrapped.Wrapped)
	b.must(err)
	const size = 32 << 20
	b.ciphertext = v3.NewEncrypter(key).Final(append(bytes.Repeat([]byte("x"), size), make([]byte, v3.BlockSize)...), size)
	b.file, err = v3.NewName(file)
	b.must(err)
	request := &v3.File{ClientID: b.id, ContentSize: uint32(len(b.ciphertext)), FileName: b.file}
	b.must(v3.WriteRequest(conn, b.id, v3.CodeFile, request, request.ContentSize))
	b.sent, err = conn.Write(b.ciphertext[:len(b.ciphertext)-100])
	b.must(err)
	return b
}

// finish sends the rest, has the file kept and closes.
func (b *busy) finish() {
	b.t.Helper()
	_, err := b.Write(b.ciphertext[b.sent:])
	b.must(err)
	b.answer(v3.CodeFileReceived, &v3.FileReceived{})
	b.must(v3.WriteRequest(b, b.id, v3.CodeValid, &v3.Verdict{ClientID: b.id, FileName: b.file}, 0))
	b.answer(v3.CodeReceived, nil)
	b.must(b.Close())
}

func (b *busy) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *busy) answer(want v3.Code, msg any) {
	b.t.Helper()
	h, err := v3.ReadResponseHeader(b)
	b.must(err)
	b.must(v3.ReadResponse(b, h, msg, want))
}
