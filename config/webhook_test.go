package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWebhookSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := "whsec_" + strings.Repeat("QUJD", 8)
	got, err := LoadWebhookSecret(write(t, dir, "good", "\n"+good+"\n"))
	if err != nil || got.Reveal() != good {
		t.Errorf("got %q, %v, want the secret", got.Reveal(), err)
	}
	if key, err := got.WebhookKey(); err != nil || string(key) != strings.Repeat("ABC", 8) {
		t.Errorf("key: got %q, %v", key, err)
	}
	if text := fmt.Sprintf("%v %+v %q", got, got, got); strings.Contains(text, "QUJD") {
		t.Errorf("it prints as %s", text)
	}
	for name, text := range map[string]string{
		"empty": "", "no prefix": strings.Repeat("QUJD", 8), "not base64": "whsec_" + strings.Repeat("?", 32),
		"short": "whsec_QUJD", "long": "whsec_" + strings.Repeat("QUJD", 30), "two lines": good + "\n" + good,
	} {
		_, err := LoadWebhookSecret(write(t, dir, name, text))
		if err == nil || !strings.Contains(err.Error(), "openssl rand") || strings.Contains(err.Error(), "QUJD") {
			t.Errorf("%s: got %v, want it refused, without what stands there", name, err)
		}
	}
	if _, err := LoadWebhookSecret(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a file that is not there was read")
	}
}

// It was not said where.
func TestWebhookWithoutSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, _, err := LoadServer(write(t, dir, "server.toml", "\nwebhook_url = \"http://localhost/\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, c.Validate(), dir, `DIR/server.toml:2: webhook_secret_file = "": empty, and webhook_url is set; write the path of a file that holds the secret, "whsec_" and base64`)
}

// A program is a path, relative to the file like all others, or a name to be looked
// for; what follows is as it stands there.
func TestCommandsStartAtTheirFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for program, want := range map[string]string{
		"./a": filepath.Join(dir, "a"), "b/a": filepath.Join(dir, "b", "a"), "/bin/a": "/bin/a", "a": "a",
	} {
		path := write(t, dir, "server.toml", fmt.Sprintf("hook_command = [%q, \"./b\"]\n", program))
		c, _, err := LoadServer(path)
		if err != nil || !slices.Equal(c.HookCommand, []string{want, "./b"}) {
			t.Errorf("%s: got %q, %v, want %s and ./b", program, c.HookCommand, err, want)
		}
	}
}

// Not parallel: the working directory is the whole process's.
func TestCommandBesideItsFileIsNotLookedFor(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, ".", "server.toml", "gate_command = [\"./a\"]\n")
	c, _, err := LoadServer("server.toml")
	if err != nil || filepath.Base(c.GateCommand[0]) == c.GateCommand[0] {
		t.Errorf("got %q, %v, want a path, not a name to be looked for in PATH", c.GateCommand, err)
	}
}

func TestDays(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"7d": 168 * time.Hour, "1d12h": 36 * time.Hour, "0d": 0, "0d30s": 30 * time.Second} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("%s: got %s, %v, want %s", text, d, err, want)
		}
	}
	for _, text := range []string{"d", "-1d", "1.5d", "1d-1h", "1h1d", "999999999999d", "106751d25h", "d7"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s: got %s, want it refused", text, d)
		}
	}
}

// Not parallel: the environment is the whole process's.
func TestWhatAHookIsToldIsNoSetting(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FENC_NAME", "report.pdf")
	if c, _, err := System().LoadTransfer(write(t, dir, "transfer.toml", "")); err != nil || c.Name != "report.pdf" {
		t.Fatalf("outside of a hook: got %q, %v, want the environment's", c.Name, err)
	}
	t.Setenv("FENC_EVENT", "file.verified")
	if c, _, err := System().LoadTransfer(filepath.Join(dir, "transfer.toml")); err != nil || c.Name != "" {
		t.Errorf("in a hook: got %q, %v, want no name", c.Name, err)
	}
}
