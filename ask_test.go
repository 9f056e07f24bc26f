package main

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"
)

// get asks a server under test, and returns the status and what it says.
func get(t testing.TB, url string) (status int, text string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// eventually calls done until it reports true, which it does within a moment: it
// asks a server.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !done(); {
		if time.Now().After(late) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
