package config

import (
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
