package s3_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fenc/model/storage"
	"fenc/model/storage/s3"
	"fenc/model/storage/s3/s3test"
)

// upload takes content through an upload, up to Seal.
func upload(t testing.TB, s storage.Store, key string, data []byte) (storage.Partial, error) {
	t.Helper()
	p := begin(t, s, key, len(data))
	for off := 0; off < len(data); off += chunk {
		if err := tryWrite(p, data, off, min(chunk, len(data)-off)); err != nil {
			return p, err
		}
	}
	return p, p.Seal(t.Context(), int64(len(data)), nil)
}

// some has a fault befall the first n requests that are meant.
func some(n int32, meant func(*http.Request) bool, fault s3test.Fault) s3test.Fault {
	var left atomic.Int32
	left.Store(n)
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if meant(r) && left.Add(-1) >= 0 {
			fault(w, r, pass)
			return
		}
		pass.ServeHTTP(w, r)
	}
}

func anyRequest(*http.Request) bool { return true }

// What passes is tried again, and nobody notices.
func TestFaultsThatPass(t *testing.T) {
	t.Parallel()
	busy := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		s3test.Answer(w, http.StatusServiceUnavailable, "SlowDown")
	}
	cut := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		io.CopyN(io.Discard, r.Body, 100_000)
		s3test.Cut(w)
	}
	doneAndFailed := func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		pass.ServeHTTP(httptest.NewRecorder(), r)
		s3test.Answer(w, http.StatusInternalServerError, "InternalError")
	}
	doneAndCut := func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		pass.ServeHTTP(httptest.NewRecorder(), r)
		s3test.Cut(w)
	}
	damaged := func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		r.Body = io.NopCloser(&damage{from: r.Body})
		pass.ServeHTTP(w, r)
	}
	for name, c := range map[string]struct {
		size  int
		fault s3test.Fault
	}{
		"busy":                         {chunk + 1, some(6, anyRequest, busy)},
		"busy, one chunk":              {mib, some(6, anyRequest, busy)},
		"parts cut":                    {chunk + mib, some(2, s3test.IsPart, cut)},
		"parts done and failed":        {chunk + 1, some(2, s3test.IsPart, doneAndFailed)},
		"a part damaged on the way":    {chunk + 1, some(1, s3test.IsPart, damaged)},
		"an object cut":                {mib, some(2, s3test.IsPut, cut)},
		"an object done and cut":       {mib, some(1, s3test.IsPut, doneAndCut)},
		"an object damaged on the way": {mib, some(1, s3test.IsPut, damaged)},
		"complete done and failed":     {chunk + 1, some(1, s3test.IsComplete, doneAndFailed)},
		"complete done and cut":        {chunk + 1, some(1, s3test.IsComplete, doneAndCut)},
		"complete not done":            {chunk + 1, some(2, s3test.IsComplete, busy)},
		"complete says there is none": {chunk + 1, some(1, s3test.IsComplete, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			pass.ServeHTTP(httptest.NewRecorder(), r)
			s3test.Answer(w, http.StatusNotFound, "NoSuchUpload")
		})},
		"begun twice": {chunk + 1, some(1, func(r *http.Request) bool {
			return r.Method == http.MethodPost && r.URL.Query().Has("uploads")
		}, doneAndCut)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, proxy := behind(t)
			s := open(t, o)
			key, data := newKey(), content(7, c.size)
			proxy.Set(c.fault)
			if _, err := upload(t, s, key, data); err != nil {
				t.Fatal(err)
			}
			wantObject(t, s, key, data)
			if err := s.Degraded(); err != nil {
				t.Error(err)
			}
			if objects, uploads := leftovers(t, o.Buckets[0].Name); len(objects) != 1 || len(uploads) > 0 {
				t.Errorf("bucket has %q and uploads %q, want one object", objects, uploads)
			}
		})
	}
}

// damage changes the first byte that passes.
type damage struct {
	from io.Reader
	once sync.Once
}

func (d *damage) Read(p []byte) (int, error) {
	n, err := d.from.Read(p)
	if n > 0 {
		d.once.Do(func() { p[0] ^= 1 })
	}
	return n, err
}

func TestReadsGoOnAfterACut(t *testing.T) {
	t.Parallel()
	o, proxy := behind(t)
	s := open(t, o)
	key, data := newKey(), content(8, 5*mib)
	if _, err := upload(t, s, key, data); err != nil {
		t.Fatal(err)
	}
	proxy.Set(some(3, func(r *http.Request) bool { return r.Method == http.MethodGet }, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		pass.ServeHTTP(&cutter{ResponseWriter: w, left: 700_000}, r)
	}))
	wantObject(t, s, key, data)
}

