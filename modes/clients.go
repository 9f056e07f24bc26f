package modes

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
	"fenc/wire"
	"fenc/wire/v4"
)

// clientLine is a client as fenc clients --json prints it, one object a line.
type clientLine struct {
	Name         string     `json:"name"`
	ID           string     `json:"id"`                    // 32 hexadecimal digits
	Fingerprint  string     `json:"fingerprint,omitempty"` // of its key; protocol 4
	Protocol     int        `json:"protocol"`
	Rights       string     `json:"rights"`
	Quota        int64      `json:"quota"` // bytes; 0: none of its own
	Files        int64      `json:"files"`
	Bytes        int64      `json:"bytes"`
	RegisteredAt time.Time  `json:"registered_at"`
	LastSeen     time.Time  `json:"last_seen"` // up to 10 s old
	RevokedAt    *time.Time `json:"revoked_at,omitempty"`

	// Retention of its own; absent where the server's holds.
	KeepVersions *int64 `json:"keep_versions,omitempty"`
	ExpireAfter  string `json:"expire_after,omitempty"` // a duration; "0s" is never
	KeepPartial  string `json:"keep_partial,omitempty"` // a duration
}

func clientsCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "clients",
		Usage:     "list the clients, and change what they may do",
		UsageText: "fenc clients [--json]\n   fenc clients revoke NAME\n   fenc clients rekey NAME\n   fenc clients rights NAME LIST\n   fenc clients quota NAME SIZE\n   fenc clients retention [--keep-versions N] [--expire-after AGE] [--keep-partial AGE] NAME",
		Description: `Works beside the running server, which follows a change within a second, also
for sessions that are open.

   fenc clients --json
   fenc clients revoke grace`,
		Flags: serverFlags(&cli.BoolFlag{Name: "json", Usage: "print a JSON object for each client", DisableDefaultText: true}),
		Subcommands: []*cli.Command{
			changeCommand(s, "revoke", "end what a client may do, at once and for good", "NAME",
				"Its files stay. Neither its key nor its name comes back by registration;\nfenc clients rekey brings the client back under another key.\n\n   fenc clients revoke grace",
				func(catalogue *model.Catalogue, args []string) (string, error) {
					return "revoked", catalogue.Revoke(args[0])
				}),
			rekeyCommand(s),
			changeCommand(s, "rights", "change a client's rights", "NAME LIST", "LIST is some of send, read and replace, with commas between them, or none.\n\n   fenc clients rights grace send,read",
				func(catalogue *model.Catalogue, args []string) (string, error) {
					rights, err := model.ParseRights(args[1])
					if err != nil {
						return "", &usageError{err}
					}
					return "rights " + rights.String(), catalogue.SetRights(args[0], rights)
				}),
			changeCommand(s, "quota", "bound what a client's files may take", "NAME SIZE", "SIZE is a number of bytes, such as 10GiB; 0 leaves it to max_client_size of\nserver.toml.\n\n   fenc clients quota grace 10GiB",
				func(catalogue *model.Catalogue, args []string) (string, error) {
					var quota config.Size
					if err := quota.UnmarshalText([]byte(args[1])); err != nil {
						return "", usagef("%q: %w; write a number of bytes such as 10GiB, or 0 for none of its own", args[1], err)
					}
					return "quota " + quotaText(int64(quota)), catalogue.SetQuota(args[0], int64(quota))
				}),
			retentionCommand(s),
		},
		Action: errandOf(model.Options{Beside: true}, func(e errand) error {
			clients, err := e.catalogue.Clients()
			if err != nil {
				return err
			}
			if e.Bool("json") {
				return printClientsJSON(s, clients)
			}
			return printClients(s, clients)
		}),
	}
}

func lineOf(u model.ClientUse) clientLine {
	k := u.Client
	line := clientLine{
		Name: k.Name, ID: k.ID.String(), Protocol: k.Protocol, Rights: k.Rights.String(), Quota: k.Quota, Files: u.Files, Bytes: u.Bytes,
		RegisteredAt: k.RegisteredAt.Time, LastSeen: k.LastSeen.Time,
	}
	if !k.Fingerprint.IsZero() {
		line.Fingerprint = v4.Fingerprint(k.Fingerprint).String()
	}
	if !k.RevokedAt.IsZero() {
		line.RevokedAt = &k.RevokedAt.Time
	}
	line.KeepVersions, line.ExpireAfter, line.KeepPartial = k.KeepVersions, durationText(k.ExpireAfter), durationText(k.KeepPartial)
	return line
}

func printClientsJSON(s Streams, clients []model.ClientUse) error {
	out := jsonLines(s.Out)
	for _, u := range clients {
		if err := out.Encode(lineOf(u)); err != nil {
			return err
		}
	}
	return nil
}

func printClients(s Streams, clients []model.ClientUse) error {
	table := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tRIGHTS\tFILES\tBYTES\tQUOTA\tLAST SEEN\tPROTOCOL\tID\tFINGERPRINT")
	for _, u := range clients {
		l := lineOf(u)
		rights := l.Rights
		if l.RevokedAt != nil {
			rights = "REVOKED"
		}
		if l.Fingerprint == "" {
			l.Fingerprint = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\n", wire.Printable(l.Name), rights, l.Files, config.Size(l.Bytes), quotaText(l.Quota),
			l.LastSeen.Format(time.RFC3339), l.Protocol, l.ID, l.Fingerprint)
	}
	return table.Flush()
}

// changeCommand is a command that changes one client.
func changeCommand(s Streams, name, usage, args, description string, change func(*model.Catalogue, []string) (string, error)) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: args, UsageText: "fenc clients " + name + " " + args, Description: description,
		Flags: serverFlags(),
		Action: errandOf(model.Options{Beside: true}, func(e errand) error {
			done, err := change(e.catalogue, e.args)
			if err != nil {
				return explainClient(err, e.args[0])
			}
			fmt.Fprintf(s.Out, "%s: %s\n", wire.Printable(e.args[0]), done)
			return nil
		}),
	}
}

func explainClient(err error, name string) error {
	switch {
	case errors.Is(err, model.ErrUnknownClient):
		return fmt.Errorf("no client is called %q: fenc clients lists them", name)
	case errors.Is(err, model.ErrRevoked):
		return fmt.Errorf("client %q has been revoked already", name)
	}
	return err
}

func rekeyCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name: "rekey", Usage: "invite a client to come back with another key", ArgsUsage: "NAME", UsageText: "fenc clients rekey [--expires 24h] NAME",
		Description: `Prints an invite by which whoever has it becomes the client NAME, with a new key,
in the place of the present one, which works until then. For a key that was lost,
stolen or revoked.

   fenc clients rekey --expires 1h grace`,
		Flags: serverFlags(inviteFlags()...),
		Action: errandOf(model.Options{Beside: true}, func(e errand) error {
			expires, err := inviteExpiry(e.Context)
			if err != nil {
				return err
			}
			return makeInvite(e.Context, s, e.settings, e.catalogue, func(token v4.Token) error {
				return explainClient(e.catalogue.InviteRekey(e.args[0], token.Hash(), time.Now().Add(expires)), e.args[0])
			})
		}, "advertise"),
	}
}
