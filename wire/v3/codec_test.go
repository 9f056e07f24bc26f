package v3

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"fenc/wire/fuzztest"
)

// codes returns every code of the tables.
func codes() []Code { return slices.Sorted(maps.Keys(codeNames)) }

// message is a decoded message of any code.
type message struct {
	code    Code
	id      ClientID // a request's header's
	size    uint32   // the payload size that the header announced
	msg     any      // pointer to the code's struct; *Name for 1100, nil for 2104
	content []byte   // 1103's
}

func (m message) response() bool { return m.code >= 2000 }

func (m message) equal(o message) bool {
	return m.code == o.code && m.id == o.id && m.size == o.size && reflect.DeepEqual(m.msg, o.msg) && bytes.Equal(m.content, o.content)
}

// encode returns the message's bytes. It checks that they come in one write.
func (m message) encode(t testing.TB) []byte {
	t.Helper()
	w := &oneWrite{t: t}
	var err error
	switch name, registers := m.msg.(*Name); {
	case m.response():
		err = WriteResponse(w, m.code, m.msg)
	case registers && m.size < NameSize:
		err = WriteRequest(w, m.id, m.code, name[:m.size], 0)
	case registers && m.id.IsZero():
		err = WriteRegistration(w, name.String())
	default:
		err = WriteRequest(w, m.id, m.code, m.msg, uint32(len(m.content)))
	}
	if err != nil {
		t.Fatalf("%s: %v", m.code, err)
	}
	return append(w.got, m.content...)
}

// oneWrite takes one write. (The first server reads a header with a single recv.)
type oneWrite struct {
	t   testing.TB
	got []byte
}

func (w *oneWrite) Write(p []byte) (int, error) {
	if w.got != nil {
		w.t.Error("a second write")
	}
	w.got = append([]byte{}, p...)
	return len(p), nil
}

// decodeRequest reads one request with its content.
func decodeRequest(r io.Reader) (message, error) {
	h, err := ReadRequestHeader(r)
	if err != nil {
		return message{}, err
	}
	m := message{code: h.Code, id: h.ClientID, size: h.PayloadSize}
	switch h.Code {
	case CodeRegister:
		text, err := ReadRegistration(r, h)
		if err != nil {
			return message{}, err
		}
		name, err := NewName(text)
		if err != nil {
			return message{}, err
		}
		m.msg = &name
	case CodeFile:
		f, err := ReadFile(r, h)
		if err != nil {
			return message{}, err
		}
		m.msg = &f
		m.content, err = io.ReadAll(io.LimitReader(r, int64(f.ContentSize)))
		if err == nil && len(m.content) < int(f.ContentSize) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return message{}, err
		}
	case CodePublicKey:
		m.msg = new(PublicKey)
		err = ReadPayload(r, h, m.msg)
	default:
		m.msg = new(Verdict)
		err = ReadPayload(r, h, m.msg)
	}
	return m, err
}

// decodeResponse reads one response.
func decodeResponse(r io.Reader) (message, error) {
	h, err := ReadResponseHeader(r)
	if err != nil {
		return message{}, err
	}
	m := message{code: h.Code, size: h.PayloadSize}
	switch h.Code {
	case CodeRegistered, CodeRefused:
		m.msg = new(Registered)
	case CodeKey:
		m.msg = new(Key)
	case CodeFileReceived:
		m.msg = new(FileReceived)
	}
	return m, ReadResponse(r, h, m.msg, h.Code)
}

func wantPrefixesRefused(t *testing.T, whole []byte, decode func(io.Reader) (message, error)) {
	t.Helper()
	for n := range whole {
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		for _, r := range []io.Reader{bytes.NewReader(whole[:n]), iotest.OneByteReader(bytes.NewReader(whole[:n])), iotest.DataErrReader(bytes.NewReader(whole[:n]))} {
			if _, err := decode(r); err != want {
				t.Fatalf("the first %d bytes of %d: got %v, want %v", n, len(whole), err, want)
			}
		}
	}
}

