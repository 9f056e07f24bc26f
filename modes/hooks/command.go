package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// passedOn are the variables of the server's environment that the runner and its
// commands have too.
var passedOn = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR",
	"SystemRoot", "SystemDrive", "TEMP", "TMP", "USERPROFILE", "PATHEXT", "COMSPEC", "windir", // Windows
}

// environment returns what of the process's environment is passed on.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		for _, known := range passedOn {
			if name == known || strings.HasPrefix(name, "LC_") || runtime.GOOS == "windows" && strings.EqualFold(name, known) {
				env = append(env, v)
				break
			}
		}
	}
	return env
}

// variables are what a command finds of the news in its environment. No argument
// comes from it, and no shell sees it.
func (n News) variables(storage string) []string {
	vars := []string{
		"FENC_EVENT_ID=" + n.ID,
		"FENC_EVENT=" + n.Kind,
		"FENC_CLIENT=" + n.Client,
		"FENC_NAME=" + n.Name,
		"FENC_SIZE=" + strconv.FormatInt(n.Size, 10),
		"FENC_DIGEST=" + n.BLAKE3,
		"FENC_CRC32=" + n.CRC32,
		"FENC_VERSION=" + strconv.FormatInt(n.Version, 10),
		"FENC_TIME=" + n.Time.UTC().Format(time.RFC3339Nano),
		"FENC_ATTEMPT=" + strconv.Itoa(n.Attempt),
	}
	if n.Path != "" && storage != "" {
		vars = append(vars, "FENC_PATH="+filepath.Join(storage, filepath.FromSlash(n.Path)))
	}
	return vars
}

// checkNews refuses what could not be in an environment, or leads elsewhere than
// into the storage.
func checkNews(n News) error {
	for _, text := range []string{n.ID, n.Kind, n.Client, n.Name, n.Path, n.BLAKE3, n.CRC32} {
		if strings.ContainsRune(text, 0) {
			return errors.New("a text with a NUL")
		}
	}
	if n.Path != "" && !filepath.IsLocal(filepath.FromSlash(n.Path)) {
		return fmt.Errorf("path %q leads out of the storage", n.Path)
	}
	return nil
}

// runCommand runs a command with the news in its environment until it ends, or ctx
// does: then it is killed with its process group. stdin may be nil.
func runCommand(ctx context.Context, argv []string, n News, storage string, stdin io.Reader) (output string, err error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var printed beginning
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if stdin != nil {
		cmd.Stdin = stdin
	}
	cmd.Env = append(environment(), n.variables(storage)...)
	cmd.Dir = filepath.VolumeName(storage) + string(filepath.Separator)
	cmd.WaitDelay = pipeGrace // for what its children keep open
	ownGroup(cmd)
	err = cmd.Run()
	switch {
	case ctx.Err() != nil && err != nil:
		err = context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // it ended well; what it left behind goes on
	}
	return printed.String(), err
}

// beginning keeps the first bytes of what is written to it.
type beginning struct {
	text bytes.Buffer
	more bool
}

func (b *beginning) Write(p []byte) (int, error) {
	room := min(len(p), maxOutput-b.text.Len())
	b.text.Write(p[:room])
	b.more = b.more || room < len(p)
	return len(p), nil
}

func (b *beginning) String() string {
	text := strings.TrimSpace(strings.ToValidUTF8(b.text.String(), "\uFFFD"))
	if b.more {
		text += "…"
	}
	return text
}
