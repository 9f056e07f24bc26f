//go:build unix

package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"fenc/model/storage/s3/s3test"
)

// inBuckets writes the settings of a server whose storage is a bucket of the store,
// with options, and returns what its environment must have.
func inBuckets(t *testing.T, store *s3test.Server, settings, endpoint string) (env []string) {
	t.Helper()
	write(t, settings, fmt.Sprintf("listen = \"127.0.0.1:0\"\nstorage = \"s3://%s/fenc\"\n[s3]\nendpoint = %q\n", store.NewBucket(t), endpoint))
	return []string{"AWS_ACCESS_KEY_ID=" + s3test.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3test.SecretKey}
}

// A server whose store is not there says so at once, and begins when the store does.
func TestServerWaitsForItsStore(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	dir := t.TempDir()
	settings := filepath.Join(dir, "server.toml")
	env := inBuckets(t, store, settings, store.Endpoint)
	store.Kill()
	server := start(t, dir, env, "serve", "--config", settings)
	server.log.await(t, `level=WARN msg="the S3 store cannot be used yet.* error=.*refused`, server.ended)
	if err := store.Restart(); err != nil {
		t.Fatal(err)
	}
	server.address(t)
}

// What becomes of a file that is being read: a store that refuses for a moment is asked
// again, and a version that was replaced and cleared away is not called damaged.
func TestReadingWhatChangesMeanwhile(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	way := s3test.Between(t, store)
	dir, home := t.TempDir(), t.TempDir()
	env := inBuckets(t, store, filepath.Join(dir, "server.toml"), way.Endpoint)
	addr := start(t, dir, env, "serve", "--config", "server.toml").address(t)
	client := func(args ...string) *child { return start(t, home, nil, args...) }
	big := make([]byte, 20<<20)
	for _, name := range []string{"refused", "replaced"} {
		rand.Read(big)
		write(t, filepath.Join(home, name), string(big))
	}
	client("send", "--server", addr, "--accept-new", "--name", "grace", "refused", "replaced").result(t).want(t, 0)

	// cut has the first request for an object end in the middle, and then does others.
	cut := func(others func(w http.ResponseWriter)) {
		var asked atomic.Int64
		way.Set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			switch {
			case r.Method != http.MethodGet || r.URL.RawQuery != "":
				pass.ServeHTTP(w, r)
			case asked.Add(1) == 1:
				pass.ServeHTTP(&cutShort{w, 2 << 20}, r)
			default:
				others(w)
			}
		})
	}
	cut(func(w http.ResponseWriter) {
		way.Set(nil)
		s3test.Answer(w, 403, "AccessDenied")
	})
	client("get", "--server", addr, "--dir", "back", "refused").result(t).want(t, 0, "verified")

	reached, replaced := make(chan struct{}), make(chan struct{})
	var once sync.Once
	cut(func(w http.ResponseWriter) {
		once.Do(func() { close(reached) })
		<-replaced
		s3test.Answer(w, 404, "NoSuchKey")
	})
	reading := client("get", "--server", addr, "--dir", "back", "replaced")
	<-reached
	rand.Read(big)
	write(t, filepath.Join(home, "replaced"), string(big))
	client("send", "--server", addr, "replaced").result(t).want(t, 0)
	close(replaced)
	reading.result(t).want(t, 3, `another version of "replaced" stands there now`)
}

// cutShort ends a connection after so many bytes.
type cutShort struct {
	http.ResponseWriter
	left int
}

func (c *cutShort) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		s3test.Cut(c)
	}
	return c.ResponseWriter.Write(p)
}

// A server with SQLite and buckets takes files by both protocols, gives them back,
// and goes on where another process was killed.
func TestServerInBuckets(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	dir, home := t.TempDir(), t.TempDir()
	settings := filepath.Join(dir, "server.toml")
	env := inBuckets(t, store, settings, store.Endpoint)
	client := func(args ...string) result { return start(t, home, nil, args...).result(t) }

	big := make([]byte, 20<<20+5)
	rand.Read(big)
	for name, content := range map[string]string{
		"tree/big": string(big), "tree/one": string(big[:3<<20]), "tree/empty": "", "three": string(big[:9<<20]),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(home, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(home, name), content)
	}
	for i := range 100 {
		write(t, filepath.Join(home, "tree", fmt.Sprintf("small-%d", i)), strings.Repeat("x", i*40))
	}
	for _, run := range []string{"first", "second"} {
		server := start(t, dir, env, "serve", "--config", settings)
		addr := server.address(t)
		write(t, filepath.Join(home, "tree", "changes"), run)
		client("send", "--server", addr, "--accept-new", "--name", "grace", "tree").want(t, 0)
		client("send", "--server", addr, "--protocol", "3", "--name", "ada", "--me", "ada.toml", "three").want(t, 0, "verified")
		client("get", "--server", addr, "--replace", "--dir", run, "tree").want(t, 0)
		for _, name := range []string{"tree/big", "tree/one", "tree/empty", "tree/small-99", "tree/small-0", "tree/changes"} {
			if got, want := readFile(t, filepath.Join(home, run, name)), readFile(t, filepath.Join(home, name)); got != want {
				t.Errorf("%s: got %d bytes back, want %d, the same: %v", name, len(got), len(want), got == want)
			}
		}
		os.RemoveAll(filepath.Join(home, "transfer.toml")) // the next server listens at another port
		start(t, dir, env, "check", "--config", settings).result(t).want(t, 0, ": 0 differences, 0 mended")
		start(t, dir, env, "doctor", "serve", "--config", settings).result(t).want(t, 0, "is reached", "the server that runs answers")
		if run == "first" {
			server.Process.Kill()
			server.await(t)
		} else {
			server.signal(t, syscall.SIGTERM)
			server.result(t).want(t, 0, "msg=stopped")
		}
		said := server.log.String()
		if strings.Contains(said, "permission denied") || strings.Contains(said, "level=ERROR") || !strings.Contains(said, "S3 store checked") {
			t.Errorf("the log: got\n%s", said)
		}
		if strings.Contains(said, s3test.SecretKey) {
			t.Error("the log has the secret")
		}
	}
	for args, want := range map[string][]byte{"ada three": big[:9<<20], "grace tree/small-99": bytes.Repeat([]byte("x"), 99*40)} {
		c := start(t, dir, env, append([]string{"files", "get", "--config", settings, "--out", "-"}, strings.Fields(args)...)...)
		r := c.result(t)
		r.want(t, 0)
		if r.out != string(want) {
			t.Errorf("%s: got %d bytes, want %d", args, len(r.out), len(want))
		}
	}
	start(t, dir, env, "check", "--deep", "--config", settings).result(t).want(t, 0, ": 0 differences, 0 mended")
	start(t, dir, env, "doctor", "serve", "--config", settings).result(t).want(t, 0, "is reached", "no server runs")
	start(t, dir, env, "check", "--rebuild", "--config", settings).result(t).want(t, 2, "objects in buckets do not say whose files they are")
}

