//go:build linux || darwin

package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Not parallel: the umask is the whole process's.
func TestMeFileIsNeverReadableForOthers(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "me.toml")
	m, err := PrepareMe(path, testKey(t), "n")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Discard()
	wantMode(t, filepath.Dir(path), 0o700|os.ModeDir)
	wantMode(t, m.temp.Name(), 0o600)
	if err := m.Commit(testID); err != nil {
		t.Fatal(err)
	}
	wantMode(t, path, 0o600)

	write(t, dir, "me.info", "n\n"+testID+"\n"+testKey(t).Reveal())
	if _, err := Import(dir, false); err != nil {
		t.Fatal(err)
	}
	wantMode(t, filepath.Join(dir, "me.toml"), 0o600)
}

// Not parallel: the umask is the whole process's.
func TestServerKeyIsNeverReadableForOthers(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "new", "server.key")
	if err := WriteServerKey(path, testEdKey(t)); err != nil {
		t.Fatal(err)
	}
	wantMode(t, filepath.Dir(path), 0o700|os.ModeDir)
	wantMode(t, path, 0o600)
}

// Not parallel: the umask is the whole process's.
func TestPinServerKeyKeepsModeAndLink(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir, elsewhere := t.TempDir(), t.TempDir()
	file := write(t, elsewhere, "settings.toml", "streams = 2\n")
	link := filepath.Join(dir, "transfer.toml")
	if err := os.Chmod(file, 0o664); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := PinServerKey(link, []string{pinA}); err != nil {
		t.Fatal(err)
	}
	wantMode(t, file, 0o664)
	if to, err := os.Readlink(link); err != nil || to != file {
		t.Errorf("the link leads to %q, %v; want it as it was", to, err)
	}
	c, _, err := LoadTransfer(link)
	if err != nil || c.Streams != 2 || len(c.ServerKey) != 1 {
		t.Errorf("got %+v, %v", c, err)
	}
	if got := names(t, dir) + " " + names(t, elsewhere); got != "transfer.toml settings.toml" {
		t.Errorf("left are %s", got)
	}
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != want {
		t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
	}
}

func TestLoadMeRefusesWhatOthersCanRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := write(t, dir, "me.toml", encodeMe("n", testID, testKey(t)))
	for mode, want := range map[os.FileMode]string{
		0o600: "",
		0o400: "",
		0o644: "DIR/me.toml: mode 0644 lets others at the private key; run: chmod 600 DIR/me.toml",
		0o640: "DIR/me.toml: mode 0640 lets others at the private key; run: chmod 600 DIR/me.toml",
		0o602: "DIR/me.toml: mode 0602 lets others at the private key; run: chmod 600 DIR/me.toml",
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadMe(path)
		if want != "" {
			wantError(t, err, dir, want)
		} else if err != nil {
			t.Error(err)
		}
	}
	link := filepath.Join(dir, "link.toml") // the file behind it counts
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	_, err := LoadMe(link)
	wantError(t, err, dir, "DIR/link.toml: mode 0644 lets others at the private key; run: chmod 600 DIR/link.toml")
}

// They were all called the private key.
func TestSecretsThatOthersCanRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := write(t, dir, "secret", "whsec_"+strings.Repeat("QUJD", 8))
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := LoadWebhookSecret(path)
	wantError(t, err, dir, "DIR/secret: mode 0644 lets others at the webhook's secret; run: chmod 600 DIR/secret")
	_, err = Lookup{}.S3Credentials(S3{AccessKey: "a", SecretKeyFile: path})
	wantError(t, err, dir, "DIR/secret: mode 0644 lets others at the secret of the S3 credentials; run: chmod 600 DIR/secret")
}

func TestLoadServerKeyRefusesWhatOthersCanRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := write(t, dir, "server.key", testEdKey(t).Reveal())
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := LoadServerKey(path)
	wantError(t, err, dir, "DIR/server.key: mode 0640 lets others at the private key; run: chmod 600 DIR/server.key")
	fifo := filepath.Join(dir, "fifo.key")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Skip(err)
	}
	_, err = LoadServerKey(fifo)
	wantError(t, err, dir, "DIR/fifo.key: not a regular file; name one")
}

// Opening a FIFO for reading waits for a writer, for ever if none comes.
func TestLoadMeRefusesFIFO(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "me.toml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	_, err := LoadMe(path)
	wantError(t, err, dir, "DIR/me.toml: not a regular file; name one")
}

func TestPrepareMeNoticesReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root writes everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := PrepareMe(filepath.Join(dir, "me.toml"), testKey(t), "n"); err == nil {
		t.Error("no error in a directory that can't be written")
	}
}
