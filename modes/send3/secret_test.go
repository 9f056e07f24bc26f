package send3

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestIdentityShowsNoKey(t *testing.T) {
	t.Parallel()
	who := me(t)
	var out bytes.Buffer
	for _, v := range []any{who, &who, []any{who}} {
		fmt.Fprintf(&out, "%v %+v %#v %s\n", v, v, v, v)
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("m", "me", v)
		}
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	for _, secret := range []string{who.Key.D.String(), who.Key.D.Text(16), who.Key.Primes[0].String(), who.Key.Primes[0].Text(16)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the key shows in:\n%s", out.String())
		}
	}
	if !strings.Contains(out.String(), who.Name) {
		t.Errorf("got %s, want the name", out.String())
	}
}
