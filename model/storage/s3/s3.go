// Package s3 keeps content in buckets of any store that speaks S3.
//
// An object stands under the bucket's prefix, the first two digits of its key and
// the key. Of an upload that comes in chunks each chunk is one part of a multipart
// upload; what fits into one chunk, and small files, are one PUT. Every body is
// signed with its SHA-256, so that the store refuses what was damaged on the way.
//
// Little is asked of the store: PUT, multipart uploads, ListParts, HEAD, GET of
// ranges, DELETE. Not that it deletes by itself, lists objects, writes on condition
// or knows other checksums: each is missing or wrong somewhere. Check tells before
// the first upload whether a store does what is counted on.
//
// Nothing is taken for done because a request for it was answered with success, and
// nothing for failed because it was not: HEAD decides, by size and by the ETag that
// follows from those of the parts.
package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"fenc/model/storage"
)

const (
	minChunk  = 8 << 20 // bytes: over the 5 MiB that every store asks of all parts but the last
	maxChunks = 8192    // S3 allows 10,000 parts
	maxChunk  = 4 << 30 // bytes: S3 allows 5 GiB

	// retryFor is how long what may pass (a store that is busy, a line that breaks) is
	// tried again after it first failed.
	retryFor = 30 * time.Second
	// waitFor is how long a block waits for room while no part gets on.
	waitFor = time.Minute
	// endFor is how long a request may go on that an upload is done with: one that is
	// cut off may still arrive at the store.
	endFor = 10 * time.Second
)

// Options say which store, and how to use it.
type Options struct {
	Endpoint     string // http:// or https://, host and port; empty: Amazon's, of Region
	Region       string // empty: us-east-1
	AccessKey    string
	SecretKey    string
	SessionToken string // of temporary credentials; else empty
	// VirtualHosts has the bucket stand in the host's name instead of the path.
	VirtualHosts bool
	Buckets      []Bucket // one at least; more may be added later, none taken away

	// PartBuffers is how many parts are held at once, of all uploads; 0 is 16. Each is
	// in memory up to 16 MiB, in a file without a name above that.
	PartBuffers int
	SpoolDir    string // folder of those files; empty: the system's
	// VerifyRead has every object read back before it counts: for a store that does
	// not check the SHA-256 of what it takes.
	VerifyRead bool

	// Tokens, if not nil, is called once for an upload that has become one of several
	// parts, with the token it has got. It returns the token that the catalogue has
	// now: this one, or another that came before it and is used in its place.
	Tokens func(key, token string) (kept string, err error) `json:"-"`

	// RetryFor, WaitFor and EndFor replace the package's own times; 0 leaves them.
	RetryFor, WaitFor, EndFor time.Duration
}

// Bucket is a bucket, or what is below a prefix of it.
type Bucket struct {
	Name   string
	Prefix string // without slashes at its ends; may be empty
}

// Store is a storage in buckets.
type Store struct {
	core    minio.Core
	idle    *http.Transport
	options Options
	buffers *buffers
	secrets []string // never to be shown

	ctx  context.Context // ends with the store
	stop context.CancelCauseFunc

	mu        sync.Mutex
	degraded  error // why; nil while the store is trusted
	plainMD5  bool  // the ETag of a PUT and of a part is the MD5 of its content
	summedMD5 bool  // that of an object of parts is the MD5 of theirs, "-" and their number
}

var _ storage.Store = (*Store)(nil)

