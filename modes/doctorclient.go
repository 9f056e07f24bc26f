package modes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/modes/send"
	"fenc/modes/send/walk"
	"fenc/modes/session4"
	"fenc/wire"
	"fenc/wire/v3"
	"fenc/wire/v4"
)

// client checks what fenc send would use.
func (d *doctor) client(c *cli.Context) {
	settings, source, err := config.LoadTransfer(c.String("config"))
	if err == nil {
		err = overridden(c, settings.Override, "me", "server")
	}
	if err == nil {
		err = settings.Validate()
	}
	if err != nil {
		d.fail("settings", err, "")
		return
	}
	if source.Path == "" {
		d.ok("settings", "no transfer.toml: all is as it is by default")
	} else {
		d.ok("settings", "%s", source.Path)
	}
	d.environment(settings.Origin)
	d.toSend(settings)
	if settings.Protocol == v3.Version {
		d.identity3(settings, source)
		d.note("server", "protocol 3 is set, which has no way to ask for anything but to send", "fenc send shows whether the server takes files")
		return
	}
	k, ok := d.identity(settings, source)
	d.cache()
	if key, reached := d.reach(c.Context, k); reached && d.pin(k, key) && ok {
		d.admission(c.Context, k)
	}
}

// environment says which settings come from the environment, where nobody looks.
func (d *doctor) environment(origin func(key string) string) {
	var set []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if key, ours := strings.CutPrefix(name, "FENC_"); ours && origin(strings.ToLower(key)) == name {
			set = append(set, name)
		}
	}
	if len(set) > 0 {
		slices.Sort(set)
		d.note("settings", "the environment wins over the file with "+strings.Join(set, ", "), "unset what should not")
	}
}

// toSend looks for the files that transfer.toml names.
func (d *doctor) toSend(settings config.Transfer) {
	_, err := walk.New(walk.Options{Exclude: settings.Exclude, ExcludeFrom: settings.ExcludeFrom})
	for _, path := range settings.ExpandFiles() {
		if path == "-" || err != nil {
			continue
		}
		var f *os.File
		if f, err = os.Open(path); err == nil {
			f.Close()
		} else {
			err = fmt.Errorf("%s: %w", path, send.Plain(err))
		}
	}
	switch {
	case err != nil:
		d.fail("files", err, "mend files, exclude or exclude_from of transfer.toml")
	case len(settings.Files) > 0:
		d.ok("files", "all of transfer.toml's can be opened")
	}
}

// identity looks at me.toml. The contact is good for asking who the server is, even
// if there is no identity.
func (d *doctor) identity(settings config.Transfer, source config.Source) (k *contact, ok bool) {
	k, err := newContact(d.streams, settings, source, only4Remedy)
	switch {
	case err != nil:
		d.fail("identity", err, "")
		return &contact{streams: d.streams, settings: settings, source: source}, false
	case !k.known:
		d.fail("identity", fmt.Errorf("there is no %s: no server knows you", k.mePath), "fenc join makes it by an invite; where the server lets anybody register, the first fenc send does")
		return k, false
	}
	return k, d.identityFile(k.mePath, fmt.Sprintf("%q, with the key %s", k.me.Name, k.me.Key.Fingerprint()))
}

// identity3 looks at the me.toml of protocol 3.
func (d *doctor) identity3(settings config.Transfer, source config.Source) {
	path, known := config.System().MePath(settings.Me, source)
	if !known {
		d.note("identity", fmt.Sprintf("there is no %s yet", path), "the first fenc send makes it, where the server lets anybody register")
		return
	}
	me, err := loadIdentity3(path, settings.Name)
	if err != nil {
		d.fail("identity", err, "")
		return
	}
	d.identityFile(path, fmt.Sprintf("%q, of protocol 3", me.Name))
}

