package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"fenc/config/need"
)

// expression is one that Prometheus is asked, and where it stands.
type expression struct{ where, text string }

// alerts reads the example's rules.
func alerts(t *testing.T) (all []expression) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	from := yaml.NewDecoder(strings.NewReader(readFile(t, filepath.Join(sourceDir, "examples", "fenc-alerts.yaml"))))
	from.KnownFields(true)
	if err := from.Decode(&file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Annotations["summary"] == "" || !slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) {
				t.Errorf("%s: got %+v, want a name, a severity and a summary", g.Name, r)
			}
			all = append(all, expression{r.Alert, r.Expr})
		}
	}
	return all
}

// dashboard reads the example's expressions.
func dashboard(t *testing.T) (all []expression) {
	t.Helper()
	var file struct {
		Title       string
		Annotations struct{ List []struct{ Name, Expr string } }
		Templating  struct {
			List []struct {
				Name  string
				Query any
			}
		}
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(sourceDir, "examples", "fenc-dashboard.json"))), &file); err != nil {
		t.Fatal(err)
	}
	for _, a := range file.Annotations.List {
		all = append(all, expression{a.Name, a.Expr})
	}
	for _, v := range file.Templating.List {
		if query, ok := v.Query.(map[string]any); ok {
			all = append(all, expression{v.Name, query["query"].(string)})
		}
	}
	taken := make(map[[2]int]string)
	for i, p := range file.Panels {
		if p.ID != i+1 || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d: got %+v", i, p)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %q at %d, %d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			all = append(all, expression{p.Title, target.Expr})
		}
	}
	return all
}

var (
	namedMetric = regexp.MustCompile(`\b((?:fenc|go)_[a-z_]+)\b(\{[^}]*\})?`)
	namedLabel  = regexp.MustCompile(`(\w+)\s*(?:=~|!=|=)\s*"([^"]*)"`)
)

// wantAnswerable checks that a server has every metric that an expression names, with
// the labels that it asks for.
func wantAnswerable(t *testing.T, metrics string, all []expression) {
	t.Helper()
	for _, e := range all {
		if strings.Count(e.text, "(") != strings.Count(e.text, ")") || strings.Count(e.text, "{") != strings.Count(e.text, "}") {
			t.Errorf("%s: %s is not balanced", e.where, e.text)
		}
		named := namedMetric.FindAllStringSubmatch(e.text, -1)
		if len(named) == 0 && !strings.HasPrefix(e.text, "up{") {
			t.Errorf("%s: %s names no metric", e.where, e.text)
		}
		for _, m := range named {
			if !hasSeries(metrics, m[1], m[2]) {
				t.Errorf("%s: the server has no %s%s", e.where, m[1], m[2])
			}
		}
	}
}

func hasSeries(metrics, name, labels string) bool {
	for line := range strings.Lines(metrics) {
		series, _, _ := strings.Cut(line, " ")
		has, of, _ := strings.Cut(series, "{")
		if has != name {
			continue
		}
		fits := true
		for _, l := range namedLabel.FindAllStringSubmatch(labels, -1) {
			fits = fits && (l[1] == "instance" || strings.Contains("{"+of, l[1]+`="`+l[2]+`"`)) // which Prometheus adds
		}
		if fits {
			return true
		}
	}
	return false
}

// What the examples ask Prometheus, a server answers; where Prometheus's own tool is
// at hand, it has read the rules too.
func TestDashboardAndAlertsFitTheMetrics(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\nstorage = \"files\"\ndatabase = \"fenc.db\"\nlog_format = \"json\"\nmetrics_listen = \":0\"\n")
	server := serve(t, dir)
	_, metrics := get(t, "http://"+server.log.await(t, `"msg":"metrics are served","address":"([^"]+)"`, server.ended)[1]+"/metrics")
	rules, shown := alerts(t), dashboard(t)
	if len(rules) < 5 || len(shown) < 10 {
		t.Errorf("%d alerts, %d expressions of the dashboard", len(rules), len(shown))
	}
	wantAnswerable(t, metrics, rules)
	wantAnswerable(t, metrics, shown)
	for _, name := range []string{"fenc_nothing_total", `fenc_uploads_total{result="nothing"}`} { // the check itself
		if m := namedMetric.FindStringSubmatch(name); hasSeries(metrics, m[1], m[2]) {
			t.Errorf("%s is there", name)
		}
	}

	tool := need.Program(t, "prometheus", "promtool")
	if out, err := exec.Command(tool, "check", "rules", filepath.Join(sourceDir, "examples", "fenc-alerts.yaml")).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
	var asRules strings.Builder
	asRules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for _, e := range shown {
		if !strings.HasPrefix(e.text, "label_values(") { // Grafana's own
			fmt.Fprintf(&asRules, "  - record: x%d\n    expr: %q\n", asRules.Len(), strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(e.text))
		}
	}
	if out, err := exec.Command(tool, "check", "rules", write(t, filepath.Join(dir, "dashboard.yaml"), asRules.String())).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules, of the dashboard: %v\n%s", err, out)
	}
	check := exec.Command(tool, "check", "metrics")
	check.Stdin = strings.NewReader(metrics)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
