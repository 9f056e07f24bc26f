package hostile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fenc/modes/serve/servetest"
	"fenc/wire/fuzztest"
	"fenc/wire/v4"
)

// FuzzServer says anything at all after a hello of protocol 4. The session ends,
// nothing crashes, and no file of others changes.
func FuzzServer(tf *testing.F) {
	f := fuzztest.New(tf)
	s := serveTarget(f, func(s *target) {
		s.v4.MaxFileSize, s.v4.Bounds.Bytes = 1<<20, 16<<20
		s.settings.Protocol3 = false
	})
	c := s.newClient(f, "fuzzer")
	conversations, err := filepath.Glob("../../wire/v4/testdata/kit/conversation-*")
	must(f, err)
	for _, file := range conversations {
		data, err := os.ReadFile(file)
		must(f, err)
		_, said, _ := strings.Cut(string(data), "\n\n")
		size := int(le.Uint32([]byte(said[3:7])))
		f.Add([]byte(said[7+size:])) // behind the hello
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		l := c.session(t)
		l.Write(said)
		l.CloseWrite()
		for {
			code, payload, err := l.hears()
			if err != nil {
				break
			}
			if _, err := v4.Unmarshal(v4.Code(code), payload); err != nil {
				t.Fatalf("the server says what is no frame: %v", err)
			}
		}
		l.NetConn().Close()
		if strings.Contains(s.log.String(), "session crashed") {
			t.Fatal(servetest.LinesWith(s.log.String(), "session crashed"))
		}
		s.log.Reset()
		s.wantFolder(t, "bystander", untouched)
	})
}

// FuzzClient has a server say anything at all after the handshake. The client ends,
// prints nothing that acts on a terminal, and writes nothing but below its
// directory.
func FuzzClient(tf *testing.F) {
	f := fuzztest.New(tf)
	welcomed := v4.Append(nil, welcome())
	f.Add(uint8(0), append(welcomed, v4.Append(nil, &v4.Received{Number: 1, Size: 5, Digest: digestOf("12345")})...))
	f.Add(uint8(1), v4.Append(welcomed[:len(welcomed):len(welcomed)], &v4.Entries{Number: 1, Entries: []v4.Entry{entryOf("a", "12345")}}))
	get := v4.Append(welcomed[:len(welcomed):len(welcomed)], &v4.Entries{Number: 1, Entries: []v4.Entry{entryOf("a", "12345")}})
	for _, m := range []any{&v4.File{Number: 2, Size: 5, Mode: 0o644, Digest: digestOf("12345")}, &v4.Data{Number: 2, Data: []byte("12345")}, &v4.DataEnd{Number: 2}} {
		get = v4.Append(get, m)
	}
	f.Add(uint8(2), get)
	f.Add(uint8(3), v4.Append(welcomed[:len(welcomed):len(welcomed)], &v4.Accept{Number: 1, ChunkSize: mib}))
	f.Add(uint8(0), v4.Append(nil, &v4.Refusal{Reason: 1, Text: evil}))
	f.Fuzz(func(t *testing.T, command uint8, said []byte) {
		l := &lie{frames: func(s *told, message any) bool {
			if _, is := message.(*v4.Hello); is {
				s.put(said)
				s.CloseWrite() // which is held back, and lets nothing be written from then on
				s.raw.SetWriteDeadline(time.Time{})
				s.Flush()
			}
			return true
		}}
		server := l.listen(t)
		dir := settings(t, server.Addr().String(), server.id.Fingerprint(), impatient)
		args := append([]string{}, [][]string{{"send", filepath.Join(dir, "a")}, {"list"}, {"get", "--dir", filepath.Join(dir, "to"), "."}, {"send", filepath.Join(dir, "large")}}[command%4]...)
		args = append(args[:1:1], append([]string{"--config", filepath.Join(dir, "transfer.toml")}, args[1:]...)...)
		if command%4 == 3 {
			must(t, os.WriteFile(filepath.Join(dir, "large"), []byte(whole), 0o600))
		}
		var out output
		before := snapshot(t, dir)
		fenc(t.Context(), &out, "", args...)
		close(server.done)
		wantPlain(t, strings.ReplaceAll(out.String(), dir, "DIR"))
		for path, content := range snapshot(t, dir) {
			if before[path] != content && (!strings.HasPrefix(path, "to/") || command%4 != 2) {
				t.Errorf("%s has changed", path)
			}
		}
	})
}
