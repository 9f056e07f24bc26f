package modes

import (
	"context"
	"errors"
	"fmt"
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
	"fenc/modes/control"
	"fenc/modes/hooks"
	"fenc/modes/serve"
	"fenc/modes/serve4"
	"fenc/modes/stats"
	"fenc/modes/status"
	"fenc/modes/systemd"
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

SIGINT or SIGTERM ends it: files under way may finish (shutdown_grace). SIGHUP, as
fenc reload, has it read server.toml again.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "read settings from `FILE` (default: server.toml, where there is one)"},
			&cli.StringFlag{Name: "listen", Usage: "accept connections at `ADDR`, host:port (FENC_LISTEN; default: 127.0.0.1:1234)"},
			&cli.StringFlag{Name: "storage", Usage: "keep files in `DIR`, or in s3://BUCKET/PREFIX (FENC_STORAGE; default: files)"},
			&cli.StringFlag{Name: "database", Usage: "keep the catalogue in `DSN`, the path of a SQLite file or postgres://USER@HOST/NAME (FENC_DATABASE; default: fenc.db)"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			load := func() (config.Server, config.Source, error) {
				settings, source, err := config.LoadServer(c.String("config"))
				if err == nil {
					err = overridden(c, settings.Override, "listen", "storage", "database")
				}
				if err == nil {
					err = settings.Validate()
				}
				return settings, source, err
			}
			hangups, stop := hangups(s)
			defer stop()
			sockets, err := passedSockets(s)
			if err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			settings, source, err := load()
			if err != nil {
				return &usageError{err}
			}
			log := newLog(s.Err, settings.LogLevel, settings.LogFormat)
			if source.Path != "" {
				log.Info("configuration read", "file", source.Path)
			}
			if source.Path != "" {
				if err := keepApart("configuration", source.Path, settings.Storage); err != nil {
					return &usageError{fmt.Errorf("serve: %w", err)}
				}
			}
			if s.OwnProcess {
				limitMemory(log.Logger)
			}
			again := &reloader{held: settings, from: source, log: log.Logger, notify: systemd.Notifier{Log: log.Logger}, load: load}
			out, err := startOutside(s, settings, log.Logger)
			if err == nil {
				err = out.end(runServer(c.Context, launch{
					settings: settings, sockets: sockets, open: s.Storage, out: out, confine: confinement(s, settings, source, log.Logger),
					again: again, hangups: hangups, log: log,
				}))
			}
			if err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		},
	}
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
		allowed := confine.Allowed{Write: []string{resolved(settings.Home())}, Connect: slices.Concat(bucketPorts(settings), databasePorts(settings))}
		if !settings.InBuckets() {
			allowed.Write = slices.Insert(allowed.Write, 0, resolved(settings.Storage))
		}
		allowed.Read = rereadable(source.Path)
		held, err := confine.Files(allowed)
		if err != nil {
			log.Warn("not confined: the server may open whatever its user may", "reason", err)
			return
		}
		holds := []any{"writes_below", allowed.Write, "reads", allowed.Read, "may_connect", !held.Connecting, "may_truncate_elsewhere", !held.Truncating}
		if held.Connecting && len(allowed.Connect) > 0 {
			holds = append(holds, "but_to_ports", allowed.Connect)
		}
		log.Info(fmt.Sprintf("confined by Landlock ABI %d", held.ABI), holds...)
	}
}

// launch is what a server starts with.
type launch struct {
	settings config.Server
	sockets  systemd.Sockets // that were passed to it
	open     openStorage
	out      outside
	confine  func()
	again    *reloader
	hangups  <-chan os.Signal
	log      *logging
}

