package config

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
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
