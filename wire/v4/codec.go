package v4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// ErrFrame: bytes that are no frame of this protocol, or not one that may come
// now.
var ErrFrame = errors.New("bad frame")

// messageOf gives for each code the struct of its payload.
var messageOf = map[Code]reflect.Type{
	CodeHello: reflect.TypeFor[Hello](), CodeOffer: reflect.TypeFor[Offer](), CodeResend: reflect.TypeFor[Resend](),
	CodeGiveUp: reflect.TypeFor[GiveUp](), CodeAttach: reflect.TypeFor[Attach](), CodeBlock: reflect.TypeFor[Block](),
	CodeBarrier: reflect.TypeFor[Barrier](), CodeFinish: reflect.TypeFor[Finish](), CodeSmall: reflect.TypeFor[Small](),
	CodeList: reflect.TypeFor[List](), CodeFetch: reflect.TypeFor[Fetch](), CodePing: reflect.TypeFor[Ping](),
	CodeBye: reflect.TypeFor[Bye](), CodeCopy: reflect.TypeFor[Copy](),

	CodeWelcome: reflect.TypeFor[Welcome](), CodeRefusal: reflect.TypeFor[Refusal](), CodeReceived: reflect.TypeFor[Received](),
	CodeEnded: reflect.TypeFor[Ended](), CodeAccept: reflect.TypeFor[Accept](), CodeEarlier: reflect.TypeFor[Earlier](),
	CodeAttached: reflect.TypeFor[Attached](), CodeMissing: reflect.TypeFor[Missing](), CodeDiffers: reflect.TypeFor[Differs](),
	CodeRefused: reflect.TypeFor[Refused](), CodeHeld: reflect.TypeFor[Held](), CodeReached: reflect.TypeFor[Reached](),
	CodeEntries: reflect.TypeFor[Entries](), CodeFile: reflect.TypeFor[File](), CodeData: reflect.TypeFor[Data](),
	CodeDataEnd: reflect.TypeFor[DataEnd](), CodePong: reflect.TypeFor[Pong](), CodeWait: reflect.TypeFor[Wait](),
	CodeFarewell: reflect.TypeFor[Farewell](),
}

// codeOf is messageOf the other way round; sizes are the least and the most
// bytes of each code's payload.
var (
	codeOf = map[reflect.Type]Code{}
	sizes  = map[Code]struct{ least, most int }{}
)

func init() {
	for code, t := range messageOf {
		codeOf[t] = code
		least, most := sizeOf(t, "", "")
		sizes[code] = struct{ least, most int }{least, most}
	}
}

// sizeOf returns the bounds of a type's encoding, in bytes.
func sizeOf(t reflect.Type, limit, rest string) (least, most int) {
	switch t.Kind() {
	case reflect.Struct:
		for f := range fieldsOf(t) {
			l, m := sizeOf(f.Type, f.Tag.Get("max"), f.Tag.Get("rest"))
			least, most = least+l, most+m
		}
		return least, most
	case reflect.String:
		return 2, 2 + atoi(limit)
	case reflect.Slice:
		if rest != "" {
			return 0, atoi(rest)
		}
		_, each := sizeOf(t.Elem(), "", "")
		return 4, 4 + atoi(limit)*each
	case reflect.Array, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Int64, reflect.Bool:
		return int(t.Size()), int(t.Size())
	}
	panic("v4: no encoding for " + t.String())
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic("v4: a field without its limit")
	}
	return n
}

func fieldsOf(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

// Append appends the whole frame of a message, a struct of this package, to b.
// Content that is the rest of a payload is appended too. It panics where a field
// is over its limit: callers bound what they send.
func Append(b []byte, message any) []byte {
	v := reflect.ValueOf(message)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	code, ok := codeOf[v.Type()]
	if !ok {
		panic("v4: no message: " + v.Type().String())
	}
	start := len(b)
	b = append(b, make([]byte, HeaderSize)...)
	b = appendValue(b, v, "", "")
	PutHeader(b[start:], Header{code, uint32(len(b) - start - HeaderSize)})
	return b
}

func appendValue(b []byte, v reflect.Value, limit, rest string) []byte {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			tag := v.Type().Field(i).Tag
			b = appendValue(b, v.Field(i), tag.Get("max"), tag.Get("rest"))
		}
		return b
	case reflect.String:
		if v.Len() > atoi(limit) {
			panic(fmt.Sprintf("v4: text of %d bytes, over %s", v.Len(), limit))
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(v.Len()))
		return append(b, v.String()...)
	case reflect.Slice:
		if rest != "" {
			if v.Len() > atoi(rest) {
				panic(fmt.Sprintf("v4: content of %d bytes, over %s", v.Len(), rest))
			}
			return append(b, v.Bytes()...)
		}
		if v.Len() > atoi(limit) {
			panic(fmt.Sprintf("v4: list of %d, over %s", v.Len(), limit))
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(v.Len()))
		for i := range v.Len() {
			b = appendValue(b, v.Index(i), "", "")
		}
		return b
	case reflect.Array:
		if v.CanAddr() {
			return append(b, v.Slice(0, v.Len()).Bytes()...)
		}
		for i := range v.Len() {
			b = append(b, byte(v.Index(i).Uint()))
		}
		return b
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Uint8:
		return append(b, byte(v.Uint()))
	case reflect.Uint16:
		return binary.LittleEndian.AppendUint16(b, uint16(v.Uint()))
	case reflect.Uint32:
		return binary.LittleEndian.AppendUint32(b, uint32(v.Uint()))
	case reflect.Uint64:
		return binary.LittleEndian.AppendUint64(b, v.Uint())
	case reflect.Int64:
		return binary.LittleEndian.AppendUint64(b, uint64(v.Int()))
	}
	panic("v4: no encoding for " + v.Type().String())
}

