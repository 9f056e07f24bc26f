package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"fenc/config/need"
	"fenc/modes"
)

// message is a JSON line, of which this is looked at.
type message struct {
	MessageType   string   `json:"message_type"`
	Name          string   `json:"name"`
	Result        string   `json:"result"`
	Message       string   `json:"message"`
	Fatal         bool     `json:"fatal"`
	PercentDone   *float64 `json:"percent_done"`
	ExitStatus    int      `json:"exit_status"`
	FilesVerified int64    `json:"files_verified"`
	TotalFiles    int64    `json:"total_files"`
	FilesFailed   int64    `json:"files_failed"`
	BytesSent     int64    `json:"bytes_sent"`
	Explain       *struct {
		Text string `json:"text"`
	} `json:"explain"`
}

// messages checks each line against the schema that is documented.
func messages(t *testing.T, text string) (all []message) {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	schema, err := compiler.Compile(filepath.Join(sourceDir, "examples", "messages.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err == nil {
			err = schema.Validate(value)
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		var m message
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, m)
	}
	done := 0.0
	for i, m := range all {
		if (m.MessageType == "summary") != (i == len(all)-1) {
			t.Errorf("line %d of %d is a %s, want the summary at the end alone", i+1, len(all), m.MessageType)
		}
		if m.MessageType == "status" && m.PercentDone != nil {
			if *m.PercentDone < done || *m.PercentDone == 1 && m.FilesVerified < m.TotalFiles {
				t.Errorf("percent_done: got %v behind %v, want it to rise and to be 1 only when all is verified", *m.PercentDone, done)
			}
			done = *m.PercentDone
		}
	}
	return all
}

// summed is the last of messages.
func summed(t *testing.T, r result, status int) message {
	t.Helper()
	all := messages(t, r.out)
	if len(all) == 0 {
		t.Fatalf("no lines; it said %q", r.errors)
	}
	last := all[len(all)-1]
	if r.status != status || last.ExitStatus != status {
		t.Errorf("exit status: got %d, and %d in the summary, want %d; it said\n%s%s", r.status, last.ExitStatus, status, r.out, r.errors)
	}
	return last
}

