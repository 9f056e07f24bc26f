package v4

import (
	"encoding/binary"
	"fmt"
	"io"
)

// HeaderSize is the bytes of a frame's header: version u8, code u16, payload size
// u32, little endian, as version 3's response header.
const HeaderSize = 7

// BlockHeadSize is the bytes of a 1108 or 2115 before its content, header
// included.
const BlockHeadSize = HeaderSize + 4 + 8

// Header is the beginning of every frame, both ways.
type Header struct {
	Code Code
	Size uint32 // bytes of payload
}

// PutHeader writes h into the first HeaderSize bytes of b.
func PutHeader(b []byte, h Header) {
	b[0] = Version
	binary.LittleEndian.PutUint16(b[1:], uint16(h.Code))
	binary.LittleEndian.PutUint32(b[3:], h.Size)
}

// PutBlockHead writes everything of a 1108 or 2115 that stands before n bytes of
// content into the first BlockHeadSize bytes of b.
func PutBlockHead(b []byte, code Code, number uint32, offset int64, n int) {
	PutHeader(b, Header{code, uint32(BlockHeadSize - HeaderSize + n)})
	binary.LittleEndian.PutUint32(b[HeaderSize:], number)
	binary.LittleEndian.PutUint64(b[HeaderSize+4:], uint64(offset))
}

// Reader reads frames.
type Reader struct {
	r       io.Reader
	header  [HeaderSize + 12]byte // and the head of a block
	payload []byte                // of the last message, reused
}

// NewReader reads frames from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// keepPayload is the longest buffer that is kept from one message to the next.
const keepPayload = 64 << 10

// Next reads a header. It returns io.EOF at the end of the connection between two
// frames, io.ErrUnexpectedEOF within one, and ErrFrame unless the header is one of
// this protocol and announces a payload that its code can have.
func (r *Reader) Next() (Header, error) {
	b := r.header[:HeaderSize]
	if _, err := io.ReadFull(r.r, b); err != nil {
		return Header{}, err
	}
	h := Header{Code(binary.LittleEndian.Uint16(b[1:])), binary.LittleEndian.Uint32(b[3:])}
	if b[0] != Version {
		return h, fmt.Errorf("%w: version %d", ErrFrame, b[0])
	}
	size, known := sizes[h.Code]
	if !known {
		return h, fmt.Errorf("%w: unknown code %s", ErrFrame, h.Code)
	}
	if int64(h.Size) < int64(size.least) || int64(h.Size) > int64(size.most) {
		return h, fmt.Errorf("%w: %s announces %d bytes, want %d to %d", ErrFrame, h.Code, h.Size, size.least, size.most)
	}
	return h, nil
}

// Message reads the payload of h and returns the message, a pointer to a struct
// of this package. Its content, where it has any, is valid until the next call.
func (r *Reader) Message(h Header) (any, error) {
	if cap(r.payload) < int(h.Size) {
		r.payload = make([]byte, h.Size)
	}
	p := r.payload[:h.Size]
	if cap(r.payload) > keepPayload {
		r.payload = nil
	}
	if _, err := io.ReadFull(r.r, p); err != nil {
		return nil, noEOF(err)
	}
	return Unmarshal(h.Code, p)
}

// BlockHead reads what stands before the content of a 1108 or 2115. The content,
// n bytes, is read by ReadContent.
func (r *Reader) BlockHead(h Header) (number uint32, offset uint64, n int, err error) {
	b := r.header[:BlockHeadSize-HeaderSize]
	if _, err := io.ReadFull(r.r, b); err != nil {
		return 0, 0, 0, noEOF(err)
	}
	return binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[4:]), int(h.Size) - len(b), nil
}

// ReadContent fills p.
func (r *Reader) ReadContent(p []byte) error {
	_, err := io.ReadFull(r.r, p)
	return noEOF(err)
}

// noEOF: an end within a frame is never a proper one.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
