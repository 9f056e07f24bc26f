// Package config reads fenc's settings, server.toml, transfer.toml and me.toml,
// and the server's key, and writes what fenc itself writes of them.
//
// A setting comes from the first of these that has it: the command line
// (Override), the environment (FENC_ and the key in upper case), the file, the
// default. Loading refuses what is not TOML, unknown keys and wrong types;
// Validate, run after the flags, refuses values out of range. Either way the
// error says where the value stood, what is wrong with it and what to write.
package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Server is server.toml: how fenc serve listens, stores and limits.
type Server struct {
	Listen                  string   `toml:"listen"`                         // host:port; an empty host is every address, port 0 a free one
	Advertise               string   `toml:"advertise"`                      // host:port that invites name; empty leaves it to the caller
	Storage                 string   `toml:"storage" is:"storage"`           // directory of the received files, or buckets: see Buckets
	Database                string   `toml:"database" is:"dsn"`              // catalogue: the path of a SQLite file, or postgres://…
	Key                     string   `toml:"key" is:"path"`                  // file of the private key; empty: see KeyPath
	Control                 string   `toml:"control" is:"path"`              // socket for fenc's own commands; empty: see ControlPath
	Protocols               []int    `toml:"protocols"`                      // versions spoken, 3 and 4; nil: see ServedProtocols
	RequirePQ               bool     `toml:"require_pq"`                     // refuse a key exchange that is not post-quantum
	Registration            string   `toml:"registration"`                   // "open", "invite" or "closed" to new clients
	MaxFileSize             Size     `toml:"max_file_size"`                  // bytes of one file; 0 is the protocol's own limit
	MaxSessions             int      `toml:"max_sessions"`                   // sessions of clients at once, 1 to 1000000
	MaxSessionsPerAddress   int      `toml:"max_sessions_per_address"`       // of them from one address, 1 to 1000000
	MaxHandshakesPerAddress int      `toml:"max_handshakes_per_address"`     // connections that one address may begin in a second, over ten, 1 to 1000000
	MaxUnadmitted           int      `toml:"max_unadmitted"`                 // connections at once whose client is not admitted yet, 1 to 1000000
	MaxOpenUploads          int      `toml:"max_open_uploads"`               // unfinished files of one client, 1 to 10000
	MaxClientSize           Size     `toml:"max_client_size"`                // bytes of all files of one client; 0 is no bound
	MaxClientFiles          int      `toml:"max_client_files"`               // files of one client; 0 is no bound
	KeepPartial             Duration `toml:"keep_partial"`                   // how long an unfinished file waits to be resumed, 1h to 8760h
	KeepVersions            int      `toml:"keep_versions"`                  // earlier versions of a file that are kept, 0 to 1000
	ExpireAfter             Duration `toml:"expire_after"`                   // how long after its receipt a file is removed, 1h to 876000h; 0 is never
	IdleTimeout             Duration `toml:"idle_timeout"`                   // longest silence of a client, 1s to 24h
	ShutdownGrace           Duration `toml:"shutdown_grace"`                 // how long transfers may finish after SIGTERM, 0s to 1h
	StatusListen            string   `toml:"status_listen"`                  // host:port of the status page, an empty host is this machine alone; empty: nowhere
	ProxyProtocolFrom       []string `toml:"proxy_protocol_from" is:"texts"` // addresses and prefixes of balancers, whose connections begin with a PROXY header; empty: none
	MetricsListen           string   `toml:"metrics_listen"`                 // host:port of metrics and health, an empty host is this machine alone; empty: nowhere
	Confine                 bool     `toml:"confine"`                        // have the kernel deny files that are none of the server's, where it can
	LogLevel                string   `toml:"log_level"`                      // "debug", "info", "warn" or "error"
	LogFormat               string   `toml:"log_format"`                     // "text" or "json"

	HookCommand       []string `toml:"hook_command" is:"command"`     // run for every verified file: a program and its arguments; empty: none
	WebhookURL        string   `toml:"webhook_url"`                   // called for every verified file; empty: none
	WebhookSecretFile string   `toml:"webhook_secret_file" is:"path"` // file of the secret that its calls are signed with: see LoadWebhookSecret
	HookTimeout       Duration `toml:"hook_timeout"`                  // longest run of a hook and longest call of the webhook, 1s to 24h
	HookParallel      int      `toml:"hook_parallel"`                 // of each of them at once, 1 to 64
	HookRetryFor      Duration `toml:"hook_retry_for"`                // how long one file's event is tried again, 0s to 8760h
	GateCommand       []string `toml:"gate_command" is:"command"`     // says whether content may become a file: a program and its arguments; empty: none
	GateTimeout       Duration `toml:"gate_timeout"`                  // longest that it may take, 1s to 24h
	GateParallel      int      `toml:"gate_parallel"`                 // of it at once, 1 to 64

	S3 S3 `toml:"s3" is:"table"` // the store of the buckets

	origins `toml:"-"`
}

