package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fenc/model"
)

// lines reads JSON lines.
func lines[T any](t *testing.T, r result) (list []T) {
	t.Helper()
	r.want(t, 0)
	for line := range strings.Lines(r.out) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		list = append(list, v)
	}
	return list
}

type listedFile struct {
	Client, Name, Path string
	Version            int64
	Earlier            bool
}

func TestEarlierVersionsAreListedAndGot(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir(), "keep_versions = 2")
	dir, settings := d.join(t, "--name", "grace")
	for _, content := range []string{"one", "two", "three"} {
		write(t, filepath.Join(dir, "a.txt"), content)
		fenc(t.Context(), nil, "send", "--config", settings, filepath.Join(dir, "a.txt")).want(t, 0, "verified")
	}
	var got []string
	for _, f := range lines[listedFile](t, d.operator(t, "files", "--versions", "--json")) {
		got = append(got, fmt.Sprintf("%s %s %d %t", f.Client, f.Path, f.Version, f.Earlier))
	}
	if want := []string{"grace grace/a.txt 3 false", "grace  2 true", "grace  1 true"}; !slices.Equal(got, want) {
		t.Errorf("files --versions: got %q, want %q", got, want)
	}
	if got := lines[listedFile](t, d.operator(t, "files", "--json")); len(got) != 1 {
		t.Errorf("files: got %v, want the present version alone", got)
	}
	d.operator(t, "files", "--versions").want(t, 0, "(earlier version)")
	d.operator(t, "files", "get", "--version", "1", "--out", "-", "grace", "a.txt").want(t, 0, "one")
	out := filepath.Join(t.TempDir(), "back")
	d.operator(t, "files", "get", "--out", out, "grace", "a.txt").want(t, 0, "version 3, 5 bytes")
	if text := readFile(t, out); text != "three" {
		t.Errorf("got %q, want three", text)
	}
	d.operator(t, "files", "get", "--out", out, "grace", "a.txt").want(t, 1, "file exists", "--out")
	d.operator(t, "files", "get", "--version", "7", "grace", "a.txt").want(t, 1, `has no version 7 of "a.txt"`, "fenc files --versions")
	d.operator(t, "files", "get", "grace", "b.txt").want(t, 1, `has no file "b.txt"`)
	d.operator(t, "files", "get", "ada", "a.txt").want(t, 1, `no client is called "ada"`)
	d.operator(t, "files", "get", "--version", "0", "grace", "a.txt").want(t, 2, "versions count from 1")
	d.operator(t, "files", "gte").want(t, 2, `"files gte"`, `"fenc files get"`)

	catalogue, err := model.Open(filepath.Join(d.dir, "fenc.db"), model.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer catalogue.Close()
	f, err := catalogue.FileNamed("grace", "a.txt", 1)
	if err != nil {
		t.Fatal(err)
	}
	key := f.Object.String()
	object := filepath.Join(d.dir, "files", ".fenc", "objects", key[:2], key)
	d.operator(t, "check", "--deep").want(t, 0, "compared 1 file of 11 bytes with 3 objects: 0 differences")
	if err := os.WriteFile(object, []byte("eno"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.operator(t, "files", "get", "--version", "1", "--out", "-", "grace", "a.txt").want(t, 1, "damaged", "fenc check")
	d.operator(t, "check", "--deep").want(t, 1, "of its earlier version 1, its content is damaged")
	d.operator(t, "check", "--deep", "--repair").want(t, 0, "the version is forgotten")
	d.operator(t, "check", "--deep").want(t, 0, "compared 1 file of 8 bytes")

	// A lost database is made anew with the versions.
	d.stop(t)
	remove(t, filepath.Join(d.dir, "fenc.db"), object)
	d.operator(t, "check", "--rebuild").want(t, 0, "database made anew")
	d.operator(t, "files", "get", "--version", "2", "--out", "-", "grace", "a.txt").want(t, 0, "two")
	d.operator(t, "files", "get", "--out", "-", "grace", "a.txt").want(t, 0, "three")
}

func TestRetentionIsSetForOneClient(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir(), "expire_after = \"90d\"")
	dir, settings := d.join(t, "--name", "grace")
	d.operator(t, "clients", "retention", "grace").want(t, 0,
		"grace: 0 earlier versions kept (server.toml), files expire after 90d (server.toml), unfinished uploads stay 7d (server.toml)\n")
	d.operator(t, "clients", "retention", "--keep-versions", "1", "--expire-after", "0s", "--keep-partial", "2d", "grace").want(t, 0,
		"grace: 1 earlier versions kept, files never expire, unfinished uploads stay 2d\n")
	d.operator(t, "clients", "--json").want(t, 0, `"keep_versions":1,"expire_after":"0s","keep_partial":"2d"`)
	for _, content := range []string{"one", "two"} {
		write(t, filepath.Join(dir, "a.txt"), content)
		fenc(t.Context(), nil, "send", "--config", settings, filepath.Join(dir, "a.txt")).want(t, 0, "verified")
	}
	d.operator(t, "files", "get", "--version", "1", "--out", "-", "grace", "a.txt").want(t, 0, "one")
	d.operator(t, "clients", "retention", "--keep-versions", "server", "--expire-after", "server", "grace").want(t, 0,
		"0 earlier versions kept (server.toml), files expire after 90d (server.toml), unfinished uploads stay 2d\n")
	for option, value := range map[string]string{"--keep-versions": "many", "--expire-after": "30", "--keep-partial": "1m"} {
		d.operator(t, "clients", "retention", option, value, "grace").want(t, 2, option, value, "server")
	}
	d.operator(t, "clients", "retention", "ada").want(t, 1, `no client is called "ada"`)
}

func TestUploadsAreListedBesideTheServer(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	d.operator(t, "uploads").want(t, 0, "CLIENT  NAME")
	dir, settings := d.join(t, "--name", "grace")
	way := newRelay(t)
	way.server.Store(&d.addr)
	big := write(t, filepath.Join(dir, "big"), strings.Repeat("0123456789abcdef", 64<<20/16)) // more than buffers on the way may take (tcp_rmem, 32 MiB)
	cut, over := make(chan struct{}), make(chan struct{})
	way.after(6<<20, func() {
		close(cut)
		<-over // else all of it may have gone by the time that the client is told to end
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan result, 1)
	go func() {
		done <- fenc(ctx, nil, "send", "--config", settings, "--server", way.Addr().String(), "--retry-for", "1ms", big)
	}()
	<-cut
	cancel()
	<-done
	close(over)
	d.log.await(t, `(?s)("msg":"session ended".*){2}`, d.ended) // that of join was the first
	got := lines[struct {
		Client, Name, State string
		Held, Bytes         int64
	}](t, d.operator(t, "uploads", "--json", "--client", "grace"))
	if len(got) != 1 || got[0].Client != "grace" || got[0].Name != "big" || got[0].State != "open" || got[0].Bytes != 64<<20 || got[0].Held <= 0 || got[0].Held >= 64<<20 || got[0].Held%(1<<20) != 0 {
		t.Errorf("got %+v, want an open upload of big, held in part", got)
	}
	d.operator(t, "uploads").want(t, 0, "grace   big   ", " MiB  64 MiB  open   ", " ago  ")
	d.operator(t, "uploads", "--client", "ada").want(t, 1, `no client is called "ada"`)
	fenc(t.Context(), nil, "send", "--config", settings, big).want(t, 0, "verified")
	if r := d.operator(t, "uploads", "--json"); r.out != "" {
		t.Errorf("after it was verified: got %s, want nothing", r.out)
	}
}
