package modes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/modes/send"
	"fenc/modes/send3"
	"fenc/wire"
	"fenc/wire/v3"
)

func sendCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "send",
		Usage:     "send files to a server and have each verified",
		ArgsUsage: "FILE...",
		UsageText: "fenc send [--config transfer.toml] [--me me.toml] [--server ADDR] [--name NAME] [--protocol 3] [FILE...]",
		Description: `Sends each FILE (- is standard input), or the files of transfer.toml where none
is named, and prints a line for each: name, bytes, seconds, checksum, and
verified or why not. The first contact registers NAME and writes me.toml, which
is who you are to that server from then on: keep it secret, and keep a copy.

   fenc send --server files.example.org:1234 --name grace report.pdf

Exit status: 0 all verified, 1 a transfer failed, 2 wrong usage or
configuration, 3 refused by the server, 130 interrupted.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "read settings from `FILE` (default: transfer.toml, where there is one)"},
			&cli.StringFlag{Name: "me", Usage: "identity `FILE`; written if it does not exist (FENC_ME; default: me.toml)"},
			&cli.StringFlag{Name: "server", Usage: "send to `ADDR`, host:port (FENC_SERVER; default: 127.0.0.1:1234)"},
			&cli.StringFlag{Name: "name", Usage: "register as `NAME` (FENC_NAME; default: you@this-machine)"},
			&cli.StringFlag{Name: "protocol", Usage: "speak this `VERSION`; only 3 for now (FENC_PROTOCOL)"},
			&cli.StringFlag{Name: "as", Usage: "call the one FILE `NAME` at the server (default: its own name; stdin for -)"},
		},
		Action: func(c *cli.Context) error {
			if err := checkOptionsFirst(c); err != nil {
				return err
			}
			settings, source, err := config.LoadTransfer(c.String("config"))
			if err == nil {
				err = overridden(c, settings.Override, "me", "server", "name", "protocol")
			}
			if err == nil && c.Args().Present() {
				err = settings.Override("files", c.Args().Slice()...)
			}
			if err == nil {
				err = settings.Validate()
			}
			if err != nil {
				return &usageError{err}
			}
			if err := runSend(c.Context, s, settings, source, c.String("as")); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			return nil
		},
	}
}

// runSend opens the identity and the files, sends, and prints a line for each.
func runSend(ctx context.Context, s Streams, settings config.Transfer, source config.Source, as string) error {
	if len(settings.Files) == 0 {
		return usagef("nothing to send: name a FILE, or set files in transfer.toml")
	}
	names, err := sentNames(settings.Files, as)
	if err != nil {
		return &usageError{err}
	}
	mePath, known := config.System().MePath(settings.Me, source)
	var me send3.Identity
	if known {
		me, err = loadIdentity(mePath, settings.Name)
	} else {
		me.Name, err = registrationName(settings.Name)
	}
	if err != nil {
		return &usageError{err}
	}

	tally := &tally{out: s.Out}
	var sources []*send.Source
	for i, path := range settings.Files {
		src, err := openSource(ctx, path, names[i], s.In)
		if err != nil {
			tally.report(send.Result{Name: path, Err: err})
			continue
		}
		defer src.Close()
		sources = append(sources, src)
	}
	if len(sources) == 0 {
		return tally.err(ctx)
	}
	to := send3.Settings{
		Server:         settings.Server,
		ConnectTimeout: time.Duration(settings.ConnectTimeout),
		Timeout:        time.Duration(settings.Timeout),
		Attempts:       settings.Attempts,
	}
	var first *send3.Session
	if !known {
		if first, me, err = register(ctx, to, mePath, me.Name, s.Err); err != nil {
			for _, src := range sources {
				tally.report(send.Result{Name: src.Name, Size: src.Size(), Err: err})
			}
			return hintAtDefaults(err, settings, source)
		}
	}
	if err := send3.Run(ctx, to, me, first, sources, tally.report); err != nil {
		return hintAtDefaults(err, settings, source)
	}
	return tally.err(ctx)
}

// sentNames gives each path the name it is sent under. Two files of one name
// would replace each other at the server.
func sentNames(paths []string, as string) ([]string, error) {
	if as != "" && len(paths) > 1 {
		return nil, fmt.Errorf("--as %q names one file, and there are %d", as, len(paths))
	}
	names, of := make([]string, len(paths)), make(map[string]string)
	for i, path := range paths {
		name := send.BaseName(path)
		if path == "-" {
			name = "stdin"
		}
		names[i] = cmp.Or(as, name)
		if other, twice := of[names[i]]; twice {
			return nil, fmt.Errorf("%s and %s would both be %q at the server and replace each other: send them one by one, one with --as", other, path, names[i])
		}
		of[names[i]] = path
		if _, err := v3.NewName(names[i]); err != nil {
			return nil, fmt.Errorf("%s: protocol 3 cannot carry this name: %w; choose a shorter one with --as", path, err)
		}
	}
	return names, nil
}

func openSource(ctx context.Context, path, name string, stdin io.Reader) (*send.Source, error) {
	if path == "-" {
		return send.Spool(ctx, stdin, name, v3.MaxFileSize)
	}
	src, err := send.NewSource(path, name)
	if err != nil {
		return nil, err
	}
	return src, send3.CheckSize(src)
}

// loadIdentity reads me.toml. A name that was asked for must be its name.
func loadIdentity(path, name string) (send3.Identity, error) {
	me, err := config.LoadMe(path)
	if err != nil {
		return send3.Identity{}, err
	}
	if name != "" && name != me.Name {
		return send3.Identity{}, fmt.Errorf("the name %q is asked for and %s is of %q: drop the name, or use --me with another file to register it", name, path, me.Name)
	}
	id, err := v3.ParseClientID(me.ID)
	if err != nil {
		return send3.Identity{}, fmt.Errorf("%s: %w", path, err)
	}
	key, err := v3.ParsePrivateKey(me.PrivateKey.Reveal())
	if err != nil {
		return send3.Identity{}, fmt.Errorf("%s: private_key: %w", path, err)
	}
	return send3.Identity{Name: me.Name, ID: id, Key: key}, nil
}

// registrationName is the name to register: the one asked for, or user@host.
func registrationName(name string) (string, error) {
	if name == "" {
		u, err := user.Current()
		host, hostErr := os.Hostname()
		if err := errors.Join(err, hostErr); err != nil {
			return "", fmt.Errorf("no name to register under: give one with --name (%w)", err)
		}
		name = u.Username + "@" + host
	}
	if err := wire.CheckName(name); err != nil {
		return "", fmt.Errorf("cannot register: %w: choose another with --name", err)
	}
	return name, nil
}

// register makes a key, takes the name at the server and writes me.toml. The key
// is on the disk before the server hears of it, the id before anything is sent
// under it.
func register(ctx context.Context, to send3.Settings, mePath, name string, notice io.Writer) (_ *send3.Session, me send3.Identity, err error) {
	me.Name = name
	if me.Key, err = v3.GenerateKey(); err != nil {
		return nil, me, fmt.Errorf("make a key: %w", err)
	}
	key, err := v3.MarshalPrivateKey(me.Key)
	if err != nil {
		return nil, me, err
	}
	file, err := config.PrepareMe(mePath, config.Secret(key), name)
	if err != nil {
		return nil, me, &usageError{err}
	}
	defer func() { err = errors.Join(err, file.Discard()) }()
	s, err := send3.Connect(ctx, to)
	if err != nil {
		return nil, me, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if me.ID, err = s.Register(name); err != nil {
		return nil, me, err
	}
	if err = file.Commit(me.ID.String()); err != nil {
		return nil, me, err
	}
	fmt.Fprintf(notice, "fenc: registered as %q at %s; your identity is in %s: keep it secret, keep a copy\n", me.Name, to.Server, mePath)
	return s, me, s.AgreeKey(me)
}

// hintAtDefaults says where the server's address came from, when nobody chose it.
func hintAtDefaults(err error, settings config.Transfer, source config.Source) error {
	if source.Path == "" && settings.Server == config.DefaultTransfer().Server &&
		!errors.Is(err, send.ErrRefused) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w (the default address: no transfer.toml was found; --server names another)", err)
	}
	return err
}

// interrupted is a context.Canceled that says what it left undone.
type interrupted struct{ left error }

func (e *interrupted) Error() string { return "interrupted: " + e.left.Error() }
func (e *interrupted) Unwrap() error { return context.Canceled }

// tally prints results and counts them.
type tally struct {
	out           io.Writer
	files, failed int
	last          error
}

func (t *tally) report(r send.Result) {
	t.files++
	if r.Err != nil {
		t.failed++
		t.last = r.Err
	}
	r.Print(t.out, wire.Printable)
}

// err is the error for the whole, nil if every file was verified.
func (t *tally) err(ctx context.Context) error {
	switch {
	case t.failed == 0:
		return nil
	case ctx.Err() != nil:
		return &interrupted{fmt.Errorf("%d of %d files not verified", t.failed, t.files)}
	case t.files == 1 && errors.Is(t.last, send.ErrRefused):
		return send.ErrRefused
	}
	return fmt.Errorf("%d of %d files not verified", t.failed, t.files)
}
