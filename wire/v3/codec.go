package v3

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

var (
	// ErrVersion: a header of another protocol version.
	ErrVersion = errors.New("wrong version")
	// ErrCode: a code that is unknown, or not the one that must come.
	ErrCode = errors.New("unexpected code")
	// ErrSize: a length that its message cannot have.
	ErrSize = errors.New("wrong size")
)

// Marshal returns the bytes of msg, a message or a pointer to one; nil has none.
func Marshal(msg any) []byte {
	if msg == nil {
		return nil
	}
	p, err := binary.Append(nil, binary.LittleEndian, msg)
	if err != nil {
		panic(err) // not one of this package's fixed-size types
	}
	return p
}

// Unmarshal fills msg, a pointer to a message, from p. It returns ErrSize unless
// p holds that message exactly: nothing missing, nothing left over.
func Unmarshal(p []byte, msg any) error {
	if want := binary.Size(msg); len(p) != want {
		return fmt.Errorf("%T: %w: %d bytes, want %d", msg, ErrSize, len(p), want)
	}
	_, err := binary.Decode(p, binary.LittleEndian, msg)
	return err
}

// read fills msg from r: io.EOF before the first byte, io.ErrUnexpectedEOF after.
func read(r io.Reader, msg any) error {
	p := make([]byte, binary.Size(msg))
	if _, err := io.ReadFull(r, p); err != nil {
		return err
	}
	return Unmarshal(p, msg)
}

// readPayload is read for a payload of the announced size, where an end of r is
// always too early. msg is nil for one without fields.
func readPayload(r io.Reader, code Code, size uint32, msg any) error {
	want := 0
	if msg != nil {
		want = binary.Size(msg)
	}
	if int64(size) != int64(want) {
		return fmt.Errorf("%s: %w: payload of %d bytes, want %d", code, ErrSize, size, want)
	}
	if msg == nil {
		return nil
	}
	return noEOF(read(r, msg))
}

// requestSize returns the least and the greatest payload of a request.
func requestSize(c Code) (least, most int64, ok bool) {
	switch c {
	case CodeRegister:
		return 1, NameSize, true
	case CodePublicKey:
		n := int64(binary.Size(PublicKey{}))
		return n, n, true
	case CodeFile:
		return FileFixedSize + BlockSize, math.MaxUint32, true
	case CodeValid, CodeResend, CodeGiveUp:
		n := int64(binary.Size(Verdict{}))
		return n, n, true
	}
	return 0, 0, false
}

// ReadRequestHeader reads a request's header and judges it: ErrVersion, ErrCode
// for what is no request, ErrSize for a length that the request cannot have. It
// returns io.EOF only where the stream ended before its first byte.
func ReadRequestHeader(r io.Reader) (RequestHeader, error) {
	var h RequestHeader
	if err := read(r, &h); err != nil {
		return RequestHeader{}, err
	}
	if h.Version != Version {
		return RequestHeader{}, fmt.Errorf("%w: %d, want %d", ErrVersion, h.Version, Version)
	}
	least, most, ok := requestSize(h.Code)
	if !ok {
		return RequestHeader{}, fmt.Errorf("%w: %s is no request", ErrCode, h.Code)
	}
	size := int64(h.PayloadSize)
	if size < least || size > most {
		return RequestHeader{}, fmt.Errorf("%s: %w: payload of %d bytes, want %d to %d", h.Code, ErrSize, size, least, most)
	}
	if h.Code == CodeFile && (size-FileFixedSize)%BlockSize != 0 {
		return RequestHeader{}, fmt.Errorf("%s: %w: %d bytes of content are not whole blocks of %d", h.Code, ErrSize, size-FileFixedSize, BlockSize)
	}
	return h, nil
}

// ReadRegistration reads the payload of 1100: 1 to 255 bytes, less trailing NULs.
// It returns ErrName if nothing is left or a NUL stands inside.
func ReadRegistration(r io.Reader, h RequestHeader) (string, error) {
	if h.Code != CodeRegister {
		return "", unexpected(h.Code, CodeRegister)
	}
	if h.PayloadSize > NameSize {
		return "", fmt.Errorf("%s: %w: name of %d bytes, want %d at most", h.Code, ErrSize, h.PayloadSize, NameSize)
	}
	var field Name
	if _, err := io.ReadFull(r, field[:h.PayloadSize]); err != nil {
		return "", noEOF(err)
	}
	return field.Text()
}

