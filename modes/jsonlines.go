package modes

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
)

// jsonLines writes values as JSON, one a line. What is not printable, in names that
// clients or servers have chosen, is escaped: a line that is looked at on a terminal
// acts on it no more than other output does. It reads back as the same.
func jsonLines(w io.Writer) *json.Encoder {
	e := json.NewEncoder(printableJSON{w})
	e.SetEscapeHTML(false)
	return e
}

// printableJSON escapes what JSON leaves unprintable, which can stand in its strings
// alone. Each Write is whole JSON.
type printableJSON struct{ w io.Writer }

func (p printableJSON) Write(text []byte) (int, error) {
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		switch {
		case r == '\n' || strconv.IsPrint(r):
			out = append(out, string(r)...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	if _, err := p.w.Write(out); err != nil {
		return 0, err
	}
	return len(text), nil
}