// DefaultServer returns the settings of a server that has no file.
func DefaultServer() Server {
	return Server{
		Listen:                  "127.0.0.1:1234",
		Storage:                 "files",
		Database:                "fenc.db",
		RequirePQ:               true,
		Registration:            "open",
		MaxSessions:             4096,
		MaxSessionsPerAddress:   1024,
		MaxHandshakesPerAddress: 100,
		MaxUnadmitted:           512,
		MaxOpenUploads:          64,
		KeepPartial:             7 * day,
		HookTimeout:             Duration(time.Minute),
		HookParallel:            4,
		HookRetryFor:            3 * day,
		GateTimeout:             Duration(5 * time.Minute),
		GateParallel:            4,
		S3:                      DefaultS3(),
		IdleTimeout:             Duration(60 * time.Second),
		ShutdownGrace:           Duration(30 * time.Second),
		Confine:                 true,
		LogLevel:                "info",
		LogFormat:               "text",
	}
}

// ServedProtocols returns the protocol versions to speak on an address that is
// a loopback address or not: those that are set or, where none are, 3 and 4 on
// a loopback address and 4 alone elsewhere.
func (s Server) ServedProtocols(loopback bool) []int {
	switch {
	case s.Protocols != nil:
		return slices.Clone(s.Protocols)
	case loopback:
		return []int{3, 4}
	}
	return []int{4}
}

// Transfer is transfer.toml: where fenc send sends, as whom, and what.
type Transfer struct {
	Server         string    `toml:"server"`                 // host:port
	ServerKey      []string  `toml:"server_key" is:"texts"`  // fingerprints of its key, "SHA256:…"; empty: none is pinned yet
	Name           string    `toml:"name"`                   // to register under, 1 to 127 bytes; empty leaves it to the caller
	Files          []string  `toml:"files" is:"source"`      // to send where the command line names none: see ExpandFiles
	Exclude        []string  `toml:"exclude"`                // patterns of what to leave out, as .gitignore has them
	ExcludeFrom    []string  `toml:"exclude_from" is:"path"` // paths of files that hold such patterns, one a line
	FollowLinks    bool      `toml:"follow_links"`           // send what symbolic links lead to; false skips them
	MinSize        Size      `toml:"min_size"`               // bytes of the shortest file that is sent
	MaxSize        Size      `toml:"max_size"`               // bytes of the longest file that is sent; 0 is no bound
	BWLimit        Bandwidth `toml:"bwlimit"`                // bytes a second, each way, by the time of the day
	Protocol       int       `toml:"protocol"`               // 3 or 4
	RequirePQ      bool      `toml:"require_pq"`             // refuse a key exchange that is not post-quantum
	Me             string    `toml:"me" is:"path"`           // path of me.toml; empty: looked up
	Streams        int       `toml:"streams"`                // connections that carry the files, 1 to 16
	Attempts       int       `toml:"attempts"`               // resends after a checksum mismatch, 0 to 100
	RetryFor       Duration  `toml:"retry_for"`              // how long to try again after a failure that may pass, 0s to 168h
	Timeout        Duration  `toml:"timeout"`                // longest silence of the server, 1s to 24h
	ConnectTimeout Duration  `toml:"connect_timeout"`        // longest wait for the connection, 100ms to 1h
	Queue          string    `toml:"queue" is:"path"`        // path of what fenc watch remembers; empty: in the user's state directory
	LogLevel       string    `toml:"log_level"`              // of fenc watch: "debug", "info", "warn" or "error"
	LogFormat      string    `toml:"log_format"`             // of fenc watch: "text" or "json"
	Watch          []Watch   `toml:"watch" is:"tables"`      // folders that fenc watch sends from
	origins        `toml:"-"`
}

