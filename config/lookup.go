package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// The names that files are looked up by.
const (
	ServerFile   = "server.toml"
	TransferFile = "transfer.toml"
	MeFileName   = "me.toml"
)

// Lookup says where settings are looked for.
type Lookup struct {
	WorkDir   string                   // looked in first; relative paths given outside a file start here
	ConfigDir string                   // looked in next; empty: nowhere else
	Getenv    func(name string) string // of the environment; nil: none. A variable set to "" counts as not set
}

// System returns the lookup of this process: the working directory, then fenc
// in the user's configuration directory, and the environment. What a hook finds in
// its environment tells of its event, FENC_NAME for one, and is no setting of a
// fenc that it runs.
func System() Lookup {
	l := Lookup{WorkDir: ".", Getenv: os.Getenv}
	if os.Getenv("FENC_EVENT") != "" {
		l.Getenv = nil
	}
	if dir, err := os.UserConfigDir(); err == nil {
		l.ConfigDir = filepath.Join(dir, "fenc")
	}
	return l
}

// Home returns the directory that fenc join writes its files in: ConfigDir, or
// WorkDir where there is none. It need not exist yet.
func (l Lookup) Home() string { return cmp.Or(l.ConfigDir, l.WorkDir) }

// Source is the file that settings came from.
type Source struct {
	Path    string // empty: there was none
	Blank   bool   // there is one, and it sets no key
	workDir string
}

// Dir returns the directory that relative paths in the file start at; without
// a file it is the working directory.
func (s Source) Dir() string {
	if s.Path == "" {
		return filepath.Clean(s.workDir)
	}
	return filepath.Dir(s.Path)
}

// LoadServer is System().LoadServer.
func LoadServer(path string) (Server, Source, error) { return System().LoadServer(path) }

// LoadTransfer is System().LoadTransfer.
func LoadTransfer(path string) (Transfer, Source, error) { return System().LoadTransfer(path) }

// LoadMe is System().LoadMe.
func LoadMe(path string) (Me, error) { return System().LoadMe(path) }

// LoadServer returns the settings of the file at path, which must exist, or
// with an empty path those of the first server.toml found, over the defaults
// and under the environment. The caller applies flags, then calls Validate.
func (l Lookup) LoadServer(path string) (Server, Source, error) {
	c := DefaultServer()
	src, err := l.load(path, ServerFile, &c, &c.origins)
	if key, ok := l.Credential(ServerKeyName); ok && c.Key == "" && err == nil {
		c.Key = key
		c.note("key", origin{short: "$" + credentialsDirectory, where: "the credential " + key})
	}
	return c, src, err
}

// LoadTransfer does for transfer.toml what LoadServer does for server.toml.
func (l Lookup) LoadTransfer(path string) (Transfer, Source, error) {
	c := DefaultTransfer()
	src, err := l.load(path, TransferFile, &c, &c.origins)
	return c, src, err
}

// LoadMe returns the identity in the file at path or, with an empty path, in
// the first me.toml found. There being none is an error that wraps
// fs.ErrNotExist; a file that others may read is refused.
func (l Lookup) LoadMe(path string) (Me, error) {
	if path == "" {
		found, ok := l.find(MeFileName)
		if !ok {
			return Me{}, fmt.Errorf("%s: %w; the first fenc send writes it", MeFileName, fs.ErrNotExist)
		}
		path = found
	}
	return readMe(path)
}

// MePath returns the path of the identity file and whether there is one: named
// itself if it is not empty, else a credential of systemd's, else the first me.toml in the working directory,
// beside the transfer.toml that was used, and in the configuration directory.
// Where none exists yet, path is where to create it: beside that transfer.toml
// or, without one, in the working directory.
func (l Lookup) MePath(named string, used Source) (path string, exists bool) {
	if named != "" {
		return named, isThere(named)
	}
	if path, ok := l.Credential(MeFileName); ok {
		return path, true
	}
	here := filepath.Join(l.WorkDir, MeFileName)
	beside := here
	if used.Path != "" {
		beside = filepath.Join(used.Dir(), MeFileName)
	}
	for _, p := range []string{here, beside} {
		if isThere(p) {
			return p, true
		}
	}
	if found, ok := l.find(MeFileName); ok {
		return found, true
	}
	return beside, false
}

// ServerKeyName and InviteName are what credentials are called, besides MeFileName.
const (
	ServerKeyName = "server.key"
	InviteName    = "invite"
)

// Credential returns the path of a secret that systemd hands to a service
// (LoadCredential= of its unit, systemd.exec(5)), and whether there is one.
func (l Lookup) Credential(name string) (path string, ok bool) {
	if l.Getenv == nil {
		return "", false
	}
	dir := l.Getenv(credentialsDirectory)
	if !filepath.IsAbs(dir) {
		return "", false
	}
	path = filepath.Join(dir, name)
	return path, isThere(path)
}

