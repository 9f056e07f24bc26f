package v4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"fenc/wire/fuzztest"
)

// random fills a value with what its type and bound allow; lists and texts have
// up to few elements, or as many as they may where few is negative.
func random(r *rand.Rand, v reflect.Value, limit, rest string, few int) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			random(r, v.Field(i), f.Tag.Get("max"), f.Tag.Get("rest"), few)
		}
	case reflect.String:
		n := atoi(limit)
		if few >= 0 {
			n = r.IntN(min(n, few) + 1)
		}
		v.SetString(strings.Repeat("ä", n/2) + strings.Repeat("x", n%2))
	case reflect.Slice:
		n := atoi(limit + rest)
		if few >= 0 {
			n = r.IntN(min(n, few) + 1)
		}
		if n == 0 && rest == "" {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			random(r, v.Index(i), "", "", few)
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(r.Uint64() & 0xff)
		}
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 1)
	case reflect.Int64:
		v.SetInt(int64(r.Uint64()))
	default:
		v.SetUint(r.Uint64() >> (64 - 8*v.Type().Size()))
	}
}

func message(r *rand.Rand, code Code, few int) any {
	v := reflect.New(messageOf[code])
	random(r, v.Elem(), "", "", few)
	return v.Interface()
}

func TestEveryMessageReadsBackAsWritten(t *testing.T) {
	t.Parallel()
	for code := range messageOf {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			hasRest := code == CodeBlock || code == CodeSmall || code == CodeData // of any length
			r := rand.New(rand.NewPCG(uint64(code), 1))
			for round := range 20 {
				few := 3
				if round == 0 {
					few = -1 // as long as it may be
				}
				m := message(r, code, few)
				frame := Append(nil, m)
				if frame[0] != Version || Code(binary.LittleEndian.Uint16(frame[1:])) != code || int(binary.LittleEndian.Uint32(frame[3:])) != len(frame)-HeaderSize {
					t.Fatalf("header: got % x for %d bytes of payload", frame[:HeaderSize], len(frame)-HeaderSize)
				}
				payload := frame[HeaderSize:]
				got, err := Unmarshal(code, payload)
				if err != nil || !reflect.DeepEqual(got, m) {
					t.Fatalf("got %.200v, %v, want %.200v", got, err, m)
				}
				stream := NewReader(iotest.OneByteReader(bytes.NewReader(frame)))
				if len(frame) > 1<<16 {
					stream = NewReader(bytes.NewReader(frame))
				}
				h, err := stream.Next()
				if err != nil {
					t.Fatal(err)
				}
				if got, err := stream.Message(h); err != nil || !reflect.DeepEqual(got, m) {
					t.Fatalf("as a stream: got %.200v, %v", got, err)
				}
				if _, err := stream.Next(); err != io.EOF {
					t.Fatalf("behind it: got %v, want io.EOF", err)
				}
				if round == 0 {
					continue
				}
				for n := range payload {
					if got, err := Unmarshal(code, payload[:n]); !errors.Is(err, ErrFrame) && !hasRest {
						t.Fatalf("first %d of %d bytes: got %v, %v, want ErrFrame", n, len(payload), got, err)
					}
				}
				if got, err := Unmarshal(code, append(bytes.Clone(payload), 0)); !errors.Is(err, ErrFrame) && !hasRest {
					t.Fatalf("one byte more: got %v, %v, want ErrFrame", got, err)
				}
			}
		})
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	frame := func(code Code, payload ...byte) []byte {
		b := binary.LittleEndian.AppendUint16([]byte{Version}, uint16(code))
		return append(binary.LittleEndian.AppendUint32(b, uint32(len(payload))), payload...)
	}
	for name, b := range map[string][]byte{
		"version 3":                     {3, 0x4c, 4, 0, 0, 0, 0},
		"unknown code":                  frame(1199),
		"code of version 3 alone":       frame(1101),
		"bye with a payload":            frame(CodeBye, 0),
		"ping too short":                frame(CodePing, 1, 2, 3),
		"a payload of 4 GiB":            {4, byte(CodeSmall & 0xff), byte(CodeSmall >> 8), 0xff, 0xff, 0xff, 0xff},
		"bool of 2":                     frame(CodeRefusal, 1, 0, 2, 0, 0),
		"text that is not UTF-8":        frame(CodeRefusal, 1, 0, 0, 1, 0, 0xff),
		"text over its bound":           frame(CodeRefusal, append([]byte{1, 0, 0, 1, 4}, make([]byte, 1024)...)...),
		"a list of 2^32-1 elements":     frame(CodeMissing, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff),
		"a list longer than what comes": frame(CodeMissing, 1, 0, 0, 0, 2, 0, 0, 0, 9, 9, 9, 9),
	} {
		r := NewReader(bytes.NewReader(b))
		h, err := r.Next()
		if err == nil {
			_, err = r.Message(h)
		}
		if !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got %v, want ErrFrame", name, err)
		}
	}
	for code, size := range sizes {
		if size.most > 1<<20+64<<10 {
			t.Errorf("%s: up to %d bytes, want little more than 1 MiB", code, size.most)
		}
	}
}

