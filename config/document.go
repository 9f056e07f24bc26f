package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"github.com/xrash/smetrics"
)

const (
	maxFile  = 1 << 20 // bytes of a settings file
	maxShown = 80      // bytes of a value or line that an error quotes
)

// key is one setting of a struct: its TOML name and the field that holds it.
type key struct {
	name  string
	kind  string // "path", "source", "command", "dsn", "storage", "texts", "table", "tables" or none of them
	field reflect.Value
}

// keysOf lists the settings of the struct that c points to, in its order.
func keysOf(c any) []key {
	var keys []key
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() {
			keys = append(keys, key{f.Tag.Get("toml"), f.Tag.Get("is"), v.Field(i)})
		}
	}
	return keys
}

func (k key) isList() bool { return k.field.Kind() == reflect.Slice }

// assign sets the field to a value as TOML has it, if it is of the right type.
func (k key) assign(raw any) error {
	switch p := k.field.Addr().Interface().(type) {
	case *string:
		return assignAs(p, raw, "text in quotes")
	case *Secret:
		return assignAs((*string)(p), raw, "text in quotes")
	case *int:
		n, ok := raw.(int64)
		if !ok {
			return wrongType(raw, "a whole number")
		}
		if n < math.MinInt32 || n > math.MaxInt32 { // no key has use for more
			return errors.New("out of range")
		}
		*p = int(n)
	case *Size:
		switch v := raw.(type) {
		case int64:
			*p = Size(v)
		case string:
			return p.UnmarshalText([]byte(v))
		default:
			return wrongType(raw, "a size")
		}
	case *Duration:
		switch v := raw.(type) {
		case int64, float64:
			return unitMissing(v)
		case string:
			return p.UnmarshalText([]byte(v))
		default:
			return wrongType(raw, "a duration in quotes")
		}
	case *Bandwidth:
		text, ok := raw.(string)
		if !ok {
			return wrongType(raw, "a rate in quotes")
		}
		return p.UnmarshalText([]byte(text))
	case *bool:
		return assignAs(p, raw, "true or false")
	case *[]string:
		if text, ok := raw.(string); ok && k.kind == "texts" {
			*p = []string{text}
			return nil
		}
		return assignList(p, raw, "a list of texts", key.assign)
	case *[]int:
		return assignList(p, raw, "a list of whole numbers", key.assign)
	default:
		panic("config: no TOML type for " + k.field.Type().String())
	}
	return nil
}

// assignText sets the field to a value given outside a file: one text, or any
// number of them for a list.
func (k key) assignText(texts []string) error {
	switch p := k.field.Addr().Interface().(type) {
	case *string:
		if !utf8.ValidString(texts[0]) {
			return errors.New("not UTF-8")
		}
		*p = texts[0]
	case *int:
		n, err := strconv.Atoi(texts[0])
		if errors.Is(err, strconv.ErrRange) {
			return errors.New("out of range")
		}
		if err != nil {
			return errors.New("not a whole number")
		}
		*p = n
	case *Size:
		return p.UnmarshalText([]byte(texts[0]))
	case *Duration:
		return p.UnmarshalText([]byte(texts[0]))
	case *Bandwidth:
		return p.UnmarshalText([]byte(texts[0]))
	case *bool:
		if texts[0] != "true" && texts[0] != "false" {
			return errors.New("neither true nor false")
		}
		*p = texts[0] == "true"
	case *[]string:
		*p = slices.Clone(texts)
	case *[]int:
		return assignList(p, texts, "", func(k key, raw any) error { return k.assignText([]string{raw.(string)}) })
	default:
		panic("config: no text for " + k.field.Type().String())
	}
	return nil
}

func assignAs[T any](p *T, raw any, want string) error {
	v, ok := raw.(T)
	if !ok {
		return wrongType(raw, want)
	}
	*p = v
	return nil
}

