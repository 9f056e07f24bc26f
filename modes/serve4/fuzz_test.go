package serve4

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lukechampine.com/blake3"

	"fenc/wire/fuzztest"
	"fenc/wire/v4"
)

// How patient a client is: what it waits for before it says the next frame.
const (
	waitsForNothing = iota
	waitsForAccept  // each offer's answer
	waitsForAnswers // and each finish's
	kindsOfPatience
)

// FuzzRequests says anything at all after a hello: first, then aside over a further
// connection of the session unless it is empty, then last. Both end, all that comes
// back is frames, no file of others changes, and what is stored is what the catalogue
// says.
func FuzzRequests(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, c := range conversations(f) {
		f.Add(c.first, c.aside, c.last, uint8(waitsForAnswers))
	}
	// A place is left after so many sessions: what they make of it has its bounds, and a
	// failure its few causes. What is found amiss then is any of theirs, and what goroutines
	// do when is no matter of the seed: an input may have to be tried more than once.
	const most = 1000
	var here *place
	sessions := 0
	f.Cleanup(func() {
		if here != nil {
			here.leave(f)
		}
	})
	f.Fuzz(func(t *testing.T, first, aside, last []byte, patience uint8) {
		if here != nil && sessions%most == 0 {
			here.leave(t)
			here = nil
		}
		if here == nil {
			here = newPlace(t)
		}
		sessions++
		heard, heardAside := here.converse(t, here.fuzzer, conversation{first: first, aside: aside, last: last}, patience%kindsOfPatience)
		for _, all := range [][]byte{heard, heardAside} {
			if _, err := answers(all, nil); err != nil {
				t.Fatalf("the server says what is no frame: %v", err)
			}
		}
	})
}

// TestFuzzedConversationsReachTheirEnd holds the conversations that FuzzRequests begins
// from as they are: what it makes of them goes on from there.
func TestFuzzedConversationsReachTheirEnd(t *testing.T) {
	t.Parallel()
	for _, c := range conversations(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			here := newPlace(t)
			defer here.leave(t)
			heard, heardAside := here.converse(t, here.fuzzer, c, waitsForAnswers)
			for _, over := range []struct {
				heard []byte
				want  []v4.Code
			}{{heard, c.answers}, {heardAside, c.asideAnswers}} {
				got, err := answers(over.heard, over.want)
				if err != nil {
					t.Errorf("the server says what is no frame: %v", err)
				}
				slices.Sort(got)
				if slices.Sort(over.want); !slices.Equal(got, over.want) {
					t.Errorf("got %d, want %d", got, over.want)
				}
			}
		})
	}
}

// Whoever has a client's key can invite nobody: there is no message for it, and what is
// no message ends the session.
func TestClientsInviteNobody(t *testing.T) {
	t.Parallel()
	here := newPlace(t)
	defer here.leave(t)
	for _, hundred := range []int{0, 1000, 1100, 1200, 2000, 2100, 2200, 65500} {
		for code := hundred; code < min(hundred+100, 1<<16); code++ {
			for _, payload := range []int{0, 64} {
				frame := binary.LittleEndian.AppendUint16([]byte{v4.Version}, uint16(code))
				frame = append(binary.LittleEndian.AppendUint32(frame, uint32(payload)), make([]byte, payload)...)
				heard, _ := here.converse(t, here.fuzzer, conversation{first: frame, last: said(&v4.Bye{})}, waitsForAnswers)
				got, err := answers(heard, nil)
				if err != nil || len(got) < 2 || got[0] != v4.CodeWelcome {
					t.Fatalf("%d is answered by %d, %v", code, got, err)
				}
				isMessage := code == int(v4.CodePing) || code >= int(v4.CodeOffer) && code <= int(v4.CodeCopy)
				if end := got[len(got)-1]; end != v4.CodeRefusal && !isMessage {
					t.Errorf("%d is answered by %d, want the session ended", code, got[1:])
				}
			}
		}
	}
}

// answers returns the codes of what the server said, but of those which come as it
// happens, and an error unless all of it is frames.
func answers(heard []byte, want []v4.Code) (codes []v4.Code, err error) {
	for r := v4.NewReader(bytes.NewReader(heard)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return codes, nil
		}
		if err == nil {
			_, err = r.Message(h)
		}
		if err != nil {
			return codes, err
		}
		switch {
		case h.Code == v4.CodeEarlier, h.Code == v4.CodeHeld, h.Code == v4.CodeWait:
		case h.Code == v4.CodeAccept && !slices.Contains(want, h.Code): // the kit has what follows come too early
		default:
			codes = append(codes, h.Code)
		}
	}
}

// conversation is what a client says after its hello.
type conversation struct {
	name               string
	first, aside, last []byte
	answers            []v4.Code // to it and the hello
	asideAnswers       []v4.Code
}

