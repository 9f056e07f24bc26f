// Package systemd is the server's side of what systemd offers a service: sockets
// that are open before it starts, and being told how it gets on
// (systemd.socket(5), sd_listen_fds(3), sd_notify(3)). Under anything else all of
// it does nothing.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Sockets are those that systemd has opened for the service.
type Sockets struct {
	Serve   []net.Listener // for clients: of any other name
	Metrics net.Listener   // FileDescriptorName=metrics; nil: none
	Status  net.Listener   // FileDescriptorName=status; nil: none
}

// Take takes over the sockets that were passed. It does so once in a process, and
// before it starts others, which must not have them.
func Take() (Sockets, error) {
	var s Sockets
	named, err := activation.ListenersWithNames()
	if err != nil {
		return s, fmt.Errorf("sockets of systemd: %w", err)
	}
	for name, listeners := range named {
		for _, l := range listeners {
			switch {
			case l == nil:
				err = fmt.Errorf("socket %q of systemd takes no connections: write ListenStream= in its unit", name)
			case name == "metrics" && s.Metrics == nil:
				s.Metrics = l
			case name == "status" && s.Status == nil:
				s.Status = l
			case name == "metrics" || name == "status":
				err = fmt.Errorf("two sockets of systemd are named %q", name)
			default:
				s.Serve = append(s.Serve, l)
			}
		}
	}
	return s, err
}

// Notifier tells systemd how the service gets on.
type Notifier struct {
	Log *slog.Logger // where it is written that systemd cannot be told
}

// Ready says that the service works; status is shown by systemctl.
func (n Notifier) Ready(status string) { n.tell(daemon.SdNotifyReady, "STATUS="+status) }

// Reloading says that the settings are being read again. Ready must follow.
func (n Notifier) Reloading() { n.tell(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec()) }

// Stopping says that the service is about to end.
func (n Notifier) Stopping(status string) { n.tell(daemon.SdNotifyStopping, "STATUS="+status) }

func (n Notifier) tell(states ...string) {
	// One line each: what an error says may have more.
	for i, state := range states {
		states[i] = strings.ReplaceAll(strings.TrimSpace(state), "\n", "; ")
	}
	if _, err := daemon.SdNotify(false, strings.Join(states, "\n")); err != nil {
		n.Log.Warn("systemd is not told how the server gets on", "error", err)
	}
}

// Watch tells systemd that the service is alive, as often as its watchdog wants to
// hear it, until ctx ends; only while alive returns nil, which it does in half of the
// watchdog's time or is not believed. Without a watchdog it returns at once.
func (n Notifier) Watch(ctx context.Context, alive func(context.Context) error) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.Log.Warn("systemd's watchdog is not told that the server is alive", "error", err)
	}
	if limit == 0 {
		return
	}
	tick := time.NewTicker(limit / 4)
	defer tick.Stop()
	for {
		look, cancel := context.WithTimeout(ctx, limit/2)
		err := alive(look)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			n.Log.Error("systemd's watchdog is not told that the server is alive", "reason", err)
		default:
			n.tell(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
