package modes

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/mdp/qrterminal/v3"
	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
	"fenc/wire"
	"fenc/wire/v4"
)

// inviteFlags are those of every command that makes an invite.
func inviteFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "expires", Usage: "good for `DURATION`, 1m to 365d", Value: "24h"},
		&cli.StringFlag{Name: "advertise", Usage: "tell the client to connect to `ADDR`, host:port (FENC_ADVERTISE; default: where the server listens)"},
		&cli.BoolFlag{Name: "qr", Usage: "show a QR code as well", DisableDefaultText: true},
	}
}

func inviteCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "invite",
		Usage:     "invite a client, by a line that fenc join takes",
		UsageText: "fenc invite [--name NAME] [--expires 24h] [--rights send,read,replace] [--quota SIZE] [--qr]\n   fenc invite list\n   fenc invite revoke WHICH",
		Description: `Prints one line that lets one client register, once: it holds the server's
address, the fingerprint of its key, and a secret. Give it to whoever is invited
by a way that you trust. The server may be running.

   fenc invite --name grace --quota 10GiB

Rights: send (new files), read (list and fetch its own, and learn what is
stored), replace (put new content in the place of old).`,
		Flags: serverFlags(append(inviteFlags(),
			&cli.StringFlag{Name: "name", Usage: "the client's `NAME` (default: the one it asks for)"},
			&cli.StringFlag{Name: "rights", Usage: "what it may do, `LIST` with commas", Value: model.AllRights.String()},
			&cli.StringFlag{Name: "quota", Usage: "its files may take `SIZE` (default: max_client_size of server.toml)"},
		)...),
		Subcommands: []*cli.Command{inviteListCommand(s), inviteRevokeCommand(s)},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return fmt.Errorf("%w; a client's name goes behind --name", unknownCommand(c.App.Name+" invite", c.Command.Subcommands, c.Args().First()))
			}
			settings, err := serverSettings(c, "advertise")
			if err != nil {
				return err
			}
			expires, err := inviteExpiry(c)
			if err != nil {
				return err
			}
			invite := model.Invite{Name: c.String("name")}
			if invite.Name != "" {
				if err := wire.CheckName(invite.Name); err != nil {
					return usagef("--name: %w", err)
				}
			}
			if invite.Rights, err = model.ParseRights(c.String("rights")); err != nil {
				return usagef("--rights: %w", err)
			}
			var quota config.Size
			if c.IsSet("quota") {
				if err := quota.UnmarshalText([]byte(c.String("quota"))); err != nil {
					return usagef("--quota %q: %w; write a number of bytes such as 10GiB", c.String("quota"), err)
				}
			}
			invite.Quota, invite.ExpiresAt = int64(quota), model.Time{Time: time.Now().Add(expires)}
			return beside(c, settings, model.Options{Beside: true}, func(catalogue *model.Catalogue) error {
				if settings.Registration == "closed" {
					return errors.New(`registration = "closed": nobody may register; set it to "invite" in server.toml, and start the server anew`)
				}
				return makeInvite(c, s, settings, catalogue, func(token v4.Token) error {
					invite.TokenHash = token.Hash()
					err := catalogue.Invite(invite)
					if errors.Is(err, model.ErrNameTaken) {
						err = fmt.Errorf("%w: a client is called %q; fenc clients rekey gives it another key", err, invite.Name)
					} else if errors.Is(err, model.ErrExists) {
						err = fmt.Errorf("%w: fenc invite revoke %q takes it back", err, invite.Name)
					}
					return err
				})
			})
		},
	}
}

func inviteExpiry(c *cli.Context) (time.Duration, error) {
	var d config.Duration
	if err := d.UnmarshalText([]byte(c.String("expires"))); err != nil {
		return 0, usagef("--expires %q: %w; write one from 1m to 365d, such as 24h", c.String("expires"), err)
	}
	if expires := time.Duration(d); expires >= time.Minute && expires <= 8760*time.Hour {
		return expires, nil
	}
	return 0, usagef("--expires %q: write a duration from 1m to 365d, such as 24h", c.String("expires"))
}

// makeInvite makes a token, has it recorded, and prints the line that carries it.
func makeInvite(c *cli.Context, s Streams, settings config.Server, catalogue *model.Catalogue, record func(v4.Token) error) error {
	text, err := config.LoadServerKey(settings.KeyPath())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: fenc serve makes the key at its first start; key in server.toml says where it is", err)
	}
	if err != nil {
		return &usageError{err}
	}
	identity, err := v4.ParseIdentity(text.Reveal())
	if err != nil {
		return err
	}
	address, err := inviteAddress(settings, catalogue)
	if err != nil {
		return err
	}
	invite := v4.Invite{Address: address, Server: identity.Fingerprint(), Token: v4.NewToken()}
	if err := record(invite.Token); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(s.Out, invite.Line()); err != nil {
		return fmt.Errorf("the invite was made, and could not be printed: %w: take it back with fenc invite revoke %.8s, and make another", err, model.Hash(invite.Token.Hash()))
	}
	if c.Bool("qr") {
		qrterminal.GenerateHalfBlock(invite.Line(), qrterminal.L, s.Out)
	}
	return nil
}

// inviteAddress is where an invited client will connect to.
func inviteAddress(settings config.Server, catalogue *model.Catalogue) (string, error) {
	if settings.Advertise != "" {
		return settings.Advertise, nil
	}
	address, err := catalogue.Address()
	if err != nil {
		return "", err
	}
	address = cmp.Or(address, settings.Listen)
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return "", fmt.Errorf("the server listens on every address (%s): say which one clients reach, with --advertise HOST:PORT or advertise in server.toml", address)
	}
	return address, nil
}

func inviteListCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:        "list",
		Usage:       "list the invites",
		UsageText:   "fenc invite list",
		Description: "   fenc invite list",
		Flags:       serverFlags(),
		Action: errandOf(model.Options{Beside: true}, func(e errand) error {
			invites, err := e.catalogue.Invites()
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
			fmt.Fprintln(table, "INVITE\tNAME\tRIGHTS\tQUOTA\tSTATE\tEXPIRES\tFOR")
			for _, i := range invites {
				purpose := "registration"
				if i.Rekey {
					purpose = "another key"
				}
				fmt.Fprintf(table, "%.8s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.TokenHash, wire.Printable(cmp.Or(i.Name, "-")), i.Rights, quotaText(i.Quota),
					i.State(time.Now()), i.ExpiresAt.Format(time.RFC3339), purpose)
			}
			return table.Flush()
		}),
	}
}

func quotaText(quota int64) string {
	if quota == 0 {
		return "-"
	}
	return config.Size(quota).String()
}

func inviteRevokeCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:        "revoke",
		Usage:       "take an open invite back",
		ArgsUsage:   "WHICH",
		UsageText:   "fenc invite revoke WHICH",
		Description: "WHICH is what fenc invite list shows under INVITE, or the name that it is for.\n\n   fenc invite revoke grace",
		Flags:       serverFlags(),
		Action: errandOf(model.Options{Beside: true}, func(e errand) error {
			revoked, err := e.catalogue.RevokeInvite(e.args[0])
			if errors.Is(err, model.ErrInviteUnknown) {
				return fmt.Errorf("no open invite is %q: fenc invite list shows them", e.args[0])
			}
			if err != nil {
				return err
			}
			for _, i := range revoked {
				fmt.Fprintf(s.Out, "taken back: invite %.8s for %s\n", i.TokenHash, wire.Printable(cmp.Or(i.Name, "any name")))
			}
			return nil
		}),
	}
}
