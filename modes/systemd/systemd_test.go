//go:build unix

package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// The watchdog hears of the service only while it is alive.
func TestWatchTellsOnlyWhatIsTrue(t *testing.T) {
	at := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	t.Setenv("NOTIFY_SOCKET", at)
	t.Setenv("WATCHDOG_USEC", "4000")
	t.Setenv("WATCHDOG_PID", "")
	ctx, cancel := context.WithCancel(t.Context())
	n := Notifier{Log: slog.New(slog.DiscardHandler)}
	looks := 0
	n.Watch(ctx, func(look context.Context) error {
		if _, limited := look.Deadline(); !limited {
			t.Error("a look may take for ever")
		}
		switch looks++; looks {
		case 1, 3, 4:
			return errors.New("stuck")
		case 6:
			cancel()
		}
		return nil
	})
	n.Ready("after\nall") // what is read up to here is all that Watch has told
	var got []string
	for buf := make([]byte, 100); len(got) == 0 || got[len(got)-1] == "WATCHDOG=1"; {
		size, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(buf[:size]))
	}
	if len(got) != 3 || got[2] != "READY=1\nSTATUS=after; all" {
		t.Errorf("got %q, want the watchdog told twice, of looks 2 and 5", got)
	}
}

func TestWatchWithoutAWatchdogEnds(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	n := Notifier{Log: slog.New(slog.DiscardHandler)}
	n.Watch(t.Context(), func(context.Context) error {
		t.Error("nobody wants to know")
		return nil
	})
}