// results are the lines of files, in the order of their names.
func results(t *testing.T, text string) string {
	t.Helper()
	var all []string
	for _, m := range messages(t, text) {
		if m.MessageType == "file" {
			all = append(all, m.Name+" "+m.Result)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func TestJSONLinesAreAsDocumented(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	settings := write(t, path("transfer.toml"), fmt.Sprintf("server = %q\nname = \"grace\"\n", d.addr))
	send := func(args ...string) result {
		return fenc(t.Context(), strings.NewReader(""), append([]string{"send", "--config", settings, "--json"}, args...)...)
	}
	for _, name := range []string{"a", "b"} {
		write(t, path(name), name)
	}
	if err := os.Mkdir(path("folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(path("folder"), "link")); err != nil {
		t.Skip(err)
	}
	r := send("--accept-new", path("a"), path("folder"), path("gone"))
	if got, want := results(t, r.out), path("gone")+" failed, a verified"; got != want {
		t.Errorf("files: got %q, want %q", got, want)
	}
	if m := summed(t, r, 1); m.FilesVerified != 1 || m.FilesFailed != 1 || m.BytesSent != 1 {
		t.Errorf("summary: got %+v", m)
	}
	for _, want := range []string{`{"message_type":"skipped","name":"` + path("folder"), `{"message_type":"error","message":"1 of 2 files not verified","fatal":true}`} {
		if !strings.Contains(r.out, want) {
			t.Errorf("got\n%s\nwant %s in it", r.out, want)
		}
	}

	write(t, path("big"), string(bytes.Repeat([]byte("0123456789abcdef"), 5<<16)))
	r = send("--explain", "--bwlimit", "512K", path("big"), path("a"), path("b")) // 10 s, of which it must be more than half
	if got, want := results(t, r.out), "a unchanged, b verified, big verified"; got != want {
		t.Errorf("files: got %q, want %q", got, want)
	}
	if m := summed(t, r, 0); m.Explain == nil || !strings.Contains(m.Explain.Text, "the bandwidth limit (bwlimit) held it back") || m.FilesVerified != 3 {
		t.Errorf("summary: got %+v, want what held it back", m)
	}
	if !slices.ContainsFunc(messages(t, r.out), func(m message) bool { return m.MessageType == "status" && m.PercentDone != nil }) {
		t.Errorf("got no status in\n%s", r.out)
	}
	r = send("--quiet", "--bwlimit", "4M", "--checksum", write(t, path("other"), strings.Repeat("x", 6<<20)))
	summed(t, r, 0)
	if strings.Contains(r.out, `"status"`) {
		t.Errorf("--quiet: got\n%s\nwant no status", r.out)
	}
	r = send("--dry-run", path("a"))
	summed(t, r, 0)
	if want := fmt.Sprintf(`{"message_type":"would_send","path":%q,"name":"a","remove":false}`, path("a")); !strings.HasPrefix(r.out, want) {
		t.Errorf("--dry-run: got\n%s\nwant %s", r.out, want)
	}

	back := func(args ...string) result {
		return fenc(t.Context(), nil, append([]string{"get", "--config", settings, "--json", "--dir", path("back")}, args...)...)
	}
	r = back("--explain", "big", "b", "nothing")
	if got, want := results(t, r.out), "b verified, big verified, nothing failed"; got != want {
		t.Errorf("get: got %q, want %q", got, want)
	}
	summed(t, r, 1)
	r = back("b")
	if got := results(t, r.out); got != "b unchanged" {
		t.Errorf("get again: got %q, want unchanged", got)
	}

	r = fenc(t.Context(), nil, "send", "--config", settings, "--protocol", "3", "--me", path("me3.toml"), "--name", "grace3", "--json", path("b"))
	if got := results(t, r.out); got != "b verified" || !strings.Contains(r.out, `"crc32":"`) {
		t.Errorf("protocol 3: got\n%s%s\nwant verified, with its checksum", r.out, r.errors)
	}
	r = send("--server", need.DeadAddress(t), path("b"))
	if m := messages(t, r.out); r.status != 1 || len(m) < 2 || !m[len(m)-2].Fatal || !strings.Contains(m[len(m)-2].Message, "nothing listens there") {
		t.Errorf("no server: got %d and\n%s\nwant 1 and why", r.status, r.out)
	}
}

func TestQuietIsQuiet(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir := t.TempDir()
	settings := write(t, filepath.Join(dir, "transfer.toml"), fmt.Sprintf("server = %q\nname = \"grace\"\n", d.addr))
	a, gone := write(t, filepath.Join(dir, "a"), "a"), filepath.Join(dir, "gone")
	fenc(t.Context(), nil, "send", "--config", settings, "--accept-new", a).want(t, 0)
	write(t, a, "b")
	for _, args := range [][]string{{"send", "-q", "--config", settings, a}, {"get", "--quiet", "--config", settings, "--dir", filepath.Join(dir, "back"), "a"}} {
		if r := fenc(t.Context(), nil, args...); r.status != 0 || r.out+r.errors != "" {
			t.Errorf("%q: got %d, %q and %q, want nothing", args, r.status, r.out, r.errors)
		}
	}
	r := fenc(t.Context(), nil, "send", "--quiet", "--config", settings, a, gone)
	want := fmt.Sprintf("fenc: %s not verified: no such file or directory\nfenc: send: 1 of 2 files not verified\n", gone)
	if r.status != 1 || r.out != "" || r.errors != want {
		t.Errorf("got %d, %q and %q, want %q on standard error alone", r.status, r.out, r.errors, want)
	}
}

// A file that was interrupted was said to be "not verified: context canceled".
func TestInterruptedFilesSaySo(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t)
	way := newRelay(t)
	way.server.Store(&d.addr)
	big := write(t, filepath.Join(dir, "big"), strings.Repeat("x", 4<<20))
	check := func(again string, args ...string) {
		t.Helper()
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		way.after(1<<20, interrupt)
		r := fenc(ctx, nil, append([]string{args[0], "--config", settings, "--server", way.Addr().String(), "--bwlimit", "2M"}, args[1:]...)...)
		r.want(t, 130, again)
		if strings.Contains(r.out+r.errors, "context") {
			t.Errorf("%q: got\n%s%s\nwant plain words", args, r.out, r.errors)
		}
	}
	check("not verified: interrupted: send again to go on", "send", big)
	check(`"error":"interrupted: send again to go on"`, "send", "--json", big)
	fenc(t.Context(), nil, "send", "--config", settings, big).want(t, 0)

	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, ended := newOutput(), make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx, []string{"fenc", "get", "--config", settings, "--json", "--bwlimit", "64K", "--dir", filepath.Join(dir, "back"), "big"}, modes.Streams{Out: out, Err: io.Discard})
	}()
	out.await(t, `"current_files":\[\{"name":"big"`, ended)
	interrupt()
	out.await(t, `"error":"interrupted: get again to go on"`, ended)
	<-ended
}
