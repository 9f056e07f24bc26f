package s3test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// Fault stands in the way of a request: it answers itself, or has pass do so.
type Fault func(w http.ResponseWriter, r *http.Request, pass http.Handler)

// Proxy stands between a client and a server.
type Proxy struct {
	Endpoint string
	fault    atomic.Pointer[Fault]

	mu   sync.Mutex
	seen []string
}

// Between starts a proxy in front of a server, until the test ends. It passes
// everything on until Set says otherwise.
func Between(t testing.TB, s *Server) *Proxy {
	t.Helper()
	to, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	pass := &httputil.ReverseProxy{
		// The signature covers the name that the client called.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		Transport:    transport,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	p := &Proxy{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.seen = append(p.seen, r.Method+" "+r.URL.RequestURI())
		p.mu.Unlock()
		if f := p.fault.Load(); f != nil {
			(*f)(w, r, pass)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	p.Endpoint = server.URL
	return p
}

// Set has a fault stand in the way of what comes from now on; nil: nothing.
func (p *Proxy) Set(f Fault) {
	if f == nil {
		p.fault.Store(nil)
		return
	}
	p.fault.Store(&f)
}

// Seen returns what was asked for since it was last called, as "METHOD URI".
func (p *Proxy) Seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen
	p.seen = nil
	return seen
}

// Answer is an answer of S3's with this status and code.
func Answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	w.Write([]byte(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>` + code + `</Message></Error>`))
}

// Cut ends the request's connection.
func Cut(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// IsPart reports whether a request sends a part.
func IsPart(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
}

// IsComplete reports whether a request completes an upload.
func IsComplete(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// IsPut reports whether a request puts an object.
func IsPut(r *http.Request) bool { return r.Method == http.MethodPut && r.URL.RawQuery == "" }
