package hostile_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestKitConversations holds the conversations of the test kit for other
// implementations with a server (PROTOCOL.md, part 17).
func TestKitConversations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../wire/v4/testdata/kit/conversation-*")
	must(t, err)
	if len(files) < 30 {
		t.Fatalf("%d conversations, want 30 at least", len(files))
	}
	s := serveTarget(t)
	for i, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			must(t, err)
			header, said, ok := bytes.Cut(data, []byte("\n\n"))
			if !ok {
				t.Fatal("no empty line ends the header")
			}
			l := s.newClient(t, "").connect(t)
			first := true
			for line := range strings.Lines(string(header) + "\n") {
				step, isStep := strings.CutPrefix(line, "step: ")
				if !isStep {
					continue
				}
				var length int
				_, err := fmt.Sscanf(step, "%d bytes, answered by", &length)
				must(t, err)
				_, answers, _ := strings.Cut(strings.TrimSpace(step), "answered by ")
				sent := said[:length]
				said = said[length:]
				if first { // under a name of its own
					first = false
					sent = bytes.Replace(sent, text("kit"), text(fmt.Sprint("kit ", i)), 1)
					le.PutUint32(sent[3:], uint32(len(sent)-7))
				}
				l.says(sent)
				want := strings.Fields(answers)
				var got []string
				for len(got) < len(want) {
					code, payload, err := l.hears()
					must(t, err)
					if code == 2106 {
						continue
					}
					answer := fmt.Sprint(code)
					switch code {
					case 2101:
						answer = fmt.Sprintf("%d:%d", code, le.Uint16(payload))
					case 2110:
						answer = fmt.Sprintf("%d:%d", code, le.Uint16(payload[4:]))
					case 2105: // of a breach that follows, what came before may have been answered
						if slices.Contains(want, "2101:7") {
							continue
						}
					}
					got = append(got, answer)
				}
				if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
					t.Errorf("%q: got %q", strings.TrimSpace(step), got)
				}
			}
			if len(said) > 0 {
				t.Errorf("%d bytes belong to no step", len(said))
			}
			l.closed()
		})
	}
}
