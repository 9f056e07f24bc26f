package config

import (
	"strings"

	"github.com/BurntSushi/toml"
)

// setServerKey returns the text of a sound transfer.toml with keys in the place of
// the value of server_key or, where there is none, above the first table or below
// all else.
func setServerKey(text string, keys []string) string {
	eol := "\n"
	if i := strings.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
		eol = "\r\n"
	}
	mark := len(text) - len(strings.TrimLeft(text, "\ufeff")) // the library skips one, and parse another
	for s := (scanner{text: text, at: mark}); s.toKey(); {
		line := max(mark, 1+strings.LastIndexByte(text[:s.at], '\n'))
		start := s.at
		if s.sees("[") {
			above := aboveComments(text[:line], mark)
			return text[:above] + strings.ReplaceAll(pinComment, "\n", eol) + "server_key = " + pinValue(keys) + eol + eol + text[above:]
		}
		s.skipTo('=')
		name := text[start:s.at]
		s.at++
		s.skipBlanks(" \t")
		start = s.at
		comments, end := s.skipValue()
		if !isServerKey(name) {
			continue
		}
		above := ""
		for _, c := range comments {
			above += c + eol
		}
		return text[:line] + above + text[line:start] + pinValue(keys) + text[end:]
	}
	if len(text) > mark {
		if !strings.HasSuffix(text, "\n") {
			text += eol
		}
		text += eol
	}
	return text + strings.ReplaceAll(pinComment, "\n", eol) + "server_key = " + pinValue(keys) + eol
}

// aboveComments returns the offset of the line that the comments right at the end of
// text begin with.
func aboveComments(text string, mark int) int {
	for {
		line := max(mark, 1+strings.LastIndexByte(strings.TrimSuffix(text, "\n"), '\n'))
		if line == len(text) || !strings.HasPrefix(strings.TrimLeft(text[line:], " \t"), "#") {
			return len(text)
		}
		text = text[:line]
	}
}

// isServerKey tells whether a key as it stands in a file, perhaps in quotes, is
// server_key.
func isServerKey(written string) bool {
	var m map[string]any
	_, err := toml.Decode(written+"= 0", &m)
	return err == nil && m["server_key"] == int64(0)
}

// scanner steps through TOML that the library has found to be sound, so that
// what it skips has an end.
type scanner struct {
	text string
	at   int
}

func (s *scanner) more() bool              { return s.at < len(s.text) }
func (s *scanner) sees(prefix string) bool { return strings.HasPrefix(s.text[s.at:], prefix) }

func (s *scanner) skipBlanks(blanks string) {
	for s.more() && strings.IndexByte(blanks, s.text[s.at]) >= 0 {
		s.at++
	}
}

// toKey skips blanks and comments and tells whether a key follows.
func (s *scanner) toKey() bool {
	for s.skipBlanks(" \t\r\n"); s.more() && s.text[s.at] == '#'; s.skipBlanks(" \t\r\n") {
		s.skipLine()
	}
	return s.more()
}

func (s *scanner) skipLine() {
	for s.more() && s.text[s.at] != '\n' {
		s.at++
	}
}

// skipTo stops at c outside quotes.
func (s *scanner) skipTo(c byte) {
	for s.more() && s.text[s.at] != c {
		s.skipOne()
	}
}

// skipOne skips a text in quotes, or one byte of anything else.
func (s *scanner) skipOne() {
	for _, quote := range []string{`"""`, `'''`, `"`, `'`} {
		if !s.sees(quote) {
			continue
		}
		for s.at += len(quote); s.more() && !s.sees(quote); s.at++ {
			if quote[0] == '"' && s.text[s.at] == '\\' {
				s.at++
			}
		}
		s.at += len(quote)
		for n := 0; n < 2 && len(quote) == 3 && s.at < len(s.text) && s.sees(quote[:1]); n++ {
			s.at++ // up to two quotes before the closing ones are text
		}
		s.at = min(s.at, len(s.text))
		return
	}
	s.at++
}

// skipValue skips a value and returns the comments within its brackets and the
// offset behind it.
func (s *scanner) skipValue() (comments []string, end int) {
	depth := 0
	for s.more() {
		switch c := s.text[s.at]; {
		case c == '#' && depth > 0:
			start := s.at
			s.skipLine()
			comments = append(comments, strings.TrimRight(s.text[start:s.at], " \t\r"))
		case (c == '#' || c == '\n') && depth == 0:
			return comments, end
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			s.at++
		case c == '[' || c == '{':
			depth++
			s.at++
			end = s.at
		case c == ']' || c == '}':
			depth--
			s.at++
			end = s.at
		default:
			s.skipOne()
			end = s.at
		}
	}
	return comments, end
}
