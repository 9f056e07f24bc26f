// Package control is how fenc's own commands ask the server that runs: HTTP over a
// Unix socket, for the server's user alone.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/net/netutil"

	"fenc/modes/monitor"
	"fenc/modes/stats"
)

const (
	maxConnections = 16 // at once; more wait
	// maxPath is the longest path of a Unix socket, in bytes, of all systems.
	maxPath = 103
)

// Reloaded is what came of reading the settings again.
type Reloaded struct {
	Changed     []string `json:"changed"`      // keys whose new values hold now
	NeedRestart []string `json:"need_restart"` // keys whose new values hold after a restart
}

// State is whether the server is ready, and what is wrong if it is not.
type State struct {
	Ready  bool   `json:"ready"`
	Report string `json:"report"` // a line for each thing that was looked at
}

// fault is why a request was not carried out.
type fault struct {
	Error string `json:"error"`
}

// Server answers for the server that runs.
type Server struct {
	Sessions func() []stats.Open
	Checks   func(context.Context) []monitor.Check
	Reload   func() (Reloaded, error)
}

// Listen makes the socket, mode 0600, in the place of one that a server left behind
// when it was killed. The caller holds the storage's lock, so that there is no other
// server of this database; should one answer all the same, it is left alone.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("%s: %d bytes are too long for a socket, which takes %d", path, len(path), maxPath)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is in the way, and no socket: move it away", path)
	default:
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("%s: another server answers there", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path) // the process's umask leaves it to its owner
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Serve answers on l until ctx ends; then it closes l and removes the socket.
func (s *Server) Serve(ctx context.Context, l net.Listener, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sessions", func(w http.ResponseWriter, r *http.Request) { answer(w, http.StatusOK, s.Sessions()) })
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		text, ready := monitor.Report(s.Checks(r.Context()))
		answer(w, http.StatusOK, State{ready, text})
	})
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		done, err := s.Reload()
		if err != nil {
			answer(w, http.StatusUnprocessableEntity, fault{err.Error()})
			return
		}
		answer(w, http.StatusOK, done)
	})
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(netutil.LimitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer fenc's own commands: %w", err)
	}
	return nil
}

func answer(w http.ResponseWriter, status int, with any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(with) // to a client that may have gone
}
