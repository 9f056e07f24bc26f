package stats

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// protocols are the versions that are counted apart.
var protocols = []int{3, 4}

// Deliveries of a hook, by how they ended.
const (
	Delivered = "delivered"
	Retried   = "retried" // not delivered, to be tried again
	Dead      = "dead"    // given up
)

// metrics are the numbers that Prometheus reads. No label is from a peer.
type metrics struct {
	registry   *prometheus.Registry
	byProtocol map[int]*counters
	unknown    prometheus.Counter
	refused    *prometheus.CounterVec
	commits    prometheus.Histogram
	hooks      *prometheus.CounterVec
	reloads    *prometheus.CounterVec
}

// counters are those of one protocol.
type counters struct {
	admitted, refused        prometheus.Counter
	uploads                  map[Result]prometheus.Counter
	received, verified, sent prometheus.Counter
	seconds                  prometheus.Observer
}

func (m *metrics) of(protocol int) *counters { return m.byProtocol[protocol] }

// register makes the metrics. All label values are there from the start, so that
// a first failure shows as an increase.
func (m *metrics) register(s *Stats) {
	m.registry = prometheus.NewRegistry()
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fenc_" + name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	sessions := counter("sessions_total", "Sessions, by protocol and whether the client was admitted. Those whose first bytes are of no protocol are counted as none.", "protocol", "result")
	uploads := counter("uploads_total", "Uploads that have ended, by protocol and result.", "protocol", "result")
	received := counter("received_bytes_total", "Bytes of content that came, by protocol, whatever became of them.", "protocol")
	verified := counter("verified_bytes_total", "Bytes of the files that were verified, by protocol.", "protocol")
	sent := counter("sent_bytes_total", "Bytes of content that clients got back, by protocol.", "protocol")
	m.refused = counter("connections_refused_total", "Connections that were closed because of a limit, by its key.", "limit")
	m.hooks = counter("hook_deliveries_total", "Deliveries of hooks, by kind of hook and result.", "hook", "result")
	m.reloads = counter("reloads_total", "Times that the settings were read again, by result.", "result")
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "fenc_upload_duration_seconds", Help: "Seconds from a file's offer to the answer that it is verified, by protocol.",
		Buckets: []float64{.01, .05, .25, 1, 5, 15, 60, 300, 900, 3600, 14400},
	}, []string{"protocol"})
	m.commits = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "fenc_commit_duration_seconds", Help: "Seconds that making a whole file durable and catalogued takes.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fenc_open_sessions", Help: "Sessions that are open."}, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.sessions))
	})
	start := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fenc_start_time_seconds", Help: "When the server started, in seconds since 1970."}, func() float64 {
		return float64(s.Began.UnixMilli()) / 1000
	})
	m.registry.MustRegister(seconds, m.commits, open, start, collectors.NewGoCollector())

	m.unknown = sessions.WithLabelValues("none", "refused")
	m.byProtocol = make(map[int]*counters)
	for _, version := range protocols {
		protocol := strconv.Itoa(version)
		c := &counters{
			admitted: sessions.WithLabelValues(protocol, "admitted"), refused: sessions.WithLabelValues(protocol, "refused"),
			uploads: make(map[Result]prometheus.Counter), seconds: seconds.WithLabelValues(protocol),
			received: received.WithLabelValues(protocol), verified: verified.WithLabelValues(protocol), sent: sent.WithLabelValues(protocol),
		}
		for _, r := range Results {
			c.uploads[r] = uploads.WithLabelValues(protocol, string(r))
		}
		m.byProtocol[version] = c
	}
	for _, limit := range []string{"max_sessions", "max_sessions_per_address", "max_handshakes_per_address", "max_unadmitted"} {
		m.refused.WithLabelValues(limit)
	}
	for _, result := range []string{"done", "failed"} {
		m.reloads.WithLabelValues(result)
	}
	for _, hook := range []string{"command", "webhook"} {
		for _, result := range []string{Delivered, Retried, Dead} {
			m.hooks.WithLabelValues(hook, result)
		}
	}
}

// Registry is where the metrics are read, and where those of others are added.
func (s *Stats) Registry() *prometheus.Registry { return s.registry }

// Stranger counts a connection whose first bytes are of no protocol.
func (s *Stats) Stranger() { s.unknown.Inc() }

// TurnedAway counts a connection that was closed because of a limit of the
// settings, named by its key.
func (s *Stats) TurnedAway(limit string) { s.refused.WithLabelValues(limit).Inc() }

// Committed counts that a whole file was made durable and catalogued, which took
// so long.
func (s *Stats) Committed(took time.Duration) { s.commits.Observe(took.Seconds()) }

// Delivery counts one try at a hook, "command" or "webhook", that was Delivered,
// Retried or Dead.
func (s *Stats) Delivery(hook, result string) { s.hooks.WithLabelValues(hook, result).Inc() }

// Reloaded counts that the settings were read again, well or not.
func (s *Stats) Reloaded(err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	s.reloads.WithLabelValues(result).Inc()
}
