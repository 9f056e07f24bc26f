package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// containerStep is a line of a container file, with those that go on with it.
type containerStep struct{ what, args string }

// container is the last stage of examples/Containerfile, and the steps before it.
func container(t *testing.T) (before, last []containerStep) {
	t.Helper()
	text := strings.ReplaceAll(readFile(t, filepath.Join(sourceDir, "examples", "Containerfile")), "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		what, args, _ := strings.Cut(line, " ")
		if what == "FROM" {
			before, last = append(before, last...), nil
		}
		last = append(last, containerStep{what, strings.TrimSpace(args)})
	}
	return before, last
}

// The container has the binary alone, without a user's rights, and its data in one
// place; its settings are the server's.
func TestContainerFile(t *testing.T) {
	t.Parallel()
	before, last := container(t)
	got := make(map[string]string)
	for _, s := range last {
		got[s.what] += s.args + "\n"
	}
	for what, want := range map[string]string{
		"FROM": "scratch\n", "USER": "65532:65532\n", "WORKDIR": "/data\n", "VOLUME": "/data\n", "EXPOSE": "1234\n", "STOPSIGNAL": "SIGTERM\n",
		"COPY":       "--from=build /fenc /fenc\n--from=build --chown=65532:65532 /data /data\n",
		"ENTRYPOINT": "[\"/fenc\"]\n", "CMD": "[\"serve\"]\n",
		"ENV":         "FENC_LISTEN=:1234 FENC_STORAGE=/data/files FENC_DATABASE=/data/fenc.db FENC_REGISTRATION=invite\n",
		"HEALTHCHECK": "--interval=30s --timeout=10s --start-period=60s CMD [\"/fenc\", \"health\"]\n",
	} {
		if got[what] != want {
			t.Errorf("%s: got %q, want %q", what, got[what], want)
		}
		delete(got, what)
	}
	if len(got) > 0 {
		t.Errorf("more stands there: %q", got)
	}
	toolchain := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(readFile(t, filepath.Join(sourceDir, "go.mod")))
	var static bool
	for _, s := range before {
		static = static || s.what == "RUN" && strings.Contains(s.args, "CGO_ENABLED=0 go build -trimpath -o /fenc .")
		if s.what == "FROM" && (toolchain == nil || s.args != "docker.io/library/golang:"+toolchain[1]+" AS build") {
			t.Errorf("built by %q, go.mod has %q", s.args, toolchain)
		}
	}
	if !static {
		t.Errorf("no static binary is built: %q", before)
	}
}
