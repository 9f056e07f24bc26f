package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"fenc/config/need"
)

// unit is what examples/fenc.service says, by key: of a key that stands there twice,
// both.
func unit(t *testing.T) map[string][]string {
	t.Helper()
	values := make(map[string][]string)
	for _, line := range strings.Split(readFile(t, filepath.Join(sourceDir, "examples", "fenc.service")), "\n") {
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			values[key] = append(values[key], value)
		}
	}
	return values
}

func TestUnitFitsTheServer(t *testing.T) {
	t.Parallel()
	u := unit(t)
	for key, want := range map[string]string{
		"Type": "notify", "WatchdogSec": "60s", "TimeoutStartSec": "infinity", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
		"ExecReload": "/usr/local/bin/fenc reload --config /etc/fenc/server.toml", "User": "fenc", "StateDirectory": "fenc", "WorkingDirectory": "/var/lib/fenc", "UMask": "0077",
		"MemoryMax": "1G", "LimitCORE": "0", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "CapabilityBoundingSet": "",
		"RestartPreventExitStatus": "2", "ExecStart": "/usr/local/bin/fenc serve --config /etc/fenc/server.toml",
	} {
		if got := u[key]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	if calls := strings.Join(u["SystemCallFilter"], " "); !strings.Contains(calls, "landlock_restrict_self") {
		t.Errorf("SystemCallFilter: got %q, want the server able to confine itself", calls)
	}
	stop, err := time.ParseDuration(strings.Join(u["TimeoutStopSec"], ""))
	settings := readFile(t, filepath.Join(sourceDir, "examples", "server.toml"))
	grace := regexp.MustCompile(`(?m)^shutdown_grace = "(.+)"$`).FindStringSubmatch(settings)
	if err != nil || len(grace) != 2 {
		t.Fatalf("TimeoutStopSec: %v; shutdown_grace: %q", err, grace)
	}
	if allowed, err := time.ParseDuration(grace[1]); err != nil || stop <= allowed {
		t.Errorf("TimeoutStopSec: got %v, want it over shutdown_grace, %v, %v", stop, allowed, err)
	}
}

// systemd itself judges the unit, where it is there to do so.
func TestUnitIsHardened(t *testing.T) {
	t.Parallel()
	analyze := need.Program(t, "systemd", "systemd-analyze")
	about, _ := exec.Command(analyze, "--version").Output()
	version := regexp.MustCompile(`^systemd (\d+)`).FindSubmatch(about)
	if version == nil {
		t.Skipf("systemd-analyze --version says %q", about)
	}
	if n, _ := strconv.Atoi(string(version[1])); n < 252 {
		t.Skipf("systemd %d knows too little to judge", n)
	}
	file := filepath.Join(sourceDir, "examples", "fenc.service")
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=15", "--no-pager", file).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}

	// Its program need not be installed here.
	dir := t.TempDir()
	path, socket := filepath.Join(dir, "fenc.service"), filepath.Join(dir, "fenc.socket")
	write(t, path, strings.ReplaceAll(readFile(t, file), "/usr/local/bin/fenc", os.Args[0]))
	write(t, socket, readFile(t, filepath.Join(sourceDir, "examples", "fenc.socket")))
	out, _ := exec.Command(analyze, "verify", "--man=no", path, socket).CombinedOutput() // also judges what is installed around them
	for _, line := range strings.Split(string(out), "\n") {
		if (strings.Contains(line, "fenc.service") || strings.Contains(line, "fenc.socket")) && !strings.Contains(line, "Failed to create ") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
}
