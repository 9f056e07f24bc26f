package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fenc/config/need"
	"fenc/modes"
)

func TestWatchUnit(t *testing.T) {
	t.Parallel()
	file := filepath.Join(sourceDir, "examples", "fenc-watch.service")
	text := readFile(t, file)
	for key, want := range map[string]string{
		"Type": "notify", "RestartPreventExitStatus": "2", "Restart": "on-failure", "NoNewPrivileges": "yes", "UMask": "0077", "WantedBy": "default.target",
	} {
		if !strings.Contains(text, "\n"+key+"="+want+"\n") {
			t.Errorf("%s: want %s", key, want)
		}
	}
	// The command that it runs is one: its options exist, and a mistake ends with the
	// status that no second start follows.
	command := regexp.MustCompile(`(?m)^ExecStart=%h/.local/bin/fenc (.+)$`).FindStringSubmatch(text)
	if command == nil {
		t.Fatal("no ExecStart")
	}
	settings := write(t, filepath.Join(t.TempDir(), "transfer.toml"), "")
	args := strings.Fields(strings.ReplaceAll(command[1], "%E/fenc/transfer.toml", settings))
	fenc(t.Context(), nil, args...).want(t, modes.ExitUsage, "nothing to watch")

	analyze := need.Program(t, "systemd", "systemd-analyze")
	path := filepath.Join(t.TempDir(), "fenc-watch.service")
	write(t, path, strings.ReplaceAll(text, "%h/.local/bin/fenc", os.Args[0])) // it need not be installed here
	verify := exec.Command(analyze, "--user", "verify", "--man=no", path)
	verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "HOME="+t.TempDir())
	out, _ := verify.CombinedOutput() // also judges what is installed around it
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "fenc-watch.service") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
}
