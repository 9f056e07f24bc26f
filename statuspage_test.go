//go:build unix

package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// The page of a real server shows what has come and what has not, under its own
// address alone.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	dir, home := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\nstatus_listen = \":0\"\nmax_file_size = \"1MiB\"\n")
	server := start(t, dir, nil, "serve")
	addr := server.address(t)
	url := server.log.await(t, `msg="status page is served" url=(http://127\.0\.0\.1:\d+/)`, server.ended)[1]

	write(t, filepath.Join(home, "<b>bold&amp;.txt"), "abc")
	write(t, filepath.Join(home, "big.txt"), strings.Repeat("x", 1<<20+1))
	client := func(args ...string) result { return start(t, home, nil, args...).result(t) }
	client("send", "--server", addr, "--accept-new", "--name", `<img src="x">`, "<b>bold&amp;.txt").want(t, 0)
	client("send", "--server", addr, "big.txt").want(t, 3)

	code, page := get(t, url)
	if code != 200 {
		t.Fatalf("%s: %d %s", url, code, page)
	}
	for _, want := range []string{
		"Ready", "&lt;b&gt;bold&amp;amp;.txt", "&lt;img src=&#34;x&#34;&gt;", "verified", "big.txt", "refused", addr, "SHA256:", "free in the storage",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q on the page", want)
		}
	}
	for _, raw := range []string{"<b>bold", "<img"} {
		if strings.Contains(page, raw) {
			t.Errorf("%q stands on the page as a peer sent it", raw)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "elsewhere.example.com"
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("under another's name: got %s, want 421", answer.Status)
	}
}