// conversations are those of the test kit, and those that need what a place has, or a
// further connection.
func conversations(t testing.TB) []conversation {
	t.Helper()
	end := func(of []byte) *v4.Block { return &v4.Block{Number: 1, Offset: chunk, Data: of[chunk:]} }
	two := append([]byte(nil), "two at a time"...)
	all := []conversation{{
		name:    "all of the version before",
		first:   said(offer(1, "old", oldContent), &v4.Copy{Number: 1, Chunks: []uint32{0, 1}}, finish(1, oldContent), &v4.Bye{}),
		answers: []v4.Code{v4.CodeWelcome, v4.CodeAccept, v4.CodeReceived, v4.CodeFarewell},
	}, {
		name: "a chunk of the version before, and another that differs first",
		first: said(offer(1, "old", newContent), &v4.Copy{Number: 1, Chunks: []uint32{0}}, end(oldContent), finish(1, newContent),
			&v4.Resend{Number: 1, Chunks: []uint32{1}}, end(newContent), finish(1, newContent), &v4.Bye{}),
		answers: []v4.Code{v4.CodeWelcome, v4.CodeAccept, v4.CodeDiffers, v4.CodeReceived, v4.CodeFarewell},
	}, {
		name:    "an interrupted upload",
		first:   said(offer(1, "half", newContent), end(newContent), finish(1, newContent), &v4.Bye{}),
		answers: []v4.Code{v4.CodeWelcome, v4.CodeAccept, v4.CodeReceived, v4.CodeFarewell},
	}, {
		name:         "an interrupted upload with the rest over a further connection",
		first:        said(offer(1, "half", newContent)),
		aside:        said(&v4.Attach{Number: 1, Upload: opened}, end(newContent), &v4.Barrier{Serial: 1}, &v4.Bye{}),
		last:         said(finish(1, newContent), &v4.Bye{}),
		answers:      []v4.Code{v4.CodeWelcome, v4.CodeAccept, v4.CodeReceived, v4.CodeFarewell},
		asideAnswers: []v4.Code{v4.CodeWelcome, v4.CodeAttached, v4.CodeReached, v4.CodeFarewell},
	}, {
		name:    "a held chunk that is to come again",
		first:   said(offer(1, "half", newContent), &v4.Resend{Number: 1, Chunks: []uint32{0}}, finish(1, newContent), &v4.GiveUp{Number: 1}, &v4.Bye{}),
		answers: []v4.Code{v4.CodeWelcome, v4.CodeAccept, v4.CodeMissing, v4.CodeEnded, v4.CodeFarewell},
	}, {
		name: "two at a time, of which one is given up",
		first: said(offer(1, "x", two), offer(2, "y", two), &v4.Block{Number: 2, Data: two[:5]}, &v4.Block{Number: 1, Data: two},
			&v4.Block{Number: 2, Offset: 5, Data: two[5:]}, finish(2, two), &v4.GiveUp{Number: 1}, &v4.Bye{}),
		answers: []v4.Code{v4.CodeWelcome, v4.CodeAccept, v4.CodeAccept, v4.CodeReceived, v4.CodeEnded, v4.CodeFarewell},
	}, {
		name:    "reading the end of what stands there",
		first:   said(&v4.List{Number: 1, Limit: 10}, &v4.Fetch{Number: 2, Offset: chunk - 1, Path: "old"}, &v4.Bye{}),
		answers: []v4.Code{v4.CodeWelcome, v4.CodeEntries, v4.CodeFile, v4.CodeData, v4.CodeDataEnd, v4.CodeFarewell},
	}}
	kit, err := filepath.Glob("../../wire/v4/testdata/kit/conversation-*")
	if err != nil || len(kit) == 0 {
		t.Fatalf("no conversations to begin from: %v", err)
	}
	for _, file := range kit {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := conversation{name: filepath.Base(file)}
		header, said, _ := bytes.Cut(data, []byte("\n\n"))
		for line := range strings.Lines(string(header)) {
			_, answers, _ := strings.Cut(line, " bytes, answered by ")
			for _, answer := range strings.Fields(answers) {
				code, _, _ := strings.Cut(answer, ":")
				n, err := strconv.ParseUint(code, 10, 16)
				if err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				c.answers = append(c.answers, v4.Code(n))
			}
		}
		hello := v4.HeaderSize + int(binary.LittleEndian.Uint32(said[3:]))
		c.first = said[hello:]
		all = append(all, c)
	}
	return all
}

func said(messages ...any) (b []byte) {
	for _, m := range messages {
		b = v4.Append(b, m)
	}
	return b
}

func offer(number uint32, path string, content []byte) *v4.Offer {
	return &v4.Offer{Number: number, Size: uint64(len(content)), Mode: 0o600, Path: path}
}

func finish(number uint32, content []byte) *v4.Finish {
	return &v4.Finish{Number: number, Digest: blake3.Sum256(content)}
}
