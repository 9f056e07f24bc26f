package v4_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"fenc/wire/v4"
	"fenc/wire/v4/tree"
)

// fenced returns the blocks of PROTOCOL.md that are fenced with this word, each
// under what follows the word.
func fenced(t *testing.T, word string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := make(map[string]string)
	for _, part := range strings.Split(string(text), "\n```"+word)[1:] {
		head, body, _ := strings.Cut(part, "\n")
		body, _, closed := strings.Cut(body, "```")
		head = strings.TrimSpace(head)
		if _, twice := blocks[head]; twice || !closed {
			t.Fatalf("block %s %s stands there twice or has no end", word, head)
		}
		blocks[head] = body
	}
	return blocks
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return b
}

// sequence is the 16 bytes first, first+step, …
func sequence(first, step int) (id [16]byte) {
	for i := range id {
		id[i] = byte(first + i*step)
	}
	return id
}

// What each frame of part 16 says by its comments.
func messages() map[v4.Code]any {
	hello := v4.Digest(tree.Sum([]byte("hello"), 0, true))
	upload, instance := v4.ID(sequence(0xff, -0x11)), v4.ID(sequence(0, 0x11))
	const modified, mode, path = 1767323045e9, 0o644, "a/b.txt"
	key := v4.Digest(mustFingerprint("SHA256:oFCDfYUHBYLM9zlLCYiEfMMSy4glm4lImfbyOc8XkaU"))
	content := pattern(2<<20 + 1)
	first, second := v4.Digest(tree.Sum(content[:1<<20], 0, false)), v4.Digest(tree.Sum([]byte{0}, 1<<20, false))
	third := v4.Digest(tree.Sum(content[2<<20:], 2<<20, false))
	return map[v4.Code]any{
		1100: &v4.Hello{Wishes: v4.RightSend | v4.RightRead | v4.RightReplace, Instance: instance, Epoch: 1, Token: v4.Token(sequence(0x10, 1)), Name: "grace", Software: "tiny/1"},
		1103: &v4.Offer{Number: 1, Flags: v4.OfferDigest | v4.OfferWhole, Size: 5, ModTime: modified, Mode: mode, Digest: hello, Path: path},
		1105: &v4.Resend{Number: 2, Chunks: []uint32{0, 3}},
		1106: &v4.GiveUp{Number: 2},
		1107: &v4.Attach{Number: 3, Upload: upload},
		1108: &v4.Block{Number: 2, Offset: 2 << 20, Data: []byte("hello")},
		1109: &v4.Barrier{Serial: 9},
		1110: &v4.Finish{Number: 2, Digest: hello},
		1111: &v4.Small{Number: 4, ModTime: modified, Mode: mode, Digest: hello, Path: path, Data: []byte("hello")},
		1112: &v4.List{Number: 5, Limit: 100, Prefix: "a", After: "a/aaa.txt"},
		1113: &v4.Fetch{Number: 6, Offset: 2, Digest: hello, Path: path},
		1114: &v4.Ping{Value: 0x0102030405060708},
		1115: &v4.Bye{},
		1116: &v4.Copy{Number: 2, Chunks: []uint32{5}},
		2100: &v4.Welcome{
			Rights: v4.RightSend | v4.RightRead | v4.RightReplace, ClientID: v4.ID(sequence(0x0f, -1)), WindowFiles: 1024, WindowBytes: 8 << 20,
			Quota: 1 << 30, UsedBytes: 5, UsedFiles: 1, Name: "grace", Software: "fenc/4.0.0", NextKeys: []v4.Digest{key},
		},
		2101: &v4.Refusal{Reason: v4.ReasonStopping, Again: true, Text: "shutting down"},
		2103: &v4.Received{Number: 4, Unchanged: true, Size: 5, Digest: hello},
		2104: &v4.Ended{Number: 2},
		2105: &v4.Accept{Number: 2, Upload: upload, ChunkSize: 1 << 20, Held: []v4.HeldHash{{Chunk: 2, Hash: third}}},
		2106: &v4.Earlier{Number: 2, ChunkSize: 1 << 20, Size: 1<<20 + 1, Hashes: []v4.Digest{first, second}},
		2107: &v4.Attached{Number: 3},
		2108: &v4.Missing{Number: 2, Chunks: []uint32{4}},
		2109: &v4.Differs{Number: 2, Hashes: []v4.Digest{v4.Digest(tree.Sum(content[:1<<20], 0, true))}},
		2110: &v4.Refused{Number: 6, Reason: v4.ReasonNotFound, Text: "no such file"},
		2111: &v4.Held{Number: 2, Bytes: 64 << 20},
		2112: &v4.Reached{Serial: 9},
		2113: &v4.Entries{Number: 5, More: true, Entries: []v4.Entry{{Size: 5, ModTime: modified, Received: modified + 1e9, Mode: mode, Digest: hello, Path: path}}},
		2114: &v4.File{Number: 6, Size: 5, ModTime: modified, Mode: mode, Digest: hello},
		2115: &v4.Data{Number: 6, Offset: 2, Data: []byte("llo")},
		2116: &v4.DataEnd{Number: 6},
		2117: &v4.Pong{Value: 0x0102030405060708},
		2118: &v4.Wait{Number: 2},
		2120: &v4.Farewell{},
	}
}

