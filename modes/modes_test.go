package modes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fenc/config"
	"fenc/modes/send"
	"fenc/wire/v3"
)

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"nothing":                   {nil, ExitOK},
		"failed":                    {errors.New("x"), ExitFailed},
		"checksum":                  {fmt.Errorf("send: %w", send.ErrChecksum), ExitFailed},
		"usage":                     {fmt.Errorf("send: %w", usagef("x")), ExitUsage},
		"refused":                   {fmt.Errorf("send: %w", send.ErrRefused), ExitRefused},
		"interrupted":               {fmt.Errorf("send: %w", &interrupted{errors.New("x")}), ExitInterrupted},
		"interrupted while refused": {errors.Join(send.ErrRefused, context.Canceled), ExitInterrupted},
	} {
		if got := ExitStatus(test.err); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

func TestSentNames(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		paths []string
		as    string
		want  string // the names, or the error
		fails bool
	}{
		"last parts":          {[]string{"/x/a", "b", "../c/"}, "", "a b c", false},
		"standard input":      {[]string{"-", "a"}, "", "stdin a", false},
		"another name":        {[]string{"/x/a"}, "b", "b", false},
		"stdin, named":        {[]string{"-"}, "b", "b", false},
		"two of one name":     {[]string{"x/a", "y/a"}, "", `x/a and y/a would both be "a"`, true},
		"stdin twice":         {[]string{"-", "-"}, "", "- and - would both be", true},
		"stdin and its twin":  {[]string{"-", "stdin"}, "", "- and stdin would both be", true},
		"a name for two":      {[]string{"a", "b"}, "c", `--as "c" names one file, and there are 2`, true},
		"longest name":        {[]string{strings.Repeat("n", 255)}, "", strings.Repeat("n", 255), false},
		"too long by one":     {[]string{strings.Repeat("n", 256)}, "", "choose a shorter one with --as", true},
		"too long, with --as": {[]string{strings.Repeat("n", 256)}, "n", "n", false},
	} {
		names, err := sentNames(test.paths, test.as)
		got := strings.Join(names, " ")
		if err != nil {
			got = err.Error()
		}
		if (err != nil) != test.fails || !strings.HasPrefix(got, test.want) && !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, %v, want %q", name, names, err, test.want)
		}
	}
}

func TestHintAtDefaults(t *testing.T) {
	t.Parallel()
	unreachable, defaults := errors.New("connect: refused"), config.DefaultTransfer()
	chosen := config.DefaultTransfer()
	chosen.Server = "files.example.org:1234"
	for name, test := range map[string]struct {
		err      error
		settings config.Transfer
		source   config.Source
		want     bool
	}{
		"nobody chose the server":  {unreachable, defaults, config.Source{}, true},
		"the server was chosen":    {unreachable, chosen, config.Source{}, false},
		"there is a transfer.toml": {unreachable, defaults, config.Source{Path: "transfer.toml"}, false},
		"the server was there":     {send.ErrRefused, defaults, config.Source{}, false},
		"the user ended it":        {context.Canceled, defaults, config.Source{}, false},
	} {
		err := hintAtDefaults(test.err, test.settings, test.source)
		if got := strings.Contains(err.Error(), "--server names another"); got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: got %q, want hint %t", name, err, test.want)
		}
	}
}

func TestDatabaseIsKeptOutOfTheStorage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := filepath.Join(dir, "files")
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(store, link); err != nil {
		t.Skip(err)
	}
	for database, inside := range map[string]bool{
		filepath.Join(store, "fenc.db"):          true,
		filepath.Join(store, "new", "fenc.db"):   true,
		filepath.Join(link, "fenc.db"):           true,
		store:                                    true,
		dir + "/other/../files/fenc.db":          true,
		filepath.Join(store, "..", "fenc.db"):    false,
		filepath.Join(dir, "fenc.db"):            false,
		filepath.Join(dir, "files-2", "fenc.db"): false,
		filepath.Join(dir, "..files", "fenc.db"): false,
	} {
		for _, s := range []string{store, link} {
			if err := keepApart("database", database, s); (err != nil) != inside {
				t.Errorf("%s, storage %s: got %v, want refused %t", database, s, err, inside)
			}
		}
	}
	if err := keepApart("database", filepath.Join(store, "..db"), store); err == nil {
		t.Error("..db in the storage: got nil, want refused")
	}
}

func TestNameToRegister(t *testing.T) {
	t.Parallel()
	for name, valid := range map[string]bool{
		"grace": true, strings.Repeat("n", 127): true, strings.Repeat("n", 128): false, "a\nb": false, "\xff": false,
	} {
		got, err := registrationName(name)
		if (err == nil) != valid || valid && got != name {
			t.Errorf("%q: got %q, %v, want valid %t", name, got, err, valid)
		}
		if err != nil && !strings.Contains(err.Error(), "--name") {
			t.Errorf("%q: got %q, want the remedy --name", name, err)
		}
	}
	if got, err := registrationName(""); err == nil && !strings.Contains(got, "@") {
		t.Errorf("no name: got %q, want user@host", got)
	}
}

func TestLoadIdentity(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "me.toml")
	key, err := v3.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := v3.MarshalPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file, err := config.PrepareMe(path, config.Secret(text), "grace")
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Commit(strings.Repeat("0A", 16)); err != nil {
		t.Fatal(err)
	}
	if me, err := loadIdentity3(path, ""); err != nil || me.Name != "grace" || !me.Key.Equal(key) {
		t.Errorf("got %q, %v, want grace and the key", me.Name, err)
	}
	if _, err := loadIdentity3(path, "ada"); err == nil || !strings.Contains(err.Error(), "--me") {
		t.Errorf("another name: got %v, want refused with the remedy --me", err)
	}
	if _, err := loadIdentity3(path+"x", ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: got %v, want os.ErrNotExist", err)
	}
}
