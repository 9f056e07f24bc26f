package v3

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
)

// recordedKey returns the key of the recordings' client.
func recordedKey(t testing.TB) (*rsa.PrivateKey, string) {
	t.Helper()
	text := readRecording(t, recordings[0]).Me.Key
	key, err := ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key, text
}

func TestGenerateKeyFits(t *testing.T) {
	t.Parallel()
	var last *rsa.PrivateKey
	for range 3 {
		key, err := GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		if key.E != 17 || key.N.BitLen() != 1024 || last != nil && key.Equal(last) {
			t.Errorf("got %d bits, e = %d, want a new key of 1024 bits with e = 17", key.N.BitLen(), key.E)
		}
		last = key
		public, err := MarshalPublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := ParsePublicKey(public)
		if err != nil || !parsed.Equal(&key.PublicKey) {
			t.Errorf("the public key came back as another, and %v", err)
		}
		text, err := MarshalPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := ParsePrivateKey(text)
		if err != nil || !private.Equal(key) {
			t.Errorf("the private key came back as another, and %v", err)
		}
		session := NewSessionKey()
		wrapped, err := WrapKey(parsed, session)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := UnwrapKey(private, wrapped); err != nil || got != session {
			t.Errorf("the session's key came back as another, and %v", err)
		}
	}
}

func TestRecordedPrivateKeyBothWays(t *testing.T) {
	t.Parallel()
	key, text := recordedKey(t)
	if key.E != 17 {
		t.Errorf("e = %d, want 17", key.E)
	}
	if got, err := MarshalPrivateKey(key); err != nil || got != text {
		t.Errorf("got %s and %v, want %s", got, err, text)
	}
	// Crypto++ breaks lines after 72 digits.
	var lines strings.Builder
	for at := 0; at < len(text); at += 72 {
		fmt.Fprintf(&lines, "%s\r\n", text[at:min(len(text), at+72)])
	}
	if got, err := ParsePrivateKey(lines.String()); err != nil || !got.Equal(key) {
		t.Errorf("over several lines: another key, and %v", err)
	}
}