// DefaultTransfer returns the settings of a client that has no file.
func DefaultTransfer() Transfer {
	return Transfer{
		Server:         "127.0.0.1:1234",
		Protocol:       4,
		RequirePQ:      true,
		Streams:        1,
		Attempts:       3,
		RetryFor:       Duration(10 * time.Minute),
		Timeout:        Duration(2 * time.Minute),
		ConnectTimeout: Duration(10 * time.Second),
		LogLevel:       "info",
		LogFormat:      "text",
	}
}

// Override sets a key from the command line: the flag --KEY with its text, or
// several texts for a list. A relative path is relative to the working
// directory. The error names the flag.
func (s *Server) Override(key string, text ...string) error {
	return s.override(s, key, text)
}

// Override sets a key from the command line: the flag --KEY with its text, or
// several texts for a list. A relative path is relative to the working
// directory. The error names the flag.
func (t *Transfer) Override(key string, text ...string) error {
	return t.override(t, key, text)
}

// Validate returns an error for the first key whose value is out of range.
func (s *Server) Validate() error {
	return cmp.Or(s.first([]check{
		{"listen", s.Listen, checkAddress(s.Listen, true)},
		{"advertise", s.Advertise, checkAdvertise(s.Advertise)},
		{"storage", s.Storage, checkStorage(s.Storage)},
		{"database", s.Database, checkDatabase(s.Database)},
		{"key", s.Key, checkNoNUL(s.Key)},
		{"control", s.Control, checkNoNUL(s.Control)},
		{"protocols", s.Protocols, checkProtocols(s.Protocols)},
		{"registration", s.Registration, checkOneOf(s.Registration, "open", "invite", "closed")},
		{"max_file_size", s.MaxFileSize, checkRange(s.MaxFileSize, 0, Size(math.MaxInt64))},
		{"max_sessions", s.MaxSessions, checkRange(s.MaxSessions, 1, 1_000_000)},
		{"max_sessions_per_address", s.MaxSessionsPerAddress, checkRange(s.MaxSessionsPerAddress, 1, 1_000_000)},
		{"max_handshakes_per_address", s.MaxHandshakesPerAddress, checkRange(s.MaxHandshakesPerAddress, 1, 1_000_000)},
		{"max_unadmitted", s.MaxUnadmitted, checkRange(s.MaxUnadmitted, 1, 1_000_000)},
		{"max_open_uploads", s.MaxOpenUploads, checkRange(s.MaxOpenUploads, 1, 10_000)},
		{"max_client_size", s.MaxClientSize, checkRange(s.MaxClientSize, 0, Size(math.MaxInt64))},
		{"max_client_files", s.MaxClientFiles, checkRange(s.MaxClientFiles, 0, math.MaxInt32)},
		{"keep_partial", s.KeepPartial, CheckKeepPartial(s.KeepPartial)},
		{"keep_versions", s.KeepVersions, checkRange(s.KeepVersions, 0, 1000)},
		{"expire_after", s.ExpireAfter, CheckExpireAfter(s.ExpireAfter)},
		{"hook_command", s.HookCommand, checkCommand(s.HookCommand)},
		{"webhook_url", s.WebhookURL, checkWebhook(s.WebhookURL)},
		{"webhook_secret_file", s.WebhookSecretFile, checkSecretFile(s.WebhookURL, s.WebhookSecretFile)},
		{"hook_timeout", s.HookTimeout, checkRange(s.HookTimeout, second, day)},
		{"hook_parallel", s.HookParallel, checkRange(s.HookParallel, 1, 64)},
		{"hook_retry_for", s.HookRetryFor, checkRange(s.HookRetryFor, 0, 365*day)},
		{"gate_command", s.GateCommand, checkCommand(s.GateCommand)},
		{"gate_timeout", s.GateTimeout, checkRange(s.GateTimeout, second, day)},
		{"gate_parallel", s.GateParallel, checkRange(s.GateParallel, 1, 64)},
		{"idle_timeout", s.IdleTimeout, checkRange(s.IdleTimeout, second, day)},
		{"shutdown_grace", s.ShutdownGrace, checkRange(s.ShutdownGrace, 0, hour)},
		{"status_listen", s.StatusListen, checkOwnListen(s.StatusListen)},
		{"proxy_protocol_from", s.ProxyProtocolFrom, checkEach(s.ProxyProtocolFrom, "entry", checkPrefix)},
		{"metrics_listen", s.MetricsListen, checkOwnListen(s.MetricsListen)},
		{"log_level", s.LogLevel, checkOneOf(s.LogLevel, "debug", "info", "warn", "error")},
		{"log_format", s.LogFormat, checkOneOf(s.LogFormat, "text", "json")},
	}), s.S3.Validate())
}

