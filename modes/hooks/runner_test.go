package hooks

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answers has a runner do requests and returns what it answers, but for ready.
func answers(t *testing.T, c Config, requests ...request) []Answer {
	t.Helper()
	var in, out bytes.Buffer
	e := json.NewEncoder(&in)
	if err := e.Encode(c); err != nil {
		t.Fatal(err)
	}
	for _, q := range requests {
		if err := e.Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := Run(&in, &out); err != nil {
		t.Fatal(err)
	}
	var list []Answer
	for line := range strings.Lines(out.String()) {
		var a Answer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	return list[1:]
}

// A server that somebody has taken over gets nothing of the runner but what is
// configured, about files of the storage.
func TestRunnerDoesWhatIsConfiguredAlone(t *testing.T) {
	t.Parallel()
	storage := t.TempDir()
	c := Config{HookTimeout: time.Minute, GateTimeout: time.Minute, Storage: storage}
	for name, test := range map[string]struct {
		config Config
		ask    request
		want   string
	}{
		"hook that is not there":    {c, request{Do: runHook}, "not configured"},
		"webhook that is not there": {c, request{Do: callWebhook}, "not configured"},
		"gate that is not there":    {c, request{Do: askGate}, "not configured"},
		"no action":                 {c, request{Do: "rm -rf /"}, "not configured"},
		"path out of the storage":   {c, request{Do: runHook, News: News{Path: "../../etc/passwd"}}, "leads out of the storage"},
		"absolute path":             {c, request{Do: runHook, News: News{Path: "/etc/passwd"}}, "leads out of the storage"},
		"NUL":                       {c, request{Do: runHook, News: News{Name: "a\x00LD_PRELOAD=x"}}, "NUL"},
		"object that is a path": {Config{Gate: []string{"/bin/cat"}, GateTimeout: time.Minute, Storage: storage},
			request{Do: askGate, News: News{Object: "../../../../../../etc/passwd"}}, "no object's key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.ask.Number = 7
			got := answers(t, test.config, test.ask)
			if len(got) != 1 || got[0].Number != 7 || got[0].Outcome != failed || !strings.Contains(got[0].Text, test.want) {
				t.Errorf("got %+v, want it refused: %s", got, test.want)
			}
		})
	}
}

func TestRunnerWantsItsConfigurationFirst(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "hello\n", "{\"Hook\": 3}\n", strings.Repeat("x", maxLine+1)} {
		if err := Run(strings.NewReader(in), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "started by fenc serve alone") {
			t.Errorf("%.20q: got %v, want it refused", in, err)
		}
	}
}

// The vector is the one of the tests of Standard Webhooks's own libraries.
func TestSignature(t *testing.T) {
	t.Parallel()
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAnswersOfTheWebhook(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		status int
		header string
		want   outcome
		pause  time.Duration
	}{
		{200, "", done, 0}, {204, "30", done, 0}, {410, "", gone, 0}, {301, "", failed, 0}, {404, "", failed, 0}, {503, "120", failed, 2 * time.Minute},
		{429, "Wed, 25 Nov 2026 12:01:00 GMT", failed, time.Minute}, {429, "Wed, 25 Nov 2026 11:01:00 GMT", failed, 0}, {500, "-5", failed, 0},
		{500, "soon", failed, 0}, {503, "99999999", failed, maxRetryAfter},
	} {
		got := judge(&http.Response{StatusCode: test.status, Header: http.Header{"Retry-After": {test.header}}}, now)
		if got.Outcome != test.want || got.RetryAfter != test.pause {
			t.Errorf("%d, Retry-After %q: got %+v, want %s and a pause of %s", test.status, test.header, got, test.want, test.pause)
		}
	}
}

func TestPausesGrowToAnHour(t *testing.T) {
	t.Parallel()
	for failures := 1; failures < 100; failures++ {
		middle := longPause
		if failures <= 12 {
			middle = min(time.Second<<(failures-1), longPause)
		}
		if got := pauseAfter(failures); got < middle*4/5 || got > middle*6/5 {
			t.Errorf("after %d failures: got %s, want about %s", failures, got, middle)
		}
	}
}

// A runner that has ended answers nobody, and says so.
func TestRunnerThatHasEnded(t *testing.T) {
	t.Parallel()
	r, err := Start(Config{Hook: []string{"/nowhere/nothing"}, HookTimeout: time.Minute}, true)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := r.Deliver(t.Context(), Command, News{}); err != nil || a.Outcome != failed || !strings.Contains(a.Text, "hook_command: ") {
		t.Errorf("a program that is not there: got %+v, %v, want it failed", a, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Deliver(ctx, Command, News{}); err != nil && err != context.Canceled {
		t.Errorf("got %v, want the context's error or an answer", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Deliver(t.Context(), Command, News{}); err == nil {
		t.Error("a runner that has ended took an event")
	}
}