func mustFingerprint(text string) v4.Fingerprint {
	f, err := v4.ParseFingerprint(text)
	if err != nil {
		panic(err)
	}
	return f
}

func TestFramesOfTheSpecification(t *testing.T) {
	t.Parallel()
	blocks := fenced(t, "frame")
	for code := range v4.Code(1 << 15) { // every one that there is has its frame
		_, err := v4.Unmarshal(code, nil)
		_, has := blocks[code.String()]
		if known := err == nil || !strings.Contains(err.Error(), "unknown code"); known != has {
			t.Errorf("code %s: known %v, in the specification %v", code, known, has)
		}
	}
	for code, want := range messages() {
		frame := unhex(t, blocks[code.String()])
		r := v4.NewReader(bytes.NewReader(frame))
		h, err := r.Next()
		if err != nil || h.Code != code {
			t.Errorf("%s: header %v, %v", code, h, err)
			continue
		}
		got, err := r.Message(h)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", code, got, err, want)
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%s: something follows the frame: %v", code, err)
		}
		if again := v4.Append(nil, want); !bytes.Equal(again, frame) {
			t.Errorf("%s is written as\n%x, want\n%x", code, again, frame)
		}
		for n := range len(frame) - v4.HeaderSize {
			if _, err := v4.Unmarshal(code, frame[v4.HeaderSize:v4.HeaderSize+n]); err == nil && !hasContent(code, n) {
				t.Errorf("%s: %d bytes of %d are a message", code, n, len(frame)-v4.HeaderSize)
			}
		}
	}
	if n := len(messages()); len(blocks) != n {
		t.Errorf("%d frames, want %d", len(blocks), n)
	}
}

// hasContent reports whether the first n bytes of a vector's payload are a message
// with less content.
func hasContent(code v4.Code, n int) bool {
	return (code == v4.CodeBlock || code == v4.CodeData) && n >= 12 || code == v4.CodeSmall && n >= 4+8+2+32+9
}

func TestKeyOfTheSpecification(t *testing.T) {
	t.Parallel()
	fields := make(map[string]string)
	for line := range strings.Lines(fenced(t, "identity")[""]) {
		if f := strings.Fields(line); len(f) == 2 {
			fields[strings.TrimSuffix(f[0], "+")] += f[1]
		}
	}
	id, err := v4.ParseIdentity(fields["pkcs8"])
	if err != nil {
		t.Fatal(err)
	}
	if der, err := base64.StdEncoding.DecodeString(fields["pkcs8"]); err != nil || !bytes.HasSuffix(der, unhex(t, fields["seed"])) {
		t.Errorf("the PKCS#8 %x does not end in the seed", der)
	}
	if got := id.Fingerprint().String(); got != fields["fingerprint"] {
		t.Errorf("fingerprint %s, want %s", got, fields["fingerprint"])
	}
	if got := v4.ClientTLS(id, true).Certificates[0].Certificate[0]; !bytes.Equal(got, unhex(t, fields["certificate"])) {
		t.Errorf("certificate\n%x, want\n%s", got, fields["certificate"])
	}
	lines := strings.Fields(fenced(t, "invite")[""])
	for i, address := range []string{"files.example:7171", "[::1]:7171"} {
		want := v4.Invite{Address: address, Server: id.Fingerprint(), Token: sequence(0x10, 1)}
		if got, err := v4.ParseInvite(lines[i]); err != nil || got != want || want.Line() != lines[i] {
			t.Errorf("%s is read as %v, %v, and written as %s", lines[i], got, err, want.Line())
		}
	}
}

// pattern is 0 1 2 … 250 0 1 …
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func TestTreesOfTheSpecification(t *testing.T) {
	t.Parallel()
	blocks := fenced(t, "tree")
	if len(blocks) != 3 {
		t.Errorf("%d trees, want 3", len(blocks))
	}
	for size, text := range blocks {
		n, err := strconv.Atoi(size)
		if err != nil {
			t.Fatal(err)
		}
		content := pattern(n)
		var hashes []tree.Hash
		var digest string
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			switch f[0] {
			case "chunk":
				start := len(hashes) << 20
				hashes = append(hashes, tree.Sum(content[start:min(n, start+1<<20)], int64(start), n <= 1<<20))
				if got := fmt.Sprintf("%x", hashes[len(hashes)-1]); got != f[2] {
					t.Errorf("%d bytes: chunk %s: %s, want %s", n, f[1], got, f[2])
				}
			case "digest":
				digest = f[1]
			}
		}
		if got := fmt.Sprintf("%x", tree.Root(hashes)); got != digest || len(hashes) != tree.Chunks(int64(n), 1<<20) {
			t.Errorf("%d bytes: digest of %d chunks %s, want %s", n, len(hashes), got, digest)
		}
	}
}
