package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// The README's tables have every key, once, with the type and the bounds of its values
// and its default.
func TestReadmeHasEveryKey(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	server, transfer, watch, store := DefaultServer(), DefaultTransfer(), DefaultWatch(), DefaultS3()
	for heading, defaults := range map[string]any{
		"#### server.toml\n": &server, "#### [s3] table of server.toml\n": &store, "#### transfer.toml\n": &transfer, "#### [[watch]] tables of transfer.toml\n": &watch, "#### me.toml\n": &Me{},
	} {
		_, text, ok := strings.Cut(string(data), heading)
		if !ok {
			t.Errorf("the README has no %q", heading)
			continue
		}
		text, _, _ = strings.Cut(text, "\n#")
		checkTable(t, strings.TrimSpace(strings.TrimLeft(heading, "# ")), text, keysOf(defaults))
	}
}

// cells are those of a row: key, values, default, meaning.
var cells = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.*?) \\| (.*?) \\| (.*?) \\|$")

func checkTable(t *testing.T, name, text string, keys []key) {
	t.Helper()
	rows := make(map[string][]string)
	var order []string
	for _, row := range cells.FindAllStringSubmatch(text, -1) {
		if rows[row[1]] != nil {
			t.Errorf("%s: %s has two rows", name, row[1])
		}
		rows[row[1]] = row
		order = append(order, row[1])
	}
	var want []string
	for _, k := range keys {
		if k.isTables() {
			continue // which have a table of their own
		}
		want = append(want, k.name)
		row := rows[k.name]
		if row == nil {
			t.Errorf("%s: %s has no row; its values are %s", name, k.name, strings.Join(wantValues(k), " "))
			continue
		}
		for _, value := range wantValues(k) {
			if !strings.Contains(row[2], value) {
				t.Errorf("%s: %s: the values are %q, want %q in it", name, k.name, row[2], value)
			}
		}
		if !isDefault(k, row[3]) {
			t.Errorf("%s: %s: the default is %s, want %v", name, k.name, row[3], k.field)
		}
		if len(row[4]) < 10 {
			t.Errorf("%s: %s: %q says too little", name, k.name, row[4])
		}
	}
	if slices.Sort(order); !slices.Equal(order, slices.Sorted(slices.Values(want))) {
		t.Errorf("%s: the table has\n%q, the struct\n%q", name, order, want)
	}
}

var (
	bounds = regexp.MustCompile(`(?:from (\w+) to (\w+)|up to (\w+))`)
	quoted = regexp.MustCompile(`"(\w+)"`)
	oneOf  = regexp.MustCompile(`^write ("\w+"(, | or )?)+$`)
)

// wantValues is what a row must say of a key's values: their type and, from what an
// error tells to write, their bounds or all there are.
func wantValues(k key) []string {
	var want []string
	switch k.field.Interface().(type) {
	case Size:
		want = append(want, "size")
	case Duration:
		want = append(want, "duration")
	case int:
		if !strings.Contains(remedies[k.name], "3 or 4") {
			want = append(want, "number")
		}
	case bool:
		return []string{"`true`", "`false`"}
	case []string, []int:
		want = append(want, "list")
	}
	if m := bounds.FindStringSubmatch(remedies[k.name]); m != nil {
		if m[1] != "" {
			return append(want, m[1]+" to "+m[2])
		}
		return append(want, "up to "+m[3])
	}
	if oneOf.MatchString(remedies[k.name]) {
		for _, word := range quoted.FindAllStringSubmatch(remedies[k.name], -1) {
			want = append(want, "`\""+word[1]+"\"`")
		}
	}
	return want
}

// isDefault reports whether a cell is the default of a key: its value as TOML has it
// or, where there is no value for it, words.
func isDefault(k key, cell string) bool {
	literal := strings.Trim(cell, "`")
	if "`"+literal+"`" != cell || strings.Contains(literal, "`") {
		return k.field.IsZero() && cell != ""
	}
	var doc map[string]any
	if _, err := toml.Decode("x = "+literal, &doc); err != nil {
		return false
	}
	got := key{name: k.name, kind: k.kind, field: reflect.New(k.field.Type()).Elem()}
	if err := got.assign(doc["x"]); err != nil {
		return false
	}
	if k.field.Kind() == reflect.Slice && k.field.Len()+got.field.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(got.field.Interface(), k.field.Interface())
}
