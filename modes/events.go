package modes

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/model"
	"fenc/modes/hooks"
	"fenc/wire"
)

// eventLine is an event as fenc events --json prints it, one object a line.
type eventLine struct {
	ID          string    `json:"id"`          // 32 hexadecimal digits; the same for all destinations
	Kind        string    `json:"kind"`        // "file.verified" or "file.expired"
	Destination string    `json:"destination"` // "command" or "webhook"
	State       string    `json:"state"`       // "waiting" or "dead"
	Client      string    `json:"client"`
	Name        string    `json:"name"` // of the file, as it was sent
	Version     int64     `json:"version"`
	At          time.Time `json:"at"`              // of the change
	Attempts    int       `json:"attempts"`        // that failed
	DueAt       time.Time `json:"due_at,omitzero"` // of the next attempt, while it waits
	Error       string    `json:"error,omitempty"` // of the last one
}

func eventsCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "events",
		Usage:     "list what hooks and the webhook have not taken yet, and what they never took",
		UsageText: "fenc events [--dead] [--json]\n   fenc events retry ID | --dead | --to command|webhook\n   fenc events drop ID | --dead | --to command|webhook",
		Description: `Every verified file is an event for hook_command and webhook_url of server.toml,
which stays until it is delivered, or is dead after hook_retry_for. Works beside
the running server, which follows within a second.

   fenc events --dead
   fenc events retry 5f0c`,
		Flags: serverFlags(
			&cli.BoolFlag{Name: "dead", Usage: "only events that are dead", DisableDefaultText: true},
			&cli.BoolFlag{Name: "json", Usage: "print a JSON object for each event", DisableDefaultText: true},
		),
		Subcommands: []*cli.Command{
			changeEventsCommand(s, "retry", "deliver again, with the whole time for retries before it", "will be delivered", (*model.Catalogue).RetryEvents),
			changeEventsCommand(s, "drop", "forget, undelivered", "forgotten", (*model.Catalogue).DropEvents),
		},
		Action: errandOf(model.Options{ReadOnly: true}, func(e errand) error {
			print := json.NewEncoder(s.Out).Encode
			flush := func() error { return nil }
			if !e.Bool("json") {
				print, flush = eventTable(s)
			}
			return errors.Join(e.catalogue.EachEvent(e.Bool("dead"), func(e model.Event) error { return print(lineOfEvent(e)) }), flush())
		}),
	}
}

func lineOfEvent(e model.Event) eventLine {
	l := eventLine{
		ID: strings.ToLower(e.EventID.String()), Kind: string(e.Kind), Destination: e.Destination, State: string(e.State), Client: e.ClientName, Name: e.FileName,
		Version: e.Version, At: e.At.Time, Attempts: e.Attempts, Error: e.Error,
	}
	if e.State == model.EventWaiting {
		l.DueAt = e.DueAt.Time
	}
	return l
}

func eventTable(s Streams) (print func(any) error, flush func() error) {
	table := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tKIND\tTO\tSTATE\tCLIENT\tNAME\tAT\tATTEMPTS\tNEXT\tLAST ERROR")
	rows := 0
	return func(v any) error {
		l := v.(eventLine)
		next := "-"
		if !l.DueAt.IsZero() {
			next = l.DueAt.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", l.ID, l.Kind, l.Destination, l.State, wire.Printable(l.Client), wire.Printable(l.Name),
			l.At.Format(time.RFC3339), l.Attempts, next, wire.Printable(l.Error))
		if rows++; rows%tableRows == 0 {
			return table.Flush()
		}
		return nil
	}, table.Flush
}

func changeEventsCommand(s Streams, name, usage, what string, change func(*model.Catalogue, model.Which) (int64, error)) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: "ID", UsageText: "fenc events " + name + " ID\n   fenc events " + name + " [--dead] [--to command|webhook]",
		Description: "ID is an event's, or its first digits, at least 4.\n\n   fenc events " + name + " 5f0c",
		Flags: serverFlags(
			&cli.BoolFlag{Name: "dead", Usage: "all events that are dead", DisableDefaultText: true},
			&cli.StringFlag{Name: "to", Usage: "all events for `DESTINATION`, command or webhook; with --dead, the dead ones of them"},
		),
		Action: func(c *cli.Context) error {
			which := model.Which{ID: c.Args().First(), Dead: c.IsSet("dead"), Destination: c.String("to")}
			many := which.Dead || c.IsSet("to")
			switch {
			case c.IsSet("to") && which.Destination != hooks.Command && which.Destination != hooks.Webhook:
				return usagef("--to %q: write %s or %s", which.Destination, hooks.Command, hooks.Webhook)
			case many && c.Args().Present():
				return usagef("events %s takes an ID or --dead and --to, not both", name)
			case !many && (c.NArg() != 1 || which.ID == ""):
				return usagef("events %s takes one ID, or --dead: fenc events lists them", name)
			}
			settings, err := serverSettings(c)
			if err != nil {
				return err
			}
			return beside(c, settings, model.Options{Beside: true}, func(catalogue *model.Catalogue) error {
				n, err := change(catalogue, which)
				if errors.Is(err, model.ErrNoEvent) {
					return fmt.Errorf("no event is called %q: fenc events lists them", which.ID)
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(s.Out, "%d %s\n", n, what)
				return nil
			})
		},
	}
}