// cutter ends the connection after some bytes of an answer.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// What does not pass fails the upload, and nothing new is taken until a probe works.
func TestAFailingStoreIsDegraded(t *testing.T) {
	t.Parallel()
	o, proxy := behind(t)
	o.RetryFor = 200 * time.Millisecond
	s := open(t, o)
	data := content(9, chunk+1)
	stays := begin(t, s, newKey(), len(data))
	proxy.Set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		io.Copy(io.Discard, r.Body)
		s3test.Answer(w, http.StatusServiceUnavailable, "SlowDown")
	})
	p := begin(t, s, newKey(), len(data))
	write(t, p, data, 0)
	for range 2 {
		if _, err := p.Sync(); !errors.Is(err, storage.ErrDegraded) {
			t.Fatalf("sync: got %v", err)
		}
	}
	if err := tryWrite(p, data, chunk, 1); !errors.Is(err, storage.ErrDegraded) {
		t.Errorf("write: got %v", err)
	}
	if err := s.Degraded(); !errors.Is(err, storage.ErrDegraded) || !strings.Contains(err.Error(), "SlowDown") {
		t.Errorf("degraded: got %v", err)
	}
	if _, err := s.BeginBlocks(t.Context(), newKey(), 1, chunk); !errors.Is(err, storage.ErrDegraded) {
		t.Errorf("begin: got %v", err)
	}
	if err := s.PutAll(t.Context(), storage.Small{Key: newKey()}); !errors.Is(err, storage.ErrDegraded) {
		t.Errorf("put: got %v", err)
	}
	if err := s.Probe(); err == nil {
		t.Error("probe works")
	}
	if err := s.Reach(); err == nil {
		t.Error("reached")
	}
	proxy.Set(nil)
	if err := errors.Join(s.Probe(), s.Degraded(), s.Reach()); err != nil {
		t.Fatal(err)
	}
	writeAll(t, stays, data)
	if err := stays.Seal(t.Context(), int64(len(data)), nil); err != nil {
		t.Errorf("an upload that had not failed: %v", err)
	}
	if err := p.Discard(); err != nil {
		t.Error(err)
	}
}

// The client offers again what the store has dropped.
func TestADroppedUploadIsGone(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"NoSuchUpload", "NoSuchKey"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			o, proxy := behind(t)
			s := open(t, o)
			key, data := newKey(), content(10, 2*chunk)
			p := begin(t, s, key, len(data))
			write(t, p, data, 0)
			marks := marksOf(t, p, len(data))
			proxy.Set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
				if r.URL.Query().Has("uploadId") {
					io.Copy(io.Discard, r.Body)
					s3test.Answer(w, http.StatusNotFound, code)
					return
				}
				pass.ServeHTTP(w, r)
			})
			if _, err := s.ResumeBlocks(t.Context(), key, p.Token(), int64(len(data)), chunk); !errors.Is(err, storage.ErrGone) {
				t.Errorf("resume: got %v", err)
			}
			write(t, p, data, chunk)
			if _, err := p.Sync(); !errors.Is(err, storage.ErrGone) {
				t.Errorf("sync: got %v", err)
			}
			if err := p.Discard(); err != nil {
				t.Errorf("discard: %v", err)
			}
			if err := s.Degraded(); err != nil {
				t.Error(err)
			}
			marks[1] = marks[0]
			o.RetryFor = time.Millisecond
			impatient := unchecked(t, o)
			err := impatient.Settle(t.Context(), storage.Sealed{Key: key, Token: p.Token(), Size: int64(len(data)), Chunk: chunk, Marks: marks}, proves(data))
			if !errors.Is(err, storage.ErrGone) {
				t.Errorf("settle: got %v", err)
			}
		})
	}
}

