package fuzztest

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
)

// longest is what an input grows to, in bytes: sizes that are announced are lies at any
// length, and short inputs run more often.
const longest = 4 << 10

// mutator makes inputs from others.
type mutator struct {
	random *rand.Rand
	pool   [][]byte // what entries had so far, to take pieces from
}

// learn keeps what pieces can be taken from.
func (m *mutator) learn(v reflect.Value) {
	if text, ok := bytesOf(v); ok && len(text) > 0 {
		m.pool = append(m.pool, append([]byte(nil), text...))
	}
}

func bytesOf(v reflect.Value) ([]byte, bool) {
	switch {
	case v.Kind() == reflect.String:
		return []byte(v.String()), true
	case v.Kind() == reflect.Slice:
		return v.Bytes(), true
	}
	return nil, false
}

// mutateAll makes an input of several values from another: mostly one of them is
// changed, so that the others still lead to it.
func (m *mutator) mutateAll(to, from []reflect.Value) {
	if len(from) == 1 { // the others' draws would change what a seed makes
		to[0] = m.mutate(from[0])
		return
	}
	copy(to, from)
	for {
		i := m.random.IntN(len(from))
		to[i] = m.mutate(to[i])
		if m.random.IntN(4) > 0 {
			return
		}
	}
}

// mutate returns a value like v, of one of the types that go test -fuzz knows.
func (m *mutator) mutate(v reflect.Value) reflect.Value {
	if text, ok := bytesOf(v); ok {
		changed := append(make([]byte, 0, len(text)+64), text...)
		for range 1 + m.random.IntN(1<<m.random.IntN(4)) {
			changed = m.step(changed)
		}
		return reflect.ValueOf(changed).Convert(v.Type())
	}
	made := reflect.New(v.Type()).Elem()
	made.Set(v)
	switch {
	case v.Kind() == reflect.Bool:
		made.SetBool(m.random.IntN(2) == 0)
	case v.CanUint():
		made.SetUint(v.Uint() ^ m.number())
	case v.CanInt():
		made.SetInt(v.Int() ^ int64(m.number()))
	case v.CanFloat():
		made.SetFloat(v.Float() * m.random.NormFloat64())
	}
	return made
}

// number is often small, and as often at a boundary of its bits.
func (m *mutator) number() uint64 {
	n := uint64(1) << m.random.IntN(64)
	switch m.random.IntN(4) {
	case 0:
		return m.random.Uint64() & (n - 1)
	case 1:
		return n - 1
	case 2:
		return -n
	}
	return n
}

// step changes b in one place.
func (m *mutator) step(b []byte) []byte {
	at := m.random.IntN(len(b) + 1)
	end := at + m.random.IntN(len(b)-at+1) // at ≤ end ≤ len(b)
	if m.random.IntN(2) == 0 {
		end = min(end, at+4)
	}
	change := m.random.IntN(9)
	if len(b) >= longest && change > 4 {
		change = 1
	}
	switch change {
	case 0: // a bit
		if at < len(b) {
			b[at] ^= 1 << m.random.IntN(8)
		}
	case 1: // a piece less
		b = append(b[:at], b[end:]...)
	case 2: // other bytes
		for i := at; i < end; i++ {
			b[i] = byte(m.random.Uint32())
		}
	case 3: // a number
		var number [8]byte
		if n := m.number(); m.random.IntN(2) == 0 {
			binary.LittleEndian.PutUint64(number[:], n)
			copy(b[at:], number[:1<<m.random.IntN(4)])
		} else {
			binary.BigEndian.PutUint64(number[:], n)
			copy(b[at:], number[8-1<<m.random.IntN(4):])
		}
	case 4: // one piece over another
		copy(b[m.random.IntN(len(b)+1):], b[at:end])
	case 5: // a byte more
		b = insert(b, at, []byte{byte(m.random.Uint32())})
	case 6: // a piece once more
		b = insert(b, m.random.IntN(len(b)+1), append([]byte(nil), b[at:end]...))
	case 7: // what has a meaning to many a parser
		b = insert(b, at, []byte(tokens[m.random.IntN(len(tokens))]))
	case 8: // a piece of another entry
		if len(m.pool) > 0 {
			from := m.pool[m.random.IntN(len(m.pool))]
			from = from[m.random.IntN(len(from)):]
			b = insert(b, at, from[:m.random.IntN(len(from)+1)])
		}
	}
	return b
}

var tokens = []string{"\n", "\r\n", "\x00", "\"", "'", "\\", "/", "..", ":", "=", "[", "]", "{", "}", ",", "#", "-1", "0", "1e999", "18446744073709551616", "\xff", "\u202e", "\ufeff", "é"}

func insert(b []byte, at int, piece []byte) []byte {
	b = append(b, piece...)
	copy(b[at+len(piece):], b[at:])
	copy(b[at:], piece)
	return b
}
