package send4

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fenc/modes/send"
	"fenc/modes/session4"
	"fenc/wire"
	"fenc/wire/v4"
)

// A large file takes a place of the server's window as well: small ones beside it
// once were one too many, and the server ended the session.
func TestLargeFileTakesAPlaceOfTheWindow(t *testing.T) {
	t.Parallel()
	const window = 2
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server, client := identity(t), identity(t)
	dir := t.TempDir()
	items := []Item{}
	for i, size := range []int{smallSize + 1, 1, 1, 1} {
		name := fmt.Sprint(i)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		items = append(items, Item{Path: path, Name: name})
	}
	next := func() (Item, bool) {
		if len(items) == 0 {
			return Item{}, false
		}
		item := items[0]
		items = items[1:]
		return item, true
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		settings := Settings{Streams: 1, Settings: session4.Settings{
			Server: l.Addr().String(), Pins: []v4.Fingerprint{server.Fingerprint()}, ConnectTimeout: time.Minute, Timeout: time.Minute,
		}}
		ended <- Run(ctx, settings, session4.Identity{Name: "grace", Key: client}, session4.NewRun(), nil, next, send.Results(func(send.Result) {}))
	}()
	defer func() {
		cancel()
		<-ended
	}()

	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := v4.Secure(ctx, wire.NewConn(c, time.Minute), v4.ServerTLS(server, false, func(v4.Fingerprint) error { return nil }), tls.Server)
	if err != nil {
		t.Fatal(err)
	}
	reader := v4.NewReader(conn)
	read := func() (any, error) {
		h, err := reader.Next()
		if err != nil {
			return nil, err
		}
		return reader.Message(h)
	}
	if _, err := read(); err != nil { // 1100
		t.Fatal(err)
	}
	conn.Write(v4.Append(nil, &v4.Welcome{Name: "grace", WindowFiles: window, WindowBytes: v4.MaxBlock}))
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	offers := 0
	for range window {
		message, err := read()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := message.(*v4.Offer); ok {
			offers++
		}
	}
	more := make(chan any, 1)
	go func() {
		message, _ := read()
		more <- message
	}()
	select {
	case message := <-more:
		t.Errorf("got %T behind %d unanswered requests, want none", message, window)
	case <-time.After(100 * time.Millisecond): // that is long for one that only waits to be read
	}
	if offers != 1 {
		t.Errorf("got %d offers, want that of the large file", offers)
	}
}

func identity(t *testing.T) v4.Identity {
	t.Helper()
	id, err := v4.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}
