package send3

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"fenc/modes/send"
	"fenc/wire/v3"
)

// recording is what the first client and the first server said to each other.
type recording struct {
	Messages []struct {
		From string
		Code v3.Code
		Hex  string
	}
	Me struct {
		Name     string
		ClientID string `json:"client_id"`
		Key      string `json:"private_key_base64"`
	} `json:"me_info"`
	AESKey string `json:"aes_key_hex"`
}

func readRecording(t *testing.T, name string) recording {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRecordedServerHearsTheRecordedClient plays the first server's bytes to our
// client; but for the padding of 1100, it says what the first client said.
func TestRecordedServerHearsTheRecordedClient(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"register-and-send", "reconnect-and-send", "retry-once"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := readRecording(t, name)
			id, err := v3.ParseClientID(r.Me.ClientID)
			if err != nil {
				t.Fatal(err)
			}
			key, err := v3.ParsePrivateKey(r.Me.Key)
			if err != nil {
				t.Fatal(err)
			}
			who := Identity{Name: r.Me.Name, ID: id, Key: key}
			attempts := 0
			var said [][]byte
			var fileName string
			var content []byte
			for _, m := range r.Messages {
				raw := unhex(t, m.Hex)
				if m.From == "client" {
					if m.Code == v3.CodeRegister {
						raw = paddedRegistration(t, r.Me.Name)
					}
					said = append(said, raw)
				}
				if m.Code == v3.CodeFile {
					attempts++
					fileName, content = recordedFile(t, raw, unhex(t, r.AESKey))
				}
			}
			s := newServer(t, func(p *peer) {
				attempt := 0
				for _, m := range r.Messages {
					raw := unhex(t, m.Hex)
					if m.From == "server" {
						if m.Code == v3.CodeFileReceived {
							if attempt++; attempt < attempts {
								// Its checksum was right, and the recorded client was
								// made to call it wrong.
								raw[len(raw)-1] ^= 0xff
							}
						}
						if _, err := p.Write(raw); err != nil {
							p.fail("write %s: %v", m.Code, err)
						}
						continue
					}
					got := make([]byte, len(said[0]))
					if n, err := io.ReadFull(p, got); err != nil {
						p.fail("%s: got %d bytes (%v), want %d", m.Code, n, err, len(got))
					}
					if !bytes.Equal(got, said[0]) {
						p.fail("%s: got\n%x\nwant\n%x", m.Code, got, said[0])
					}
					said = said[1:]
				}
				p.ended()
			})
			session, err := Connect(t.Context(), s.settings())
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			if r.Messages[0].Code == v3.CodeRegister {
				got, err := session.Register(who.Name)
				if err != nil || got != id {
					t.Fatalf("Register: got %s, %v, want %s", got, err, id)
				}
			}
			if err := session.AgreeKey(who); err != nil {
				t.Fatal(err)
			}
			result := session.SendFile(tempFile(t, fileName, content), new(send.Progress))
			if result.Err != nil || result.Attempts != attempts {
				t.Errorf("SendFile: got %d attempts, %v, want %d and verified", result.Attempts, result.Err, attempts)
			}
		})
	}
}

func paddedRegistration(t *testing.T, name string) []byte {
	t.Helper()
	header := make([]byte, 23)
	header[16] = 3
	binary.LittleEndian.PutUint16(header[17:], 1100)
	binary.LittleEndian.PutUint32(header[19:], 255)
	field := make([]byte, 255)
	copy(field, name)
	return append(header, field...)
}

// recordedFile takes the name and the plaintext out of a recorded 1103.
func recordedFile(t *testing.T, raw, key []byte) (string, []byte) {
	t.Helper()
	const head = 23 + 16 + 4
	name := string(bytes.TrimRight(raw[head:head+255], "\x00"))
	content := slices.Clone(raw[head+255:])
	v3.NewDecrypter(v3.SessionKey(key)).Blocks(content)
	n, ok := v3.Unpad(content[len(content)-16:])
	if !ok {
		t.Fatal("recorded content: padding is wrong")
	}
	return name, content[:len(content)-16+n]
}