// Unmarshal returns the message in the payload of a frame with the given code.
// It returns ErrFrame unless the payload is that message exactly: text in UTF-8
// and within its limit, lists within theirs, nothing missing, nothing left over.
// Content that is the rest of the payload is not copied.
func Unmarshal(code Code, payload []byte) (any, error) {
	t, ok := messageOf[code]
	if !ok {
		return nil, fmt.Errorf("%w: unknown code %s", ErrFrame, code)
	}
	v := reflect.New(t)
	d := decoder{payload}
	if err := d.value(v.Elem(), "", ""); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFrame, code, err)
	}
	if len(d.left) > 0 {
		return nil, fmt.Errorf("%w: %s: %d bytes too many", ErrFrame, code, len(d.left))
	}
	return v.Interface(), nil
}

// decoder takes values off the front of what is left of a payload.
type decoder struct{ left []byte }

var errShort = errors.New("too short")

func (d *decoder) take(n int) ([]byte, error) {
	if n > len(d.left) {
		return nil, errShort
	}
	p := d.left[:n]
	d.left = d.left[n:]
	return p, nil
}

func (d *decoder) value(v reflect.Value, limit, rest string) error {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if err := d.value(v.Field(i), f.Tag.Get("max"), f.Tag.Get("rest")); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
		}
		return nil
	case reflect.String:
		return d.text(v, atoi(limit))
	case reflect.Slice:
		if rest != "" {
			if len(d.left) > atoi(rest) {
				return fmt.Errorf("%d bytes, over %s", len(d.left), rest)
			}
			v.SetBytes(d.left)
			d.left = nil
			return nil
		}
		return d.list(v, atoi(limit))
	}
	p, err := d.take(int(v.Type().Size()))
	if err != nil {
		return err
	}
	switch v.Kind() {
	case reflect.Array:
		reflect.Copy(v, reflect.ValueOf(p))
	case reflect.Bool:
		if p[0] > 1 {
			return fmt.Errorf("%d where 0 or 1 belongs", p[0])
		}
		v.SetBool(p[0] == 1)
	case reflect.Uint8:
		v.SetUint(uint64(p[0]))
	case reflect.Uint16:
		v.SetUint(uint64(binary.LittleEndian.Uint16(p)))
	case reflect.Uint32:
		v.SetUint(uint64(binary.LittleEndian.Uint32(p)))
	case reflect.Uint64:
		v.SetUint(binary.LittleEndian.Uint64(p))
	case reflect.Int64:
		v.SetInt(int64(binary.LittleEndian.Uint64(p)))
	}
	return nil
}

func (d *decoder) text(v reflect.Value, limit int) error {
	p, err := d.take(2)
	if err != nil {
		return err
	}
	n := int(binary.LittleEndian.Uint16(p))
	if n > limit {
		return fmt.Errorf("%d bytes, over %d", n, limit)
	}
	if p, err = d.take(n); err != nil {
		return err
	}
	if !utf8.Valid(p) {
		return fmt.Errorf("%q is not UTF-8", p)
	}
	v.SetString(string(p))
	return nil
}

func (d *decoder) list(v reflect.Value, limit int) error {
	p, err := d.take(4)
	if err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(p)
	if n > uint32(limit) {
		return fmt.Errorf("%d elements, over %d", n, limit)
	}
	least, _ := leastOf(v.Type().Elem())
	if int(n)*least > len(d.left) { // before anything is allocated for it
		return errShort
	}
	list := reflect.MakeSlice(v.Type(), int(n), int(n))
	for i := range int(n) {
		if err := d.value(list.Index(i), "", ""); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	if n > 0 {
		v.Set(list)
	}
	return nil
}

func leastOf(t reflect.Type) (least, most int) { return sizeOf(t, "0", "") }
