package hostile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"fenc/model"
	"fenc/wire/v4"
)

// badPaths are what no file may be called.
var badPaths = map[string]string{
	"empty":                        "",
	"the folder above":             "..",
	"the folder itself":            ".",
	"a file of the folder above":   "../x",
	"up and down again":            "a/../b",
	"up from below":                "a/b/../../../x",
	"a dot in the middle":          "a/./b",
	"dots at the end":              "a/..",
	"absolute":                     "/a",
	"absolute, of the system":      "/etc/passwd",
	"two slashes":                  "a//b",
	"a slash at the end":           "a/",
	"nothing but slashes":          "///",
	"a NUL":                        "a\x00b",
	"a NUL at the end":             "a\x00",
	"a NUL that would end it":      "a\x00/../../x",
	"an escape":                    "\x1b[2J",
	"a line break":                 "a\nb",
	"a carriage return":            "a\rb",
	"a bell":                       "\a",
	"a DEL":                        "a\x7f",
	"a C1 control":                 "a\u009b31mb",
	"a line separator":             "a\u2028b",
	"a paragraph separator":        "a\u2029b",
	"a part of 256 bytes":          strings.Repeat("x", 256),
	"a part of 256 bytes, below":   "a/" + strings.Repeat("x", 256),
	"a path of 1,024 bytes, bad":   strings.Repeat("é/", 341) + ".", // cut to a refusal's text, once in the middle of a letter
	"one byte further":             "x" + strings.Repeat("é/", 340) + "..",
	"two bytes further":            "xx" + strings.Repeat("é/", 340) + ".",
	"control characters, to 1,024": strings.Repeat("\x1b", 1024),
}

// oddPaths are names as good as others, whatever some system or program makes of
// them: each is a file of its own in its client's folder.
var oddPaths = map[string]string{
	"a backslash":                     `..\..\x`,
	"a drive":                         `C:\x`,
	"a stream of NTFS":                "x:y",
	"a device of Windows":             "CON",
	"a device with an ending":         "nul.txt",
	"a dot at the end":                "x.",
	"a space at the end":              "x ",
	"a hidden file":                   ".bashrc",
	"three dots":                      "...",
	"dots that are none":              "‥/．．/x",
	"text turned round":               "\u202ecod.exe",
	"the server's own folder":         ".fenc/objects/x",
	"the server's lock":               ".fenc/lock",
	"the database":                    "fenc.db",
	"its log":                         "fenc.db-wal",
	"the server's key":                "server.key",
	"a partial file of fenc get":      ".fenc-0123456789abcdef-0123456789abcdef.part",
	"an option":                       "-rf",
	"a command":                       "$(reboot);`reboot`|reboot",
	"a pattern":                       "*",
	"SQL":                             "'; DROP TABLE files; --",
	"SQL's wildcards":                 "%_%",
	"a format":                        "%s%n%x",
	"HTML":                            "<script>alert(1)",
	"composed":                        "\u00e9",
	"decomposed":                      "e\u0301",
	"invisible":                       "\u200b",
	"a part of 255 bytes":             strings.Repeat("x", 255),
	"a path of 1,024 bytes":           strings.Repeat(strings.Repeat("x", 204)+"/", 4) + strings.Repeat("y", 204),
	"512 levels":                      strings.Repeat("a/", 511) + "b",
	"the least letter of another set": "\U0010ffff",
}

