//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A gate that says no to VIRUS, fails at BROKEN, hangs at HANG until there is a
// file called go, and counts what it is asked.
const gateScript = `cat > asked.$$
echo "$FENC_EVENT $FENC_CLIENT $FENC_NAME $FENC_SIZE $(wc -c < asked.$$)" >> asked
if grep -q VIRUS asked.$$; then echo "found a virus"; exit 1; fi
if grep -q BROKEN asked.$$; then exit 2; fi
if grep -q HANG asked.$$ && [ ! -e go ]; then
	echo $$ > hangs
	until [ -e go ]; do sleep 0.05; done
fi
exit 0`

// gated is content of so many bytes with a word in it.
func gated(word string, size int) string { return word + strings.Repeat(".", size-len(word)) }

// nothingStands checks that a refused upload has left nothing.
func (h *hooked) nothingStands(name string) {
	h.t.Helper()
	if r := h.operator("uploads", "--json"); r.out != "" {
		h.t.Errorf("an upload is left: %s", r.out)
	}
	h.nothingKept(name)
}

// nothingKept waits until there is no file, nor an object of one. The client, which gave
// up, may have begun to send again, and the gate be asked about that.
func (h *hooked) nothingKept(name string) {
	h.t.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		kept := h.kept(name)
		if len(kept) == 0 {
			return
		}
		if time.Now().After(late) {
			h.t.Fatal(strings.Join(kept, "\n"))
		}
	}
}

