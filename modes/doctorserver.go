package modes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/control"
	"fenc/modes/session4"
	"fenc/modes/systemd"
	"fenc/wire/v3"
	"fenc/wire/v4"
)

// Space under which a server is soon of no use, in bytes.
const (
	littleSpace = 1 << 30
	noSpace     = 64 << 20
)

// server checks what fenc serve would use.
func (d *doctor) server(c *cli.Context) {
	settings, source, err := config.LoadServer(c.String("config"))
	if err == nil {
		err = overridden(c, settings.Override, "listen", "storage", "database")
	}
	if err == nil {
		err = settings.Validate()
	}
	if err == nil {
		err = keepDatabaseApart(settings)
	}
	if err == nil {
		err = keepApart("key", settings.KeyPath(), settings.Storage)
	}
	if err == nil && source.Path != "" {
		err = keepApart("configuration", source.Path, settings.Storage)
	}
	if err != nil {
		d.fail("settings", err, "")
		return
	}
	if source.Path == "" {
		d.ok("settings", "no server.toml: all is as it is by default")
	} else {
		d.ok("settings", "%s", source.Path)
	}
	d.environment(settings.Origin)
	running, told := d.storage(settings)
	clients, catalogue := d.database(settings)
	if catalogue != nil {
		defer catalogue.Close()
		d.belongs(settings, catalogue)
	}
	key := d.serverKey(settings, clients)
	if told {
		d.listening(c.Context, settings, catalogue, running, key)
	} else {
		d.note("listen", "whether a server runs on this storage is not for this user to see", "run fenc doctor as the user that fenc serve runs as")
	}
	d.outside(settings)
	d.exposure(settings, catalogue)
}

// storage looks at the storage, and reports whether a server has it, where this user
// is told.
func (d *doctor) storage(settings config.Server) (served, told bool) {
	if settings.InBuckets() {
		return d.buckets(settings)
	}
	path := settings.Storage
	entries, err := os.ReadDir(path)
	if missing := errors.Is(err, fs.ErrNotExist); missing || err == nil && len(entries) == 0 {
		there := "there is no " + path
		if !missing {
			there = path + " is empty"
		}
		if !settings.InPostgres() && exists(settings.Database) {
			d.fail("storage", fmt.Errorf("%s, and there is a database", there), "is the disk mounted? storage in server.toml, or --storage, says where it is")
		} else {
			d.note("storage", there+" yet", "fenc serve makes it at its first start")
		}
		return false, true
	}
	store, err := storage.OpenBeside(path)
	if err != nil {
		d.fail("storage", explainStorage(err, path), "storage in server.toml, or --storage, says where it is")
		return false, !errors.Is(err, fs.ErrPermission)
	}
	defer store.Close()
	info, err := os.Stat(path)
	if err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		d.fail("storage", fmt.Errorf("%s has mode %04o, so others could change what is verified", path, info.Mode().Perm()), "chmod go-w "+path)
	} else if err == nil {
		d.ok("storage", "%s, mode %04o", path, info.Mode().Perm())
	}
	switch free, err := store.Free(); {
	case err != nil:
		d.fail("space", err, "")
	case free == math.MaxInt64: // this system does not tell
	case free < noSpace:
		d.fail("space", fmt.Errorf("%s free on the disk of %s", humanize.IBytes(uint64(free)), path), "make room: uploads are refused")
	case free < littleSpace:
		d.note("space", fmt.Sprintf("%s free on the disk of %s", humanize.IBytes(uint64(free)), path), "make room soon")
	default:
		d.ok("space", "%s free on the disk of %s", humanize.IBytes(uint64(free)), path)
	}
	served, err = storage.Served(path)
	if err != nil {
		d.fail("storage", explainStorage(err, path), "")
	}
	return served, err == nil
}

