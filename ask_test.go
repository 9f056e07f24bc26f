package main

import (
	"errors"
	"io"
	"net/http"
	"testing"
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
