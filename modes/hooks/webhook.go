package hooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The webhook follows Standard Webhooks
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md):
// its headers, its symmetric signature v1, and how its answers are understood.

// maxRetryAfter is the longest pause that a webhook may ask for.
const maxRetryAfter = 24 * time.Hour

// webhookBody is the body of a call.
type webhookBody struct {
	Type      string      `json:"type"`
	Timestamp time.Time   `json:"timestamp"` // of the change
	Data      webhookData `json:"data"`
}

// webhookData has the names that fenc files --json has.
type webhookData struct {
	Client  string `json:"client"`
	Name    string `json:"name"`
	Path    string `json:"path"`
	Bytes   int64  `json:"bytes"`
	BLAKE3  string `json:"blake3,omitempty"`
	CRC32   string `json:"crc32,omitempty"`
	Version int64  `json:"version"`
}

// sign returns the header webhook-signature.
func sign(secret []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// caller calls the webhook.
type caller struct {
	url      string
	secret   []byte
	software string
	client   http.Client
}

func newCaller(c Config) *caller {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the environment has no say in where events go
	transport.MaxIdleConnsPerHost = 8
	return &caller{
		url: c.URL, secret: c.Secret, software: c.Software,
		client: http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// call sends the news and judges the answer.
func (c *caller) call(ctx context.Context, n News) Answer {
	body, err := json.Marshal(webhookBody{
		Type: n.Kind, Timestamp: n.Time.UTC(),
		Data: webhookData{Client: n.Client, Name: n.Name, Path: n.Path, Bytes: n.Size, BLAKE3: n.BLAKE3, CRC32: n.CRC32, Version: n.Version},
	})
	if err != nil {
		return Answer{Outcome: failed, Text: err.Error()}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return Answer{Outcome: failed, Text: err.Error()}
	}
	now := time.Now()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", c.software)
	r.Header.Set("webhook-id", n.ID)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("webhook-signature", sign(c.secret, n.ID, now, body))
	response, err := c.client.Do(r)
	if err != nil {
		if at, ok := errors.AsType[*url.Error](err); ok {
			err = at.Err // without the address, whose path may be a secret
		}
		return Answer{Outcome: failed, Text: "webhook_url: " + err.Error()}
	}
	defer response.Body.Close()
	io.CopyN(io.Discard, response.Body, 64<<10) // so that the connection can be used again; what it says is not looked at
	return judge(response, now)
}

// judge understands the status of an answer.
func judge(response *http.Response, now time.Time) Answer {
	text := fmt.Sprintf("the webhook answers %d", response.StatusCode)
	if words := http.StatusText(response.StatusCode); words != "" {
		text += " " + words
	}
	switch code := response.StatusCode; {
	case code >= 200 && code < 300:
		return Answer{Outcome: done}
	case code == http.StatusGone:
		return Answer{Outcome: gone, Text: text}
	case code >= 300 && code < 400:
		return Answer{Outcome: failed, Text: text + ": redirects are not followed, set webhook_url to where it is"}
	}
	return Answer{Outcome: failed, Text: text, RetryAfter: retryAfter(response.Header.Get("Retry-After"), now)}
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3); 0 if neither.
func retryAfter(text string, now time.Time) time.Duration {
	var pause time.Duration
	if seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32); err == nil {
		pause = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		pause = at.Sub(now)
	}
	return min(max(pause, 0), maxRetryAfter)
}
