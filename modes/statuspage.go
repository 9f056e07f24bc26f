package modes

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"fenc/config"
	"fenc/model"
	"fenc/modes/archive"
	"fenc/modes/monitor"
	"fenc/modes/stats"
	"fenc/modes/status"
	"fenc/modes/systemd"
)

// shownClients is how many clients the status page is told of.
const shownClients = 50

// listenForStatus listens at status_listen; nil where there is none. A socket that
// was passed for it goes before.
func listenForStatus(settings config.Server, sockets systemd.Sockets) (net.Listener, error) {
	if sockets.Status != nil {
		return sockets.Status, nil
	}
	if settings.StatusListen == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", config.LoopbackByDefault(settings.StatusListen))
	if err != nil {
		return nil, fmt.Errorf("status page: %w: choose another address with status_listen in server.toml", err)
	}
	return l, nil
}

// statusView returns what the status page shows of a server. fixed is the part
// that does not change while it runs.
func statusView(fixed status.View, a *archive.Archive, counts *stats.Stats, watch *monitor.Monitor) func() status.View {
	return func() status.View {
		v := fixed
		v.Since, v.Free = counts.Began, -1
		if free, ok := a.Space(); ok {
			v.Free = free
		}
		if text, ready := monitor.Report(watch.Checks(context.Background())); !ready {
			v.Trouble = trouble(text)
		}
		v.Sessions, v.Throughput = counts.Sessions(), counts.Throughput()
		v.Recent, v.Failures = counts.Recent(), counts.Failures()
		var newest []model.ClientUse
		newest, v.AllClients, _ = a.Catalogue.HeardLast(shownClients) // where that fails, the checks say so
		for _, c := range newest {
			v.Clients = append(v.Clients, status.Client{
				Name: c.Client.Name, LastSeen: c.Client.LastSeen.Time, Files: c.Files, Bytes: c.Bytes, Revoked: !c.Client.RevokedAt.IsZero(),
			})
		}
		return v
	}
}

// trouble is what a report of checks says of those that are not well.
func trouble(report string) string {
	var bad []string
	for line := range strings.Lines(report) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, ": ok") {
			bad = append(bad, line)
		}
	}
	return strings.Join(bad, "; ")
}

// serveStatus serves the status page on l until ctx ends.
func serveStatus(ctx context.Context, settings config.Server, view func() status.View, l net.Listener, log *slog.Logger) {
	log.Info("status page is served", "url", "http://"+l.Addr().String()+"/")
	if !isLoopback(l.Addr()) {
		log.Warn("the status page is served beyond this machine: whoever reaches this address may read names of clients and files", "address", l.Addr().String())
	}
	host, _, _ := net.SplitHostPort(settings.StatusListen) // validated
	if err := status.New(view).Serve(ctx, l, log, host); err != nil {
		log.Error("the status page is served no more", "error", err)
	}
}
