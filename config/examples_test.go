package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// example copies an example into a directory of its own: a checkout has not
// the mode that me.toml needs.
func example(t *testing.T, name string) (dir, text string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	write(t, dir, name, string(data))
	return dir, string(data)
}

func TestExamplesHoldTheDefaults(t *testing.T) {
	t.Parallel()
	dir, text := example(t, ServerFile)
	wantCommented(t, text, &Server{})
	got, src, err := Lookup{WorkDir: dir}.LoadServer("")
	if err == nil {
		err = got.Validate()
	}
	if err != nil || src.Path == "" {
		t.Fatal(src, err)
	}
	want, _, err := Lookup{WorkDir: dir}.LoadServer(write(t, dir, "empty.toml", ""))
	if err != nil {
		t.Fatal(err)
	}
	if want.origins = got.origins; !reflect.DeepEqual(got, want) {
		t.Errorf("server.toml holds\n%+v, the defaults are\n%+v", got, want)
	}

	chosen := write(t, dir, "chosen.toml", strings.Replace(text, "\n#protocols", "\nprotocols", 1))
	s, _, err := LoadServer(chosen)
	if err == nil {
		err = s.Validate()
	}
	if err != nil || !reflect.DeepEqual(s.Protocols, []int{3, 4}) {
		t.Errorf("protocols without the # are %v, %v", s.Protocols, err)
	}

	dir, text = example(t, TransferFile)
	wantCommented(t, text, &Transfer{})
	c, src, err := Lookup{WorkDir: dir}.LoadTransfer("")
	if err == nil {
		err = c.Validate()
	}
	if err != nil || src.Path == "" {
		t.Fatal(src, err)
	}
	def := DefaultTransfer()
	def.origins, def.ServerKey, def.Files, def.Exclude, def.ExcludeFrom = c.origins, []string{}, []string{}, []string{}, []string{}
	if !reflect.DeepEqual(c, def) {
		t.Errorf("transfer.toml holds\n%+v, the defaults are\n%+v", c, def)
	}
}

func TestExampleMe(t *testing.T) {
	t.Parallel()
	dir, text := example(t, MeFileName)
	wantCommented(t, text, &Me{})
	m, err := Lookup{WorkDir: dir}.LoadMe("")
	if err != nil || m.Name != "Grace Hopper" || m.ID != testID {
		t.Errorf("got %+v, %v", m, err)
	}
}

// wantCommented checks that text sets every key of c, each below a comment that
// gives the default that stands there; protocols, whose default has no value,
// is commented out below "Default: unset".
func wantCommented(t *testing.T, text string, c any) {
	t.Helper()
	lines := strings.Split(text, "\n")
	for _, k := range keysOf(c) {
		found := false
		for i, line := range lines {
			value, ok := strings.CutPrefix(line, k.name+" = ")
			if k.name == "protocols" {
				_, ok = strings.CutPrefix(line, "#protocols = ")
				value = "unset"
			}
			if !ok {
				continue
			}
			found = true
			start := i
			for start > 0 && strings.HasPrefix(lines[start-1], "# ") {
				start--
			}
			comment := strings.Join(lines[start:i], "\n")
			if !strings.HasSuffix(comment, "Default: "+value) && !strings.HasSuffix(comment, "No default.") {
				t.Errorf("%s = %s stands below no comment with that default:\n%s", k.name, value, comment)
			}
		}
		if !found {
			t.Errorf("%s is missing", k.name)
		}
	}
}