// Validate returns an error for the first key whose value is out of range.
func (t *Transfer) Validate() error {
	return cmp.Or(t.first([]check{
		{"server", t.Server, checkAddress(t.Server, false)},
		{"server_key", t.ServerKey, checkFingerprints(t.ServerKey)},
		{"name", t.Name, checkName(t.Name, true)},
		{"files", t.Files, checkEach(t.Files, "path", checkPath)},
		{"exclude", t.Exclude, checkEach(t.Exclude, "pattern", checkExclude)},
		{"exclude_from", t.ExcludeFrom, checkEach(t.ExcludeFrom, "path", checkPath)},
		{"min_size", t.MinSize, checkRange(t.MinSize, 0, Size(math.MaxInt64))},
		{"max_size", t.MaxSize, checkMaxSize(t.MinSize, t.MaxSize)},
		{"protocol", t.Protocol, checkProtocol(t.Protocol)},
		{"me", t.Me, checkNoNUL(t.Me)},
		{"streams", t.Streams, checkRange(t.Streams, 1, 16)},
		{"attempts", t.Attempts, checkRange(t.Attempts, 0, 100)},
		{"retry_for", t.RetryFor, checkRange(t.RetryFor, 0, 7*day)},
		{"timeout", t.Timeout, checkRange(t.Timeout, second, day)},
		{"connect_timeout", t.ConnectTimeout, checkRange(t.ConnectTimeout, Duration(100*time.Millisecond), hour)},
		{"queue", t.Queue, checkNoNUL(t.Queue)},
		{"log_level", t.LogLevel, checkOneOf(t.LogLevel, "debug", "info", "warn", "error")},
		{"log_format", t.LogFormat, checkOneOf(t.LogFormat, "text", "json")},
	}), validateEach(t.Watch))
}

