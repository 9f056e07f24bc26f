package modes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/confine"
	"fenc/modes/serve"
	"fenc/modes/serve4"
	"fenc/wire"
	"fenc/wire/v3"
	"fenc/wire/v4"
)

func serveCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "receive files from registered clients",
		UsageText: "fenc serve [--config server.toml] [--listen ADDR] [--storage DIR] [--database DSN]",
		Description: `Receives files, keeps each client's apart in a folder of its own below the
storage, and catalogues them in the database. Works without any file:

   fenc serve

Example: serve a network, with files and catalogue on another disk:

   fenc serve --listen :1234 --storage /srv/fenc/files --database /srv/fenc/fenc.db

SIGINT or SIGTERM ends it: files under way may finish (shutdown_grace).`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "read settings from `FILE` (default: server.toml, where there is one)"},
			&cli.StringFlag{Name: "listen", Usage: "accept connections at `ADDR`, host:port (FENC_LISTEN; default: 127.0.0.1:1234)"},
			&cli.StringFlag{Name: "storage", Usage: "keep files in `DIR` (FENC_STORAGE; default: files)"},
			&cli.StringFlag{Name: "database", Usage: "keep the catalogue in `DSN`, the path of a SQLite file (FENC_DATABASE; default: fenc.db)"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			settings, source, err := config.LoadServer(c.String("config"))
			if err == nil {
				err = overridden(c, settings.Override, "listen", "storage", "database")
			}
			if err == nil {
				err = settings.Validate()
			}
			if err != nil {
				return &usageError{err}
			}
			log := newLog(s.Err, settings)
			if source.Path != "" {
				log.Info("configuration read", "file", source.Path)
			}
			if source.Path != "" {
				if err := keepApart("configuration", source.Path, settings.Storage); err != nil {
					return &usageError{fmt.Errorf("serve: %w", err)}
				}
			}
			if s.OwnProcess {
				limitMemory(log)
			}
			if err := runServer(c.Context, settings, confinement(s, settings, source, log), log); err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		},
	}
}

func newLog(w io.Writer, settings config.Server) *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(settings.LogLevel)) // validated
	o := &slog.HandlerOptions{Level: level}
	if settings.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// limitMemory has the process keep to the memory that it may have, and says so.
func limitMemory(log *slog.Logger) {
	limit, source, err := confine.Memory()
	switch {
	case err != nil:
		log.Warn("memory not limited", "error", err)
	case limit == 0:
		log.Info("memory not limited", "from", source)
	default:
		log.Info("memory limited", "bytes", limit, "from", source)
	}
}

// confinement returns what holds the process to the server's own files, once it
// has opened what else it needs: the key, and what listening takes.
func confinement(s Streams, settings config.Server, source config.Source, log *slog.Logger) func() {
	if !s.OwnProcess {
		return func() {}
	}
	if !settings.Confine {
		return func() {
			log.Warn("not confined: the server may open whatever its user may", "reason", "confine = false")
		}
	}
	return func() {
		allowed := confine.Allowed{Write: []string{resolved(settings.Storage), filepath.Dir(resolved(settings.Database))}}
		if info, err := os.Stat(resolved(source.Path)); source.Path != "" && err == nil && info.Mode().IsRegular() { // and no pipe
			allowed.Read = []string{resolved(source.Path)}
		}
		held, err := confine.Files(allowed)
		if err != nil {
			log.Warn("not confined: the server may open whatever its user may", "reason", err)
			return
		}
		log.Info(fmt.Sprintf("confined by Landlock ABI %d", held.ABI), "writes_below", allowed.Write, "reads", allowed.Read,
			"may_connect", !held.Connecting, "may_truncate_elsewhere", !held.Truncating)
	}
}

