// Package monitor tells those who watch over the server how it is: Prometheus at
// /metrics, whoever restarts it at /healthz, and whoever sends clients to it at
// /readyz.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"fenc/modes/archive"
	"fenc/modes/stats"
)

const (
	maxConnections = 64               // at once; more wait
	maxScrapes     = 4                // at once; more are answered 503
	longestLook    = 2 * time.Second  // at the database, and at the storage
	longestScrape  = 10 * time.Second // which Prometheus gives up after
)

// Monitor watches one server.
type Monitor struct {
	archive  *archive.Archive
	draining func() bool
	handler  http.Handler
}

// Build says what the server is.
type Build struct{ Version, Revision, Go string }

// New makes the monitor of a server that keeps its files in a, and adds what is
// measured of that to the registry of counts. draining reports whether the server
// has been asked to end.
func New(a *archive.Archive, counts *stats.Stats, draining func() bool, build Build, log *slog.Logger) *Monitor {
	m := &Monitor{archive: a, draining: draining}
	counts.Registry().MustRegister(newState(m, build))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(counts.Registry(), promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes, Timeout: longestScrape,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", m.ready)
	m.handler = mux
	return m
}

// Check is one of the things that must be well for the server to be ready.
type Check struct {
	Name string
	Err  error // nil: it is well
}

// Checks looks at the database and at the storage, and whether the server is to
// go on.
func (m *Monitor) Checks(ctx context.Context) []Check {
	ctx, cancel := context.WithTimeout(ctx, longestLook)
	defer cancel()
	var stopping error
	if m.draining() {
		stopping = errors.New("the server is shutting down")
	}
	return []Check{
		{"database", m.archive.Catalogue.Ping(ctx)},
		{"storage", m.archive.Reach(ctx)},
		{"accepting", stopping},
	}
}

// Report writes checks, a line each, and reports whether all is well.
func Report(checks []Check) (text string, ready bool) {
	var b strings.Builder
	ready = true
	for _, c := range checks {
		state := "ok"
		if c.Err != nil {
			state, ready = strings.ReplaceAll(c.Err.Error(), "\n", "; "), false
		}
		fmt.Fprintf(&b, "%s: %s\n", c.Name, state)
	}
	return b.String(), ready
}

func (m *Monitor) ready(w http.ResponseWriter, r *http.Request) {
	text, ready := Report(m.Checks(r.Context()))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	io.WriteString(w, text)
}

// Serve answers on l until ctx ends, and closes l.
func (m *Monitor) Serve(ctx context.Context, l net.Listener, log *slog.Logger) error {
	server := &http.Server{
		Handler: m.handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(netutil.LimitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer for metrics: %w", err)
	}
	return nil
}

// state is what is measured when it is asked for.
type state struct {
	monitor *Monitor
	build   prometheus.Metric

	partials, partialBytes, clients, files, fileBytes, free, degraded, faults, draining *prometheus.Desc
}

func newState(m *Monitor, build Build) *state {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc("fenc_"+name, help, nil, nil) }
	labels := prometheus.Labels{"version": build.Version, "revision": build.Revision, "goversion": build.Go}
	return &state{
		monitor:      m,
		build:        prometheus.MustNewConstMetric(prometheus.NewDesc("fenc_build_info", "What the server was built from; always 1.", nil, labels), prometheus.GaugeValue, 1),
		partials:     desc("partial_uploads", "Uploads that are open: under way, or waiting to be gone on with."),
		partialBytes: desc("partial_upload_bytes", "Bytes that are held of those uploads."),
		clients:      desc("clients", "Clients that are registered, also revoked ones."),
		files:        desc("files", "Files that are verified, each in its newest version."),
		fileBytes:    desc("file_bytes", "Bytes of those files."),
		free:         desc("storage_free_bytes", "Bytes that are free on the storage's disk. Absent where the system does not tell."),
		degraded:     desc("storage_degraded", "1 while the storage takes nothing because its disk has failed, 0 otherwise."),
		faults:       desc("database_errors_total", "Errors of the database."),
		draining:     desc("draining", "1 once the server has been asked to end, 0 before."),
	}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		s.build.Desc(), s.partials, s.partialBytes, s.clients, s.files, s.fileBytes, s.free, s.degraded, s.faults, s.draining,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(to chan<- prometheus.Metric) {
	kept := s.monitor.archive
	gauge := func(d *prometheus.Desc, v float64) { to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	to <- s.build
	to <- prometheus.MustNewConstMetric(s.faults, prometheus.CounterValue, float64(kept.Catalogue.Faults()))
	if uploads, bytes, err := kept.Catalogue.Partials(); err == nil { // otherwise absent, and an error counted
		gauge(s.partials, float64(uploads))
		gauge(s.partialBytes, float64(bytes))
	}
	if clients, files, bytes, err := kept.Catalogue.Totals(); err == nil {
		gauge(s.clients, float64(clients))
		gauge(s.files, float64(files))
		gauge(s.fileBytes, float64(bytes))
	}
	if free, ok := kept.Space(); ok {
		gauge(s.free, float64(free))
	}
	gauge(s.degraded, number(kept.Degraded() != nil))
	gauge(s.draining, number(s.monitor.draining()))
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