// A bucket that is missing is a mistake of the operator's, and no reason to call
// content lost.
func TestAMissingBucketIsNotMissingContent(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Buckets[0].Name = "not-there"
	s := unchecked(t, o)
	_, err := s.Open(newKey())
	if err == nil || errors.Is(err, storage.ErrGone) || !strings.Contains(err.Error(), "NoSuchBucket") {
		t.Errorf("open: got %v", err)
	}
	if _, err := s.Has(newKey(), 1); err == nil {
		t.Error("has says so without an error")
	}
	for what, err := range map[string]error{"check": s.Check(t.Context()), "reach": s.Reach()} {
		if err == nil || !strings.Contains(err.Error(), "not-there") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestSealNamesTheMarks(t *testing.T) {
	t.Parallel()
	s := open(t, options(t))
	key, data, other := newKey(), content(11, 2*chunk), content(12, 2*chunk)
	p := begin(t, s, key, len(data))
	writeAll(t, p, other)
	marks := marksOf(t, p, len(data))
	write(t, p, data, 0) // so that the mark is of what is no more
	if err := p.Seal(t.Context(), int64(len(data)), marks); !errors.Is(err, storage.ErrMarks) {
		t.Fatalf("seal: got %v", err)
	}
	wantGone(t, s, key)
	if err := s.Degraded(); err != nil {
		t.Errorf("the store is blamed: %v", err)
	}

	short := begin(t, s, newKey(), 2*chunk)
	write(t, short, data, 0)
	if err := short.Seal(t.Context(), 2*chunk, nil); !errors.Is(err, storage.ErrMarks) {
		t.Errorf("seal without a chunk: got %v", err)
	}
	if err := errors.Join(p.Discard(), short.Discard()); err != nil {
		t.Error(err)
	}
}

// Each thing that uploads count on is missed by the check.
func TestCheckNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for want, fault := range map[string]s3test.Fault{
		"takes an object whose SHA-256": func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if s3test.IsPut(r) {
				w = &lenient{ResponseWriter: w}
			}
			pass.ServeHTTP(w, r)
		},
		"takes a part whose SHA-256": func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if s3test.IsPart(r) {
				w = &lenient{ResponseWriter: w}
			}
			pass.ServeHTTP(w, r)
		},
		"lists a part of 0 bytes": func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if r.Method == http.MethodGet && r.URL.Query().Has("uploadId") {
				w.Write([]byte(`<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>`))
				return
			}
			pass.ServeHTTP(w, r)
		},
		"gives no range": func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if r.Method == http.MethodGet && r.Header.Get("Range") != "" {
				w.Header().Set("ETag", `"x"`)
				w.Header().Set("Last-Modified", "Thu, 26 Nov 2026 06:00:00 GMT")
				w.Write(make([]byte, 3000))
				return
			}
			pass.ServeHTTP(w, r)
		},
		"HEAD tells 1 bytes": func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if r.Method == http.MethodHead {
				w.Header().Set("ETag", `"x"`)
				w.Header().Set("Last-Modified", "Thu, 26 Nov 2026 06:00:00 GMT")
				w.Header().Set("Content-Length", "1")
				return
			}
			pass.ServeHTTP(w, r)
		},
		"completes an upload of another part": func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if s3test.IsComplete(r) {
				w.Write([]byte(`<CompleteMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><ETag>x</ETag></CompleteMultipartUploadResult>`))
				return
			}
			pass.ServeHTTP(w, r)
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			o, proxy := behind(t)
			proxy.Set(fault)
			s := unchecked(t, o)
			if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
			wantEmpty(t, o)
			if !strings.Contains(want, "SHA-256") {
				return
			}
			o.VerifyRead = true
			if err := unchecked(t, o).Check(t.Context()); err != nil {
				t.Errorf("with read: %v", err)
			}
			wantEmpty(t, o)
		})
	}
}

// lenient answers as a store would that took what was refused.
type lenient struct {
	http.ResponseWriter
	refused bool
}

func (l *lenient) WriteHeader(status int) {
	if status == http.StatusBadRequest {
		l.refused, status = true, http.StatusOK
		l.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
		l.Header().Del("Content-Length")
	}
	l.ResponseWriter.WriteHeader(status)
}

func (l *lenient) Write(p []byte) (int, error) {
	if l.refused {
		return len(p), nil
	}
	return l.ResponseWriter.Write(p)
}

