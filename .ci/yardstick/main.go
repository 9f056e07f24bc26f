// Command yardstick is a bare pipe over TLS 1.3 as one would write it in an
// afternoon, for .ci/bench to compare fenc with: crypto/tls, buffers of 512 KiB,
// BLAKE3 on a goroutine of its own at both ends, buffered writes, no sync.
//
//	yardstick receive ADDR FILE    takes one file, and ends
//	yardstick send ADDR FILE
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/big"
	"os"
	"time"

	"lukechampine.com/blake3"
)

const bufferSize = 512 << 10

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: yardstick receive|send ADDR FILE")
	}
	var err error
	switch os.Args[1] {
	case "receive":
		err = receive(os.Args[2], os.Args[3])
	case "send":
		err = send(os.Args[2], os.Args[3])
	default:
		err = fmt.Errorf("no mode %q", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
}

// copyHashed copies n bytes and returns their digest, which is made beside.
func copyHashed(w io.Writer, r io.Reader, n int64) ([]byte, error) {
	free, full := make(chan []byte, 4), make(chan []byte, 4)
	for range cap(free) {
		free <- make([]byte, bufferSize)
	}
	digest := make(chan []byte)
	go func() {
		sum := blake3.New(32, nil)
		for b := range full {
			sum.Write(b)
			free <- b[:cap(b)]
		}
		digest <- sum.Sum(nil)
	}()
	var err error
	for n > 0 && err == nil {
		b := <-free
		var got int
		got, err = r.Read(b[:min(n, bufferSize)])
		if got > 0 {
			_, writeErr := w.Write(b[:got])
			if err == nil || err == io.EOF && int64(got) == n {
				err = writeErr
			}
		}
		n -= int64(got)
		full <- b[:got]
	}
	close(full)
	return <-digest, err
}

func receive(addr, path string) error {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	l, err := tls.Listen("tcp", addr, config)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	var size int64
	if err := binary.Read(c, binary.LittleEndian, &size); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	digest, err := copyHashed(f, c, size)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, err = c.Write(digest)
	return err
}

func send(addr, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}) // it measures, and sends nothing of worth
	if err != nil {
		return err
	}
	defer c.Close()
	if err := binary.Write(c, binary.LittleEndian, info.Size()); err != nil {
		return err
	}
	want, err := copyHashed(c, f, info.Size())
	if err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("digest %x, want %x", got, want)
	}
	return nil
}