// remedies say, for each key, what to write instead of a wrong value.
var remedies = map[string]string{
	"listen":                     `write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`,
	"advertise":                  `write the host:port that clients reach, such as "files.example.org:1234", or leave the key out`,
	"storage":                    `write a directory, such as "files", or a bucket, such as "s3://bucket/prefix"`,
	"database":                   `write a path, such as "fenc.db", or an address such as "postgres://fenc@db.example.org/fenc"`,
	"key":                        `write a path, such as "server.key"`,
	"control":                    `write a path, such as "/run/fenc/fenc.sock", or leave the key out`,
	"protocols":                  `write [4], [3] or [3, 4], or leave the key out`,
	"require_pq":                 `write true or false`,
	"registration":               `write "open", "invite" or "closed"`,
	"max_file_size":              `write a size such as "4GiB", or 0 for the protocol's own limit`,
	"max_sessions":               `write a whole number from 1 to 1000000`,
	"max_sessions_per_address":   `write a whole number from 1 to 1000000`,
	"max_handshakes_per_address": `write a whole number from 1 to 1000000`,
	"max_unadmitted":             `write a whole number from 1 to 1000000`,
	"max_open_uploads":           `write a whole number from 1 to 10000`,
	"max_client_size":            `write a size such as "100GiB", or 0 for no bound`,
	"max_client_files":           `write a whole number up to 2147483647, or 0 for no bound`,
	"keep_partial":               `write a duration from 1h to 8760h, such as "168h"`,
	"keep_versions":              `write a whole number up to 1000, or 0 to keep none`,
	"expire_after":               `write a duration from 1h to 876000h, such as "90d", or "0s" for never`,
	"hook_command":               `write a list of a program and its arguments, such as ["/usr/local/bin/arrived"]`,
	"webhook_url":                `write an address such as "https://hooks.example.org/fenc"`,
	"webhook_secret_file":        `write the path of a file that holds the secret, "whsec_" and base64`,
	"hook_timeout":               `write a duration from 1s to 24h, such as "1m"`,
	"hook_parallel":              `write a whole number from 1 to 64`,
	"hook_retry_for":             `write a duration from 0s to 8760h, such as "3d"; 0s never tries again`,
	"gate_command":               `write a list of a program and its arguments, such as ["/usr/bin/clamdscan", "--no-summary", "-"]`,
	"gate_timeout":               `write a duration from 1s to 24h, such as "5m"`,
	"gate_parallel":              `write a whole number from 1 to 64`,
	"idle_timeout":               `write a duration from 1s to 24h, such as "60s"`,
	"shutdown_grace":             `write a duration from 0s to 1h, such as "30s"`,
	"status_listen":              `write host:port, such as "127.0.0.1:8080", or "" for none`,
	"proxy_protocol_from":        `write a list of addresses and prefixes, such as ["10.0.0.1", "10.1.0.0/16"]`,
	"metrics_listen":             `write host:port, such as "127.0.0.1:9464", or "" for none`,
	"confine":                    `write true or false`,
	"log_level":                  `write "debug", "info", "warn" or "error"`,
	"log_format":                 `write "text" or "json"`,
	"server":                     `write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`,
	"server_key":                 `write the fingerprint that the server shows, "SHA256:" and 43 characters, or a list of them`,
	"name":                       `write 1 to 127 bytes of text without control characters`,
	"files":                      `write a list of paths, such as ["report.pdf"]`,
	"exclude":                    `write a list of patterns, such as ["*.tmp"]`,
	"exclude_from":               `write a list of paths, such as [".gitignore"]`,
	"follow_links":               `write true or false`,
	"min_size":                   `write a size such as "1KiB", or 0 for no bound`,
	"max_size":                   `write a size such as "4GiB", or 0 for no bound`,
	"bwlimit":                    `write a rate such as "10M", or a timetable such as "08:00,1M 19:00,off"`,
	"protocol":                   `write 3 or 4`,
	"me":                         `write a path, such as "me.toml", or leave the key out`,
	"streams":                    `write a whole number from 1 to 16`,
	"attempts":                   `write a whole number from 0 to 100`,
	"retry_for":                  `write a duration from 0s to 168h, such as "10m"; 0s never tries again`,
	"timeout":                    `write a duration from 1s to 24h, such as "2m"`,
	"connect_timeout":            `write a duration from 100ms to 1h, such as "10s"`,
	"id":                         `write the 32 hex digits that the server gave`,
	"private_key":                `write an RSA or Ed25519 key as base64 of PKCS#8`,

	// Of [s3].
	"s3":              `write [s3], with a line for each of its keys below`,
	"endpoint":        `write an address such as "https://s3.example.org", or leave the key out for Amazon's`,
	"region":          `write the name of a region, such as "eu-central-1"`,
	"access_key":      `write the name of the credentials, or leave the key out`,
	"secret_key_file": `write the path of a file that holds the secret alone, or leave the key out`,
	"path_style":      `write true or false`,
	"part_buffers":    `write a whole number from 1 to 1024`,
	"verify":          `write "hash" or "read"`,

	// Of fenc watch.
	"queue":   `write a path, such as "watch.db", or leave the key out`,
	"watch":   `write [[watch]], with a line for each of its keys below`,
	"dir":     `write a folder, such as "outbox"`,
	"as":      `write a relative path, such as "outbox", or leave the key out`,
	"settle":  `write a duration up to 24h, such as "3s"; at least 2s to remove or move files`,
	"rescan":  `write a duration from 1s to 168h, such as "15m"`,
	"after":   `write "keep", "remove" or "move"`,
	"move_to": `write a folder, such as "sent", where after is "move", and else leave the key out`,
}