// A store that takes anything, and a line that damages it: reading back finds out.
func TestReadingBackFindsWhatIsDamaged(t *testing.T) {
	t.Parallel()
	o, proxy := behind(t)
	o.VerifyRead = true
	s := open(t, o)
	proxy.Set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method != http.MethodGet || r.URL.RawQuery != "" {
			pass.ServeHTTP(w, r)
			return
		}
		pass.ServeHTTP(&damager{ResponseWriter: w}, r)
	})
	for _, size := range []int{mib, chunk + 1} {
		if _, err := upload(t, s, newKey(), content(13, size)); !errors.Is(err, storage.ErrMarks) {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
	if err := s.PutAll(t.Context(), storage.Small{Key: newKey(), Data: [][]byte{content(14, 100)}}); !errors.Is(err, storage.ErrMarks) {
		t.Errorf("put: got %v", err)
	}
}

type damager struct{ http.ResponseWriter }

func (d *damager) Write(p []byte) (int, error) {
	bad := slices.Clone(p)
	bad[0] ^= 1
	return d.ResponseWriter.Write(bad)
}

// A store may repeat what it was sent; what an error says goes into logs.
func TestErrorsKeepSecrets(t *testing.T) {
	t.Parallel()
	secret, token := "the-secret-that-signs", "the-token-of-a-session"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "<Error><Code>SignatureDoesNotMatch</Code><Message>%s %s %v</Message></Error>", secret, token, r.Header)
	}))
	defer server.Close()
	s := unchecked(t, s3.Options{Endpoint: server.URL, AccessKey: "a", SecretKey: secret, SessionToken: token, Buckets: []s3.Bucket{{Name: "bucket"}}})
	_, openErr := s.Open(newKey())
	p := begin(t, s, newKey(), 1)
	write(t, p, []byte("x"), 0)
	_, syncErr := p.Sync()
	for what, err := range map[string]error{
		"check": s.Check(t.Context()), "open": openErr, "sync": syncErr, "degraded": s.Degraded(), "remove": s.Remove(newKey()), "reach": s.Reach(),
	} {
		switch text := fmt.Sprintf("%v %+v %#v", err, err, err); {
		case err == nil:
			t.Errorf("%s: no error", what)
		case strings.Contains(text, secret) || strings.Contains(text, token):
			t.Errorf("%s: the error has a secret: %s", what, text)
		}
	}
}

// The server that has the buckets is killed, and comes back.
func TestAStoreThatComesBack(t *testing.T) {
	t.Parallel()
	own := s3test.Start(t)
	o := options(t)
	o.Endpoint, o.Buckets = own.Endpoint, []s3.Bucket{{Name: own.NewBucket(t)}}
	s := open(t, o)
	key, data := newKey(), content(60, 3*chunk)
	p := begin(t, s, key, len(data))
	write(t, p, data, 0)
	first := marksOf(t, p, len(data))
	own.Kill()
	write(t, p, data, chunk)
	write(t, p, data, 2*chunk)
	if err := s.Reach(); err == nil {
		t.Error("reached while it is down")
	}
	if err := own.Restart(); err != nil {
		t.Fatal(err)
	}
	marks := marksOf(t, p, len(data))
	if marks[0] != first[0] || marks[2] == "" {
		t.Errorf("marks are %q, were %q", marks, first)
	}
	own.Kill()
	if err := own.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := p.Seal(t.Context(), int64(len(data)), marks); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, key, data)
}

// ETags need not be MD5s: then all goes by the size, and what is settled is read.
func TestOtherETags(t *testing.T) {
	t.Parallel()
	own := s3test.Start(t, "--data-integrity-etag")
	o := options(t)
	o.Endpoint, o.Buckets = own.Endpoint, []s3.Bucket{{Name: own.NewBucket(t)}}
	s := open(t, o)
	key, data := newKey(), content(61, chunk+1)
	p := begin(t, s, key, len(data))
	writeAll(t, p, data)
	marks := marksOf(t, p, len(data))
	if len(marks[0]) == 32 {
		t.Fatalf("marks are %q: MD5s after all", marks)
	}
	p.Close()
	q := resume(t, s, key, p.Token(), len(data))
	wantHolds(t, q, 0, marks[0], true)
	wantHolds(t, q, 1, marks[1], true)
	if err := q.Seal(t.Context(), int64(len(data)), marks); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, key, data)
	sealed := storage.Sealed{Key: key, Token: p.Token(), Size: int64(len(data)), Chunk: chunk, Marks: marks}
	if err := s.Settle(t.Context(), sealed, proves(data)); err != nil {
		t.Error(err)
	}
	if err := s.Settle(t.Context(), sealed, proves(nil)); !errors.Is(err, errOther) {
		t.Errorf("settled without a look: got %v", err)
	}
	o.VerifyRead = true
	s = open(t, o)
	if _, err := upload(t, s, newKey(), data); err != nil {
		t.Errorf("with read: %v", err)
	}
}

// A part that fails while its upload is closed says nothing of the store: once that
// degraded it.
func TestClosingBlamesNobody(t *testing.T) {
	t.Parallel()
	o, proxy := behind(t)
	s := open(t, o)
	asked := make(chan struct{}, 8)
	proxy.Set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if !s3test.IsPart(r) {
			pass.ServeHTTP(w, r)
			return
		}
		asked <- struct{}{}
		s3test.Answer(w, http.StatusServiceUnavailable, "SlowDown")
	})
	p := begin(t, s, newKey(), 2*chunk)
	write(t, p, make([]byte, 2*chunk), 0)
	<-asked
	if err := errors.Join(p.Close(), s.Degraded()); err != nil {
		t.Error(err)
	}
}
