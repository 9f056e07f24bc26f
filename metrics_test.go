//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// sample returns the value of a series, as it is written.
func sample(t testing.TB, metrics, series string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(metrics)
	if m == nil {
		t.Errorf("no %s in\n%s", series, metrics)
		return ""
	}
	return m[1]
}

// Prometheus and whoever asks for the server's health are answered from the start to the end.
func TestMetricsAndHealth(t *testing.T) {
	t.Parallel()
	dir, home := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\nmetrics_listen = \":0\"\n")
	server := start(t, dir, nil, "serve")
	addr := server.address(t)
	monitor := "http://" + server.log.await(t, `msg="metrics are served" address=(127\.0\.0\.1:\d+)`, server.ended)[1]

	write(t, filepath.Join(home, "a.txt"), "abc")
	write(t, filepath.Join(home, "b.txt"), strings.Repeat("0123456789abcdef", 3<<20/16))
	client := func(args ...string) result { return start(t, home, nil, args...).result(t) }
	client("send", "--server", addr, "--accept-new", "--name", "\x41\"}\\n{evil=\"1", "a.txt", "b.txt").want(t, 0)
	client("send", "--server", addr, "a.txt").want(t, 0, "unchanged")
	client("send", "--server", addr, "--protocol", "3", "--name", "zaphod", "--me", "zaphod.toml", "a.txt").want(t, 0, "verified")
	client("get", "--server", addr, "--dir", "back", "b.txt").want(t, 0)
	client("send", "--server", addr, "--protocol", "3", "--name", "zaphod", "--me", "other.toml", "a.txt").want(t, 3)

	var metrics string
	eventually(t, "the sessions are over", func() (over bool) { // of which clients do not await the end
		var status int
		if status, metrics = get(t, monitor+"/metrics"); status != 200 {
			t.Fatalf("/metrics: %d %s", status, metrics)
		}
		return strings.Contains(metrics, "\nfenc_open_sessions 0\n")
	})
	for series, want := range map[string]string{
		`fenc_uploads_total{protocol="4",result="verified"}`:            "2",
		`fenc_uploads_total{protocol="4",result="unchanged"}`:           "1",
		`fenc_uploads_total{protocol="3",result="verified"}`:            "1",
		`fenc_uploads_total{protocol="3",result="failed"}`:              "0",
		`fenc_received_bytes_total{protocol="4"}`:                       "3.145731e+06",
		`fenc_verified_bytes_total{protocol="4"}`:                       "3.145731e+06",
		`fenc_verified_bytes_total{protocol="3"}`:                       "3",
		`fenc_sent_bytes_total{protocol="4"}`:                           "3.145728e+06",
		`fenc_upload_duration_seconds_count{protocol="4"}`:              "2",
		`fenc_commit_duration_seconds_count`:                            "3",
		`fenc_sessions_total{protocol="4",result="admitted"}`:           "3",
		`fenc_sessions_total{protocol="3",result="admitted"}`:           "1",
		`fenc_sessions_total{protocol="3",result="refused"}`:            "1",
		`fenc_open_sessions`:                                            "0",
		`fenc_clients`:                                                  "2",
		`fenc_files`:                                                    "3",
		`fenc_file_bytes`:                                               "3.145734e+06",
		`fenc_partial_uploads`:                                          "0",
		`fenc_partial_upload_bytes`:                                     "0",
		`fenc_storage_degraded`:                                         "0",
		`fenc_database_errors_total`:                                    "0",
		`fenc_hook_deliveries_total{hook="webhook",result="delivered"}`: "0",
		`fenc_draining`:                                                 "0",
	} {
		if got := sample(t, metrics, series); got != want {
			t.Errorf("%s: got %s, want %s", series, got, want)
		}
	}
	for _, name := range []string{"fenc_build_info{", "fenc_start_time_seconds "} {
		if !strings.Contains(metrics, "\n"+name) {
			t.Errorf("no %s in\n%s", name, metrics)
		}
	}
	if strings.Contains(metrics, "evil") || strings.Contains(metrics, "127.0.0.1") || strings.Contains(metrics, "zaphod") || strings.Contains(metrics, ".txt") {
		t.Errorf("a peer's text stands in\n%s", metrics)
	}

	problems, err := promlint.New(strings.NewReader(metrics)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	wantDocumented(t, metrics)

	wantAnswer := func(path string, want int, words ...string) {
		t.Helper()
		status, text := get(t, monitor+path)
		if status != want {
			t.Errorf("%s: got %d, want %d: %s", path, status, want, text)
		}
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%s: got %q, want %q in it", path, text, w)
			}
		}
	}
	wantAnswer("/healthz", 200, "ok")
	wantAnswer("/readyz", 200, "database: ok\nstorage: ok\naccepting: ok\n")
	wantAnswer("/", 404)
	objects := filepath.Join(dir, "files", ".fenc", "objects")
	if err := os.Rename(objects, objects+"-away"); err != nil {
		t.Fatal(err)
	}
	wantAnswer("/readyz", 503, "database: ok\nstorage: ", "no such file")
	wantAnswer("/healthz", 200)
	if err := errors.Join(os.RemoveAll(objects), os.Rename(objects+"-away", objects)); err != nil { // which a probe may have made anew
		t.Fatal(err)
	}

	// While files under way finish, the server is alive and takes nobody.
	file := beginFile(t, addr, "grace", "big")
	server.signal(t, syscall.SIGTERM)
	eventually(t, "/readyz says no", func() bool { status, _ := get(t, monitor+"/readyz"); return status == 503 })
	wantAnswer("/readyz", 503, "accepting: the server is shutting down")
	wantAnswer("/healthz", 200)
	_, metrics = get(t, monitor+"/metrics")
	if got := sample(t, metrics, "fenc_draining"); got != "1" {
		t.Errorf("fenc_draining: got %s, want 1", got)
	}
	file.finish()
	server.result(t).want(t, 0, "msg=stopped")
}

// families are the names of the metrics of our own that a server answered with.
func families(metrics string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (fenc_\w+) `).FindAllStringSubmatch(metrics, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// wantDocumented checks that the table in the README has every metric, and no other.
func wantDocumented(t *testing.T, metrics string) {
	t.Helper()
	var told []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(fenc_\\w+)` \\|").FindAllStringSubmatch(readFile(t, filepath.Join(sourceDir, "README.md")), -1) {
		told = append(told, m[1])
	}
	slices.Sort(told)
	if has := families(metrics); !slices.Equal(has, told) {
		t.Errorf("the README has\n%q, the server\n%q", told, has)
	}
}