// kept says what there is of a file.
func (h *hooked) kept(name string) (what []string) {
	h.t.Helper()
	if _, err := os.Lstat(filepath.Join(h.dir, "files", "grace", name)); err == nil {
		what = append(what, name+" is in the tree")
	}
	if r := h.operator("files", "--json"); strings.Contains(r.out, `"name":"`+name+`"`) {
		what = append(what, "the catalogue has "+name+": "+r.out)
	}
	if r := h.operator("uploads", "--json"); strings.Contains(r.out, `"sealing"`) {
		what = append(what, "a sealed upload is left: "+r.out)
	}
	left, err := filepath.Glob(filepath.Join(h.dir, "files", ".fenc", "objects", "*", "*"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, path := range left {
		if text, err := os.ReadFile(path); err == nil && regexp.MustCompile(`^(VIRUS|BROKEN|HANG)`).Match(text) {
			what = append(what, "its bytes are left in "+path)
		}
	}
	return what
}

const wholeFrame, byBlocks = 100, 3 << 20 // bytes of a file that goes in one frame, and in several chunks

func TestGate(t *testing.T) {
	t.Parallel()
	h := newHooked(t, gateScript, `gate_command = ["DIR/hook.sh"]`)
	for _, size := range []int{wholeFrame, byBlocks} {
		name := fmt.Sprint(size)
		send := func(content string, args ...string) result {
			t.Helper()
			write(t, filepath.Join(h.home, name), content)
			return h.send(append(args, "--retry-for", "1ms", "./"+name)...)
		}
		send(gated("VIRUS", size)).want(t, 3, "the operator's gate refuses this content", "ask the server's operator")
		h.nothingStands(name)
		send(gated("BROKEN", size)).want(t, 1, "the operator's gate was not available")
		h.nothingKept(name)
		asked := func() int {
			return strings.Count(readFile(t, filepath.Join(h.dir, "asked")), fmt.Sprintf("gate grace %s %d %d\n", name, size, size))
		}
		before := asked()
		send(gated("fine", size)).want(t, 0, "verified")
		if asked() == before {
			t.Errorf("%s: verified, and the gate was not asked", name)
		}
		send(gated("fine", size)).want(t, 0, "unchanged")
		if got := readFile(t, filepath.Join(h.dir, "files", "grace", name)); got != gated("fine", size) {
			t.Errorf("%s: got %d bytes, want what was sent", name, len(got))
		}
		// What is refused takes nobody's place.
		send(gated("VIRUS", size)).want(t, 3, "gate refuses")
		if got := readFile(t, filepath.Join(h.dir, "files", "grace", name)); got != gated("fine", size) {
			t.Errorf("%s: got %.20q, want what was there", name, got)
		}
		if n := asked(); n < 3 {
			t.Errorf("the gate was asked %d times, want once at least for each content that it has an answer to", n)
		}
	}
	h.server.log.await(t, `msg=gate client=grace file=100 bytes=100 seconds=\S+ output="found a virus" verdict=no`, h.server.ended)
	h.server.log.await(t, `msg=gate .* verdict=none reason="gate_command: exit status 2"`, h.server.ended)
	h.stop()
}

// A gate that takes too long is as one that is not there. Its time is short here: no
// other content is shown to it, whose answer could come late on a busy machine.
func TestGateThatHangs(t *testing.T) {
	t.Parallel()
	h := newHooked(t, gateScript, `gate_command = ["DIR/hook.sh"]`, `gate_timeout = "1s"`)
	for _, size := range []int{wholeFrame, byBlocks} {
		name := fmt.Sprint(size)
		write(t, filepath.Join(h.home, name), gated("HANG", size))
		h.send("--retry-for", "1ms", "./"+name).want(t, 1, "the operator's gate was not available")
		h.nothingKept(name)
	}
	h.server.log.await(t, `msg=gate .* verdict=none reason="gate_command: no end within 1s"`, h.server.ended)
	h.stop()
}

// Of many small files the gate takes out those that it refuses, and hooks hear of
// the others.
func TestGateAndManySmallFiles(t *testing.T) {
	t.Parallel()
	h := newHooked(t, `[ "$FENC_EVENT" = gate ] || { echo "$FENC_NAME" >> told; exit 0; }
`+gateScript, `gate_command = ["DIR/hook.sh"]`, `hook_command = ["DIR/hook.sh"]`)
	if err := os.Mkdir(filepath.Join(h.home, "many"), 0o700); err != nil {
		t.Fatal(err)
	}
	const many = 40
	for i := range many {
		content := fmt.Sprint("fine", i)
		if i%10 == 3 {
			content = fmt.Sprint("VIRUS", i)
		}
		write(t, filepath.Join(h.home, "many", fmt.Sprint(i)), content)
	}
	r := h.send("many")
	r.want(t, 1, "gate refuses")
	if got := strings.Count(r.out, "  verified"); got != many-4 {
		t.Errorf("got %d verified, want %d:\n%s", got, many-4, r.out)
	}
	h.awaitEvents(none)
	if told := readFile(t, filepath.Join(h.dir, "told")); strings.Count(told, "\n") != many-4 || strings.Contains(told, "many/13\n") {
		t.Errorf("the hook was told of\n%s\nwant those that passed", told)
	}
	h.nothingStands("many/13")
	h.stop()
}

// By protocol 3 there is no word for it: the session ends without the last one, and
// the client takes the file for what it is, not verified.
func TestGateOfProtocol3(t *testing.T) {
	t.Parallel()
	h := newHooked(t, gateScript, `gate_command = ["DIR/hook.sh"]`)
	send := func(content string) result {
		write(t, filepath.Join(h.home, "a"), content)
		return start(t, h.home, nil, "send", "--server", h.addr, "--protocol", "3", "--name", "grace", "a").result(t)
	}
	send("VIRUS").want(t, 1)
	h.nothingStands("a")
	send("fine").want(t, 0, "verified")
	h.server.log.await(t, `verdict=failed reason="keep: the operator's gate refuses this content"`, h.server.ended)
	h.stop()
}

// A gate that is interrupted by the server's end is asked again by the next start,
// and its word holds then.
func TestGateAcrossACrash(t *testing.T) {
	t.Parallel()
	for _, size := range []int{wholeFrame, byBlocks} {
		for verdict, want := range map[string]string{"yes": "interrupted upload completed", "no": "interrupted upload removed: its sender was not told"} {
			t.Run(fmt.Sprintf("%d bytes, %s", size, verdict), func(t *testing.T) {
				t.Parallel()
				h := newHooked(t, "[ -e no ] && exit 1\n"+gateScript, `gate_command = ["DIR/hook.sh"]`)
				write(t, filepath.Join(h.home, "a"), gated("HANG", size))
				client := start(t, h.home, nil, "send", "--server", h.addr, "--accept-new", "--name", "grace", "--retry-for", "1ms", "a")
				pid := strings.TrimSpace(h.await("hangs", `\d+\n`)[0])
				h.operator("uploads").want(t, 0, "sealing")
				h.nothingShown("a")
				h.kill()
				awaitEndOf(t, pid)
				client.result(t).want(t, 1)
				write(t, filepath.Join(h.dir, map[string]string{"yes": "go", "no": "no"}[verdict]), "")
				h.start()
				h.server.log.await(t, want, h.server.ended)
				if verdict == "no" {
					h.nothingStands("a")
					h.stop()
					return
				}
				h.send("a").want(t, 0, "unchanged")
				if got := readFile(t, filepath.Join(h.dir, "files", "grace", "a")); got != gated("HANG", size) {
					t.Errorf("got %d bytes, want what was sent", len(got))
				}
				h.stop()
			})
		}
	}
}

func (h *hooked) nothingShown(name string) {
	h.t.Helper()
	if _, err := os.Lstat(filepath.Join(h.dir, "files", "grace", name)); err == nil {
		h.t.Errorf("%s is in the tree before the gate's word", name)
	}
}

// What a client sends after the crash is not replaced by what the gate lets pass
// later.
func TestGateDoesNotBringBackWhatIsOlder(t *testing.T) {
	t.Parallel()
	h := newHooked(t, gateScript, `gate_command = ["DIR/hook.sh"]`)
	write(t, filepath.Join(h.home, "a"), gated("HANG", byBlocks))
	client := start(t, h.home, nil, "send", "--server", h.addr, "--accept-new", "--name", "grace", "--retry-for", "1ms", "a")
	h.await("hangs", `\d+\n`)
	h.kill()
	client.result(t).want(t, 1)
	if err := os.Remove(filepath.Join(h.dir, "hangs")); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.await("hangs", `\d+\n`) // the gate looks at the old content again
	h.put("a", "newer")
	write(t, filepath.Join(h.dir, "go"), "")
	h.server.log.await(t, `interrupted upload removed.*reason="commit upload: a newer version is catalogued"`, h.server.ended)
	if got := readFile(t, filepath.Join(h.dir, "files", "grace", "a")); got != "newer" {
		t.Errorf("got %.20q, want what was sent last", got)
	}
	h.stop()
}

// A client that leaves while the gate is asked does not take the answer away.
func TestGateGoesOnWithoutItsClient(t *testing.T) {
	t.Parallel()
	h := newHooked(t, gateScript, `gate_command = ["DIR/hook.sh"]`)
	write(t, filepath.Join(h.home, "a"), gated("HANG", byBlocks))
	client := start(t, h.home, nil, "send", "--server", h.addr, "--accept-new", "--name", "grace", "a")
	pid := strings.TrimSpace(h.await("hangs", `\d+\n`)[0])
	client.signal(t, syscall.SIGKILL)
	awaitEndOf(t, pid) // it is asked anew
	h.nothingShown("a")
	write(t, filepath.Join(h.dir, "go"), "")
	h.server.log.await(t, "interrupted upload completed", h.server.ended)
	h.send("a").want(t, 0, "unchanged")
	h.stop()
}

func TestServerStopsWhileTheGateHangs(t *testing.T) {
	t.Parallel()
	h := newHooked(t, gateScript, `gate_command = ["DIR/hook.sh"]`, `shutdown_grace = "0s"`)
	write(t, filepath.Join(h.home, "a"), gated("HANG", wholeFrame))
	start(t, h.home, nil, "send", "--server", h.addr, "--accept-new", "--name", "grace", "--retry-for", "1ms", "a")
	pid := strings.TrimSpace(h.await("hangs", `\d+\n`)[0])
	begun := time.Now()
	h.stop()
	awaitEndOf(t, pid)
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("it took %s to stop", took)
	}
}