func TestPrivateKeyRefused(t *testing.T) {
	t.Parallel()
	_, text := recordedKey(t)
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(der)
	damaged[200] ^= 1
	for name, text := range map[string]string{
		"empty":          "",
		"no base64":      "!" + text,
		"cut":            text[:400],
		"damaged":        base64.StdEncoding.EncodeToString(damaged),
		"Ed25519":        pkcs8(t, ed25519.NewKeyFromSeed(make([]byte, 32))),
		"RSA-2048":       pkcs8(t, bigKey(t, 2048)),
		"RSA, e = 65537": pkcs8(t, bigKey(t, 1024)),
	} {
		_, err := ParsePrivateKey(text)
		if !errors.Is(err, ErrKey) {
			t.Errorf("%s: got %v, want ErrKey", name, err)
			continue
		}
		if len(text) > 40 && strings.Contains(err.Error(), text[20:40]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

func pkcs8(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func bigKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestPublicKeyRefused(t *testing.T) {
	t.Parallel()
	key, _ := recordedKey(t)
	good, err := MarshalPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, to byte) [PublicKeySize]byte {
		k := good
		k[at] = to
		return k
	}
	shorter := new(big.Int).Rsh(key.N, 8)
	shorter.SetBit(shorter, 0, 1)
	smaller, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: shorter, E: 17}) // 1016 bits
	if err != nil {
		t.Fatal(err)
	}
	ed, err := x509.MarshalPKIXPublicKey(ed25519.NewKeyFromSeed(make([]byte, 32)).Public())
	if err != nil {
		t.Fatal(err)
	}
	fill := func(der []byte) (k [PublicKeySize]byte) { copy(k[:], der); return k }
	for name, der := range map[string][PublicKeySize]byte{
		"zeros":                      {},
		"even e":                     change(159, 18),
		"e = 1":                      change(159, 1),
		"negative e":                 change(159, 0x91),
		"even modulus":               change(156, good[156]&^1),
		"1,016 bits and NULs behind": fill(smaller),
		"1,023 bits":                 change(29, good[29]&0x7f),
		"another algorithm":          change(13, good[13]^1),
		"Ed25519 and NULs behind":    fill(ed),
	} {
		if got, err := ParsePublicKey(der); !errors.Is(err, ErrKey) {
			t.Errorf("%s: got %v and %v, want ErrKey", name, got, err)
		}
	}
	for name, public := range map[string]*rsa.PublicKey{
		"e = 65537": {N: key.N, E: 65537}, "1,016 bits": {N: shorter, E: 17}, "2,048 bits": {N: new(big.Int).Mul(key.N, key.N), E: 17},
	} {
		if _, err := MarshalPublicKey(public); !errors.Is(err, ErrKey) {
			t.Errorf("marshal %s: got %v, want ErrKey", name, err)
		}
	}
}

func TestUnwrapKeyRefused(t *testing.T) {
	t.Parallel()
	key, _ := recordedKey(t)
	wrapped, err := WrapKey(&key.PublicKey, NewSessionKey())
	if err != nil {
		t.Fatal(err)
	}
	wrapped[127] ^= 1
	if _, err := UnwrapKey(key, wrapped); !errors.Is(err, ErrKey) {
		t.Errorf("damaged: got %v, want ErrKey", err)
	}
}

func TestWrapKeyDiffersEachTime(t *testing.T) {
	t.Parallel()
	key, _ := recordedKey(t)
	session := NewSessionKey()
	a, errA := WrapKey(&key.PublicKey, session)
	b, errB := WrapKey(&key.PublicKey, session)
	if a == b || errA != nil || errB != nil {
		t.Errorf("the same bytes twice, and %v, %v", errA, errB)
	}
	if session == NewSessionKey() {
		t.Error("the same session key twice")
	}
}

func TestSessionKeyIsNeverPrinted(t *testing.T) {
	t.Parallel()
	key := SessionKey(unhex(t, "c3dd649ef4925778251348f63cf68da6"))
	holder := struct {
		Key  SessionKey
		Keys []SessionKey
		Any  any
		Ptr  *SessionKey
	}{key, []SessionKey{key}, key, &key}
	printed := []string{key.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%b", "%o", "%c", "%U", "%T %v"} {
		for _, v := range []any{key, &key, holder, &holder, map[string]SessionKey{"k": key}} {
			args := []any{v, v}[:strings.Count(verb, "%")]
			printed = append(printed, fmt.Sprintf(verb, args...))
		}
	}
	printed = append(printed, fmt.Sprint(key), fmt.Sprintln(key), fmt.Errorf("key %v", key).Error())
	for _, v := range []any{key, &key, holder, map[string]SessionKey{"k": key}} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		printed = append(printed, string(text))
		var b strings.Builder
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "key", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "key", v)
		printed = append(printed, b.String())
	}
	secrets := []string{
		key.Hex()[:8], strings.ToUpper(key.Hex()[:8]), "c3 dd", "195 221", "0xc3", "c3, dd",
		string(key[:4]), base64.StdEncoding.EncodeToString(key[:6]), "11000011", "303 335", `\xc3`, "U+00C3",
	}
	for _, text := range printed {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%q shows the key (%q)", text, secret)
			}
		}
	}
	for _, text := range []string{key.String(), fmt.Sprintf("%v", key), fmt.Sprintf("%x", key), fmt.Sprintf("%#v", key)} {
		if text != "redacted" {
			t.Errorf("got %q, want redacted", text)
		}
	}
	if got, want := key.Hex(), "c3dd649ef4925778251348f63cf68da6"; got != want {
		t.Errorf("Hex: got %s, want %s", got, want)
	}
}

func BenchmarkGenerateKey(b *testing.B) {
	for b.Loop() {
		if _, err := GenerateKey(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrapKey(b *testing.B) {
	key, _ := recordedKey(b)
	session := NewSessionKey()
	for b.Loop() {
		if _, err := WrapKey(&key.PublicKey, session); err != nil {
			b.Fatal(err)
		}
	}
}
