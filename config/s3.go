package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// S3 is the [s3] table of server.toml: how the store is reached that storage names
// buckets of.
type S3 struct {
	Endpoint      string `toml:"endpoint"`                  // http or https address; empty: Amazon's of the region
	Region        string `toml:"region"`                    // what requests are signed for
	AccessKey     string `toml:"access_key"`                // name of the credentials; empty: see S3Credentials
	SecretKeyFile string `toml:"secret_key_file" is:"path"` // file of their secret; empty: see S3Credentials
	PathStyle     bool   `toml:"path_style"`                // the bucket stands in the path, not in the host's name
	PartBuffers   int    `toml:"part_buffers"`              // parts that are held at once, 1 to 1024
	Verify        string `toml:"verify"`                    // what content is verified by in the store: "hash" or "read"
	origins       `toml:"-"`
}

// DefaultS3 returns the settings of a store of which nothing is said.
func DefaultS3() S3 {
	return S3{Region: "us-east-1", PathStyle: true, PartBuffers: 16, Verify: "hash"}
}

// Validate returns an error for the first key whose value is out of range.
func (s *S3) Validate() error {
	return s.first([]check{
		{"endpoint", s.Endpoint, checkEndpoint(s.Endpoint)},
		{"region", s.Region, checkRegion(s.Region)},
		{"access_key", s.AccessKey, checkNoNUL(s.AccessKey)},
		{"secret_key_file", s.SecretKeyFile, checkNoNUL(s.SecretKeyFile)},
		{"part_buffers", s.PartBuffers, checkRange(s.PartBuffers, 1, 1024)},
		{"verify", s.Verify, checkOneOf(s.Verify, "hash", "read")},
	})
}

// Plain reports whether the store is reached over plain HTTP beyond this machine:
// what is sent is signed, and can be read on the way.
func (s *S3) Plain() bool {
	u, err := url.Parse(s.Endpoint)
	if err != nil || u.Scheme != "http" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback())
}

// Bucket is a bucket that storage names, or what is below a prefix of it.
type Bucket struct {
	Name   string
	Prefix string // without slashes at its ends; may be empty
}

const bucketScheme = "s3://"

// AreBuckets reports whether a storage is one of buckets and no folder.
func AreBuckets(storage string) bool { return strings.HasPrefix(storage, bucketScheme) }

// InBuckets reports whether storage names buckets and no folder.
func (s *Server) InBuckets() bool { return AreBuckets(s.Storage) }

// Buckets returns the buckets that storage names, "s3://BUCKET/PREFIX" one or several
// with commas between them; none where it is a folder.
func (s *Server) Buckets() []Bucket {
	if !s.InBuckets() {
		return nil
	}
	buckets, _ := parseBuckets(s.Storage) // which was validated
	return buckets
}

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixName = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`)
)

func parseBuckets(text string) ([]Bucket, error) {
	var all []Bucket
	for i, one := range strings.Split(text, ",") {
		address, ok := strings.CutPrefix(strings.TrimSpace(one), bucketScheme)
		if !ok {
			return nil, fmt.Errorf("entry %d: no %s in front", i+1, bucketScheme)
		}
		var b Bucket
		b.Name, b.Prefix, _ = strings.Cut(address, "/")
		b.Prefix = strings.TrimSuffix(b.Prefix, "/")
		dots := func(part string) bool { return part == "." || part == ".." }
		switch {
		case !bucketName.MatchString(b.Name) || strings.Contains(b.Name, ".."):
			return nil, fmt.Errorf("%q is not the name of a bucket: 3 to 63 small letters, digits, dots and -", cut(b.Name, maxShown))
		case b.Prefix != "" && (!prefixName.MatchString(b.Prefix) || len(b.Prefix) > 500 || slices.ContainsFunc(strings.Split(b.Prefix, "/"), dots)):
			return nil, fmt.Errorf("%q is not a prefix: letters, digits, dots, - and _, with slashes between them", cut(b.Prefix, maxShown))
		case slices.Contains(all, b):
			return nil, fmt.Errorf("%s%s stands there twice", bucketScheme, address)
		}
		all = append(all, b)
	}
	return all, nil
}

// checkStorage accepts a folder, and buckets.
func checkStorage(text string) error {
	if AreBuckets(text) {
		_, err := parseBuckets(text)
		return err
	}
	if scheme := schemeOf(text); scheme != "" {
		return fmt.Errorf("%s:// is not known", cut(scheme, maxShown))
	}
	return checkPath(text)
}

// schemeOf returns the scheme that text begins with as a URL does, or "".
func schemeOf(text string) string {
	scheme, _, ok := strings.Cut(text, "://")
	if !ok || strings.ContainsAny(scheme, `/\`) {
		return ""
	}
	return scheme
}

// checkEndpoint accepts the address of a server, without a path.
func checkEndpoint(text string) error {
	if text == "" {
		return nil
	}
	u, err := parseHTTP(text, "credentials stand in access_key and secret_key_file")
	if err == nil && (u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "") {
		err = errors.New("holds more than the host; buckets stand in storage")
	}
	return err
}

func checkRegion(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }) {
		return errors.New("not the name of a region")
	}
	if text == "" {
		return errors.New("empty")
	}
	return nil
}

// S3SecretName is what the credential is called that holds the secret of the store's
// credentials.
const S3SecretName = "s3-secret-key"

// The variables that S3's own tools have credentials in.
const (
	awsAccessKey = "AWS_ACCESS_KEY_ID"
	awsSecretKey = "AWS_SECRET_ACCESS_KEY"
	awsToken     = "AWS_SESSION_TOKEN"
)

// S3Credentials are what requests to a store are signed with.
type S3Credentials struct {
	AccessKey string
	SecretKey Secret
	Token     Secret // of a session; mostly empty
}

// S3Credentials returns the credentials for a store: access_key, or AWS_ACCESS_KEY_ID
// in the environment; and what is in secret_key_file, in systemd's credential
// s3-secret-key, or in AWS_SECRET_ACCESS_KEY, with AWS_SESSION_TOKEN beside it. A file
// that others may read is refused.
func (l Lookup) S3Credentials(s S3) (S3Credentials, error) {
	getenv := l.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	found := S3Credentials{AccessKey: cmp.Or(s.AccessKey, getenv(awsAccessKey))}
	path := s.SecretKeyFile
	if credential, ok := l.Credential(S3SecretName); ok && path == "" {
		path = credential
	}
	if path != "" {
		data, err := readFile(path, "the secret of the S3 credentials")
		if err != nil {
			return S3Credentials{}, err
		}
		found.SecretKey = Secret(strings.TrimSpace(string(data)))
		if found.SecretKey == "" || strings.ContainsAny(found.SecretKey.Reveal(), "\r\n\x00") {
			return S3Credentials{}, fmt.Errorf("%s: the secret of the S3 credentials is one line, and this is not; write it there alone", path)
		}
	} else {
		found.SecretKey, found.Token = Secret(getenv(awsSecretKey)), Secret(getenv(awsToken))
	}
	switch {
	case found.AccessKey == "":
		return S3Credentials{}, fmt.Errorf("no name of the S3 credentials: set access_key in [s3], or %s in the environment", awsAccessKey)
	case found.SecretKey == "":
		return S3Credentials{}, fmt.Errorf("no secret of the S3 credentials: set secret_key_file in [s3], systemd's credential %s, or %s in the environment", S3SecretName, awsSecretKey)
	}
	return found, nil
}
