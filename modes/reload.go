package modes

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"fenc/config"
	"fenc/modes/control"
	"fenc/modes/stats"
	"fenc/modes/systemd"
)

// liveKeys are the settings that a running server takes over when it reads them
// again. All others need a restart. advertise is read by fenc invite alone.
var liveKeys = []string{
	"advertise", "require_pq", "registration", "max_file_size", "max_sessions", "max_sessions_per_address",
	"max_handshakes_per_address", "max_unadmitted", "max_open_uploads", "max_client_size", "max_client_files",
	"keep_partial", "keep_versions", "expire_after", "idle_timeout", "shutdown_grace", "log_level", "log_format",
}

// reloader reads the settings of a running server again.
type reloader struct {
	load   func() (config.Server, config.Source, error) // as at the start: file, environment, flags
	apply  func(config.Server)
	log    *slog.Logger
	stats  *stats.Stats
	notify systemd.Notifier

	mu   sync.Mutex
	held config.Server // what the server goes by
	from config.Source // where that was read
}

// reload reads the settings again and has the server follow those that it can
// follow. Where they are not well, nothing changes.
func (r *reloader) reload() (control.Reloaded, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notify.Reloading()
	fresh, source, err := r.load()
	if elsewhere := sameSource(r.from, source); elsewhere != nil {
		err = elsewhere // which also comes before what a confined server may not open
	}
	r.stats.Reloaded(err)
	if err != nil {
		r.notify.Ready("settings not read again: " + err.Error())
		r.log.Error("settings not read again: the old ones stay", "error", err)
		return control.Reloaded{}, err
	}
	done := control.Reloaded{Changed: []string{}, NeedRestart: []string{}}
	for _, key := range r.held.Changed(&fresh) {
		if slices.Contains(liveKeys, key) {
			done.Changed = append(done.Changed, key)
		} else {
			done.NeedRestart = append(done.NeedRestart, key)
		}
	}
	r.held.Take(&fresh, done.Changed)
	r.from = source
	r.apply(r.held)
	r.notify.Ready("settings read again")
	r.log.Info("settings read again", "changed", done.Changed)
	if len(done.NeedRestart) > 0 {
		r.log.Warn("settings differ that need a restart", "keys", done.NeedRestart)
	}
	return done, nil
}

// sameSource refuses settings that were read again elsewhere than before, or of a
// file that set some and sets none now: one that is gone, or that an editor is about to
// write, would have the server go by the defaults, open to everybody and without bounds.
func sameSource(before, now config.Source) error {
	switch {
	case before.Path == "":
		return nil
	case now.Path == "":
		return fmt.Errorf("%s: the settings were read there, and it is gone: put it back, or restart the server to go by the defaults", before.Path)
	case now.Path != before.Path:
		return fmt.Errorf("%s: the settings were read in %s before, and would be in this file now: see that the other is found again, or restart the server to go by this one", now.Path, before.Path)
	case now.Blank && !before.Blank:
		return fmt.Errorf("%s: no setting stands in it any more: read it again once it is written, or restart the server to go by the defaults", now.Path)
	}
	return nil
}

// onHangup reads the settings again at each SIGHUP until ctx ends.
func (r *reloader) onHangup(ctx context.Context, hangups <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			r.reload() // logs what comes of it
		}
	}
}

// hangups are the SIGHUPs that come from now on, to a process that is the server
// alone.
func hangups(s Streams) (<-chan os.Signal, func()) {
	came := make(chan os.Signal, 1)
	if s.OwnProcess {
		signal.Notify(came, syscall.SIGHUP)
	}
	return came, func() { signal.Stop(came) }
}

// rereadable is what must stay readable for the settings to be read again: the folder
// of their file, since one that is put in its place is another file, and that of the
// file that a link leads to. Of a folder that has all sorts of things (the root, one
// directly below it, somebody's home) it is the file alone.
func rereadable(path string) []string {
	info, err := os.Stat(path)
	if path == "" || err != nil || !info.Mode().IsRegular() { // a pipe is not read twice
		return nil
	}
	file := resolved(path)
	home, _ := os.UserHomeDir()
	var all []string
	for _, dir := range []string{resolved(filepath.Dir(path)), filepath.Dir(file)} {
		if parent := filepath.Dir(dir); parent == filepath.Dir(parent) || home != "" && dir == resolved(home) {
			dir = file
		}
		if !slices.Contains(all, dir) {
			all = append(all, dir)
		}
	}
	return all
}
