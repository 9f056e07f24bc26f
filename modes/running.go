package modes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"fenc/modes/control"
	"fenc/modes/stats"
	"fenc/wire"
)

// ask runs do with a client of the server that runs.
func ask(c *cli.Context, do func(*control.Client) error) error {
	if err := noArguments(c); err != nil {
		return err
	}
	settings, err := serverSettings(c)
	if err != nil {
		return err
	}
	if err := do(control.Dial(settings.ControlPath())); err != nil {
		if errors.Is(err, control.ErrNotRunning) {
			err = fmt.Errorf("%w; name another server with --database, or with --config its server.toml", err)
		}
		return fmt.Errorf("%s: %w", commandName(c), err)
	}
	return nil
}

func sessionsCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "sessions",
		Usage:     "list who is connected to the running server, and what is under way",
		UsageText: "fenc sessions [--json]",
		Description: `Asks the server by the socket beside its database. FILES and BYTES are what the
session has brought so far; below each stands what is on its way now.

   fenc sessions --config /etc/fenc/server.toml`,
		Flags: serverFlags(&cli.BoolFlag{Name: "json", Usage: "print a JSON object for each session", DisableDefaultText: true}),
		Action: func(c *cli.Context) error {
			return ask(c, func(server *control.Client) error {
				sessions, err := server.Sessions(c.Context)
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return printSessionsJSON(s, sessions)
				}
				return printSessions(s, sessions)
			})
		},
	}
}

func printSessionsJSON(s Streams, sessions []stats.Open) error {
	out := json.NewEncoder(s.Out)
	for _, k := range sessions {
		if err := out.Encode(k); err != nil {
			return err
		}
	}
	return nil
}

// shownTransfers is how many transfers of a session are printed.
const shownTransfers = 3

func printSessions(s Streams, sessions []stats.Open) error {
	if len(sessions) == 0 {
		_, err := fmt.Fprintln(s.Err, "nobody is connected")
		return err
	}
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CLIENT\tADDRESS\tPROTOCOL\tSINCE\tFILES\tBYTES")
	for _, k := range sessions {
		client := wire.Printable(k.Client)
		if client == "" {
			client = "(not admitted yet)"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%d\t%d\n", client, wire.Printable(k.Address), k.Protocol,
			k.Since.UTC().Format(time.RFC3339), k.Files, k.Bytes)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	// Below its line, and without widening the table's columns.
	lines := strings.SplitAfter(text.String(), "\n")
	out := bufio.NewWriter(s.Out)
	out.WriteString(lines[0])
	for i, k := range sessions {
		out.WriteString(lines[i+1])
		for _, t := range k.Transfers[:min(len(k.Transfers), shownTransfers)] {
			fmt.Fprintf(out, "  %s\n", transferText(t))
		}
		if more := k.UnderWay - shownTransfers; more > 0 {
			fmt.Fprintf(out, "  and %d more\n", more)
		}
	}
	return out.Flush()
}

func transferText(t stats.Transfer) string {
	arrow, percent := "<-", 0.0
	if t.Outgoing {
		arrow = "->"
	}
	if t.Bytes > 0 {
		percent = 100 * float64(t.Done) / float64(t.Bytes)
	}
	return fmt.Sprintf("%s %s, %.0f %% of %s", arrow, wire.Printable(t.Path), percent, humanize.IBytes(uint64(max(t.Bytes, 0))))
}

func reloadCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "reload",
		Usage:     "have the running server read its settings again",
		UsageText: "fenc reload",
		Description: `Has the server read server.toml again, as SIGHUP does, and prints what has
changed, and what needs a restart. Where the file is wrong, nothing changes.
Limits hold for connections that begin from then on.

   fenc reload --config /etc/fenc/server.toml`,
		Flags: serverFlags(),
		Action: func(c *cli.Context) error {
			return ask(c, func(server *control.Client) error {
				done, err := server.Reload(c.Context)
				if errors.Is(err, control.ErrSettings) {
					return &usageError{err}
				}
				if err != nil {
					return err
				}
				return printReloaded(s, done)
			})
		},
	}
}

func printReloaded(s Streams, done control.Reloaded) error {
	if len(done.NeedRestart) > 0 {
		fmt.Fprintf(s.Err, "fenc: these hold after a restart: %s\n", strings.Join(done.NeedRestart, ", "))
	}
	if len(done.Changed) == 0 {
		_, err := fmt.Fprintln(s.Out, "nothing changed")
		return err
	}
	_, err := fmt.Fprintln(s.Out, "changed: "+strings.Join(done.Changed, ", "))
	return err
}

func healthCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "health",
		Usage:     "ask the running server whether it is ready",
		UsageText: "fenc health",
		Description: `Prints what the server says of its database, its storage and whether it takes
connections. The exit status is 0 where all is well, otherwise 1: for the health
check of a container.

   fenc health`,
		Flags: serverFlags(),
		Action: func(c *cli.Context) error {
			return ask(c, func(server *control.Client) error {
				state, err := server.Health(c.Context)
				if err != nil {
					return err
				}
				fmt.Fprint(s.Out, state.Report)
				if !state.Ready {
					return errors.New("the server is not ready")
				}
				return nil
			})
		},
	}
}