// wantTrailingByteRefused checks that a payload with one byte more is no message,
// and that one behind a message is left for the next.
func wantTrailingByteRefused(t *testing.T, whole []byte, m message, decode func(io.Reader) (message, error)) {
	t.Helper()
	r := bytes.NewReader(append(bytes.Clone(whole), 0))
	if _, err := decode(r); err != nil || r.Len() != 1 {
		t.Errorf("with a byte behind it: %v, %d bytes left, want 1", err, r.Len())
	}
	if m.msg != nil {
		for _, n := range []int{-1, 1} {
			p := append(Marshal(m.msg), 0)
			if err := Unmarshal(p[:len(p)-1+n], reflect.New(reflect.TypeOf(m.msg).Elem()).Interface()); !errors.Is(err, ErrSize) {
				t.Errorf("payload of %+d byte: got %v, want ErrSize", n, err)
			}
		}
	}
	if m.code == CodeRegister && m.size < NameSize {
		return // of no fixed size
	}
	longer := append(bytes.Clone(whole), 0)
	at := RequestHeaderSize - 4
	if m.response() {
		at = ResponseHeaderSize - 4
	}
	binary.LittleEndian.PutUint32(longer[at:], m.size+1)
	if _, err := decode(bytes.NewReader(longer)); !errors.Is(err, ErrSize) {
		t.Errorf("with a byte announced too many: got %v, want ErrSize", err)
	}
}

func TestSizesAreTheTables(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		msg  any
		want int
	}{
		{RequestHeader{}, RequestHeaderSize}, {ResponseHeader{}, ResponseHeaderSize},
		{Name{}, NameSize}, {ClientID{}, 16}, {PublicKey{}, 415}, {File{}, int(FileFixedSize)}, {File{}, 275},
		{Verdict{}, 271}, {Registered{}, 16}, {Key{}, 144}, {FileReceived{}, 279},
	} {
		if got := binary.Size(test.msg); got != test.want {
			t.Errorf("%T: got %d bytes, want %d", test.msg, got, test.want)
		}
	}
}

func TestRequestHeaderRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		version uint8
		code    Code
		size    uint32
		want    error // nil is admitted
	}{
		{"registration of nothing", 3, 1100, 0, ErrSize},
		{"registration of a byte", 3, 1100, 1, nil},
		{"registration of 255", 3, 1100, 255, nil},
		{"registration of 256", 3, 1100, 256, ErrSize},
		{"public key a byte short", 3, 1101, 414, ErrSize},
		{"public key", 3, 1101, 415, nil},
		{"public key a byte long", 3, 1101, 416, ErrSize},
		{"a code left out of the tables", 3, 1102, 415, ErrCode},
		{"file of nothing", 3, 1103, 0, ErrSize},
		{"file without content", 3, 1103, 275, ErrSize},
		{"file a byte short", 3, 1103, 290, ErrSize},
		{"file of one block", 3, 1103, 291, nil},
		{"file of a block and a byte", 3, 1103, 292, ErrSize},
		{"the longest file", 3, 1103, uint32(FileFixedSize + CipherSize(MaxFileSize)), nil},
		{"file of 4 GiB", 3, 1103, 1<<32 - 1, ErrSize},
		{"verdict a byte short", 3, 1104, 270, ErrSize},
		{"verdict", 3, 1105, 271, nil},
		{"verdict a byte long", 3, 1106, 272, ErrSize},
		{"code after the last", 3, 1107, 271, ErrCode},
		{"code 0", 3, 0, 0, ErrCode},
		{"response", 3, 2104, 0, ErrCode},
		{"version 2", 2, 1100, 9, ErrVersion},
		{"version 4", 4, 1100, 9, ErrVersion},
		{"wrong in all: the version is told", 0, 0, 0, ErrVersion},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			sent := RequestHeader{Version: test.version, Code: test.code, PayloadSize: test.size}
			got, err := ReadRequestHeader(bytes.NewReader(Marshal(sent)))
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if err == nil && got != sent {
				t.Errorf("got %+v, want %+v", got, sent)
			}
		})
	}
}

func TestResponseHeaderRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		version uint8
		code    Code
		size    uint32
		want    error
	}{
		{"registered", 3, 2100, 16, nil},
		{"registered without an id", 3, 2100, 0, ErrSize},
		{"refused without its 16 bytes", 3, 2101, 0, ErrSize},
		{"key a byte short", 3, 2102, 143, ErrSize},
		{"key of 4 GiB", 3, 2102, 1<<32 - 1, ErrSize},
		{"file received a byte long", 3, 2103, 280, ErrSize},
		{"received with a payload", 3, 2104, 1, ErrSize},
		{"code after the last", 3, 2105, 0, ErrCode},
		{"request", 3, 1104, 271, ErrCode},
		{"version 4", 4, 2104, 0, ErrVersion},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			sent := ResponseHeader{Version: test.version, Code: test.code, PayloadSize: test.size}
			got, err := ReadResponseHeader(bytes.NewReader(Marshal(sent)))
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if err == nil && got != sent {
				t.Errorf("got %+v, want %+v", got, sent)
			}
		})
	}
}

