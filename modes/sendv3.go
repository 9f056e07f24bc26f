package modes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"fenc/config"
	"fenc/modes/send"
	"fenc/modes/send3"
	"fenc/wire/v3"
)

// runSend3 is fenc send by protocol 3: it opens the identity and the files, sends, and prints a line for each.
func runSend3(ctx context.Context, s Streams, settings config.Transfer, source config.Source, as string, v *show) error {
	files := settings.ExpandFiles()
	names, err := sentNames(files, as)
	if err != nil {
		return &usageError{err}
	}
	mePath, known := config.System().MePath(settings.Me, source)
	var me send3.Identity
	if known {
		me, err = loadIdentity3(mePath, settings.Name)
	} else {
		me.Name, err = registrationName(settings.Name)
	}
	if err != nil {
		return &usageError{err}
	}

	explain := func(err error) error { return hintAtDefaults(err, settings, source) }
	var sources []*send.Source
	for i, path := range files {
		src, err := openSource(ctx, path, names[i], mePath, s.In)
		if err != nil {
			v.End(nil, send.Result{Name: path, Err: err})
			continue
		}
		defer src.Close()
		v.Found(1, src.Size())
		sources = append(sources, src)
	}
	v.Counted()
	if len(sources) == 0 {
		return v.outcome(ctx, nil, explain)
	}
	to := send3.Settings{
		Server:         settings.Server,
		ConnectTimeout: time.Duration(settings.ConnectTimeout),
		Timeout:        time.Duration(settings.Timeout),
		Attempts:       settings.Attempts,
		Waits:          v.waits,
	}
	var first *send3.Session
	if !known {
		if first, me, err = register3(ctx, to, mePath, me.Name, s.Err); err != nil {
			for _, src := range sources {
				v.End(nil, send.Result{Name: src.Name, Size: src.Size(), Err: err})
			}
			return hintAtDefaults(err, settings, source)
		}
	}
	if err := send3.Run(ctx, to, me, first, sources, v); err != nil {
		return hintAtDefaults(err, settings, source)
	}
	return v.outcome(ctx, nil, explain)
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
			if path != "-" && other != "-" && sameFile(path, other) {
				return nil, fmt.Errorf("%s and %s are one file: name it once", other, path)
			}
			return nil, fmt.Errorf("%s and %s would both be %q at the server and replace each other: send them one by one, one with --as", other, path, names[i])
		}
		of[names[i]] = path
		if _, err := v3.NewName(names[i]); err != nil {
			return nil, fmt.Errorf("%s: protocol 3 cannot carry this name: %w; choose a shorter one with --as", path, err)
		}
	}
	return names, nil
}

func openSource(ctx context.Context, path, name, mePath string, stdin io.Reader) (*send.Source, error) {
	if path == "-" {
		return send.Spool(ctx, stdin, name, v3.MaxFileSize)
	}
	if info, err := os.Stat(path); err == nil {
		if why := withheld(mePath, "")(path, info); why != "" {
			return nil, errors.New(why)
		}
	}
	src, err := send.NewSource(path, name)
	if err != nil {
		return nil, err
	}
	return src, send3.CheckSize(src)
}

// loadIdentity3 reads me.toml. A name that was asked for must be its name.
func loadIdentity3(path, name string) (send3.Identity, error) {
	me, err := config.LoadMe(path)
	if err != nil {
		return send3.Identity{}, err
	}
	if me.Protocol() != v3.Version {
		return send3.Identity{}, fmt.Errorf("%s is an identity of protocol %d, and protocol 3 was asked for: leave out --protocol 3, or name another file with --me", path, me.Protocol())
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

// register3 makes a key, takes the name at the server and writes me.toml. The key
// is on the disk before the server hears of it, the id before anything is sent
// under it.
func register3(ctx context.Context, to send3.Settings, mePath, name string, notice io.Writer) (_ *send3.Session, me send3.Identity, err error) {
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