// assignList sets a list's elements one by one.
func assignList[T any](p *[]T, raw any, want string, assign func(key, any) error) error {
	elems := reflect.ValueOf(raw)
	if elems.Kind() != reflect.Slice {
		return wrongType(raw, want)
	}
	list := make([]T, elems.Len())
	for i := range list {
		if err := assign(key{field: reflect.ValueOf(&list[i]).Elem()}, elems.Index(i).Interface()); err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	*p = list
	return nil
}

func wrongType(raw any, want string) error {
	is := "a list"
	switch raw.(type) {
	case string:
		is = "text"
	case int64:
		is = "a number"
	case float64:
		is = "a fraction"
	case bool:
		is = "true or false"
	case time.Time:
		is = "a date"
	case map[string]any, []map[string]any:
		is = "a table"
	}
	return fmt.Errorf("%s where %s belongs", is, want)
}

// resolve makes a relative path in the field start at dir.
func (k key) resolve(dir string) {
	switch k.kind {
	case "path", "source":
		switch p := k.field.Addr().Interface().(type) {
		case *string:
			*p = resolve(dir, *p)
		case *[]string:
			for i, f := range *p {
				if f != "-" || k.kind != "source" { // standard input
					(*p)[i] = resolve(dir, f)
				}
			}
		}
	case "command": // a program that is named by a path; one by its name alone is looked for in PATH
		if p := *k.field.Addr().Interface().(*[]string); len(p) > 0 && filepath.Base(p[0]) != p[0] {
			if p[0] = resolve(dir, p[0]); filepath.Base(p[0]) == p[0] {
				p[0] = "." + string(filepath.Separator) + p[0] // still a path
			}
		}
	case "storage":
		p := k.field.Addr().Interface().(*string)
		if schemeOf(*p) == "" {
			*p = resolve(dir, *p)
		}
	case "dsn":
		p := k.field.Addr().Interface().(*string)
		if !strings.Contains(*p, "://") && !strings.Contains(*p, ":memory:") && !strings.HasPrefix(*p, "file:") {
			*p = resolve(dir, *p)
		}
	}
}

func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) || os.IsPathSeparator(path[0]) || filepath.VolumeName(path) != "" {
		return path
	}
	return filepath.Join(dir, path)
}

// document is a parsed file whose keys are all known.
type document struct {
	path   string
	secret bool // quote nothing of it
	values map[string]any
	lines  map[string]int
	tables map[string][]*document // of the keys that tables are given for
}

// parse reads TOML that may hold the given keys.
func parse(path string, data []byte, keys []key) (*document, error) {
	doc := &document{path: path, values: map[string]any{}, lines: map[string]int{}}
	for _, k := range keys {
		doc.secret = doc.secret || k.field.Type() == reflect.TypeFor[Secret]()
	}
	if err := checkUTF8(path, data); err != nil {
		return nil, err
	}
	text := string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))) // so that positions count from its start
	var prims map[string]toml.Primitive
	md, err := toml.Decode(text, &prims)
	var broken toml.ParseError
	if errors.As(err, &broken) {
		return nil, doc.syntaxError(text, broken)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := doc.take(md, prims, text); err != nil {
		return nil, err
	}
	for _, k := range keys {
		if !k.isTables() {
			continue
		}
		if err := doc.takeTables(md, prims, text, k, keys); err != nil {
			return nil, err
		}
	}
	return doc, doc.checkKnown(keys)
}

// take notes values and where they stand.
func (d *document) take(md toml.MetaData, prims map[string]toml.Primitive, text string) error {
	for name, prim := range prims {
		var v any
		if err := md.PrimitiveDecode(prim, &v); err != nil {
			return fmt.Errorf("%s: %s: %w", d.path, name, err)
		}
		d.values[name] = v
		d.lines[name] = locate(md, prim, text)
	}
	return nil
}

