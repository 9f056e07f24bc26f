// Package status is the status page: what a server receives now, what it has
// received, from whom, and what went wrong, as one HTML page that keeps itself up
// to date.
//
//	GET /         the page, whole: it works without scripts
//	GET /events   its sections as they change (server-sent events)
//
// Every section is made here, by html/template, which escapes what peers chose;
// the page's script only puts sections in their places. The page takes nothing
// from elsewhere, and its policy (CSP) forbids it to.
package status

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/net/netutil"

	"fenc/modes/stats"
	"fenc/wire"
)

// View is what the page shows of a server.
type View struct {
	Address   string    // where it listens
	Software  string    // name and version
	ServerKey string    // fingerprint; empty where protocol 4 is not served
	Protocols []int     // that are served
	Since     time.Time // when it started

	Trouble string // what keeps it from taking files; empty: nothing
	Free    int64  // bytes that are free on the storage's disk; negative where that is not known

	Sessions   []stats.Open
	Recent     []stats.File // newest first
	Failures   []stats.File // newest first
	Throughput []stats.Throughput
	Clients    []Client // those heard of last first
	AllClients int      // how many there are, of which Clients may be some
}

// Client is a client of the server.
type Client struct {
	Name     string
	LastSeen time.Time // zero: never
	Files    int64     // verified
	Bytes    int64     // of them
	Revoked  bool
}

// lowSpace is the free space, in bytes, under which the page gives warning.
const lowSpace = 1 << 30

// Rows that the page shows of each list.
const (
	maxArriving = 50
	maxRecent   = 25
	maxFailures = 15
	maxClients  = 50
)

//go:embed page.html style.css live.js
var files embed.FS

var templates = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"bytes":   func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) },
	"rate":    func(n float64) string { return humanize.IBytes(uint64(max(n, 0))) + "/s" },
	"count":   func(n int) string { return humanize.Comma(int64(n)) },
	"comma":   humanize.Comma,
	"print":   wire.Printable,
	"time":    timeElement,
	"rfc3339": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}).ParseFS(files, "page.html"))

// timeElement is a moment, which the page's script turns into the reader's own
// time of day.
func timeElement(t time.Time) template.HTML {
	if t.IsZero() {
		return "never"
	}
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05 MST")))
}

// sections are the parts of the page that change, by their template's name, which
// is also the id of their element.
var sections = []string{"now", "arriving", "throughput", "recent", "failures", "clients", "server"}

// Page serves the status page of one server.
type Page struct {
	view func() View
	now  func() time.Time

	mu       sync.Mutex
	made     time.Time // when rendered was
	rendered map[string]template.HTML
	before   map[string]int64 // bytes of what was under way, by session and file
	viewers  int
}

// New makes a page of what view returns, which is called once a second at most,
// and only while somebody looks.
func New(view func() View) *Page { return &Page{view: view, now: time.Now} }

// Handler serves the page to requests whose Host is an address, localhost or one
// of hosts: a name of somebody else's that leads here (DNS rebinding) would let a
// web page read this one.
func (p *Page) Handler(hosts ...string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.servePage)
	mux.HandleFunc("GET /events", p.serveEvents)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }) // browsers ask
	for name, kind := range map[string]string{"style.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8"} {
		content, err := files.ReadFile(name)
		if err != nil {
			panic(err) // it is embedded
		}
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Write(content)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hostIsOurs(r.Host, hosts) {
			http.Error(w, "This page is not served under that name: use its address.", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

// Serve serves the page on l until ctx ends, and closes l. hosts are Handler's.
func (p *Page) Serve(ctx context.Context, l net.Listener, log *slog.Logger, hosts ...string) error {
	server := &http.Server{
		Handler: p.Handler(hosts...), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, // of a page; each event has its own
		IdleTimeout:  time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(netutil.LimitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the status page: %w", err)
	}
	return nil
}

func hostIsOurs(host string, hosts []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || slices.Contains(hosts, host)
}

func (p *Page) servePage(w http.ResponseWriter, _ *http.Request) {
	rendered, err := p.render()
	var page bytes.Buffer
	if err == nil {
		err = templates.ExecuteTemplate(&page, "page.html", rendered)
	}
	if err != nil {
		http.Error(w, "The page cannot be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(page.Bytes())
}

// render returns the sections as they are now, or were less than a second ago:
// however many look, the server is asked once.
func (p *Page) render() (map[string]template.HTML, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if age := now.Sub(p.made); p.rendered != nil && age >= 0 && age < refresh/2 {
		return p.rendered, nil
	}
	v := p.view()
	m := model{View: v, Now: now, Plot: newPlot(v.Throughput)}
	m.arrange(p.before, now.Sub(p.made))
	rendered := make(map[string]template.HTML)
	for _, name := range sections {
		var b bytes.Buffer
		if err := templates.ExecuteTemplate(&b, name, m); err != nil {
			return nil, err
		}
		rendered[name] = template.HTML(b.String())
	}
	p.made, p.rendered, p.before = now, rendered, m.done
	return maps.Clone(rendered), nil
}

// model is a View as the templates need it.
type model struct {
	View
	Now      time.Time
	Plot     plot
	Arriving []arriving
	More     int // arriving, but for those in Arriving
	Incoming int // of all, those that come to the server

	done map[string]int64
}

// arriving is a file that is under way.
type arriving struct {
	stats.Transfer
	Client, Address string
	Percent         int
	Rate            float64 // bytes a second since the page was made before; negative where it is not known
}

// arrange sorts what is under way and works out how fast it is, from what was
// done the given time before.
func (m *model) arrange(before map[string]int64, ago time.Duration) {
	m.done = make(map[string]int64)
	for _, session := range m.Sessions {
		for _, t := range session.Transfers {
			if !t.Outgoing {
				m.Incoming++
			}
			a := arriving{Transfer: t, Client: session.Client, Address: session.Address, Rate: -1}
			if t.Bytes > 0 {
				a.Percent = int(float64(min(t.Done, t.Bytes)) / float64(t.Bytes) * 100)
			}
			key := session.Address + "\x00" + t.Path
			m.done[key] = t.Done
			if was, ok := before[key]; ok && ago > 0 && ago <= 5*refresh && t.Done >= was {
				a.Rate = float64(t.Done-was) / ago.Seconds()
			}
			m.Arriving = append(m.Arriving, a)
		}
		if hidden := session.UnderWay - len(session.Transfers); hidden > 0 {
			m.More += hidden
			m.Incoming += hidden
		}
	}
	slices.SortStableFunc(m.Arriving, func(a, b arriving) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Path, b.Path))
	})
	if over := len(m.Arriving) - maxArriving; over > 0 {
		m.Arriving, m.More = m.Arriving[:maxArriving], m.More+over
	}
	m.Recent = m.Recent[:min(len(m.Recent), maxRecent)]
	m.Failures = m.Failures[:min(len(m.Failures), maxFailures)]
	m.Clients = m.Clients[:min(len(m.Clients), maxClients)]
}

// Low reports whether little space is left.
func (m model) Low() bool { return m.Free < lowSpace }

// MoreClients is how many clients are not in the list.
func (m model) MoreClients() int { return max(0, m.AllClients-len(m.Clients)) }
