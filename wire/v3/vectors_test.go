package v3

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// readHex reads testdata/name.hex: hexadecimal digits, spaces between them as one
// likes, "*n" behind a group that stands n times, and comments from "#" on.
func readHex(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	var message []byte
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		for _, group := range strings.Fields(line) {
			digits, times, repeated := strings.Cut(group, "*")
			n := 1
			if repeated {
				if n, err = strconv.Atoi(times); err != nil {
					t.Fatalf("%s.hex: %q: %v", name, group, err)
				}
			}
			b, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatalf("%s.hex: %q: %v", name, group, err)
			}
			message = append(message, bytes.Repeat(b, n)...)
		}
	}
	return message
}

// recording is what the first client and the first server said to each other.
type recording struct {
	Messages []struct {
		From string
		Code Code
		Hex  string
	}
	Me struct {
		Name     string
		ClientID string `json:"client_id"`
		Key      string `json:"private_key_base64"`
	} `json:"me_info"`
	AESKey string `json:"aes_key_hex"`
}

var recordings = []string{"register-and-send", "reconnect-and-send", "retry-once"}

func readRecording(t testing.TB, name string) recording {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Messages) == 0 {
		t.Fatalf("%s: no messages", name)
	}
	return r
}

// unhex decodes s, which is hexadecimal.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sessionKey returns the recording's session key.
func (r recording) sessionKey(t testing.TB) SessionKey {
	t.Helper()
	return SessionKey(unhex(t, r.AESKey))
}

// TestRecordingsBothWays decodes every message that was seen on the wire and
// encodes it again.
func TestRecordingsBothWays(t *testing.T) {
	t.Parallel()
	for _, name := range recordings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, m := range readRecording(t, name).Messages {
				sent := unhex(t, m.Hex)
				decode := decodeResponse
				if m.From == "client" {
					decode = decodeRequest
				}
				got, err := decode(bytes.NewReader(sent))
				if err != nil {
					t.Fatalf("message %d, %s: %v", i, m.Code, err)
				}
				if got.code != m.Code {
					t.Errorf("message %d: got %s, want %s", i, got.code, m.Code)
				}
				if again := got.encode(t); !bytes.Equal(again, sent) {
					t.Errorf("message %d, %s: got %x, want %x", i, m.Code, again, sent)
				}
			}
		})
	}
}

// TestRecordingsMean checks what the recorded messages carry against the client's
// identity and the session's key.
func TestRecordingsMean(t *testing.T) {
	t.Parallel()
	for _, name := range recordings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := readRecording(t, name)
			private, err := ParsePrivateKey(r.Me.Key)
			if err != nil {
				t.Fatal(err)
			}
			id, err := ParseClientID(r.Me.ClientID)
			if err != nil {
				t.Fatal(err)
			}
			var content []byte  // the last 1103's, decrypted
			var checksum uint32 // the last 2103's
			for i, m := range r.Messages {
				decode := decodeResponse
				if m.From == "client" {
					decode = decodeRequest
				}
				got, err := decode(bytes.NewReader(unhex(t, m.Hex)))
				if err != nil {
					t.Fatal(err)
				}
				switch msg := got.msg.(type) {
				case *Name:
					if msg.String() != r.Me.Name {
						t.Errorf("message %d: registers %q, want %q", i, msg, r.Me.Name)
					}
				case *Registered:
					if msg.ClientID != id {
						t.Errorf("message %d: got id %s, want %s", i, msg.ClientID, id)
					}
				case *PublicKey:
					public, err := MarshalPublicKey(&private.PublicKey)
					if err != nil || public != msg.Key {
						t.Errorf("message %d: the identity's key marshals to %x and %v, want %x", i, public, err, msg.Key)
					}
					if parsed, err := ParsePublicKey(msg.Key); err != nil || !parsed.Equal(&private.PublicKey) {
						t.Errorf("message %d: parsed another key, and %v", i, err)
					}
				case *Key:
					key, err := UnwrapKey(private, msg.Wrapped)
					if err != nil || key.Hex() != r.AESKey {
						t.Errorf("message %d: got key %s and %v, want %s", i, key.Hex(), err, r.AESKey)
					}
				case *File:
					content = decrypt(t, r.sessionKey(t), got.content)
					if again := encrypt(r.sessionKey(t), content); !bytes.Equal(again, got.content) {
						t.Errorf("message %d: the content encrypts to other bytes", i)
					}
				case *FileReceived:
					checksum = msg.Checksum
				case *Verdict:
					equal := checksum == crc(content)
					if want := m.Code == CodeValid; equal != want {
						t.Errorf("message %d, %s: checksum %08x of content with %08x", i, m.Code, checksum, crc(content))
					}
				}
			}
			if checksum == 0 {
				t.Error("no checksum seen")
			}
		})
	}
}

