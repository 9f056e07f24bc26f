package hostile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"fenc/modes/serve/servetest"
	"fenc/wire/v4"
)

// croc wrote files that nobody had asked for.
func TestGetWritesOnlyAsked(t *testing.T) {
	t.Parallel()
	for _, asked := range []string{"a", "folder", "folder/c"} {
		t.Run(asked, func(t *testing.T) {
			t.Parallel()
			l := &lie{frames: answering(func(s *told, m *v4.List) bool { // all that it has, whatever was asked for
				all := *m
				all.Prefix = ""
				s.say(s.listed(&all))
				return true
			})}
			server := l.listen(t)
			dir := settings(t, server.Addr().String(), server.id.Fingerprint(), "")
			before := snapshot(t, dir)
			if status := fenc(t.Context(), io.Discard, "", "get", "--config", filepath.Join(dir, "transfer.toml"), "--dir", filepath.Join(dir, "to"), asked); status == 0 {
				t.Error("a list of what was not asked for is taken")
			}
			close(server.done)
			for path := range snapshot(t, dir) {
				rel := strings.TrimSuffix(strings.TrimPrefix(path, "to/"), "/")
				if _, was := before[path]; !was && rel != asked && !strings.HasPrefix(asked, rel+"/") && !strings.HasPrefix(rel, asked+"/") {
					t.Errorf("%s is there, and was not asked for", path)
				}
			}
		})
	}
}

// scp's servers changed the mode of the directory that was copied into.
func TestGetKeepsDirectoryMode(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits here")
	}
	server := (&lie{}).listen(t)
	dir := settings(t, server.Addr().String(), server.id.Fingerprint(), "")
	to := filepath.Join(dir, "to")
	must(t, os.Mkdir(filepath.Join(to, "folder"), 0o710))
	old := time.Unix(1e9, 0)
	for folder, mode := range map[string]os.FileMode{to: 0o701, filepath.Join(to, "folder"): 0o710 | os.ModeSticky} {
		must(t, os.Chmod(folder, mode))
		must(t, os.Chtimes(folder, old, old))
	}
	before := snapshot(t, dir)
	if status := fenc(t.Context(), io.Discard, "", "get", "--config", filepath.Join(dir, "transfer.toml"), "--dir", to, "."); status != 0 {
		t.Errorf("exit status %d", status)
	}
	close(server.done)
	after := snapshot(t, dir)
	for _, folder := range []string{"to/", "to/folder/"} {
		if after[folder] != before[folder] {
			t.Errorf("%s has the mode %s, had %s", folder, after[folder], before[folder])
		}
	}
	if after["to/folder/c"] != "c" {
		t.Error("the file is not there")
	}
}

// Zip slip, and what Syncthing and rclone had of it: a link in the place of a folder,
// however deep and wherever it leads.
func TestGetThroughSymlinkedDir(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"../../outside", "/", ".", "..", "folder", "nowhere"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			server := (&lie{}).listen(t)
			server.files = map[string]string{"deep/er/folder/x": "x", "fine": "fine"}
			dir := settings(t, server.Addr().String(), server.id.Fingerprint(), "")
			must(t, os.Mkdir(filepath.Join(dir, "outside"), 0o700))
			must(t, os.MkdirAll(filepath.Join(dir, "to", "deep"), 0o700))
			must(t, os.Symlink(target, filepath.Join(dir, "to", "deep", "er")))
			want := snapshot(t, dir)
			want["to/fine"] = "fine"
			var out output
			if status := fenc(t.Context(), &out, "", "get", "--config", filepath.Join(dir, "transfer.toml"), "--dir", filepath.Join(dir, "to"), "."); status != 1 || !strings.Contains(out.String(), "is no folder") {
				t.Errorf("exit status %d: %s", status, out.String())
			}
			close(server.done)
			if got := snapshot(t, dir); !maps.Equal(got, want) {
				t.Errorf("its directory has %s, want %s", sizes(got), sizes(want))
			}
		})
	}
}