// New returns the store that the options name. It asks the store for nothing: Check
// does, and must come before the first upload.
func New(o Options) (*Store, error) {
	secure, host := true, "s3.amazonaws.com"
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("S3 endpoint %q: neither http://HOST nor https://HOST", o.Endpoint)
		}
		secure, host = u.Scheme == "https", u.Host
	}
	if len(o.Buckets) == 0 {
		return nil, errors.New("S3 store: no bucket is named")
	}
	if o.AccessKey == "" || o.SecretKey == "" {
		return nil, errors.New("S3 store: no credentials: access key and secret key are needed")
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.PartBuffers == 0 {
		o.PartBuffers = 16
	}
	if o.SpoolDir == "" {
		o.SpoolDir = os.TempDir()
	}
	orDefault(&o.RetryFor, retryFor)
	orDefault(&o.WaitFor, waitFor)
	orDefault(&o.EndFor, endFor)
	lookup := minio.BucketLookupPath
	if o.VirtualHosts {
		lookup = minio.BucketLookupDNS
	}
	transport := newTransport(o.PartBuffers)
	core, err := minio.NewCore(host, &minio.Options{
		Creds:  credentials.NewStaticV4(o.AccessKey, o.SecretKey, o.SessionToken),
		Secure: secure, Region: o.Region, BucketLookup: lookup, Transport: transport,
		MaxRetries: 1, // retry is ours: it is bounded, and knows what may be tried again
	})
	if err != nil {
		return nil, fmt.Errorf("S3 endpoint %q: %w", o.Endpoint, err)
	}
	s := &Store{core: *core, idle: transport, options: o, buffers: newBuffers(o.PartBuffers, o.SpoolDir)}
	for _, secret := range []string{o.SecretKey, o.SessionToken} {
		if secret != "" {
			s.secrets = append(s.secrets, secret)
		}
	}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	return s, nil
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// newTransport is Go's own but for buffers that suit parts, and connections kept
// for as many as may be on their way.
func newTransport(parts int) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost: parts + putters,
		IdleConnTimeout:     time.Minute,
		TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		WriteBufferSize:     64 << 10,
		ReadBufferSize:      64 << 10,
		DisableCompression:  true, // content is passed on as it is kept
	}
}

// Limits implements storage.Store.
func (s *Store) Limits() storage.Limits {
	return storage.Limits{MinChunk: minChunk, MaxChunks: maxChunks, Marks: true, Shared: true, PackAll: true}
}

// Degraded implements storage.Store.
func (s *Store) Degraded() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.degraded == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", storage.ErrDegraded, s.degraded)
}

// distrust sorts a failure to write: no room (storage.ErrNoSpace), a size that the
// store has no object for (ErrTooLarge), an upload that it has dropped (ErrGone) or
// other parts than were named (ErrMarks) pass; anything else degrades the store.
func (s *Store) distrust(err error) error {
	if errors.As(err, new(foreign)) {
		return err
	}
	for _, passes := range []error{storage.ErrNoSpace, storage.ErrTooLarge, storage.ErrGone, storage.ErrMarks, storage.ErrDegraded, storage.ErrSealed, errDoneWith, context.Canceled} {
		if err == nil || errors.Is(err, passes) {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.degraded == nil {
		s.degraded = err
	}
	return fmt.Errorf("%w: %w", storage.ErrDegraded, err)
}

// Probe implements storage.Store: it does what Check does, and trusts the store again
// if all of it works.
func (s *Store) Probe() error {
	ctx, cancel := context.WithTimeout(s.ctx, s.options.RetryFor+time.Minute)
	defer cancel()
	return s.Check(ctx)
}

// Reach implements storage.Store.
func (s *Store) Reach() error {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	for _, b := range s.options.Buckets {
		switch there, err := s.core.BucketExists(ctx, b.Name); {
		case err != nil:
			return s.explain(err, "reach bucket %q", b.Name)
		case !there:
			return fmt.Errorf("S3 store: there is no bucket %q", b.Name)
		}
	}
	return nil
}

// Free implements storage.Store: no store tells.
func (s *Store) Free() (int64, error) { return math.MaxInt64, nil }

// Close implements storage.Store. Uploads must have been closed.
func (s *Store) Close() error {
	s.stop(storage.ErrSealed)
	s.idle.CloseIdleConnections()
	return nil
}

// String names the store, for logs.
func (s *Store) String() string {
	names := make([]string, len(s.options.Buckets))
	for i, b := range s.options.Buckets {
		names[i] = "s3://" + strings.TrimSuffix(b.Name+"/"+b.Prefix, "/")
	}
	return strings.Join(names, ",")
}
