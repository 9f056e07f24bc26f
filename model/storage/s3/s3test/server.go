// Package s3test runs an S3 server for tests, and stands between it and its client.
//
// The server is versitygw, whose module is that of examples/cluster, so that fenc's
// own has nothing of it. It is built once, into the build cache.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"fenc/config/need"
)

// The credentials of every server.
const (
	AccessKey = "fenc-test"
	SecretKey = "kept-by-nobody-but-the-test"
)

// Server is an S3 server on a loopback address.
type Server struct {
	Endpoint string // http://127.0.0.1:PORT
	address  string
	dir      string
	options  []string

	cmd    *exec.Cmd
	output *bytes.Buffer
	ended  chan struct{} // closed when cmd has ended
}

// Start runs a server until the test ends, with options of versitygw's posix command.
// Where it cannot be built the test is skipped; with FENC_TEST_REQUIRE=1 it fails.
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	s, err := Run(t.TempDir(), options...)
	Need(t, err)
	t.Cleanup(s.Kill)
	return s
}

// Need skips the test, or has it fail (need.Skip), if err says that there is no server.
func Need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errNoServer):
		need.Skip(t, err.Error())
	default:
		t.Fatal(err)
	}
}

var errNoServer = errors.New("no S3 server to test with")

// Run is Start outside of a test: what the server has is in dir, and Kill ends it.
func Run(dir string, options ...string) (*Server, error) {
	s := &Server{dir: dir, options: options}
	for _, sub := range []string{"root", "side"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	for range 5 { // somebody else may take the port first
		if s.address, err = need.Address(); err != nil {
			return nil, err
		}
		s.Endpoint = "http://" + s.address
		if err = s.start(); err == nil || errors.Is(err, errNoServer) {
			return s, err
		}
	}
	return nil, err
}

var binary = sync.OnceValues(func() (string, error) {
	dir, err := module()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "tool", "-n", "versitygw")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0") // one build of it, also with the race detector
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: go tool -n versitygw in %s: %w: %s", errNoServer, dir, err, bytes.TrimSpace(said.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
})

// begun is the folder that the tests of a package begin in. Those of package main leave
// it, and with -trimpath nothing else says where the sources are.
var begun, _ = os.Getwd()

// module returns the folder of the module that has the server, found from the folder
// that the tests of a package begin in, and from this file: a test may have gone
// elsewhere, and a binary may not say where its sources are.
func module() (string, error) {
	var starts []string
	if _, here, _, ok := runtime.Caller(0); ok && filepath.IsAbs(here) {
		starts = append(starts, filepath.Dir(here))
	}
	starts = append(starts, begun)
	for _, dir := range starts {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			cluster := filepath.Join(dir, "examples", "cluster")
			if _, err := os.Stat(filepath.Join(cluster, "go.mod")); err == nil {
				return cluster, nil
			}
		}
	}
	return "", fmt.Errorf("%w: there is no examples/cluster above %q", errNoServer, starts)
}

func (s *Server) start() error {
	name, err := binary()
	if err != nil {
		return err
	}
	ready := "/" + rand.Text() // nobody else answers there, should the port be another server's
	args := append([]string{"--port", s.address, "--health", ready, "--access", AccessKey, "--secret", SecretKey, "--keep-alive", "--quiet", "posix",
		"--sidecar", filepath.Join(s.dir, "side")}, s.options...)
	s.cmd = exec.Command(name, append(args, filepath.Join(s.dir, "root"))...)
	s.cmd.Dir = s.dir
	s.cmd.Env = []string{"HOME=" + s.dir, "TMPDIR=" + s.dir}
	s.output = new(bytes.Buffer)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	endsWithUs(s.cmd)
	if err := startFromLastingThread(s.cmd); err != nil {
		return fmt.Errorf("%w: %w", errNoServer, err)
	}
	s.ended = make(chan struct{})
	go func() {
		s.cmd.Wait()
		close(s.ended)
	}()
	asks := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if answer, err := asks.Get(s.Endpoint + ready); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.ended:
			return fmt.Errorf("versitygw ended: %s", s.output)
		case <-tick.C:
		}
	}
}

// Kill ends the server as a loss of power would, but for what the system has yet to
// write.
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	<-s.ended
}

// Restart runs a server that was killed again, where it was.
func (s *Server) Restart() error { return s.start() }

// Client returns a client of the server.
func (s *Server) Client() (*minio.Core, error) {
	return minio.NewCore(s.address, &minio.Options{Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath})
}

// NewBucket makes a bucket.
func (s *Server) NewBucket(t testing.TB) string {
	t.Helper()
	name := "b-" + strings.ToLower(rand.Text())
	client, err := s.Client()
	if err == nil {
		err = client.MakeBucket(context.Background(), name, minio.MakeBucketOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}