// ReadPayload reads the payload of a request of fixed size into msg, which must
// be of the type that h names. It returns ErrSize where the announced length is
// not msg's.
func ReadPayload(r io.Reader, h RequestHeader, msg any) error {
	return readPayload(r, h.Code, h.PayloadSize, msg)
}

// ReadFile reads the fixed fields of 1103 and checks that both announced lengths
// agree, ErrSize otherwise. ContentSize bytes of ciphertext follow.
func ReadFile(r io.Reader, h RequestHeader) (File, error) {
	if h.Code != CodeFile {
		return File{}, unexpected(h.Code, CodeFile)
	}
	var f File
	if err := noEOF(read(r, &f)); err != nil {
		return File{}, err
	}
	if want := int64(h.PayloadSize) - FileFixedSize; int64(f.ContentSize) != want {
		return File{}, fmt.Errorf("%s: %w: content of %d bytes in a payload that has room for %d", h.Code, ErrSize, f.ContentSize, want)
	}
	return f, nil
}

// WriteRequest writes a request: its header and msg in one call, since the first
// server reads a header with a single recv. more is how many bytes of content
// follow, which count as payload: ErrSize where the u32 cannot say it.
func WriteRequest(w io.Writer, id ClientID, code Code, msg any, more uint32) error {
	payload := Marshal(msg)
	return writeRequest(w, id, code, payload, more)
}

// WriteRegistration writes 1100 with the name padded to 255 bytes. It returns
// ErrName for a name that does not fit.
func WriteRegistration(w io.Writer, name string) error {
	field, err := NewName(name)
	if err != nil {
		return err
	}
	return writeRequest(w, ClientID{}, CodeRegister, field[:], 0)
}

func writeRequest(w io.Writer, id ClientID, code Code, payload []byte, more uint32) error {
	size := int64(len(payload)) + int64(more)
	if size > math.MaxUint32 {
		return fmt.Errorf("%s: %w: payload of %d bytes, want %d at most", code, ErrSize, size, uint32(math.MaxUint32))
	}
	header := RequestHeader{ClientID: id, Version: Version, Code: code, PayloadSize: uint32(size)}
	_, err := w.Write(append(Marshal(header), payload...))
	return err
}

// responseSize returns the payload of a response.
func responseSize(c Code) (size int, ok bool) {
	switch c {
	case CodeRegistered, CodeRefused:
		return binary.Size(Registered{}), true
	case CodeKey:
		return binary.Size(Key{}), true
	case CodeFileReceived:
		return binary.Size(FileReceived{}), true
	case CodeReceived:
		return 0, true
	}
	return 0, false
}

// ReadResponseHeader reads a response's header and judges it as
// ReadRequestHeader does a request's.
func ReadResponseHeader(r io.Reader) (ResponseHeader, error) {
	var h ResponseHeader
	if err := read(r, &h); err != nil {
		return ResponseHeader{}, err
	}
	if h.Version != Version {
		return ResponseHeader{}, fmt.Errorf("%w: %d, want %d", ErrVersion, h.Version, Version)
	}
	want, ok := responseSize(h.Code)
	if !ok {
		return ResponseHeader{}, fmt.Errorf("%w: %s is no response", ErrCode, h.Code)
	}
	if int64(h.PayloadSize) != int64(want) {
		return ResponseHeader{}, fmt.Errorf("%s: %w: payload of %d bytes, want %d", h.Code, ErrSize, h.PayloadSize, want)
	}
	return h, nil
}

// ReadResponse reads the payload of a response into msg, nil for one without. It
// returns ErrCode unless h is of one of the codes that may come, ErrSize where the
// announced length is not msg's.
func ReadResponse(r io.Reader, h ResponseHeader, msg any, want ...Code) error {
	if !slices.Contains(want, h.Code) {
		return unexpected(h.Code, want...)
	}
	return readPayload(r, h.Code, h.PayloadSize, msg)
}

// unexpected is ErrCode with both sides named.
func unexpected(got Code, want ...Code) error {
	names := make([]string, len(want))
	for i, c := range want {
		names[i] = c.String()
	}
	return fmt.Errorf("%w: got %s, want %s", ErrCode, got, strings.Join(names, " or "))
}

// WriteResponse writes a response in one call; msg is nil for one without payload.
func WriteResponse(w io.Writer, code Code, msg any) error {
	payload := Marshal(msg)
	header := ResponseHeader{Version: Version, Code: code, PayloadSize: uint32(len(payload))}
	_, err := w.Write(append(Marshal(header), payload...))
	return err
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