// writes counts calls of Write.
type writes struct {
	net.Conn
	sizes []int
}

func (w *writes) Write(p []byte) (int, error) {
	w.sizes = append(w.sizes, len(p))
	return w.Conn.Write(p)
}

// TestHeaderAndFixedFieldsAreOneWrite: the first server reads a header with one
// recv and fails where it gets less.
func TestHeaderAndFixedFieldsAreOneWrite(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(p *peer) {
		p.register()
		p.agreeKey()
		p.answered(1)
		p.concluded(v3.CodeResend)
		p.answered(0)
		p.concluded(v3.CodeValid)
		p.ended()
	})
	session, err := Connect(t.Context(), s.settings())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	w := &writes{Conn: session.conn.Conn}
	session.conn.Conn = w
	if _, err := session.Register(theName); err != nil {
		t.Fatal(err)
	}
	if err := session.AgreeKey(me(t)); err != nil {
		t.Fatal(err)
	}
	if r := session.SendFile(tempFile(t, "a", []byte("abc")), new(send.Progress)); r.Err != nil {
		t.Fatal(r.Err)
	}
	// 23 bytes of header with 255, 415, 275 and 271 of fixed fields; 16 of content.
	want := []int{278, 438, 298, 16, 294, 298, 16, 294}
	if !slices.Equal(w.sizes, want) {
		t.Errorf("sizes of writes: got %v, want %v", w.sizes, want)
	}
}

func TestChecksumMismatch(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		attempts int      // as configured
		wrong    []uint32 // for each attempt
		verdicts []v3.Code
		want     error
	}{
		"once, then verified":          {3, []uint32{1, 0}, []v3.Code{1105, 1104}, nil},
		"three times, then verified":   {3, []uint32{1, 2, 3, 0}, []v3.Code{1105, 1105, 1105, 1104}, nil},
		"in all attempts: given up":    {3, []uint32{1, 1, 1, 1}, []v3.Code{1105, 1105, 1105, 1106}, send.ErrChecksum},
		"without resends: given up":    {0, []uint32{1}, []v3.Code{1106}, send.ErrChecksum},
		"without resends: verified":    {0, []uint32{0}, []v3.Code{1104}, nil},
		"one resend allowed: given up": {1, []uint32{1, 1 << 31}, []v3.Code{1105, 1106}, send.ErrChecksum},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(p *peer) {
				p.agreeKey()
				for i, wrong := range test.wrong {
					if got := p.answered(wrong); string(got) != "abc" {
						p.fail("attempt %d: got %q, want abc", i+1, got)
					}
					p.concluded(test.verdicts[i])
				}
				// Given up or not, the session goes on with the next file.
				if got := p.answered(0); string(got) != "next" {
					p.fail("next file: got %q", got)
				}
				p.concluded(v3.CodeValid)
				p.ended()
			})
			settings := s.settings()
			settings.Attempts = test.attempts
			results, err := runAll(t.Context(), t, settings, tempFile(t, "a", []byte("abc")), tempFile(t, "b", []byte("next")))
			if err != nil {
				t.Fatal(err)
			}
			r := results[0]
			if !errors.Is(r.Err, test.want) || r.Attempts != len(test.wrong) {
				t.Errorf("got %d attempts, %v, want %d, %v", r.Attempts, r.Err, len(test.wrong), test.want)
			}
			if r.Err == nil && r.Checksum != "crc32 352441c2" {
				t.Errorf("checksum: got %q, want crc32 352441c2", r.Checksum)
			}
			if r.Err != nil && r.Checksum != "" {
				t.Errorf("checksum of a mismatch: got %q, want none", r.Checksum)
			}
			if results[1].Err != nil {
				t.Errorf("next file: got %v, want verified", results[1].Err)
			}
			if n := s.accepted.Load(); n != 1 {
				t.Errorf("connections: got %d, want 1", n)
			}
		})
	}
}