// none fails the test if it is read: a bound came too late.
type none struct{ t *testing.T }

func (r none) Read([]byte) (int, error) {
	r.t.Error("read although the lengths cannot be right")
	return 0, io.EOF
}

func TestLengthsBeforeRead(t *testing.T) {
	t.Parallel()
	if err := ReadPayload(none{t}, RequestHeader{Code: CodeValid, PayloadSize: 1<<32 - 1}, new(Verdict)); !errors.Is(err, ErrSize) {
		t.Errorf("1104 of 4 GiB: got %v, want ErrSize", err)
	}
	if _, err := ReadRegistration(none{t}, RequestHeader{Code: CodeRegister, PayloadSize: 256}); !errors.Is(err, ErrSize) {
		t.Errorf("1100 of 256: got %v, want ErrSize", err)
	}
	if _, err := ReadRegistration(none{t}, RequestHeader{Code: CodeValid, PayloadSize: 1}); !errors.Is(err, ErrCode) {
		t.Errorf("1104 as 1100: got %v, want ErrCode", err)
	}
	if _, err := ReadFile(none{t}, RequestHeader{Code: CodePublicKey, PayloadSize: 415}); !errors.Is(err, ErrCode) {
		t.Errorf("1101 as 1103: got %v, want ErrCode", err)
	}
	if err := ReadResponse(none{t}, ResponseHeader{Code: CodeKey, PayloadSize: 144}, new(Registered), CodeKey); !errors.Is(err, ErrSize) {
		t.Errorf("2102 as 2100: got %v, want ErrSize", err)
	}
	if err := ReadResponse(none{t}, ResponseHeader{Code: CodeKey, PayloadSize: 144}, nil, CodeKey); !errors.Is(err, ErrSize) {
		t.Errorf("2102 without a place for it: got %v, want ErrSize", err)
	}
}

func TestFileLengthsMustAgree(t *testing.T) {
	t.Parallel()
	for _, size := range []uint32{0, 15, 17, 32, 1<<32 - 1} {
		payload := Marshal(&File{ContentSize: size})
		if _, err := ReadFile(bytes.NewReader(payload), RequestHeader{Code: CodeFile, PayloadSize: 291}); !errors.Is(err, ErrSize) {
			t.Errorf("content size %d in a payload of 291: got %v, want ErrSize", size, err)
		}
	}
}

func TestUnexpectedCodeNamesBoth(t *testing.T) {
	t.Parallel()
	h := ResponseHeader{Code: CodeReceived}
	err := ReadResponse(none{t}, h, new(Registered), CodeRegistered, CodeRefused)
	const want = "unexpected code: got 2104 (received), want 2100 (registered) or 2101 (registration refused)"
	if !errors.Is(err, ErrCode) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestRegistrationNames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, payload, want string
		err                 error
	}{
		{"without NUL", "Grace Hopper", "Grace Hopper", nil},
		{"with one NUL", "Grace\x00", "Grace", nil},
		{"padded", "Grace" + strings.Repeat("\x00", 250), "Grace", nil},
		{"255 bytes", strings.Repeat("n", 255), strings.Repeat("n", 255), nil},
		{"only NULs", "\x00\x00", "", ErrName},
		{"NUL inside", "Gr\x00ce", "", ErrName},
		{"NUL in front", "\x00Grace", "", ErrName},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := ReadRegistration(strings.NewReader(test.payload), RequestHeader{Code: CodeRegister, PayloadSize: uint32(len(test.payload))})
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %q and %v, want %q and %v", got, err, test.want, test.err)
			}
		})
	}
	for _, name := range []string{"", strings.Repeat("n", 256), "a\x00b", "a\x00"} {
		if err := WriteRegistration(&oneWrite{t: t}, name); !errors.Is(err, ErrName) {
			t.Errorf("WriteRegistration(%q) = %v, want ErrName", name, err)
		}
	}
}

