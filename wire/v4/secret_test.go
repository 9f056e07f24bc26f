package v4

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Keys and tokens show in no print, log, JSON or error, alone or in what holds them.
func TestSecretsPrintRedacted(t *testing.T) {
	t.Parallel()
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	token := NewToken()
	invite := Invite{Address: "127.0.0.1:1", Server: id.Fingerprint(), Token: token}
	hello := Hello{Token: token, Name: "grace"}
	type holder struct {
		Exported Identity
		within   Identity // fmt asks no method of it
	}
	held := holder{id, id}
	for what, test := range map[string]struct {
		value  any
		secret []byte
	}{
		"identity": {id, id.held().key.Seed()}, "its address": {&id, id.held().key.Seed()}, "what holds it": {held, id.held().key.Seed()},
		"token": {token, token[:]}, "invite": {invite, token[:]}, "its first message": {hello, token[:]}, "and its address": {&hello, token[:]},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "b", "o", "U", "10.2s"} {
				fmt.Fprintf(&out, "%"+verb+"\n", test.value)
			}
			fmt.Fprintf(&out, "%v %+v %#v\n", []any{test.value}, []any{test.value}, []any{test.value})
			fmt.Fprintln(&out, test.value, errors.Join(fmt.Errorf("of %v", test.value)))
			for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
				slog.New(h).Info("m", "value", test.value, slog.Group("in", "value", test.value))
			}
			if err := json.NewEncoder(&out).Encode(test.value); err != nil {
				t.Fatal(err)
			}
			for name, form := range map[string]string{
				"raw": string(test.secret), "hex": hex.EncodeToString(test.secret), "HEX": strings.ToUpper(hex.EncodeToString(test.secret)),
				"spaced": fmt.Sprintf("%d", test.secret[:8])[1:20], "hex list": strings.Trim(fmt.Sprintf("%#v", test.secret[:4]), "[]byte{}"),
				"base64": base64.RawStdEncoding.EncodeToString(test.secret)[:12],
			} {
				if strings.Contains(out.String(), form) {
					t.Errorf("%s shows in:\n%s", name, out.String())
				}
			}
			if !strings.Contains(out.String(), "redacted") {
				t.Errorf("nothing says redacted:\n%s", out.String())
			}
		})
	}
}
