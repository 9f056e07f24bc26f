package modes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"

	"fenc/config"
	"fenc/modes/archive"
	"fenc/modes/control"
	"fenc/modes/monitor"
	"fenc/modes/serve"
	"fenc/modes/stats"
	"fenc/modes/systemd"
)

// passedSockets are those that systemd has opened for the server.
func passedSockets(s Streams) (systemd.Sockets, error) {
	if !s.OwnProcess {
		return systemd.Sockets{}, nil
	}
	return systemd.Take()
}

// listenForClients listens at listen, or takes the sockets that were passed for that.
func listenForClients(settings config.Server, sockets systemd.Sockets) (net.Listener, error) {
	if len(sockets.Serve) > 0 {
		return serve.Listeners(sockets.Serve...), nil
	}
	l, err := net.Listen("tcp", settings.Listen)
	if err != nil {
		return nil, explainListen(err, settings.Listen)
	}
	return l, nil
}

// alive is what systemd's watchdog wants to know. A database that is away comes back
// without this process being started anew.
func alive(server *serve.Server, a *archive.Archive) func(context.Context) error {
	return func(ctx context.Context) error {
		if a.Catalogue.Shared() {
			return server.Alive(ctx)
		}
		return errors.Join(server.Alive(ctx), a.Catalogue.Ping(ctx))
	}
}

// listenForMetrics listens at metrics_listen; nil where there is none. A socket that
// was passed for it goes before.
func listenForMetrics(settings config.Server, sockets systemd.Sockets) (net.Listener, error) {
	if sockets.Metrics != nil {
		return sockets.Metrics, nil
	}
	if settings.MetricsListen == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", config.LoopbackByDefault(settings.MetricsListen))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w: choose another address with metrics_listen in server.toml", err)
	}
	return l, nil
}

// newMonitor makes what tells of the server's state.
func newMonitor(a *archive.Archive, counts *stats.Stats, draining func() bool, log *slog.Logger) *monitor.Monitor {
	build := monitor.Build{Version: Version, Revision: strings.TrimPrefix(revision(), ", commit "), Go: runtime.Version()}
	return monitor.New(a, counts, draining, build, log)
}

// serveMetrics answers on l until ctx ends.
func serveMetrics(ctx context.Context, m *monitor.Monitor, l net.Listener, log *slog.Logger) {
	log.Info("metrics are served", "address", l.Addr().String())
	if !isLoopback(l.Addr()) {
		log.Warn("metrics are served beyond this machine: whoever reaches this address may read them", "address", l.Addr().String())
	}
	if err := m.Serve(ctx, l, log); err != nil {
		log.Error("metrics are served no more", "error", err)
	}
}

// answerCommands answers fenc's own commands on l until ctx ends.
func answerCommands(ctx context.Context, l net.Listener, counts *stats.Stats, m *monitor.Monitor, again *reloader, log *slog.Logger) {
	server := &control.Server{Sessions: counts.Sessions, Checks: m.Checks, Reload: again.reload}
	if err := server.Serve(ctx, l, log); err != nil {
		log.Error("fenc sessions, reload and health do not reach this server any more", "error", err)
	}
}