// identityFile looks at the file of an identity, which is whose.
func (d *doctor) identityFile(path, whose string) (ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		d.fail("identity", err, "")
		return false
	}
	d.ok("identity", "%s, mode %04o: %s", path, info.Mode().Perm(), whose)
	d.clock(info.ModTime(), path+" was written")
	return true
}

// clock compares the clock with a time that has passed: nobody here can be asked for
// the right one.
func (d *doctor) clock(passed time.Time, what string) {
	now := time.Now()
	if ahead := passed.Sub(now); ahead > time.Minute {
		d.fail("clock", fmt.Errorf("it is %s here, and %s at %s", now.UTC().Format(time.RFC3339), what, passed.UTC().Format(time.RFC3339)), "set the clock: invites expire, and files are kept, by it")
		return
	}
	d.ok("clock", "%s, not before anything that has happened (fenc has no clock to compare it with)", now.UTC().Format(time.RFC3339))
}

func (d *doctor) cache() {
	cache := openDigests()
	if cache == nil {
		d.note("cache", "the cache of digests in the user's cache directory cannot be used: unchanged files are read again each time", "make $XDG_CACHE_HOME, or ~/.cache, writable")
		return
	}
	if err := cache.Close(); err != nil {
		d.note("cache", err.Error(), "")
		return
	}
	d.ok("cache", "digests of unchanged files can be kept")
}

// reach asks the server for its key.
func (d *doctor) reach(ctx context.Context, k *contact) (v4.Fingerprint, bool) {
	begun := time.Now()
	key, err := probe(ctx, k.to())
	if err != nil {
		d.fail("server", k.explain(err), "")
		return key, false
	}
	d.ok("server", "%s answers, in %s", k.settings.Server, time.Since(begun).Round(time.Millisecond))
	return key, true
}

// pin compares the server's key with the pinned ones.
func (d *doctor) pin(k *contact, key v4.Fingerprint) bool {
	pins := k.settings.ServerKey
	switch {
	case len(pins) == 0:
		d.fail("key", fmt.Errorf("no key is pinned, so the first fenc send asks; the server shows %s", key), "compare it with the one that fenc serve logs there, then: fenc trust "+key.String())
		return false
	case !slices.Contains(pins, key.String()):
		d.fail("key", fmt.Errorf("the server shows %s, and %s pins %s", key, k.settings.Origin("server_key"), strings.Join(pins, ", ")),
			"ask the server's operator which is right; if it is the new one: fenc trust "+key.String())
		return false
	}
	d.ok("key", "the server shows the pinned one, %s (%s)", key, k.settings.Origin("server_key"))
	return true
}

// admission opens a session, without the name by which an unknown client would be
// registered.
func (d *doctor) admission(ctx context.Context, k *contact) {
	me := k.me
	me.Name = ""
	session, err := session4.Open(ctx, k.to(), me, session4.NewRun(), 0)
	var refusal *session4.RefusalError
	if errors.As(err, &refusal) {
		d.fail("client", k.explain(err), "")
		return
	}
	if err != nil {
		d.fail("client", k.explain(err), "")
		return
	}
	defer session.Close()
	w := session.Welcome
	text := fmt.Sprintf("the server (%s) knows %q", wire.Printable(w.Software), wire.Printable(w.Name))
	if w.Rights&v4.RightRead != 0 {
		text += fmt.Sprintf(": %s of %s", inFiles(int64(w.UsedFiles)), humanize.IBytes(w.UsedBytes))
	}
	if w.Quota > 0 {
		text += fmt.Sprintf(", of %s that they may take", humanize.IBytes(w.Quota))
	}
	switch {
	case w.Rights&v4.RightSend == 0:
		d.fail("client", errors.New(text+", and it may not send"), "ask the server's operator for the right to (fenc clients rights)")
	case w.Quota > 0 && w.UsedBytes >= w.Quota/100*95:
		d.note("client", text, "there is little left: ask the server's operator for more (fenc clients quota)")
	default:
		d.ok("client", "%s", text)
	}
}
