package status

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"fenc/modes/stats"
)

// evil is what a peer might call a file to have it act on the page.
const evil = `<script>document.title="owned"</script>"><img src=x onerror=alert(1)>.txt`

// server is a server whose state a test sets.
type server struct {
	mu   sync.Mutex
	view View
}

func (s *server) set(change func(*View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.view)
}

func (s *server) look() View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// busy is a server with something in every section.
func busy() *server {
	begun := time.Now().Truncate(time.Second)
	steps := make([]stats.Throughput, 360)
	for i := range steps {
		steps[i] = stats.Throughput{Begun: begun.Add(time.Duration(i-359) * 10 * time.Second), Bytes: int64(i%60) << 24, Files: int64(i % 3)}
	}
	return &server{view: View{
		Address: "127.0.0.1:1234", Software: "fenc test", ServerKey: "SHA256:" + strings.Repeat("k", 43), Protocols: []int{3, 4}, Since: begun,
		Free: 40 << 30,
		Sessions: []stats.Open{{Client: "grace", Address: "127.0.0.1:40000", Protocol: 4, Since: begun, UnderWay: 2, Transfers: []stats.Transfer{
			{Path: "holiday/a rather long name of a film that does not fit on a phone.mkv", Bytes: 4 << 30, Done: 1 << 30, Since: begun},
			{Path: evil, Bytes: 10, Done: 5, Since: begun},
		}}},
		Recent:     []stats.File{{Ended: begun, Client: evil, Path: "report.pdf", Bytes: 123456, Result: stats.Verified}},
		Failures:   []stats.File{{Ended: begun, Client: "ada", Address: "127.0.0.1:40001", Path: "big", Result: stats.Refused, Reason: evil}},
		Throughput: steps,
		Clients:    []Client{{Name: "grace", LastSeen: begun, Files: 12345, Bytes: 3 << 40}, {Name: evil, Revoked: true}},
		AllClients: 60,
	}}
}

func get(t *testing.T, page *Page, host string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Host = host
	w := httptest.NewRecorder()
	page.Handler("files.example.org").ServeHTTP(w, r)
	return w
}

func TestPageShowsTheServer(t *testing.T) {
	t.Parallel()
	w := get(t, New(busy().look), "127.0.0.1:8080")
	body := w.Body.String()
	for _, want := range []string{
		"Receiving", "2 files", "holiday/a rather long name", `value="25"`, "report.pdf", "121 KiB", "12,345", "3.0 TiB", "and 58 more", "revoked",
		"40 GiB", "127.0.0.1:1234", "fenc test", "SHA256:kkk", "<polyline points=",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q on the page", want)
		}
	}
	if strings.Contains(body, "<script>document") || strings.Contains(body, "<img") {
		t.Error("a peer's text is on the page as it is")
	}
	if got := strings.Count(body, "&lt;script&gt;"); got != 4 {
		t.Errorf("the evil name stands %d times on the page, want 4", got)
	}
	if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
}

func TestPageOfAnIdleServer(t *testing.T) {
	t.Parallel()
	s := &server{view: View{Address: "127.0.0.1:1", Software: "fenc", Since: time.Now()}}
	page := New(s.look)
	body := get(t, page, "[::1]:8080").Body.String()
	for _, want := range []string{"Ready", "no file since the start", "Nothing is under way", "Nothing came in the last hour", "Nothing has failed", "fenc invite"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q on the page", want)
		}
	}
	s.set(func(v *View) { v.Trouble = "storage degraded: <i/o error>" })
	if body := get(t, New(s.look), "localhost").Body.String(); !strings.Contains(body, "Takes no files") || !strings.Contains(body, "&lt;i/o error&gt;") {
		t.Errorf("the trouble is not on the page: %s", body)
	}
}

// TestForeignNamesAreRefused: a web page elsewhere whose name is made to lead here
// must not read this one.
func TestForeignNamesAreRefused(t *testing.T) {
	t.Parallel()
	page := New(busy().look)
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "[::1]:8080": 200, "::1": 200, "localhost:8080": 200, "files.example.org": 200,
		"evil.example.com": 421, "evil.example.com:8080": 421, "": 421, "localhost.evil.example.com": 421,
	} {
		if got := get(t, page, host).Code; got != want {
			t.Errorf("Host %q: got %d, want %d", host, got, want)
		}
	}
}

