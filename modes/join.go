package modes

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/modes/session4"
	"fenc/wire"
	"fenc/wire/v4"
)

func joinCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "join",
		Usage:     "become a client of a server, by an invite",
		ArgsUsage: "INVITE",
		UsageText: "fenc join [--name NAME] [--dir DIR] [INVITE]",
		Description: `Takes the line that fenc invite printed on the server: as an argument, or from
standard input, where nobody else on this machine can see it. Registers there, and
writes transfer.toml and me.toml, so that from then on this is enough:

   fenc send FILE`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "register as `NAME`, if the invite has none (FENC_NAME; default: you@this-machine)"},
			&cli.StringFlag{Name: "dir", Usage: "write transfer.toml and me.toml into `DIR` (default: fenc/ of your configuration directory)"},
		},
		Action: func(c *cli.Context) error {
			if err := checkOptionsFirst(c); err != nil {
				return err
			}
			if c.NArg() > 1 {
				return usagef("join takes one INVITE, got %d arguments", c.NArg())
			}
			line, err := inviteLine(c.Args().First(), s)
			if err != nil {
				return err
			}
			invite, err := v4.ParseInvite(line)
			if err != nil {
				return &usageError{fmt.Errorf("join: %w", err)}
			}
			dir := cmp.Or(c.String("dir"), config.System().Home())
			if err := join(c, s, invite, dir); err != nil {
				return fmt.Errorf("join: %w", err)
			}
			return nil
		},
	}
}

// inviteLine returns the invite: the argument or, without one, a line of standard
// input.
func inviteLine(argument string, s Streams) (string, error) {
	if argument != "" && argument != "-" {
		return argument, nil
	}
	if isTerminal(s.In) {
		fmt.Fprint(s.Err, "Paste the invite: ")
	}
	line, err := bufio.NewReader(io.LimitReader(s.In, 4096)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("join: read the invite from standard input: %w", err)
	}
	return line, nil
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
	k, err := newContact(s, settings, source)
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
	session, err := k.openPatiently(c.Context)
	if err != nil {
		if source.Path == "" && !k.known {
			err = errors.Join(err, os.Remove(transfer))
		}
		return k.explain(err)
	}
	session.Close()
	fmt.Fprintf(s.Out, "joined %s as %s; from now on: fenc send FILE\n", settings.Server, wire.Printable(k.me.Name))
	if _, used, err := config.LoadTransfer(""); err == nil && !sameFile(used.Path, transfer) { // what fenc send would use here
		fmt.Fprintf(s.Err, "fenc: here, %s is used instead: name the new one with --config %s\n", cmp.Or(used.Path, "no transfer.toml"), transfer)
	}
	return nil
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// openPatiently is open, again and with the same key where the connection is lost
// before the answer: the server may have used the invite up for it.
func (k *contact) openPatiently(ctx context.Context) (*session4.Session, error) {
	for pause := 200 * time.Millisecond; ; pause *= 2 {
		s, err := k.open(ctx, session4.NewRun())
		var lost *session4.ConnectionError
		if err == nil || !errors.As(err, &lost) || !lost.Reached || errors.Is(err, v4.ErrFrame) || pause > 5*time.Second {
			return s, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
