// Package config reads fenc's settings: server.toml, transfer.toml and me.toml.
//
// A setting comes from the first of these that has it: the command line
// (Override), the environment (FENC_ and the key in upper case), the file, the
// default. Loading refuses what is not TOML, unknown keys and wrong types;
// Validate, run after the flags, refuses values out of range. Either way the
// error says where the value stood, what is wrong with it and what to write.
package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Server is server.toml: how fenc serve listens, stores and limits.
type Server struct {
	Listen        string   `toml:"listen"`            // host:port; an empty host is every address, port 0 a free one
	Storage       string   `toml:"storage" is:"path"` // directory of the received files
	Database      string   `toml:"database" is:"dsn"` // catalogue; a path means SQLite
	Protocols     []int    `toml:"protocols"`         // versions spoken; only 3 for now
	Registration  string   `toml:"registration"`      // "open" or "closed" to new clients
	MaxFileSize   Size     `toml:"max_file_size"`     // bytes of one file; 0 is the protocol's own limit
	MaxSessions   int      `toml:"max_sessions"`      // clients at once, 1 to 1000000
	IdleTimeout   Duration `toml:"idle_timeout"`      // longest silence of a client, 1s to 24h
	ShutdownGrace Duration `toml:"shutdown_grace"`    // how long transfers may finish after SIGTERM, 0s to 1h
	LogLevel      string   `toml:"log_level"`         // "debug", "info", "warn" or "error"
	LogFormat     string   `toml:"log_format"`        // "text" or "json"
	origins       `toml:"-"`
}

// DefaultServer returns the settings of a server that has no file.
func DefaultServer() Server {
	return Server{
		Listen:        "127.0.0.1:1234",
		Storage:       "files",
		Database:      "fenc.db",
		Protocols:     []int{3},
		Registration:  "open",
		MaxSessions:   4096,
		IdleTimeout:   Duration(60 * time.Second),
		ShutdownGrace: Duration(30 * time.Second),
		LogLevel:      "info",
		LogFormat:     "text",
	}
}

// Transfer is transfer.toml: where fenc send sends, as whom, and what.
type Transfer struct {
	Server         string   `toml:"server"`          // host:port
	Name           string   `toml:"name"`            // to register under, 1 to 127 bytes; empty leaves it to the caller
	Files          []string `toml:"files" is:"path"` // to send where the command line names none; "-" is standard input
	Protocol       int      `toml:"protocol"`        // only 3 for now
	Me             string   `toml:"me" is:"path"`    // path of me.toml; empty: looked up
	Attempts       int      `toml:"attempts"`        // resends after a checksum mismatch, 0 to 100
	Timeout        Duration `toml:"timeout"`         // longest silence of the server, 1s to 24h
	ConnectTimeout Duration `toml:"connect_timeout"` // longest wait for the connection, 100ms to 1h
	origins        `toml:"-"`
}

// DefaultTransfer returns the settings of a client that has no file.
func DefaultTransfer() Transfer {
	return Transfer{
		Server:         "127.0.0.1:1234",
		Protocol:       3,
		Attempts:       3,
		Timeout:        Duration(2 * time.Minute),
		ConnectTimeout: Duration(10 * time.Second),
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
	return s.first([]check{
		{"listen", s.Listen, checkAddress(s.Listen, true)},
		{"storage", s.Storage, checkPath(s.Storage)},
		{"database", s.Database, checkPath(s.Database)},
		{"protocols", s.Protocols, checkProtocols(s.Protocols)},
		{"registration", s.Registration, checkOneOf(s.Registration, "open", "closed")},
		{"max_file_size", s.MaxFileSize, checkRange(s.MaxFileSize, 0, Size(math.MaxInt64))},
		{"max_sessions", s.MaxSessions, checkRange(s.MaxSessions, 1, 1_000_000)},
		{"idle_timeout", s.IdleTimeout, checkRange(s.IdleTimeout, second, day)},
		{"shutdown_grace", s.ShutdownGrace, checkRange(s.ShutdownGrace, 0, hour)},
		{"log_level", s.LogLevel, checkOneOf(s.LogLevel, "debug", "info", "warn", "error")},
		{"log_format", s.LogFormat, checkOneOf(s.LogFormat, "text", "json")},
	})
}

// Validate returns an error for the first key whose value is out of range.
func (t *Transfer) Validate() error {
	return t.first([]check{
		{"server", t.Server, checkAddress(t.Server, false)},
		{"name", t.Name, checkName(t.Name, true)},
		{"files", t.Files, checkFiles(t.Files)},
		{"protocol", t.Protocol, checkProtocol(t.Protocol)},
		{"me", t.Me, checkNoNUL(t.Me)},
		{"attempts", t.Attempts, checkRange(t.Attempts, 0, 100)},
		{"timeout", t.Timeout, checkRange(t.Timeout, second, day)},
		{"connect_timeout", t.ConnectTimeout, checkRange(t.ConnectTimeout, Duration(100*time.Millisecond), hour)},
	})
}

// remedies say, for each key, what to write instead of a wrong value.
var remedies = map[string]string{
	"listen":          `write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`,
	"storage":         `write a directory, such as "files"`,
	"database":        `write a path, such as "fenc.db"`,
	"protocols":       `write [3], the only one so far`,
	"registration":    `write "open" or "closed"`,
	"max_file_size":   `write a size such as "4GiB", or 0 for the protocol's own limit`,
	"max_sessions":    `write a whole number from 1 to 1000000`,
	"idle_timeout":    `write a duration from 1s to 24h, such as "60s"`,
	"shutdown_grace":  `write a duration from 0s to 1h, such as "30s"`,
	"log_level":       `write "debug", "info", "warn" or "error"`,
	"log_format":      `write "text" or "json"`,
	"server":          `write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`,
	"name":            `write 1 to 127 bytes of text without control characters`,
	"files":           `write a list of paths, such as ["report.pdf"]`,
	"protocol":        `write 3, the only one so far`,
	"me":              `write a path, such as "me.toml", or leave the key out`,
	"attempts":        `write a whole number from 0 to 100`,
	"timeout":         `write a duration from 1s to 24h, such as "2m"`,
	"connect_timeout": `write a duration from 100ms to 1h, such as "10s"`,
	"id":              `write the 32 hex digits that the server gave`,
	"private_key":     `write an RSA key as base64 of PKCS#8`,
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
	if v != 3 {
		return fmt.Errorf("protocol %d is not known", v)
	}
	return nil
}

func checkProtocols(versions []int) error {
	if len(versions) == 0 {
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

func checkFiles(paths []string) error {
	for i, p := range paths {
		if err := checkPath(p); err != nil {
			return fmt.Errorf("path %d: %w", i+1, err)
		}
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