// What a peer announces costs nothing before it has come.
func TestAnnouncedListsAllocateNothing(t *testing.T) {
	payload := append(make([]byte, 4), 0, 0x40, 0, 0) // 16,384 chunks, none there
	var before, after = testing.AllocsPerRun(10, func() { Unmarshal(CodeMissing, payload[:7]) }), testing.AllocsPerRun(10, func() { Unmarshal(CodeMissing, payload) })
	if after > before+4 {
		t.Errorf("got %.0f allocations, %.0f without the list", after, before)
	}
}

func TestInviteLine(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"files.example.org:1234", "127.0.0.1:1", "[::1]:65535"} {
		in := Invite{Address: address, Server: Fingerprint{1, 2, 250}, Token: NewToken()}
		line := in.Line()
		if got, err := ParseInvite("  " + line + "\r\n"); err != nil || got != in {
			t.Errorf("%s: got %v, %v", address, got, err)
		}
		if text := fmt.Sprintf("%v %+v %s %x %q", in, in, in.Token, in.Token, in.Token); strings.Contains(text, line[len(line)-8:]) || !strings.Contains(text, "redacted") {
			t.Errorf("printed: %s, want the token redacted", text)
		}
		for i := range line {
			for _, slip := range []string{line[:i] + line[i+1:], line[:i] + "x" + line[i+1:], line[:i] + "0" + line[i:]} {
				if slip == line {
					continue
				}
				if got, err := ParseInvite(slip); err == nil {
					t.Errorf("slip %q: got %v, want it recognised", slip, got)
				} else if strings.Contains(err.Error(), line[len(line)-20:]) {
					t.Errorf("slip %q: the error shows the token: %v", slip, err)
				}
			}
		}
	}
}

func FuzzMessage(tf *testing.F) {
	f := fuzztest.New(tf)
	r := rand.New(rand.NewPCG(7, 7))
	for code := range messageOf {
		f.Add(uint16(code), Append(nil, message(r, code, 2))[HeaderSize:])
	}
	f.Fuzz(func(t *testing.T, code uint16, payload []byte) {
		m, err := Unmarshal(Code(code), payload)
		if err != nil {
			if !errors.Is(err, ErrFrame) {
				t.Fatalf("got %v, want ErrFrame", err)
			}
			return
		}
		if again := Append(nil, m)[HeaderSize:]; !bytes.Equal(again, payload) {
			t.Fatalf("%v: written as % x, was % x", m, again, payload)
		}
	})
}

func FuzzReader(tf *testing.F) {
	f := fuzztest.New(tf)
	r := rand.New(rand.NewPCG(8, 8))
	var all []byte
	for code := range messageOf {
		all = Append(all, message(r, code, 1))
	}
	f.Add(all)
	for _, k := range generateKit() {
		if kind := k.value("kind"); kind == "frame" || kind == "conversation" {
			f.Add(k.body)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		reader := NewReader(bytes.NewReader(stream))
		for {
			h, err := reader.Next()
			if err == nil {
				_, err = reader.Message(h)
			}
			if err == nil {
				continue
			}
			if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, ErrFrame) {
				t.Fatalf("got %v", err)
			}
			return
		}
	})
}

func FuzzInvite(tf *testing.F) {
	f := fuzztest.New(tf)
	f.Add(Invite{Address: "[::1]:1", Server: Fingerprint{1}, Token: Token{2}}.Line())
	f.Add("fenc4-a/b")
	f.Fuzz(func(t *testing.T, line string) {
		in, err := ParseInvite(line)
		if err != nil {
			return
		}
		if again, err := ParseInvite(in.Line()); err != nil || again != in {
			t.Fatalf("%q: reads as %v, which is written as %q, which reads as %v, %v", line, in, in.Line(), again, err)
		}
	})
}

func FuzzFingerprint(tf *testing.F) {
	f := fuzztest.New(tf)
	f.Add(Fingerprint{1, 2, 250}.String())
	f.Add("SHA256:" + strings.Repeat("A", 42) + "B")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := ParseFingerprint(text); err == nil && got.String() != text {
			t.Fatalf("%q reads as %s", text, got)
		}
	})
}

func FuzzCertificate(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, id := range []byte{0, 1, 200} {
		f.Add(kitIdentity(id).held().certificate.Certificate[0])
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := certified(der); err == nil && len(der) > maxCertificate {
			t.Fatalf("%d bytes are taken", len(der))
		}
	})
}
