package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"fenc/modes/stats"
)

// longestAnswer is how long a server may take to answer.
const longestAnswer = 30 * time.Second

var (
	// ErrNotRunning: no server answers at the socket.
	ErrNotRunning = errors.New("no server is running here")
	// ErrSettings: the server found its settings wrong, and keeps the old ones.
	ErrSettings = errors.New("the old settings stay")
)

// Client asks a server.
type Client struct {
	path string
	http http.Client
}

// Dial makes a client of the server that answers at a socket. Nothing is asked yet.
func Dial(path string) *Client {
	c := &Client{path: path}
	c.http = http.Client{Timeout: longestAnswer, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.path)
		},
	}}
	return c
}

// Sessions lists the sessions that are open, the oldest first.
func (c *Client) Sessions(ctx context.Context) (open []stats.Open, err error) {
	return open, c.ask(ctx, http.MethodGet, "/sessions", &open)
}

// Health asks whether the server is ready.
func (c *Client) Health(ctx context.Context) (state State, err error) {
	return state, c.ask(ctx, http.MethodGet, "/health", &state)
}

// Reload has the server read its settings again.
func (c *Client) Reload(ctx context.Context) (done Reloaded, err error) {
	return done, c.ask(ctx, http.MethodPost, "/reload", &done)
}

func (c *Client) ask(ctx context.Context, method, what string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://fenc"+what, nil)
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	response, err := c.http.Do(request)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nothing answers at %s", ErrNotRunning, c.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: run it as the user that the server runs as", c.path, fs.ErrPermission)
	case err != nil:
		return fmt.Errorf("ask the server at %s: %w", c.path, err)
	}
	defer response.Body.Close()
	from := json.NewDecoder(response.Body)
	if response.StatusCode != http.StatusOK {
		var f fault
		if err := from.Decode(&f); err != nil {
			return fmt.Errorf("ask the server at %s: it answers %s", c.path, response.Status)
		}
		return fmt.Errorf("%s: %w", f.Error, ErrSettings)
	}
	if err := from.Decode(into); err != nil {
		return fmt.Errorf("ask the server at %s: %w", c.path, err)
	}
	return nil
}