// A server does not start on a store that lacks what is counted on, and says what.
func TestServerRefusesABadStore(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	dir := t.TempDir()
	settings := filepath.Join(dir, "server.toml")
	env := inBuckets(t, store, settings, store.Endpoint)
	start(t, dir, nil, "serve", "--config", settings).result(t).want(t, 2, "no name of the S3 credentials: set access_key in [s3], or AWS_ACCESS_KEY_ID")
	start(t, dir, append(env, "AWS_SECRET_ACCESS_KEY=wrong"), "serve", "--config", settings).result(t).want(t, 1, "SignatureDoesNotMatch", "[s3] of server.toml")
	start(t, dir, env, "serve", "--config", settings, "--storage", "s3://not-there").result(t).want(t, 1, "not-there", "NoSuchBucket")
	start(t, dir, env, "serve", "--config", settings, "--storage", "s3://Wrong").result(t).want(t, 2, "is not the name of a bucket")
}

// The gate gets what is in a bucket as its input, as it does what is in a folder.
func TestGateInBuckets(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	dir, home := t.TempDir(), t.TempDir()
	settings := filepath.Join(dir, "server.toml")
	env := append(inBuckets(t, store, settings, store.Endpoint), "PATH="+os.Getenv("PATH"))
	gate := fmt.Sprintf("gate_command = [\"sh\", \"-c\", \"cat > %s/seen; ! grep -q refuse %[1]s/seen\"]\n", dir)
	write(t, settings, gate+readFile(t, settings))
	server := start(t, dir, env, "serve", "--config", settings)
	addr := server.address(t)
	content := strings.Repeat("0123456789abcdef", 9<<20/16)
	write(t, filepath.Join(home, "good"), content)
	write(t, filepath.Join(home, "bad"), "refuse this")
	send := func(name string) result {
		return start(t, home, nil, "send", "--server", addr, "--accept-new", "--name", "grace", "--retry-for", "0s", name).result(t)
	}
	send("good").want(t, 0)
	if seen := readFile(t, filepath.Join(dir, "seen")); seen != content {
		t.Errorf("the gate saw %d bytes, want %d", len(seen), len(content))
	}
	if r := send("bad"); r.status == 0 {
		t.Errorf("what the gate refuses was taken: %s", r.out)
	}
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0, "msg=stopped")
}

// What a store has lost of an upload is sent again, by the same fenc send.
func TestUploadThatTheStoreLost(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	for name, lost := range map[string]func(*http.Request) bool{"parts are others": s3test.IsComplete, "upload is gone": s3test.IsPart} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := s3test.Between(t, store)
			dir, home := t.TempDir(), t.TempDir()
			settings := filepath.Join(dir, "server.toml")
			server := start(t, dir, inBuckets(t, store, settings, proxy.Endpoint), "serve", "--config", settings)
			addr := server.address(t)
			var once atomic.Bool
			proxy.Set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
				switch {
				case !lost(r) || once.Swap(true):
					pass.ServeHTTP(w, r)
				case s3test.IsPart(r):
					io.Copy(io.Discard, r.Body)
					s3test.Answer(w, http.StatusNotFound, "NoSuchUpload")
				default:
					s3test.Answer(w, http.StatusBadRequest, "InvalidPart")
				}
			})
			content := make([]byte, 17<<20)
			rand.Read(content)
			write(t, filepath.Join(home, "file"), string(content))
			start(t, home, nil, "send", "--server", addr, "--accept-new", "--name", "grace", "file").result(t).want(t, 0, "verified")
			if !once.Load() {
				t.Error("nothing was lost")
			}
			start(t, home, nil, "get", "--server", addr, "--dir", "back", "file").result(t).want(t, 0)
			if got := readFile(t, filepath.Join(home, "back", "file")); got != string(content) {
				t.Errorf("got %d bytes back that differ", len(got))
			}
		})
	}
}