const (
	second = Duration(time.Second)
	hour   = Duration(time.Hour)
	day    = Duration(24 * time.Hour)

	maxName = 127 // bytes of a registered name, as the catalogue's column holds them
)

func checkRange[T int | Size | Duration](v, low, high T) error {
	switch {
	case v < low:
		return fmt.Errorf("under %v", low)
	case v > high:
		return fmt.Errorf("over %v", high)
	}
	return nil
}

func checkCommand(argv []string) error {
	if len(argv) > 0 && argv[0] == "" {
		return errors.New("no program")
	}
	return checkEach(argv, "entry", checkNoNUL)
}

// checkWebhook accepts an absolute URL of http or https without a password, which
// would show in logs.
func checkWebhook(text string) error {
	if text == "" {
		return nil
	}
	_, err := parseHTTP(text, "the signature says who calls")
	return err
}

// parseHTTP reads an absolute URL of http or https. It may hold no user: instead says
// what stands for one.
func parseHTTP(text, instead string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("neither http:// nor https://")
	case u.Host == "":
		return nil, errors.New("no host")
	case u.User != nil:
		return nil, errors.New("holds a user; " + instead)
	}
	return u, nil
}

func checkSecretFile(webhook, path string) error {
	if webhook != "" && path == "" {
		return errors.New("empty, and webhook_url is set")
	}
	return checkNoNUL(path)
}

// CheckExpireAfter returns what is wrong with a time after which files are
// removed: a slip of the unit must not empty a server.
func CheckExpireAfter(d Duration) error {
	if d == 0 {
		return nil
	}
	return checkRange(d, hour, 36500*day)
}

// CheckKeepPartial returns what is wrong with a time that unfinished files wait.
func CheckKeepPartial(d Duration) error { return checkRange(d, hour, 365*day) }

func checkOneOf(v string, known ...string) error {
	switch {
	case slices.Contains(known, v):
		return nil
	case v == "":
		return errors.New("empty")
	}
	return errors.New("not known")
}

func checkProtocol(v int) error {
	if v != 3 && v != 4 {
		return fmt.Errorf("protocol %d is not known", v)
	}
	return nil
}

func checkMaxSize(least, most Size) error {
	if most > 0 && most < least {
		return fmt.Errorf("under min_size, %v", least)
	}
	return checkRange(most, 0, Size(math.MaxInt64))
}

