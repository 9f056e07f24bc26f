package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// maxShown is how much of a value or a line an error quotes, in bytes.
const maxShown = 80

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