// MinIO took a backslash for a separator. It is a letter as any other where the
// system takes it for one, and no name at all where it does not.
func TestBackslash(t *testing.T) {
	t.Parallel()
	names := []string{`a\b`, `..\..\x`, `\\host\share\x`, `C:\x`, `\`}
	s := serveTarget(t)
	c := s.newClient(t, "grace")
	l := c.session(t)
	kept := make(map[string]string)
	for i, name := range names {
		l.keeps(uint32(i+1), name, name)
		kept[name] = name
	}
	l.says(small(9, `a/b`, "another")) // which is another file
	l.received(9, "another")
	kept["a/b"] = "another"
	l.bye()
	s.wantFolder(t, "grace", kept)

	server := (&lie{}).listen(t)
	server.files = kept
	dir := settings(t, server.Addr().String(), server.id.Fingerprint(), "")
	status := fenc(t.Context(), io.Discard, "", "get", "--config", filepath.Join(dir, "transfer.toml"), "--dir", filepath.Join(dir, "to"), ".")
	close(server.done)
	got := snapshot(t, filepath.Join(dir, "to"))
	if runtime.GOOS == "windows" {
		if status != 1 || len(got) != 3 { // the folder itself, a and a/b
			t.Errorf("exit status %d, %s", status, sizes(got))
		}
		return
	}
	for name, content := range kept {
		if got[name] != content {
			t.Errorf("%q: got %q", name, got[name])
		}
	}
	if status != 0 || len(got) != len(kept)+2 {
		t.Errorf("exit status %d, %s", status, sizes(got))
	}
}

// croc printed names with escapes. Whoever chose a name, it acts on no terminal, in
// no table, no JSON and no log of either format.
func TestNoRawEscapes(t *testing.T) {
	t.Parallel()
	const spiteful = "\u202egpj.\u2066x\u200b\U000e0041" // all that a path may have; controls it may not
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			must(t, os.Chmod(dir, 0o700))
			must(t, os.WriteFile(filepath.Join(dir, "server.toml"), fmt.Appendf(nil,
				"listen = \"127.0.0.1:0\"\nlog_level = \"debug\"\nlog_format = %q\nregistration = \"open\"\nconfine = false\nstorage = \"files\"\ndatabase = \"fenc.db\"\n", format), 0o600))
			config := filepath.Join(dir, "server.toml")
			ctx, cancel := context.WithCancel(t.Context())
			log := servetest.NewLog()
			ended := make(chan int, 1)
			go func() {
				ended <- fenc(ctx, log, "", "serve", "--config", config)
			}()
			defer func() { cancel(); <-ended }()
			line := log.Await(t, "SHA256:")
			address := regexp.MustCompile(`127\.0\.0\.1:\d+`)
			for address.FindString(line) == "" {
				line = log.Await(t, "127.0.0.1:")
			}
			s := &target{addr: address.FindString(line)}
			c := s.newClient(t, spiteful)
			l := c.session(t)
			l.keeps(1, spiteful, "content")
			l.says(small(2, "../"+spiteful, "x"), small(3, spiteful+"/x", "x"), smallWith(4, spiteful, "x", v4.Digest{}))
			for range 3 {
				l.gets(2110)
			}
			l.says(frame(1114, make([]byte, 3))) // ends the session
			l.ended(7)
			log.Await(t, "session ended", "gpj")
			for _, evilName := range []string{spiteful + "\x1b[2J", "\u009b31m" + spiteful} {
				l := s.newClient(t, evilName).connect(t)
				l.hello()
				l.ended(7)
			}
			p := s.dial(t)
			must(t, write(p, []byte("GET /\x1b[2J\u202e HTTP/1.1\r\n\r\n")))
			wantClosed(t, p)
			log.Await(t, "HTTP")
			for _, args := range [][]string{{"files"}, {"files", "--json"}, {"clients"}, {"clients", "--json"}, {"check"}, {"uploads"}, {"uploads", "--json"}} {
				args = append(args, "--config", config)
				var out output
				fenc(t.Context(), &out, "", args...)
				said := out.String()
				wantPlain(t, said)
				if args[1] == "--json" && args[0] != "uploads" {
					var line struct{ Name, Client string }
					if err := json.Unmarshal([]byte(strings.SplitN(said, "\n", 2)[0]), &line); err != nil || line.Name != spiteful {
						t.Errorf("%q: reads back as %+q, %v", args, line.Name, err)
					}
				}
			}
			wantPlain(t, strings.ReplaceAll(log.String(), dir, ""))
		})
	}
}
