package modes

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/wire"
)

// diagnosis is one thing that fenc doctor looked at, as --json prints it, one object
// a line.
type diagnosis struct {
	Side   string `json:"side"`  // "client" or "server"
	Check  string `json:"check"` // what was looked at
	State  string `json:"state"` // "ok", "note" for what may be meant so, or "wrong"
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"` // what to do
}

func doctorCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "check a set-up, and say what to mend",
		ArgsUsage: "SIDE",
		UsageText: "fenc doctor [--json]\n   fenc doctor send [--config transfer.toml] [--server ADDR]\n   fenc doctor serve [--config server.toml] [--storage DIR] [--database DSN]",
		Description: `Looks at the files that fenc send and fenc serve would use here, their permissions,
keys and clocks, whether the server can be reached and shows the pinned key, whether
it knows the client, and at the space that is left. SIDE is send or serve; without
it, whatever there are files of is checked. It changes nothing, and runs beside a
server. Run it as the user that fenc runs as.

   fenc doctor
   sudo -u fenc fenc doctor serve --config /etc/fenc/server.toml

It exits with 1 if something is wrong.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "read the settings of SIDE from `FILE`"},
			&cli.StringFlag{Name: "server", Usage: "client: the server is at `ADDR`, host:port (FENC_SERVER)"},
			&cli.StringFlag{Name: "me", Usage: "client: the identity `FILE` (FENC_ME)"},
			&cli.StringFlag{Name: "listen", Usage: "server: it listens at `ADDR`, host:port (FENC_LISTEN)"},
			&cli.StringFlag{Name: "storage", Usage: "server: its storage, a `DIR` (FENC_STORAGE)"},
			&cli.StringFlag{Name: "database", Usage: "server: its catalogue, `DSN`, the path of a SQLite file (FENC_DATABASE)"},
			&cli.BoolFlag{Name: "json", Usage: "print a JSON object for each check", DisableDefaultText: true},
		},
		Action: func(c *cli.Context) error {
			d := &doctor{streams: s, json: c.Bool("json")}
			client, server, err := sides(c)
			if err != nil {
				return err
			}
			if client {
				d.side = "client"
				d.client(c)
			}
			if server {
				d.side = "server"
				d.server(c)
			}
			return d.err()
		},
	}
}

// sides says which sides to check: the one that is named, or those that there are
// files of.
func sides(c *cli.Context) (client, server bool, err error) {
	if c.NArg() > 1 {
		return false, false, usagef("doctor takes one SIDE, got %d arguments", c.NArg())
	}
	switch side := c.Args().First(); side {
	case "":
	case "send":
		return true, false, nil
	case "serve":
		return false, true, nil
	default:
		return false, false, usagef("doctor: no side %q: send or serve", side)
	}
	if c.IsSet("config") {
		return false, false, usagef("doctor: whose settings are %s: fenc doctor send or fenc doctor serve?", c.String("config"))
	}
	lookup := config.System()
	transfer, source, transferErr := lookup.LoadTransfer("")
	_, known := lookup.MePath(transfer.Me, source)
	client = transferErr != nil || source.Path != "" || known || c.IsSet("server") || c.IsSet("me")
	settings, source, serverErr := lookup.LoadServer("")
	server = serverErr != nil || source.Path != "" || settings.InPostgres() || exists(settings.Database) || c.IsSet("storage") || c.IsSet("database") || c.IsSet("listen")
	if !client && !server {
		return false, false, fmt.Errorf("doctor: no transfer.toml, me.toml, server.toml or fenc.db in the working directory or in %s: fenc join makes a client's; a server's are named by fenc doctor serve --config FILE", lookup.Home())
	}
	return client, server, nil
}

// doctor prints what it finds.
type doctor struct {
	streams Streams
	json    bool
	side    string

	said  string // the side that has its title
	wrong int
	out   error // of printing
}

func (d *doctor) ok(check, format string, args ...any) {
	d.print(diagnosis{d.side, check, "ok", fmt.Sprintf(format, args...), ""})
}

func (d *doctor) note(check, text, remedy string) {
	d.print(diagnosis{d.side, check, "note", text, remedy})
}

// fail is something wrong: what error says, which has the remedy, or text and remedy.
func (d *doctor) fail(check string, err error, remedy string) {
	d.wrong++
	d.print(diagnosis{d.side, check, "wrong", err.Error(), remedy})
}

func (d *doctor) print(f diagnosis) {
	var err error
	if d.json {
		err = json.NewEncoder(d.streams.Out).Encode(f)
	} else {
		if d.said != f.Side {
			fmt.Fprintln(d.streams.Out, f.Side)
			d.said = f.Side
		}
		lines := strings.Split(f.Text, "\n")
		for i := range lines {
			lines[i] = wire.Printable(strings.TrimSpace(lines[i]))
		}
		if f.Remedy != "" {
			lines = append(lines, f.Remedy)
		}
		_, err = fmt.Fprintf(d.streams.Out, "  %-5s  %-9s  %s\n", f.State, f.Check, strings.Join(lines, "\n                    "))
	}
	if d.out == nil {
		d.out = err
	}
}

func (d *doctor) err() error {
	switch {
	case d.out != nil:
		return d.out
	case d.wrong == 1:
		return errors.New("doctor: 1 thing is wrong")
	case d.wrong > 1:
		return fmt.Errorf("doctor: %d things are wrong", d.wrong)
	}
	return nil
}
