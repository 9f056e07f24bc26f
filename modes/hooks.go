package modes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
	"fenc/modes/archive"
	"fenc/modes/hooks"
	"fenc/modes/stats"
	"fenc/wire"
)

// hookRunnerCommand is the process that fenc serve starts for hooks.
func hookRunnerCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name: hooks.RunnerCommand, Usage: "run hooks for fenc serve, which starts it", Hidden: true,
		Action: func(*cli.Context) error {
			if s.OwnProcess {
				// It ends with the server, which hears them too. They are not ignored, for what
				// it runs would ignore them as well.
				signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			}
			if err := hooks.Run(s.In, s.Out); err != nil {
				return fmt.Errorf("%s: %w", hooks.RunnerCommand, err)
			}
			return nil
		},
	}
}

// outside is what the server has done by another process, since it may not do it
// itself.
type outside struct {
	config hooks.Config
	runner *hooks.Runner // nil: there is nothing to do
}

// startOutside starts the process that runs hooks, if any are configured, before
// the server opens anything.
func startOutside(s Streams, settings config.Server, log *slog.Logger) (outside, error) {
	c, err := hooksConfig(settings, log)
	if err != nil || !c.Needed() {
		return outside{}, err
	}
	runner, err := hooks.Start(c, !s.OwnProcess)
	if err != nil {
		return outside{}, err
	}
	log.Info("hooks run in a process of their own, which is not confined", "hook_command", c.Hook, "gate_command", c.Gate, "webhook", hostOf(c.URL))
	return outside{c, runner}, nil
}

func hooksConfig(settings config.Server, log *slog.Logger) (hooks.Config, error) {
	c := hooks.Config{
		URL: settings.WebhookURL, HookTimeout: time.Duration(settings.HookTimeout), GateTimeout: time.Duration(settings.GateTimeout),
		Software: software(),
	}
	var err error
	if !settings.InBuckets() {
		c.Storage = resolved(settings.Storage)
	} else if len(settings.GateCommand) > 0 {
		if c.Buckets, err = bucketOptions(settings); err != nil {
			return c, &usageError{err}
		}
	}
	if c.Hook, err = found("hook_command", settings.HookCommand); err != nil {
		return c, err
	}
	if c.Gate, err = found("gate_command", settings.GateCommand); err != nil {
		return c, err
	}
	if c.URL == "" {
		return c, nil
	}
	secret, err := config.LoadWebhookSecret(settings.WebhookSecretFile)
	if err != nil {
		return c, &usageError{fmt.Errorf("webhook_secret_file: %w", err)}
	}
	if c.Secret, err = secret.WebhookKey(); err != nil {
		return c, err
	}
	if u, err := url.Parse(c.URL); err == nil && u.Scheme == "http" && !onThisMachine(u.Hostname()) {
		log.Warn("webhook_url is not encrypted: whoever sits on the line reads the names of files", "webhook", hostOf(c.URL))
	}
	return c, nil
}

// hostOf is what a log may show of an address, whose path may be a secret.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// found returns a command with the path of its program.
func found(key string, argv []string) ([]string, error) {
	if len(argv) == 0 {
		return nil, nil
	}
	path, err := exec.LookPath(argv[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		var at *exec.Error
		if errors.As(err, &at) {
			err = at.Err
		}
		return nil, &usageError{fmt.Errorf("%s: %s: %w; name a program that may be run, by its path or as it is found in PATH", key, argv[0], err)}
	}
	return append([]string{path}, argv[1:]...), nil
}

// deliver has events delivered until ctx ends.
func (o outside) deliver(ctx context.Context, settings config.Server, kept *archive.Archive, counted *stats.Stats, log *slog.Logger) {
	if left, err := kept.Catalogue.EventsOutside(); err == nil {
		for destination, n := range left {
			log.Warn("events wait for a destination that is not configured any more: fenc events drop --to forgets them", "destination", destination, "events", n)
		}
	}
	var all sync.WaitGroup
	for _, destination := range o.config.Destinations() {
		d := hooks.Delivery{
			Destination: destination, Catalogue: kept.Catalogue, Runner: o.runner, Shown: kept.Shown,
			AtOnce: settings.HookParallel, RetryFor: time.Duration(settings.HookRetryFor), Log: log, Stats: counted,
		}
		all.Go(func() { d.Run(ctx) })
	}
	all.Wait()
}

// gate is what says whether content may become a file; nil: all may.
func (o outside) gate(log *slog.Logger) archive.Gate {
	if len(o.config.Gate) == 0 {
		return nil
	}
	return func(ctx context.Context, u model.Upload, client string) error {
		begun := time.Now()
		verdict, answer, err := o.runner.Gate(ctx, hooks.Question(u, client))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log := log.With("client", wire.Printable(client), "file", wire.Printable(u.FileName), "bytes", u.Size, "seconds", time.Since(begun).Seconds())
		if answer.Output != "" {
			log = log.With("output", wire.Printable(answer.Output))
		}
		switch verdict {
		case hooks.Yes:
			log.Info("gate", "verdict", "yes")
			return nil
		case hooks.No:
			log.Warn("gate", "verdict", "no")
			return archive.ErrGateRefused
		}
		if err == nil {
			err = answer.Err()
		}
		log.Error("gate", "verdict", "none", "reason", wire.Printable(err.Error()))
		return archive.ErrGateUnavailable
	}
}

// watch has lost called when the other process ends by itself: without it, the server
// cannot do what it is configured to.
func (o outside) watch(ctx context.Context, lost func(error)) {
	if o.runner == nil {
		return
	}
	go func() {
		select {
		case <-o.runner.Done():
			lost(hooks.ErrEnded)
		case <-ctx.Done():
		}
	}()
}

// end ends the other process; err is what the server ended with.
func (o outside) end(err error) error {
	if o.runner == nil {
		return err
	}
	closed := o.runner.Close()
	if errors.Is(err, hooks.ErrEnded) && closed != nil {
		return fmt.Errorf("%w: %w", err, closed) // what it ended with
	}
	return errors.Join(err, closed)
}