func checkUTF8(path string, data []byte) error {
	if utf8.Valid(data) {
		return nil
	}
	at := 0
	for {
		r, n := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	return fmt.Errorf("%s:%d: byte %#02x is not UTF-8; save the file as UTF-8", path, 1+bytes.Count(data[:at], []byte("\n")), data[at])
}

// position refuses every value, which makes the library say where it stands.
type position struct{}

func (position) UnmarshalTOML(any) error { return errors.New("here") }

// locate returns the line of a value: the library tells it only in errors.
func locate(md toml.MetaData, prim toml.Primitive, text string) int {
	var here toml.ParseError
	if errors.As(md.PrimitiveDecode(prim, position{}), &here) && here.Position.Line > 0 {
		return lineOf(text, here.Position)
	}
	// A table that only dotted keys imply has no position; its keys do.
	var inner map[string]toml.Primitive
	if md.PrimitiveDecode(prim, &inner) != nil {
		return 1
	}
	first := 0
	for _, p := range inner {
		if line := locate(md, p, text); first == 0 || line < first {
			first = line
		}
	}
	return max(first, 1)
}

// lineOf returns the line that p starts on. Its own Line is the last one of a
// text over several lines, and one too few for a text that CRLF cuts short.
func lineOf(text string, p toml.Position) int {
	return 1 + strings.Count(text[:max(0, min(p.Start, len(text)))], "\n")
}

func (d *document) where(name string) string {
	at := fmt.Sprintf("%s:%d: %s", d.path, d.lines[name], bareKey(name))
	if d.secret {
		return at
	}
	return at + " = " + shown(d.values[name])
}

// checkKnown returns an error for the first key of the file that is not among
// keys.
func (d *document) checkKnown(keys []key) error {
	unknown := ""
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	for name, line := range d.lines {
		if slices.Contains(names, name) {
			continue
		}
		if unknown == "" || line < d.lines[unknown] || line == d.lines[unknown] && name < unknown {
			unknown = name
		}
	}
	if _, ok := d.values[unknown]; !ok {
		return nil
	}
	remedy := "the keys are " + strings.Join(names, ", ")
	if near := Nearest(unknown, names); near != "" {
		remedy = "did you mean `" + near + "`?"
	}
	switch d.values[unknown].(type) {
	case map[string]any, []map[string]any:
		return fmt.Errorf("%s:%d: [%s]: unknown table; keys stand outside tables, as in %s = …",
			d.path, d.lines[unknown], bareKey(unknown), names[0])
	}
	return fmt.Errorf("%s: unknown key; %s", d.where(unknown), remedy)
}

// Nearest returns the known name that name is most likely a slip for, or "". Case
// does not count, and "-" and "_" are the same.
func Nearest(name string, known []string) string {
	if len(name) > 2*maxShown { // no slip, and comparing takes its time
		return ""
	}
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	best, far := "", 1+max(2, len(name)/3)
	for _, k := range known {
		if d := smetrics.WagnerFischer(plain(name), plain(k), 1, 1, 1); d < far && d < len(k) {
			best, far = k, d
		}
	}
	return best
}

// fill sets the fields that the file has a value for, its relative paths made
// to start where the file is.
func (d *document) fill(keys []key, from *origins) error {
	for _, k := range keys {
		raw, ok := d.values[k.name]
		if !ok {
			continue
		}
		if k.isTables() {
			if err := k.fillTables(d.tables[k.name]); err != nil {
				return err
			}
			continue
		}
		if err := k.assign(raw); err != nil {
			return complaint(d.where(k.name), k.name, err)
		}
		k.resolve(filepath.Dir(d.path))
		from.note(k.name, origin{short: fmt.Sprintf("%s:%d", d.path, d.lines[k.name]), where: d.where(k.name), dir: filepath.Dir(d.path)})
	}
	return nil
}

func (d *document) syntaxError(text string, e toml.ParseError) error {
	remedy := "write one setting a line, as in key = \"text\" or key = 3"
	problem := "not TOML (" + printable(e.Message, 3*maxShown) + ")"
	switch {
	case strings.Contains(e.Message, "already been defined"):
		problem, remedy = "set twice", "keep one of the two"
	case strings.Contains(e.Message, "escape"), strings.Contains(e.Message, "hexadecimal digits"):
		remedy = `write \\ for \, or single quotes around the text`
	case strings.Contains(e.Message, "cannot contain newlines"):
		remedy = "close the quotes"
	case strings.Contains(e.Message, "expected value"), strings.Contains(e.Message, "top-level item to end"):
		remedy = "put text, sizes and durations in quotes, one setting a line"
	}
	n := lineOf(text, e.Position)
	at := fmt.Sprintf("%s:%d", d.path, n)
	if d.secret { // the library's message may quote the key
		if problem != "set twice" {
			problem = "not TOML"
		}
		return fmt.Errorf("%s: %s; %s", at, problem, remedy)
	}
	if line := strings.TrimSpace(strings.Split(text, "\n")[n-1]); line != "" {
		at += ": " + printable(line, maxShown)
	}
	return fmt.Errorf("%s: %s; %s", at, problem, remedy)
}

// readFile returns the content of a settings file. One that holds a secret
// must be a regular file that only its owner may read.
func readFile(path string, secret bool) ([]byte, error) {
	flag := os.O_RDONLY
	if secret && runtime.GOOS != "windows" {
		flag |= syscall.O_NONBLOCK // or opening a FIFO would wait for its writer
	}
	f, err := os.OpenFile(path, flag, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w; check the path", path, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: %w; make it readable for the user who runs fenc", path, fs.ErrPermission)
	case err != nil:
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of the descriptor: the path may lead elsewhere by now
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return nil, fmt.Errorf("%s: a directory; name a file", path)
	case secret && !mode.IsRegular():
		return nil, fmt.Errorf("%s: not a regular file; name one", path)
	case secret && runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 && !isCredential(path):
		return nil, fmt.Errorf("%s: mode %#o lets others at the private key; run: chmod 600 %s", path, mode.Perm(), path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: over %v; this is no settings file", path, Size(maxFile))
	}
	return data, nil
}

// credentialsDirectory is the variable by which systemd tells a service where its
// credentials are.
const credentialsDirectory = "CREDENTIALS_DIRECTORY"

// isCredential reports whether path is one of systemd's credentials. Their folder is
// the service's alone, and their mode shows rights to the group where systemd has
// given the user access by an ACL.
func isCredential(path string) bool {
	dir := os.Getenv(credentialsDirectory)
	info, err := os.Stat(dir)
	return err == nil && info.Mode().Perm()&0o022 == 0 && filepath.IsAbs(dir) && filepath.Dir(path) == filepath.Clean(dir)
}

// shown returns a value as an error quotes it: as TOML writes it, cut short.
func shown(v any) string {
	switch v := v.(type) {
	case string:
		if isPostgres(v) { // a password may be in it
			scheme, _, _ := strings.Cut(v, "://")
			return strconv.Quote(scheme + "://…")
		}
		return strconv.Quote(cut(v, maxShown))
	case []string:
		return shown(toAny(v))
	case []int:
		return shown(toAny(v))
	case Size, Duration, Bandwidth:
		return strconv.Quote(fmt.Sprint(v))
	case []any:
		var b strings.Builder
		for i, e := range v {
			if b.Len() > maxShown {
				b.WriteString(", …")
				break
			}
			if i > 0 {
				b.WriteString(", ")
			}
			if _, deeper := e.([]any); deeper { // no key holds lists of lists
				b.WriteString("[…]")
				continue
			}
			b.WriteString(shown(e))
		}
		return "[" + b.String() + "]"
	case map[string]any, []map[string]any:
		return "{…}"
	case time.Time:
		return v.Format(time.RFC3339Nano)
	default:
		return cut(fmt.Sprint(v), maxShown)
	}
}

func toAny[T any](list []T) []any {
	out := make([]any, len(list))
	for i, e := range list {
		out[i] = e
	}
	return out
}

// cut returns s, or about its first n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// printable returns s cut to n bytes, and quoted if a terminal might not show
// it as it is.
func printable(s string, n int) string {
	s = cut(s, n)
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func bareKey(name string) string {
	return printable(toml.Key{name}.String(), maxShown)
}