// runServer opens what the server keeps, confines itself, and serves until ctx
// ends.
func runServer(ctx context.Context, settings config.Server, confine func(), log *slog.Logger) (err error) {
	if err := keepApart("database", settings.Database, settings.Storage); err != nil {
		return &usageError{err}
	}
	if err := keepApart("key", settings.KeyPath(), settings.Storage); err != nil {
		return &usageError{err}
	}
	kept, err := openArchive(settings, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	l, err := net.Listen("tcp", settings.Listen)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --listen or listen in server.toml", err)
	}
	protocols := settings.ServedProtocols(isLoopback(l.Addr()))
	attributes := []any{"address", l.Addr().String(), "protocols", protocols, "registration", settings.Registration,
		"storage", settings.Storage, "database", settings.Database}
	bounds := model.Bounds{Uploads: settings.MaxOpenUploads, Files: settings.MaxClientFiles, Bytes: int64(settings.MaxClientSize)}
	kept.Bounds, kept.KeepPartial = bounds, time.Duration(settings.KeepPartial)
	var protocol4 *serve4.Settings
	if slices.Contains(protocols, v4.Version) {
		identity, err := serverIdentity(settings.KeyPath(), kept.Catalogue, log)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		attributes = append(attributes, "server_key", identity.Fingerprint().String())
		protocol4 = &serve4.Settings{
			Identity: identity, RequirePQ: settings.RequirePQ, Registration: registrations[settings.Registration],
			MaxFileSize: int64(settings.MaxFileSize), Bounds: bounds, Software: software(),
		}
		if err := kept.Catalogue.SetAddress(l.Addr().String()); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	confine()
	log.Info("listening", attributes...)
	if !isLoopback(l.Addr()) {
		warnBeyondLoopback(settings, protocols, log)
	}
	upkeepCtx, stopUpkeep := context.WithCancel(context.WithoutCancel(ctx))
	var upkeep sync.WaitGroup
	server := serve.New(kept, serve.Settings{
		MaxSessions:   settings.MaxSessions,
		IdleTimeout:   time.Duration(settings.IdleTimeout),
		ShutdownGrace: time.Duration(settings.ShutdownGrace),
		MaxFileSize:   int64(settings.MaxFileSize),
		MaxPerAddress: settings.MaxSessionsPerAddress,
		Protocol3:     slices.Contains(protocols, v3.Version),
		Registration3: settings.Registration == "open",
		Protocol4:     protocol4,
	}, log)
	upkeep.Go(func() { kept.Run(upkeepCtx) })
	upkeep.Go(func() { watchClients(upkeepCtx, kept.Catalogue, server, log) })
	err = server.Serve(ctx, l)
	stopUpkeep()
	upkeep.Wait()
	if err == nil {
		log.Info("stopped")
	}
	return err
}

var registrations = map[string]model.Registration{
	"open": model.RegistrationOpen, "invite": model.RegistrationInvite, "closed": model.RegistrationClosed,
}

// watchEvery is how soon the server notices what fenc clients and fenc invite
// have changed.
const watchEvery = 500 * time.Millisecond

// watchClients has the server follow operators' changes until ctx ends.
func watchClients(ctx context.Context, catalogue *model.Catalogue, server *serve.Server, log *slog.Logger) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := catalogue.Reload()
		if err != nil && !failing && ctx.Err() == nil {
			log.Error("changes of clients are not seen for now", "error", err)
		}
		failing = err != nil
		for _, id := range changed {
			if client, ok := catalogue.Client(id); ok {
				log.Info("client changed", "client", wire.Printable(client.Name), "rights", client.Rights.String(), "quota", client.Quota, "revoked", !client.RevokedAt.IsZero())
			}
		}
		server.Recheck(changed)
	}
}

// warnBeyondLoopback says what the settings mean where others can reach them.
func warnBeyondLoopback(settings config.Server, protocols []int, log *slog.Logger) {
	if slices.Contains(protocols, v3.Version) {
		log.Warn("protocol 3 is served beyond this machine: it authenticates neither side and its encryption can be undone by whoever sits on the line")
	}
	if settings.Registration == "open" {
		log.Warn(`registration is open beyond this machine: whoever reaches this address may register and send; registration = "invite" in server.toml ends that`)
	}
}

// serverIdentity reads the server's key, and makes one where there is none yet.
// Where clients know a key that is gone, a new one would look to them like an
// attack.
func serverIdentity(path string, catalogue *model.Catalogue, log *slog.Logger) (v4.Identity, error) {
	text, err := config.LoadServerKey(path)
	if err == nil {
		identity, err := v4.ParseIdentity(text.Reveal())
		if err != nil {
			return v4.Identity{}, fmt.Errorf("%s: %w", path, err)
		}
		return identity, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return v4.Identity{}, &usageError{err}
	}
	clients, err := catalogue.Clients()
	if err != nil {
		return v4.Identity{}, err
	}
	for _, client := range clients {
		if client.Client.Protocol >= v4.Version {
			return v4.Identity{}, &usageError{fmt.Errorf("%s: the server's private key is not there, and clients know its fingerprint: restore it from a backup, or set key in server.toml to where it is", path)}
		}
	}
	identity, err := v4.NewIdentity()
	if err != nil {
		return v4.Identity{}, err
	}
	if err := config.WriteServerKey(path, config.Secret(identity.Text())); err != nil {
		return v4.Identity{}, err
	}
	log.Info("server key made: keep a copy, its fingerprint is what clients trust", "file", path, "fingerprint", identity.Fingerprint().String())
	return identity, nil
}

// openArchive opens storage and catalogue.
func openArchive(settings config.Server, log *slog.Logger) (*archive.Archive, error) {
	store, err := storage.OpenFolder(settings.Storage)
	if err != nil {
		return nil, explainPermission(err)
	}
	var options model.Options
	if store.Folds() {
		options.Fold = model.Fold
	}
	catalogue, err := model.Open(settings.Database, options)
	if err != nil {
		return nil, errors.Join(explainPermission(err), store.Close())
	}
	kept, err := archive.Open(catalogue, store, log)
	if err != nil {
		return nil, errors.Join(err, catalogue.Close(), store.Close())
	}
	return kept, nil
}

// explainPermission names the user when the file system says no.
func explainPermission(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: fenc runs as user %d, which needs read and write access there", err, os.Getuid())
	}
	return err
}

// keepApart refuses a database or a key inside the storage, where every tool that
// copies or shares the files would copy or share the catalogue and the keys.
func keepApart(what, path, store string) error {
	rel, err := filepath.Rel(resolved(store), resolved(path))
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return nil
	}
	return fmt.Errorf("%s %s lies inside the storage %s: keep it elsewhere, since the storage is for clients' files alone", what, path, store)
}

// resolved is path, absolute and without links as far as it exists.
func resolved(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	parent := filepath.Dir(path)
	if parent == path {
		return path
	}
	return filepath.Join(resolved(parent), filepath.Base(path))
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