func TestAttacksByPaths(t *testing.T) {
	t.Parallel()
	var attacks []attack
	for name, path := range badPaths {
		attacks = append(attacks, attack{
			name: name, log: "session ended",
			do: func(a *attacker) {
				l := a.session()
				l.says(small(1, path, "x"))
				l.refused(1, 21)
				l.says(offer(2, 0, 3*mib, v4.Digest{}, path))
				l.refused(2, 21)
				l.says(offer(3, 3, 1, digestOf("x"), path))
				l.refused(3, 21)
				l.says(fetch(4, 0, v4.Digest{}, path))
				l.refused(4, 31)
				l.bye()
				if strings.ContainsAny(path, "\x1b\a\u009b") && strings.ContainsAny(a.target.log.String(), "\x1b\a\u009b") {
					a.Error("the log has it as it is")
				}
			},
		})
	}
	for name, path := range oddPaths {
		attacks = append(attacks, attack{
			name: name, log: "session ended", keeps: map[string]string{path: "content"},
			do: func(a *attacker) {
				l := a.session()
				l.keeps(1, path, "content")
				l.fetches(2, path, "content")
				l.says(list(3, 10, path, ""))
				m, err := v4.Unmarshal(v4.CodeEntries, l.gets(2113))
				must(a.T, err)
				if e := m.(*v4.Entries).Entries; len(e) != 1 || e[0].Path != path {
					a.Errorf("listed: %+v", e)
				}
				l.bye()
			},
		})
	}
	attacks = append(attacks,
		attack{name: "a path that is not UTF-8", do: then(frame(1111, numbered(1), u64(0), u16(0), digestBytes("x"), text("a\xff"), []byte("x"))), log: "not UTF-8"},
		attack{name: "a path of overlong UTF-8", do: then(frame(1111, numbered(1), u64(0), u16(0), digestBytes("x"), text("a\xc0\xafb"), []byte("x"))), log: "not UTF-8"},
		attack{name: "a path of half a pair", do: then(frame(1111, numbered(1), u64(0), u16(0), digestBytes("x"), text("a\xed\xa0\x80"), []byte("x"))), log: "not UTF-8"},
		attack{name: "a path of 1,025 bytes", do: then(frame(1111, numbered(1), u64(0), u16(0), digestBytes("x"), text(strings.Repeat("x/", 512)+"y"), []byte("x"))), log: "1025 bytes, over 1024"},
		attack{name: "a file below a file", log: "session ended", keeps: map[string]string{"a": "x"}, do: func(a *attacker) {
			l := a.session()
			l.keeps(1, "a", "x")
			l.says(small(2, "a/b", "y"))
			l.refused(2, 22)
			l.says(small(3, "a/b/c/d", "y"))
			l.refused(3, 22)
			l.bye()
		}},
		attack{name: "a file in the place of a folder", log: "session ended", keeps: map[string]string{"a/b": "x"}, do: func(a *attacker) {
			l := a.session()
			l.keeps(1, "a/b", "x")
			l.says(small(2, "a", "y"))
			l.refused(2, 22)
			l.bye()
		}},
		attack{name: "a large file in the place of a folder", log: "session ended", keeps: map[string]string{"a/b": "x"}, do: func(a *attacker) {
			l := a.session()
			l.keeps(1, "a/b", "x")
			l.offers(2, 3*mib, "a")
			l.says(blocks(2, whole), finish(2, whole))
			l.refused(2, 22)
			l.bye()
		}},
		attack{name: "a file and a file below it at once", log: "session ended", do: func(a *attacker) {
			l := a.session()
			l.says(small(1, "a", "x"), small(2, "a/b", "y"), small(3, "a/b/c", "z"))
			a.kept = make(map[string]string)
			for range 3 {
				code, payload, err := l.hears()
				must(a.T, err)
				switch number := le.Uint32(payload); {
				case code == 2103:
					path := []string{"a", "a/b", "a/b/c"}[number-1]
					a.kept[path] = []string{"x", "y", "z"}[number-1]
				case code != 2110 || le.Uint16(payload[4:]) != 22:
					a.Errorf("got %d of %d", code, number)
				}
			}
			if len(a.kept) > 1 {
				a.Errorf("%v are kept, which exclude each other", a.kept)
			}
			l.bye()
		}},
		attack{name: "a file and a file below it at once, over two connections", log: "session ended", do: func(a *attacker) {
			l := a.session()
			other := a.client.connect(a.T)
			other.says(helloOf(7, 1, a.instance, a.epoch.Load(), none, a.name))
			other.welcome()
			var both sync.WaitGroup
			a.kept = make(map[string]string)
			var mu sync.Mutex
			for i, l := range []*line{l, other} {
				both.Go(func() {
					for round := range 20 {
						path := fmt.Sprintf("f%d", round) + strings.Repeat("/below", i)
						l.says(small(round+1, path, "x"))
						if code, _, _ := l.hears(); code == 2103 {
							mu.Lock()
							a.kept[path] = "x"
							mu.Unlock()
						}
					}
				})
			}
			both.Wait()
			for round := range 20 {
				if path := fmt.Sprintf("f%d", round); a.kept[path] == a.kept[path+"/below"] {
					a.Errorf("%s and %s/below: both are kept, or neither", path, path)
				}
			}
			other.bye()
			l.bye()
		}},
		attack{name: "a thousand files of one name", log: "session ended", do: func(a *attacker) {
			l := a.session()
			var all []byte
			for number := 1; number <= 1000; number++ {
				all = append(all, small(number, "a", fmt.Sprint(number))...)
			}
			l.says(all)
			for range 1000 {
				l.gets(2103)
			}
			l.keeps(1001, "a", "the last")
			l.bye()
			a.kept = map[string]string{"a": "the last"}
		}},
	)
	withstand(t, serveTarget(t), attacks)
}