func checkProtocols(versions []int) error {
	if versions != nil && len(versions) == 0 {
		return errors.New("empty")
	}
	for i, v := range versions {
		if err := checkProtocol(v); err != nil {
			return err
		}
		if slices.Contains(versions[:i], v) {
			return fmt.Errorf("%d stands there twice", v)
		}
	}
	return nil
}

func checkNoNUL(path string) error {
	if strings.ContainsRune(path, 0) {
		return errors.New("holds a NUL")
	}
	return nil
}

func checkPath(path string) error {
	if path == "" {
		return errors.New("empty")
	}
	return checkNoNUL(path)
}

// checkEach returns check's first complaint about an entry of list, which it
// calls by what and its number.
func checkEach(list []string, what string, check func(string) error) error {
	for i, e := range list {
		if err := check(e); err != nil {
			return fmt.Errorf("%s %d: %w", what, i+1, err)
		}
	}
	return nil
}

func checkExclude(pattern string) error {
	if strings.ContainsAny(pattern, "\r\n") {
		return errors.New("holds a line break")
	}
	return checkPath(pattern)
}

func checkFingerprints(keys []string) error { return checkEach(keys, "fingerprint", checkFingerprint) }

// checkFingerprint accepts "SHA256:" and the unpadded base64 of 32 bytes, the
// one way to write them.
func checkFingerprint(text string) error {
	if text == "" {
		return errors.New("empty")
	}
	digest, ok := strings.CutPrefix(text, "SHA256:")
	if !ok {
		return errors.New("no SHA256: in front")
	}
	if n := utf8.RuneCountInString(digest); n != 43 {
		return fmt.Errorf("%d characters after SHA256: in place of 43", n)
	}
	if raw, err := base64.RawStdEncoding.Strict().DecodeString(digest); err != nil || len(raw) != sha256.Size {
		return errors.New("not base64")
	}
	return nil
}

func checkName(name string, mayBeEmpty bool) error {
	switch {
	case name == "" && mayBeEmpty:
		return nil
	case name == "":
		return errors.New("empty")
	case len(name) > maxName:
		return fmt.Errorf("%d bytes, over %d", len(name), maxName)
	case !utf8.ValidString(name):
		return errors.New("not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("holds a control character")
	}
	return nil
}

func checkAdvertise(addr string) error {
	if addr == "" {
		return nil
	}
	return checkAddress(addr, false)
}

// checkAddress accepts host:port: a name, an IPv4 address or an IPv6 address
// in brackets, and a port in digits. A listener may leave the host empty and
// the port 0.
func checkAddress(addr string, listener bool) error {
	if addr == "" {
		return errors.New("empty")
	}
	if strings.Contains(addr, "://") {
		return errors.New("holds a scheme")
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		if _, bare := netip.ParseAddr(addr); bare == nil && strings.Contains(addr, ":") {
			return errors.New("an IPv6 address needs brackets and a port")
		}
		var detail *net.AddrError
		if errors.As(err, &detail) {
			return errors.New(detail.Err) // without the address, which is there already
		}
		return err
	}
	low := 1
	if listener {
		low = 0
	}
	digits := port != "" && !strings.ContainsFunc(port, func(r rune) bool { return r < '0' || r > '9' })
	if n, err := strconv.Atoi(port); !digits || err != nil || n < low || n > math.MaxUint16 {
		return fmt.Errorf("port %q is not a number from %d to %d", port, low, math.MaxUint16)
	}
	if host == "" {
		if listener {
			return nil
		}
		return errors.New("no host")
	}
	return checkHost(host)
}

func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if strings.Contains(host, ":") || strings.Trim(host, "0123456789.") == "" {
		return fmt.Errorf("%q is not an IP address", host)
	}
	odd := func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
	}
	if !utf8.ValidString(host) || len(host) > 253 || strings.ContainsFunc(host, odd) {
		return fmt.Errorf("%q is not a host name", host)
	}
	return nil
}
