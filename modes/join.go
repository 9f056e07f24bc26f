package modes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/modes/send"
	"fenc/modes/session4"
	"fenc/wire"
	"fenc/wire/v4"
)

func joinCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "join",
		Usage:     "become a client of a server, by an invite",
		ArgsUsage: "INVITE",
		UsageText: "fenc join [--name NAME] [--dir DIR] [--file FILE | INVITE]",
		Description: `Takes the line that fenc invite printed on the server: from standard input or a
file, where nobody else on this machine can see it, or as an argument. Registers
there, and writes transfer.toml and me.toml:

   fenc join --file invite.txt

From then on this is enough:

   fenc send FILE`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "register as `NAME`, if the invite has none (FENC_NAME; default: you@this-machine)"},
			&cli.StringFlag{Name: "file", Usage: "read the invite from `FILE` (default: the credential invite of systemd, else standard input)"},
			&cli.StringFlag{Name: "dir", Usage: "write transfer.toml and me.toml into `DIR` (default: fenc/ of your configuration directory)"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usagef("join takes one INVITE, got %d arguments", c.NArg())
			}
			if c.NArg() > 0 && c.IsSet("file") {
				return usagef("join: --file %s and an INVITE: give one of the two", c.String("file"))
			}
			line, err := inviteLine(c.Context, c.Args().First(), c.String("file"), s)
			if err != nil {
				return err
			}
			invite, err := v4.ParseInvite(line)
			if err != nil {
				return usagef("join: %w: copy the whole line that fenc invite printed on the server", err)
			}
			dir := cmp.Or(c.String("dir"), config.System().Home())
			if err := join(c, s, invite, dir); err != nil {
				var connection *session4.ConnectionError // a firewall's no is another permission
				if !errors.As(err, &connection) && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
					err = usagef("%w: choose a directory that you may write with --dir, and name its transfer.toml with fenc send --config", err)
				}
				return fmt.Errorf("join: %w", err)
			}
			return nil
		},
	}
}

// inviteLine returns the invite: the argument or, without one, the line of a file,
// of systemd's credential, or of standard input.
func inviteLine(ctx context.Context, argument, file string, s Streams) (string, error) {
	if argument != "" && argument != "-" {
		return argument, nil
	}
	if credential, ok := config.System().Credential(config.InviteName); ok && file == "" && argument == "" {
		file = credential
	}
	from := s.In
	switch {
	case file != "" && file != "-":
		f, err := os.Open(file)
		if err != nil {
			return "", usagef("join: --file %s: %w", file, send.Plain(err))
		}
		defer f.Close()
		from = f
	case isTerminal(s.In):
		fmt.Fprint(s.Err, "Paste the invite: ")
	}
	line, err := s.readLine(ctx, from, 4096)
	if ctx.Err() != nil {
		return "", fmt.Errorf("join: %w", err)
	}
	if err != nil {
		return "", fmt.Errorf("join: read the invite from %s: %w", cmp.Or(file, "standard input"), send.Plain(err))
	}
	return strings.TrimSpace(line), nil
}

func join(c *cli.Context, s Streams, invite v4.Invite, dir string) error {
	transfer, me := filepath.Join(dir, config.TransferFile), filepath.Join(dir, config.MeFileName)
	settings, source := config.DefaultTransfer(), config.Source{}
	if _, err := os.Lstat(transfer); err == nil {
		if settings, source, err = config.LoadTransfer(transfer); err != nil {
			return &usageError{err}
		}
		if settings.Server != invite.Address {
			return usagef("%s is about another server, %s: choose another directory with --dir, and name its transfer.toml with fenc send --config", transfer, settings.Server)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(me); err == nil && source.Path == "" {
		return usagef("%s is there already, an identity for another server: choose another directory with --dir, and name its transfer.toml with fenc send --config", me)
	}
	err := overridden(c, settings.Override, "name")
	if err == nil {
		err = settings.Validate()
	}
	if err != nil {
		return &usageError{err}
	}
	settings.Server, settings.ServerKey, settings.Me = invite.Address, []string{invite.Server.String()}, me
	k, err := newContact(s, settings, source, "choose another directory with --dir")
	if err != nil {
		return err
	}
	k.me.Token = invite.Token
	// The file first: should anything be cut short behind it, the same invite goes on.
	if source.Path == "" {
		err = config.WriteTransfer(transfer, settings.Server, settings.ServerKey)
	} else {
		err = config.PinServerKey(transfer, settings.ServerKey)
	}
	if err != nil {
		return err
	}
	if k.known {
		err = k.joinAgain(c.Context)
	} else if err = k.joinAnew(c.Context); err != nil && source.Path == "" {
		err = errors.Join(err, os.Remove(transfer))
	}
	if err != nil {
		return err
	}
	if _, used, err := config.LoadTransfer(""); err == nil && !sameFile(used.Path, transfer) { // what fenc send would use here
		here := "here fenc send finds no transfer.toml"
		if used.Path != "" {
			here = fmt.Sprintf("here fenc send uses %s", used.Path)
		}
		fmt.Fprintf(s.Err, "fenc: %s: name the new one with --config %s\n", here, transfer)
	}
	return nil
}

// joinAnew uses the invite for a key of its own.
func (k *contact) joinAnew(ctx context.Context) error {
	session, err := k.openPatiently(ctx, session4.NewRun())
	if err != nil {
		return k.explain(err)
	}
	session.Close()
	fmt.Fprintf(k.streams.Out, "joined %s as %s; from now on: fenc send FILE\n", k.settings.Server, wire.Printable(k.me.Name))
	return nil
}

// joinAgain uses the invite where this is a client already. Only the server knows whether
// the invite is to give that client another key, and it admits a key that it knows whatever
// invite comes with it: so a new key goes there first. Where the invite does nothing for
// that one, it may be because it did for the present key before.
func (k *contact) joinAgain(ctx context.Context) error {
	present := k.me
	present.Token = v4.Token{}
	k.before, k.settings.Name, k.known = present.Name, present.Name, false
	err := k.joinAnew(ctx)
	var refusal *session4.RefusalError
	if err == nil || !errors.As(err, &refusal) {
		return err
	}
	k.me, k.known = present, true
	session, presentErr := k.open(ctx, session4.NewRun())
	if presentErr != nil {
		return fmt.Errorf("%w; and with the key in %s: %w", err, k.mePath, k.explain(presentErr))
	}
	session.Close()
	switch refusal.Reason {
	case v4.ReasonInviteUsed, v4.ReasonNameInUse:
		fmt.Fprintf(k.streams.Out, "joined %s already as %s, whose key stays as it is: %s\n", k.settings.Server, wire.Printable(present.Name), wire.Printable(refusal.Text))
		return nil
	}
	return fmt.Errorf("%w; %q is a client there already, and its key in %s stays as it is", err, present.Name, k.mePath)
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}