// Where the storage folds case and normalises, the second spelling of a path is
// refused; the first stands.
func TestAttacksByPathsOnAFoldingStorage(t *testing.T) {
	t.Parallel()
	var attacks []attack
	for name, pair := range map[string][2]string{
		"another case":                {"readme", "README"},
		"another case of a folder":    {"a/x", "A/y"},
		"decomposed":                  {"\u00e9", "e\u0301"},
		"a sharp s":                   {"stra\u00dfe", "STRASSE"},
		"the sign for kelvin":         {"k", "\u212a"},
		"a file below another case":   {"a", "A/b"},
		"a folder in another case":    {"a/b", "A"},
		"a dotless i is another file": {"i", "\u0131"},
	} {
		attacks = append(attacks, attack{name: name, log: "session ended", keeps: map[string]string{pair[0]: "first"}, do: func(a *attacker) {
			l := a.session()
			l.keeps(1, pair[0], "first")
			l.says(small(2, pair[1], "second"))
			if pair[0] == "i" {
				l.received(2, "second")
				a.kept = map[string]string{pair[0]: "first", pair[1]: "second"}
			} else if strings.HasPrefix(pair[1], "A/y") {
				if code, _, err := l.hears(); err != nil || code != 2103 && code != 2110 {
					a.Errorf("got %d, %v", code, err)
				} else if code == 2103 { // folders may be spelled either way
					a.kept = map[string]string{pair[0]: "first", pair[1]: "second"}
				}
			} else {
				l.refused(2, 22)
			}
			l.bye()
		}})
	}
	withstand(t, serveTarget(t, func(s *target) { s.fold = model.Fold }), attacks)
}

// Links that somebody with access to the storage has planted lead a client nowhere.
func TestLinksInTheStorageLeadNowhere(t *testing.T) {
	t.Parallel()
	s := serveTarget(t)
	c := s.newClient(t, "attacker")
	l := c.session(t)
	l.keeps(1, "folder/a", "x")
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.MkdirAll(outside, 0o700))
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	who, _, _ := s.archive.Catalogue.ClientNamed("attacker")
	root := filepath.Join(s.dir, "files", who.Folder)
	must(t, os.Symlink(outside, filepath.Join(root, "link")))
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(root, "file")))
	for number, path := range []string{"link/secret", "file"} {
		l.says(fetch(number+2, 0, v4.Digest{}, path))
		l.refused(number+2, 31)
	}
	l.says(small(4, "link/new", "written outside"), small(5, "file", "written outside"))
	for range 2 { // verified by the catalogue; whether the tree can show it is another matter
		if code, _, err := l.hears(); err != nil || code != 2103 && code != 2110 {
			t.Errorf("got %d, %v", code, err)
		}
	}
	l.bye()
	entries, err := os.ReadDir(outside)
	content, readErr := os.ReadFile(filepath.Join(outside, "secret"))
	if err != nil || readErr != nil || len(entries) != 1 || string(content) != "secret" {
		t.Errorf("outside of the storage: %v, %q, %v, %v", entries, content, err, readErr)
	}
	s.serves(t)
}