// find returns the path of the file called name in the first directory that
// has it.
func (l Lookup) find(name string) (path string, found bool) {
	for _, dir := range []string{filepath.Join(l.WorkDir, "."), l.ConfigDir} {
		if dir == "" {
			continue
		}
		if p := filepath.Join(dir, name); isThere(p) {
			return p, true
		}
	}
	return "", false
}

// isThere holds for a broken link too: following it gives the error to show.
func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// load fills c, which holds the defaults, from the file and the environment.
func (l Lookup) load(path, name string, c any, from *origins) (Source, error) {
	src := Source{workDir: l.WorkDir}
	from.workDir = l.WorkDir
	keys := keysOf(c)
	for _, k := range keys {
		k.resolve(l.WorkDir)
	}
	if path == "" {
		path, _ = l.find(name)
	}
	if path != "" {
		src.Path = path
		data, err := readFile(path, "")
		if err != nil {
			return src, err
		}
		doc, err := parse(path, data, keys)
		if err != nil {
			return src, err
		}
		if err := doc.fill(keys, from); err != nil {
			return src, err
		}
		src.Blank = len(doc.values) == 0
	}
	if l.Getenv == nil {
		return src, nil
	}
	return src, l.environment("FENC_", keys, from)
}

// environment sets the keys that the environment has a variable for.
func (l Lookup) environment(prefix string, keys []key, from *origins) error {
	for _, k := range keys {
		variable := prefix + strings.ToUpper(k.name)
		if s, ok := k.field.Addr().Interface().(*S3); ok {
			if err := l.environment(variable+"_", k.tableKeys(), &s.origins); err != nil {
				return err
			}
		}
		text := l.Getenv(variable)
		if text == "" || k.isTables() {
			continue
		}
		texts := []string{text}
		if k.isList() {
			texts = strings.Split(text, ",")
			for i := range texts {
				texts[i] = strings.TrimSpace(texts[i])
			}
		}
		where := variable + "=" + shown(text)
		if err := k.assignText(texts); err != nil {
			return complaint(where, k.name, err)
		}
		k.resolve(l.WorkDir)
		from.note(k.name, origin{short: variable, where: where, dir: l.WorkDir})
	}
	return nil
}

// complaint is the one form of an error about a value: where it stands with
// key and value, what is wrong, and what to do.
func complaint(where, key string, err error) error {
	return fmt.Errorf("%s: %w; %s", where, err, remedies[key])
}

// origin is where a value came from.
type origin struct {
	short   string // "server.toml:3", "--listen" or "FENC_LISTEN"
	where   string // "server.toml:3: listen = \"x\""
	dir     string // that relative paths in it start at
	literal bool   // it came from the command line, where the shell has expanded patterns
}

// origins remembers where each value came from, for errors found later.
type origins struct {
	workDir string
	table   string            // where the table stands that the keys are of; empty: there is none
	of      map[string]origin // by key
}

// because names, for a key that may be left out, the one that it must be set with: where
// it is not, that one's place is what to look at.
var because = map[string]string{"move_to": "after", "webhook_secret_file": "webhook_url"}

func (o *origins) note(key string, from origin) {
	// A new map: Server and Transfer are values, and copies of one must not
	// see each other's flags.
	o.of = maps.Clone(o.of)
	if o.of == nil {
		o.of = map[string]origin{}
	}
	o.of[key] = from
}

func (o *origins) override(c any, name string, text []string) error {
	where := "--" + strings.ReplaceAll(name, "_", "-")
	for _, t := range text {
		where += " " + shown(t)
	}
	for _, k := range keysOf(c) {
		if k.name != name {
			continue
		}
		if len(text) != 1 && !k.isList() {
			return complaint(where, name, errors.New("not one value"))
		}
		if err := k.assignText(text); err != nil {
			return complaint(where, name, err)
		}
		k.resolve(o.workDir)
		o.note(name, origin{short: "--" + strings.ReplaceAll(name, "_", "-"), where: where, dir: o.workDir, literal: true})
		return nil
	}
	return fmt.Errorf("%s: unknown key", where)
}

// Origin says where a key's value came from: "server.toml:3", "--listen" or
// "FENC_LISTEN"; empty where it is the default.
func (o *origins) Origin(key string) string { return o.of[key].short }

// check is a key, its value, and what is wrong with it or nil.
type check struct {
	key   string
	value any
	err   error
}

// first returns the first check's complaint, or nil.
func (o *origins) first(checks []check) error {
	for _, c := range checks {
		if c.err == nil {
			continue
		}
		where := o.of[c.key].where
		if where == "" {
			where = c.key + " = " + shown(c.value)
			if at := cmp.Or(o.of[because[c.key]].short, o.table); at != "" {
				where = at + ": " + where
			}
		}
		return complaint(where, c.key, c.err)
	}
	return nil
}