// runServer opens what the server keeps, confines itself, and serves until ctx
// ends.
func runServer(ctx context.Context, with launch) (err error) {
	settings, sockets, again, out, log := with.settings, with.sockets, with.again, with.out, with.log.Logger
	if err := keepDatabaseApart(settings); err != nil {
		return &usageError{err}
	}
	if err := keepApart("key", settings.KeyPath(), settings.Storage); err != nil {
		return &usageError{err}
	}
	kept, err := openArchive(ctx, settings, with.open, out, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	l, err := listenForClients(settings, sockets)
	if err != nil {
		return err
	}
	reached := !isLoopback(l.Addr()) || len(settings.ProxyProtocolFrom) > 0 // from beyond this machine
	protocols := settings.ServedProtocols(!reached)
	attributes := []any{"address", l.Addr().String(), "protocols", protocols, "registration", settings.Registration,
		"storage", settings.Storage, "database", model.DatabaseName(settings.Database)}
	warnOfDatabase(ctx, kept.Catalogue, log)
	kept.SetPolicy(policy(settings))
	fixed := serve.Settings{ProxyFrom: settings.ProxyPrefixes(), Protocol3: slices.Contains(protocols, v3.Version), Stats: stats.New()}
	var serverKey string
	if slices.Contains(protocols, v4.Version) {
		identity, err := serverIdentity(settings.KeyPath(), kept.Catalogue, log)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		serverKey = identity.Fingerprint().String()
		attributes = append(attributes, "server_key", serverKey)
		fixed.Protocol4 = &serve4.Settings{Identity: identity, Software: software()}
		if err := kept.Catalogue.SetAddress(l.Addr().String()); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	metrics, err := listenForMetrics(settings, sockets)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	statusAt, err := listenForStatus(settings, sockets)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	asked, err := control.Listen(settings.ControlPath())
	if err != nil {
		log.Warn("fenc sessions, reload and health do not reach this server", "reason", err)
	}
	with.confine()
	log.Info("listening", attributes...)
	if reached {
		warnBeyondLoopback(settings, protocols, log)
	}
	upkeepCtx, stopUpkeep := context.WithCancel(context.WithoutCancel(ctx))
	var upkeep sync.WaitGroup
	server := serve.New(kept, serveSettings(settings, fixed), log)
	again.stats, again.apply = fixed.Stats, func(settings config.Server) {
		with.log.configure(settings.LogLevel, settings.LogFormat)
		kept.SetPolicy(policy(settings))
		server.Configure(serveSettings(settings, fixed))
	}
	watch := newMonitor(kept, fixed.Stats, server.Stopping, log)
	if asked != nil {
		upkeep.Go(func() { answerCommands(upkeepCtx, asked, fixed.Stats, watch, again, log) })
	}
	upkeep.Go(func() { again.onHangup(upkeepCtx, with.hangups) })
	if metrics != nil {
		upkeep.Go(func() { serveMetrics(upkeepCtx, watch, metrics, log) })
	}
	if statusAt != nil {
		shown := status.View{Address: l.Addr().String(), Software: software(), ServerKey: serverKey, Protocols: protocols}
		upkeep.Go(func() { serveStatus(upkeepCtx, settings, statusView(shown, kept, fixed.Stats, watch), statusAt, log) })
	}
	upkeep.Go(func() { kept.Run(upkeepCtx) })
	upkeep.Go(func() { watchClients(upkeepCtx, kept.Catalogue, server, log) })
	upkeep.Go(func() { out.deliver(upkeepCtx, settings, kept, fixed.Stats, log) })
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	out.watch(upkeepCtx, lost)
	told := make(chan struct{})
	stopping := context.AfterFunc(ctx, func() {
		defer close(told)
		again.notify.Stopping("files under way may finish")
	})
	defer func() {
		if !stopping() { // the process must not end before systemd is told that it does
			<-told
		}
	}()
	upkeep.Go(func() { again.notify.Watch(upkeepCtx, alive(server, kept)) })
	again.notify.Ready("takes connections at " + l.Addr().String())
	err = server.Serve(ctx, l)
	stopUpkeep()
	upkeep.Wait()
	if errors.Is(context.Cause(ctx), hooks.ErrEnded) {
		err = errors.Join(err, hooks.ErrEnded)
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// serveSettings are the settings of a server, of which fixed do not change while it
// runs.
func serveSettings(c config.Server, fixed serve.Settings) serve.Settings {
	s := fixed
	s.MaxSessions, s.MaxPerAddress = c.MaxSessions, c.MaxSessionsPerAddress
	s.MaxUnadmitted, s.MaxHandshakes = c.MaxUnadmitted, c.MaxHandshakesPerAddress
	s.IdleTimeout, s.ShutdownGrace = time.Duration(c.IdleTimeout), time.Duration(c.ShutdownGrace)
	s.MaxFileSize, s.Registration3 = int64(c.MaxFileSize), c.Registration == "open"
	if fixed.Protocol4 != nil {
		of4 := *fixed.Protocol4
		of4.RequirePQ, of4.Registration = c.RequirePQ, registrations[c.Registration]
		of4.MaxFileSize, of4.Bounds = int64(c.MaxFileSize), policy(c).Bounds
		s.Protocol4 = &of4
	}
	return s
}

// policy is what the settings decide about clients' files.
func policy(c config.Server) archive.Policy {
	return archive.Policy{
		Bounds:    model.Bounds{Uploads: c.MaxOpenUploads, Files: c.MaxClientFiles, Bytes: int64(c.MaxClientSize)},
		Retention: retention(c),
	}
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
			if client, ok, err := catalogue.Client(id); err == nil && ok {
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

// retention is how long the server keeps content, of clients that have no times of
// their own.
func retention(settings config.Server) model.Retention {
	return model.Retention{
		KeepVersions: int64(settings.KeepVersions), ExpireAfter: time.Duration(settings.ExpireAfter), KeepPartial: time.Duration(settings.KeepPartial),
	}
}

// openStorage opens a server's storage.
type openStorage func(dir string) (*storage.Folder, error)

// openArchive opens storage and catalogue.
func openArchive(ctx context.Context, settings config.Server, open openStorage, out outside, log *slog.Logger) (*archive.Archive, error) {
	var store storage.Store
	options := model.Options{Sole: true}
	noted := new(tokens)
	if settings.InBuckets() {
		buckets, err := openBuckets(ctx, settings, noted, log)
		if err != nil {
			return nil, err
		}
		store = buckets
	} else {
		if open == nil {
			open = storage.OpenFolder
		}
		folder, err := open(settings.Storage)
		if err != nil {
			return nil, explainStorage(err, settings.Storage)
		}
		options.Fold = foldOf(folder)
		if err := refuseLost(settings, folder); err != nil {
			return nil, errors.Join(explainPermission(err, settings.Database), folder.Close())
		}
		store = folder
	}
	options.KeepVersions, options.Destinations = int64(settings.KeepVersions), out.config.Destinations()
	catalogue, err := openCatalogue(settings, options)
	if err != nil {
		return nil, errors.Join(explainDatabase(err, settings.Database), store.Close())
	}
	if err := explainUnfinished(catalogue.RefuseUnfinished(), settings); err != nil {
		return nil, errors.Join(err, catalogue.Close(), store.Close())
	}
	if folder, inFolder := store.(*storage.Folder); inFolder {
		if err := refuseForeign(settings, catalogue, folder); err != nil {
			return nil, errors.Join(err, catalogue.Close(), store.Close())
		}
	}
	noted.catalogue = catalogue
	kept, err := archive.OpenGated(catalogue, store, log, out.gate(log), settings.GateParallel)
	if err != nil {
		return nil, errors.Join(err, catalogue.Close(), store.Close())
	}
	return kept, nil
}

// keepApart refuses a database or a key inside the storage, where every tool that
// copies or shares the files would copy or share the catalogue and the keys.
func keepApart(what, path, store string) error {
	if config.AreBuckets(store) {
		return nil
	}
	rel, err := filepath.Rel(resolved(store), resolved(path))
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return nil
	}
	return fmt.Errorf("%s %s lies inside the storage %s: keep it elsewhere, since the storage is for clients' files alone", what, path, store)
}

// keepDatabaseApart refuses a database inside the storage.
func keepDatabaseApart(settings config.Server) error {
	if settings.InPostgres() {
		return nil
	}
	return keepApart("database", settings.Database, settings.Storage)
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
