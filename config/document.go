package config

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"github.com/xrash/smetrics"
)

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