// belongs looks whether the storage is the catalogue's. One that cannot be opened has
// been told of.
func (d *doctor) belongs(settings config.Server, catalogue *model.Catalogue) {
	if settings.InBuckets() {
		return
	}
	store, err := storage.OpenBeside(settings.Storage)
	if err != nil {
		return
	}
	defer store.Close()
	is, remedy, err := foreign(settings, catalogue, store)
	if err != nil {
		d.fail("storage", explainStorage(err, settings.Storage), "")
	} else if is != nil {
		d.fail("storage", is, remedy)
	}
}

// buckets looks whether the buckets are reached, and reports whether a server with
// this database runs, where this user is told.
func (d *doctor) buckets(settings config.Server) (served, told bool) {
	store, err := bucketsOf(settings, nil)
	if err == nil {
		err = errors.Join(store.Reach(), store.Close())
	}
	if err != nil {
		d.fail("storage", err, "endpoint, credentials and buckets stand in storage and [s3] of server.toml")
	} else {
		d.ok("storage", "%s is reached; fenc serve looks at its start whether the store does what is needed", store)
	}
	if settings.S3.Plain() {
		d.note("storage", "the S3 store is reached without encryption: whoever sits on the line reads what clients have sent", "an endpoint with https:// ends that")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = control.Dial(settings.ControlPath()).Health(ctx)
	return !errors.Is(err, control.ErrNotRunning), !errors.Is(err, fs.ErrPermission)
}

// database looks at the catalogue, which it returns open.
func (d *doctor) database(settings config.Server) (clients []model.ClientUse, _ *model.Catalogue) {
	path := settings.Database
	var info fs.FileInfo
	var err error
	if !settings.InPostgres() {
		info, err = os.Stat(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if entries, err := os.ReadDir(settings.Storage); err == nil && len(entries) > 0 {
			d.fail("database", fmt.Errorf("there is no %s, and there is a storage", path), "restore it from a backup, or make it anew with fenc check --rebuild")
		} else {
			d.note("database", fmt.Sprintf("there is no %s yet", path), "fenc serve makes it at its first start")
		}
		return nil, nil
	}
	var catalogue *model.Catalogue
	if err == nil {
		catalogue, err = openCatalogue(settings, model.Options{ReadOnly: true})
	}
	if err == nil {
		clients, err = catalogue.Clients()
		if err != nil {
			err = errors.Join(err, catalogue.Close())
		}
	}
	if errors.Is(err, model.ErrNoCatalogue) {
		d.note("database", "there is no catalogue in "+model.DatabaseName(path)+" yet", "fenc migrate makes it, or the first start of fenc serve")
		return nil, nil
	}
	if err != nil {
		d.fail("database", explainDatabase(err, path), "")
		return nil, nil
	}
	if info != nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		d.fail("database", fmt.Errorf("%s has mode %04o, so others may read it", path, info.Mode().Perm()), "chmod 600 "+path)
	}
	var files, bytes int64
	var seen time.Time
	for _, u := range clients {
		files, bytes = files+u.Files, bytes+u.Bytes
		for _, t := range []time.Time{u.Client.LastSeen.Time, u.Client.RegisteredAt.Time} {
			if t.After(seen) {
				seen = t
			}
		}
	}
	d.ok("database", "%s opens: %s, %s of %s", model.DatabaseName(path),
		english.Plural(len(clients), "client", ""), inFiles(files), humanize.IBytes(uint64(bytes)))
	d.doubts(catalogue)
	d.clock(seen, "a client was seen")
	return clients, catalogue
}

// doubts says what speaks against trusting a database of other machines.
func (d *doctor) doubts(catalogue *model.Catalogue) {
	doubts, err := catalogue.Doubts(context.Background())
	if err != nil {
		d.note("database", err.Error(), "its user may not see how it is set up")
	}
	for _, doubt := range doubts {
		d.note("database", doubt, "")
	}
}

// serverKey looks at the server's key, and returns its fingerprint.
func (d *doctor) serverKey(settings config.Server, clients []model.ClientUse) (key v4.Fingerprint) {
	path := settings.KeyPath()
	text, err := config.LoadServerKey(path)
	var identity v4.Identity
	if err == nil {
		identity, err = v4.ParseIdentity(text.Reveal())
	}
	switch {
	case err == nil:
		key = identity.Fingerprint()
		d.ok("key", "%s: %s (is there a copy of it elsewhere?)", path, key)
	case !errors.Is(err, fs.ErrNotExist):
		d.fail("key", err, "")
	case slices.ContainsFunc(clients, func(u model.ClientUse) bool { return u.Client.Protocol >= v4.Version }):
		d.fail("key", fmt.Errorf("%s: the server's private key is not there, and clients know its fingerprint", path), "restore it from a backup, or set key in server.toml to where it is")
	default:
		d.note("key", fmt.Sprintf("there is no %s yet", path), "fenc serve makes it at its first start")
	}
	return key
}

// listening looks whether the server that runs is reached, or one that is started
// could listen.
func (d *doctor) listening(ctx context.Context, settings config.Server, catalogue *model.Catalogue, running bool, key v4.Fingerprint) {
	if !running {
		l, err := net.Listen("tcp", settings.Listen)
		if err != nil {
			d.fail("listen", explainListen(err, settings.Listen), "")
			return
		}
		defer l.Close() // until the others have been tried, which may be the same
		d.note("listen", fmt.Sprintf("no server runs on this storage; %s is free for one", settings.Listen), "fenc serve starts it")
		for _, listen := range []func(config.Server, systemd.Sockets) (net.Listener, error){listenForMetrics, listenForStatus} {
			if other, err := listen(settings, systemd.Sockets{}); err != nil {
				d.fail("listen", err, "")
			} else if other != nil {
				defer other.Close()
			}
		}
		return
	}
	address := settings.Listen
	if catalogue != nil {
		if at, err := catalogue.Address(); err == nil && at != "" {
			address = at
		}
	}
	if host, port, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
			address = net.JoinHostPort("localhost", port)
		}
	}
	if !slices.Contains(settings.ServedProtocols(true), v4.Version) {
		d.note("listen", "a server runs on this storage, of protocol 3 alone", "clients of protocol 4 are turned away")
		return
	}
	shown, err := probe(ctx, session4.Settings{Server: address, ConnectTimeout: 5 * time.Second, Timeout: 5 * time.Second})
	switch {
	case err != nil:
		d.fail("listen", fmt.Errorf("a server runs on this storage, and %w", err), "look into its log")
	case !key.IsZero() && shown != key:
		d.fail("listen", fmt.Errorf("what answers at %s has another key, %s", address, shown), "it is another server, or this one was given its key anew since it was started")
	default:
		d.ok("listen", "the server that runs answers at %s", address)
	}
}

// outside looks whether the server would find the programs and the secret that hooks
// and the gate take.
func (d *doctor) outside(settings config.Server) {
	c, err := hooksConfig(settings, slog.New(slog.DiscardHandler))
	switch {
	case err != nil:
		d.fail("hooks", err, "")
	case c.Needed():
		d.ok("hooks", "what hooks and the gate take is there")
	}
}

// exposure says what the settings mean for those who can reach the server.
func (d *doctor) exposure(settings config.Server, catalogue *model.Catalogue) {
	address, err := net.ResolveTCPAddr("tcp", settings.Listen)
	if err != nil || address.IP.IsLoopback() {
		return
	}
	if settings.Registration == "open" {
		d.note("access", "registration is open: whoever reaches this address may register and send", `registration = "invite" in server.toml ends that`)
	}
	if slices.Contains(settings.ServedProtocols(false), v3.Version) {
		d.note("access", "protocol 3 is served beyond this machine: whoever sits on the line can undo its encryption", "protocols = [4] in server.toml ends that")
	}
	if catalogue != nil {
		if _, err := inviteAddress(settings, catalogue); err != nil {
			d.note("invites", err.Error(), "")
		}
	}
}