// Payload size once wrapped round to a small number.
func TestWriteRequestOverflow(t *testing.T) {
	t.Parallel()
	var w oneWrite
	if err := WriteRequest(&w, ClientID{}, CodeFile, &File{}, 1<<32-1); !errors.Is(err, ErrSize) || w.got != nil {
		t.Errorf("got %v and %x, want ErrSize and nothing written", err, w.got)
	}
	more := uint32(CipherSize(MaxFileSize))
	if err := WriteRequest(&w, ClientID{}, CodeFile, &File{ContentSize: more}, more); err != nil {
		t.Errorf("the longest file: %v", err)
	}
}

func TestWriteErrorsGoOut(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	w := failing{broken}
	if err := WriteRequest(w, ClientID{}, CodeValid, &Verdict{}, 0); err != broken {
		t.Errorf("WriteRequest: got %v, want %v", err, broken)
	}
	if err := WriteResponse(w, CodeReceived, nil); err != broken {
		t.Errorf("WriteResponse: got %v, want %v", err, broken)
	}
}

// failing fails every write.
type failing struct{ err error }

func (w failing) Write([]byte) (int, error) { return 0, w.err }

func TestMarshalWithoutFixedSizePanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Marshal("text")
}

func TestUnmarshalWithoutFixedSizeIsRefused(t *testing.T) {
	t.Parallel()
	if err := Unmarshal(nil, new(string)); !errors.Is(err, ErrSize) {
		t.Errorf("got %v, want ErrSize", err)
	}
}

func TestCodeString(t *testing.T) {
	t.Parallel()
	for c, want := range map[Code]string{
		1100: "1100 (registration)", 1103: "1103 (file)", 2104: "2104 (received)", 1102: "1102 (unknown)", 0: "0 (unknown)", 65535: "65535 (unknown)",
	} {
		if got := c.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzRequest(tf *testing.F) {
	f := fuzztest.New(tf)
	addSeeds(f, "client", "1100-registration", "1100-registration-unpadded", "1101-public-key", "1103-file", "1104-valid", "1105-resend", "1106-give-up")
	f.Fuzz(func(t *testing.T, sent []byte) { checkBothWays(t, sent, decodeRequest) })
}

func FuzzResponse(tf *testing.F) {
	f := fuzztest.New(tf)
	addSeeds(f, "server", "2100-registered", "2101-refused", "2102-key", "2103-file-received", "2104-received")
	f.Fuzz(func(t *testing.T, sent []byte) { checkBothWays(t, sent, decodeResponse) })
}

func addSeeds(f *fuzztest.F, from string, files ...string) {
	for _, file := range files {
		whole := readHex(f, file)
		f.Add(whole)
		f.Add(whole[:len(whole)-1])
	}
	for _, name := range recordings {
		for _, m := range readRecording(f, name).Messages {
			if m.From == from {
				f.Add(unhex(f, m.Hex))
			}
		}
	}
}

// checkBothWays: what is admitted encodes to the bytes that it was read from.
func checkBothWays(t *testing.T, sent []byte, decode func(io.Reader) (message, error)) {
	r := bytes.NewReader(sent)
	m, err := decode(r)
	if err != nil {
		known := []error{io.EOF, io.ErrUnexpectedEOF, ErrVersion, ErrCode, ErrSize, ErrName}
		if !slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) }) {
			t.Fatalf("%v is none of this package's errors", err)
		}
		if (err == io.EOF) != (len(sent) == 0) {
			t.Fatalf("%d bytes: %v", len(sent), err)
		}
		return
	}
	if again, read := m.encode(t), sent[:len(sent)-r.Len()]; !bytes.Equal(again, read) {
		t.Fatalf("%s: read %x, encoded %x", m.code, read, again)
	}
}

func BenchmarkHeader(b *testing.B) {
	p := Marshal(RequestHeader{Version: Version, Code: CodeValid, PayloadSize: 271})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		r := bytes.NewReader(p)
		for b.Loop() {
			r.Reset(p)
			if _, err := ReadRequestHeader(r); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, msg := range []any{&Verdict{}, &PublicKey{}} {
		b.Run(fmt.Sprintf("write %T", msg), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := WriteRequest(io.Discard, ClientID{}, CodeValid, msg, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
