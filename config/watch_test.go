package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestWatchTables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := write(t, dir, TransferFile, `server = "a:1"
[[watch]]
dir = "outbox"
exclude = ["*.tmp"]
settle = "5s"

[[watch]]
dir = "/srv/scans"
as = "scans/2026"
after = "move"
move_to = "sent"
`)
	c, _, err := LoadTransfer(path)
	if err == nil {
		err = c.Validate()
	}
	if err != nil || len(c.Watch) != 2 {
		t.Fatalf("got %d tables, %v, want 2", len(c.Watch), err)
	}
	first, second := DefaultWatch(), DefaultWatch()
	first.Dir, first.Exclude, first.Settle = filepath.Join(dir, "outbox"), []string{"*.tmp"}, Duration(5*time.Second)
	second.Dir, second.As, second.After, second.MoveTo = "/srv/scans", "scans/2026", "move", filepath.Join(dir, "sent")
	for i, want := range []Watch{first, second} {
		got := c.Watch[i]
		got.origins = want.origins
		if !reflect.DeepEqual(got, want) {
			t.Errorf("table %d: got\n%+v, want\n%+v", i, got, want)
		}
	}
}

func TestWatchTableMistakes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"slip":              {"[[watch]]\ndir = \"a\"\nsetle = \"3s\"", "3: setle = \"3s\": unknown key; did you mean `settle`?"},
		"key of the file":   {"[[watch]]\ndir = \"a\"\nstreams = 3", "3: streams = 3: stands in a [[watch]] table, which has no such key; write it above the first table"},
		"one table":         {"\n[watch]\ndir = \"a\"", "2: watch = {…}: a table where a list of tables belongs; write [[watch]]"},
		"no table":          {"watch = \"a\"", "1: watch = \"a\": text where a list of tables belongs; write [[watch]]"},
		"slip in its name":  {"[[wach]]\ndir = \"a\"", "1: [wach]: unknown table"},
		"no folder":         {"[[watch]]\nas = \"a\"", "transfer.toml:2: dir = \"\": empty; write a folder"},
		"nothing":           {"[[watch]]", "transfer.toml: dir = \"\": empty; write a folder"},
		"type":              {"[[watch]]\ndir = 3", "2: dir = 3: a number where text in quotes belongs; write a folder"},
		"of the second":     {"[[watch]]\ndir = \"a\"\n[[watch]]\ndir = \"b\"\nrescan = \"0s\"", "5: rescan = \"0s\": under 1s; write a duration from 1s"},
		"after":             {"[[watch]]\ndir = \"a\"\nafter = \"delete\"", "3: after = \"delete\": not known; write \"keep\", \"remove\" or \"move\""},
		"move to where":     {"[[watch]]\ndir = \"a\"\nafter = \"move\"", "transfer.toml:3: move_to = \"\": empty, with after = \"move\"; write a folder"},
		"no move":           {"[[watch]]\ndir = \"a\"\nmove_to = \"b\"", "3: move_to = \"b\": set, with after = \"keep\"; write a folder"},
		"too soon to tell":  {"[[watch]]\ndir = \"a\"\nafter = \"remove\"\nsettle = \"1s\"", "4: settle = \"1s\": under 2s, which is too little"},
		"pattern over two":  {"[[watch]]\ndir = \"a\"\nexclude = [\"a\\nb\"]", "3: exclude = [\"a\\nb\"]: pattern 1: holds a line break"},
		"log of fenc watch": {"log_format = \"xml\"", "1: log_format = \"xml\": not known; write \"text\" or \"json\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _, err := LoadTransfer(write(t, t.TempDir(), TransferFile, test.text))
			if err == nil {
				err = c.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}

// The pin once went below all else, where it would now be a key of the last table.
func TestPinIsWrittenAboveTables(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, before, after string }{
		"a table alone": {"[[watch]]\ndir = \"a\"\n", "", "[[watch]]\ndir = \"a\"\n"},
		"with a comment": {
			"server = \"a:1\" # here\n\n# What scanners bring.\n# Twice.\n[[watch]]\nserver_key = 1\n",
			"server = \"a:1\" # here\n\n", "# What scanners bring.\n# Twice.\n[[watch]]\nserver_key = 1\n"},
		"below a key": {"server = \"a:1\"\n[[watch]]\ndir = \"a\"\n", "server = \"a:1\"\n", "[[watch]]\ndir = \"a\"\n"},
	} {
		got := setServerKey(test.text, []string{pinA})
		middle, ok := strings.CutPrefix(got, test.before)
		middle, ok2 := strings.CutSuffix(middle, test.after)
		if !ok || !ok2 || !strings.Contains(middle, "server_key = "+pinValue([]string{pinA})+"\n") || strings.Count(middle, "=") != 1 {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
}