func TestOnlyReading(t *testing.T) {
	t.Parallel()
	handler := New(busy().look).Handler()
	for target, want := range map[string]int{"POST /": 405, "DELETE /events": 405, "GET /other": 404, "GET /page.html": 404, "GET /style.css": 200, "GET /live.js": 200} {
		method, path, _ := strings.Cut(target, " ")
		r := httptest.NewRequest(method, path, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", target, w.Code, want)
		}
	}
}

// events reads events from a page until ctx ends.
func events(t *testing.T, url string) (next func() (name, data string)) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	if kind := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("got %s, %q", answer.Status, kind)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return func() (name, data string) {
		for lines.Scan() {
			switch field, value, _ := strings.Cut(lines.Text(), ": "); {
			case lines.Text() == "" && name != "":
				return name, data
			case field == "event":
				name = value
			case field == "data":
				data += value + "\n"
			}
		}
		t.Fatalf("the events ended: %v", lines.Err())
		return "", ""
	}
}

func TestEventsBringWhatChanges(t *testing.T) {
	t.Parallel()
	s := busy()
	web := httptest.NewServer(New(s.look).Handler())
	t.Cleanup(web.Close)
	next := events(t, web.URL)
	for _, want := range sections {
		if name, _ := next(); name != want {
			t.Fatalf("got the section %q first, want %q", name, want)
		}
	}
	s.set(func(v *View) { v.Failures = nil })
	name, data := next()
	for name == "arriving" { // its rates are known from the second look on
		name, data = next()
	}
	if name != "failures" || !strings.Contains(data, "Nothing has failed") {
		t.Errorf("got %s: %s", name, data)
	}
}

func TestRateOfWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := busy()
	page := New(s.look)
	now := time.Now()
	page.now = func() time.Time { return now }
	if _, err := page.render(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	s.set(func(v *View) { v.Sessions[0].Transfers[0].Done += 64 << 20 })
	rendered, err := page.render()
	if err != nil || !strings.Contains(string(rendered["arriving"]), "32 MiB/s") {
		t.Errorf("64 MiB in 2 s: %v, %s", err, rendered["arriving"])
	}
}

// TestManyLookOnce: however many pages are open, the server is asked once a second.
func TestManyLookOnce(t *testing.T) {
	t.Parallel()
	looks := 0
	page := New(func() View { looks++; return View{} })
	now := time.Now()
	page.now = func() time.Time { return now }
	for range 100 {
		if _, err := page.render(); err != nil {
			t.Fatal(err)
		}
	}
	if looks != 1 {
		t.Errorf("the server was asked %d times, want once", looks)
	}
}

func TestTooManyPages(t *testing.T) {
	t.Parallel()
	page := New(busy().look)
	web := httptest.NewServer(page.Handler())
	t.Cleanup(web.Close)
	ctx, cancel := context.WithCancel(t.Context())
	open := func() *http.Response {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		return answer
	}
	for i := range maxViewers {
		if got := open().StatusCode; got != 200 {
			t.Fatalf("page %d: got %d", i, got)
		}
	}
	if got := open().StatusCode; got != 503 {
		t.Errorf("one more: got %d, want 503", got)
	}
	cancel()
	web.Close() // waits for the handlers
	if page.viewers != 0 {
		t.Errorf("%d viewers are left", page.viewers)
	}
}

func TestEventsOfSeveralLines(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	writeEvent(&b, "now", "one\ntwo\r\nthree\rfour")
	if want := "event: now\ndata: one\ndata: two\ndata: three\ndata: four\n\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestNiceTop(t *testing.T) {
	t.Parallel()
	for peak, want := range map[float64]string{
		0: "0", 1: "1", 3: "5", 999: "1024", 1000: "1024", 1024: "1024", 1025: "2048", 3 << 20: "5242880", 999 << 20: "1073741824",
	} {
		if got := fmt.Sprintf("%.0f", niceTop(peak)); got != want {
			t.Errorf("%v: got %s, want %s", peak, got, want)
		}
	}
}
