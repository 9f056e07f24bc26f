package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
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
	want.HookCommand, want.GateCommand, want.ProxyProtocolFrom = []string{}, []string{}, []string{}
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

	wantS3Defaults(t, text)

	dir, text = example(t, TransferFile)
	wantCommented(t, text, &Transfer{})
	wantWatchDefaults(t, text)
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

// wantS3Defaults checks the [s3] table, which is commented out as a whole.
func wantS3Defaults(t *testing.T, text string) {
	t.Helper()
	above, table, ok := strings.Cut(text, "\n#[s3]\n")
	if !ok {
		t.Fatal("server.toml has no #[s3]")
	}
	table = strings.ReplaceAll("[s3]\n"+table, "\n#", "\n")
	table = regexp.MustCompile(`(?m)^ `).ReplaceAllString(table, "# ")
	wantCommented(t, table, &S3{})
	s, _, err := LoadServer(write(t, t.TempDir(), "s3.toml", above+"\n"+table))
	if err == nil {
		err = s.Validate()
	}
	want := DefaultS3()
	if want.origins = s.S3.origins; err != nil || !reflect.DeepEqual(s.S3, want) {
		t.Errorf("[s3] holds\n%+v, %v, the defaults are\n%+v", s.S3, err, want)
	}
}

// wantWatchDefaults checks the [[watch]] table, which is commented out as a whole.
func wantWatchDefaults(t *testing.T, text string) {
	t.Helper()
	above, table, ok := strings.Cut(text, "\n#[[watch]]\n")
	table = strings.ReplaceAll("[[watch]]\n"+table, "\n#", "\n")
	var lines []string
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, " ") {
			line = "#" + line
		}
		lines = append(lines, line)
	}
	table = strings.Join(lines, "")
	if !ok {
		t.Fatal("transfer.toml has no #[[watch]]")
	}
	wantCommented(t, table, &Watch{})
	dir := t.TempDir()
	c, _, err := LoadTransfer(write(t, dir, "watch.toml", above+"\n"+table))
	if err == nil {
		err = c.Validate()
	}
	if err != nil || len(c.Watch) != 1 {
		t.Fatalf("with the table: got %d tables, %v", len(c.Watch), err)
	}
	want := DefaultWatch()
	want.Dir, want.origins = filepath.Join(dir, "outbox"), c.Watch[0].origins
	if !reflect.DeepEqual(c.Watch[0], want) {
		t.Errorf("[[watch]] holds\n%+v, the defaults are\n%+v", c.Watch[0], want)
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
		if k.isTables() {
			continue // see wantWatchDefaults
		}
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