// TestTablesBothWays decodes each message that was typed by hand from the tables,
// and encodes it again.
func TestTablesBothWays(t *testing.T) {
	t.Parallel()
	id, err := ParseClientID("000102030405060708090A0B0C0D0E0F")
	if err != nil {
		t.Fatal(err)
	}
	note, err := NewName("note.txt")
	if err != nil {
		t.Fatal(err)
	}
	grace, err := NewName("grace")
	if err != nil {
		t.Fatal(err)
	}
	key := [160]byte(bytes.Repeat([]byte{0x30, 0xab}, 80))
	wrapped := [128]byte(bytes.Repeat([]byte{0xcd}, 128))
	content := bytes.Repeat([]byte{0xee}, 32)
	tests := []struct {
		file string
		want message
	}{
		{"1100-registration", message{code: CodeRegister, size: 255, msg: &grace}},
		{"1100-registration-unpadded", message{code: CodeRegister, size: 5, msg: &grace}},
		{"1101-public-key", message{code: CodePublicKey, id: id, size: 415, msg: &PublicKey{grace, key}}},
		{"1103-file", message{code: CodeFile, id: id, size: 307, msg: &File{id, 32, note}, content: content}},
		{"1104-valid", message{code: CodeValid, id: id, size: 271, msg: &Verdict{id, note}}},
		{"1105-resend", message{code: CodeResend, id: id, size: 271, msg: &Verdict{id, note}}},
		{"1106-give-up", message{code: CodeGiveUp, id: id, size: 271, msg: &Verdict{id, note}}},
		{"2100-registered", message{code: CodeRegistered, size: 16, msg: &Registered{id}}},
		{"2101-refused", message{code: CodeRefused, size: 16, msg: &Registered{}}},
		{"2102-key", message{code: CodeKey, size: 144, msg: &Key{id, wrapped}}},
		{"2103-file-received", message{code: CodeFileReceived, size: 279, msg: &FileReceived{id, 32, note, 0xeb50cc6a}}},
		{"2104-received", message{code: CodeReceived}},
	}
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) {
			t.Parallel()
			typed := readHex(t, test.file)
			decode := decodeRequest
			if test.want.response() {
				decode = decodeResponse
			}
			got, err := decode(bytes.NewReader(typed))
			if err != nil {
				t.Fatal(err)
			}
			if !got.equal(test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if again := test.want.encode(t); !bytes.Equal(again, typed) {
				t.Errorf("encoded %x, want %x", again, typed)
			}
			wantPrefixesRefused(t, typed, decode)
			wantTrailingByteRefused(t, typed, test.want, decode)
		})
	}
	files, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(files) != len(tests) {
		t.Errorf("%d messages in testdata, %d in the table (%v)", len(files), len(tests), err)
	}
	for _, c := range codes() {
		if !slices.ContainsFunc(tests, func(test struct {
			file string
			want message
		}) bool {
			return test.want.code == c
		}) {
			t.Errorf("%s has no message here", c)
		}
	}
}
