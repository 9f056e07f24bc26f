package modes

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"fenc/model"
	"fenc/wire"
)

// uploadLine is an upload as fenc uploads --json prints it, one object a line.
type uploadLine struct {
	Client    string    `json:"client"`
	Name      string    `json:"name"`  // as it was sent
	Held      int64     `json:"held"`  // bytes that are durable; unknown by protocol 3
	Bytes     int64     `json:"bytes"` // of the whole file; by protocol 3 at most
	State     string    `json:"state"` // "open", or "sealing": verified by its sender and not a file yet
	Protocol  int       `json:"protocol"`
	StartedAt time.Time `json:"started_at"`
	TouchedAt time.Time `json:"touched_at"` // when it last got on
}

func uploadsCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "uploads",
		Usage:     "list uploads that are under way or wait to be gone on with",
		UsageText: "fenc uploads [--client NAME] [--json]",
		Description: `Lists what has begun and is no file yet, the oldest first, beside the running
server or without it. What does not get on is removed after keep_partial.

   fenc uploads --client grace`,
		Flags: serverFlags(
			&cli.StringFlag{Name: "client", Usage: "only the uploads of the client `NAME`"},
			&cli.BoolFlag{Name: "json", Usage: "print a JSON object for each upload", DisableDefaultText: true},
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			settings, err := serverSettings(c)
			if err != nil {
				return err
			}
			return beside(c, settings, model.Options{ReadOnly: true}, func(catalogue *model.Catalogue) error {
				var lines []uploadLine // a few for each client: see max_open_uploads
				err := catalogue.EachUpload(c.String("client"), func(u model.OpenUpload) error {
					l := uploadLine{
						Client: u.Client.Name, Name: u.FileName, Held: u.Held, Bytes: u.Size, State: string(u.State), Protocol: u.Protocol,
						StartedAt: u.StartedAt.Time, TouchedAt: u.TouchedAt.Time,
					}
					if u.TouchedAt.IsZero() {
						l.TouchedAt = l.StartedAt
					}
					lines = append(lines, l)
					return nil
				})
				if err != nil {
					return explainClient(err, c.String("client"))
				}
				if c.Bool("json") {
					return printUploadsJSON(s, lines)
				}
				return printUploads(s, lines)
			})
		},
	}
}

func printUploadsJSON(s Streams, lines []uploadLine) error {
	out := jsonLines(s.Out)
	for _, l := range lines {
		if err := out.Encode(l); err != nil {
			return err
		}
	}
	return nil
}

func printUploads(s Streams, lines []uploadLine) error {
	table := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "CLIENT\tNAME\tHELD\tOF\tSTATE\tAGE\tLAST PROGRESS\tPROTOCOL")
	now := time.Now()
	for _, l := range lines {
		held := humanize.IBytes(uint64(l.Held))
		if l.Protocol < 4 {
			held = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", wire.Printable(l.Client), wire.Printable(l.Name), held, humanize.IBytes(uint64(l.Bytes)),
			l.State, age(now, l.StartedAt), age(now, l.TouchedAt)+" ago", l.Protocol)
	}
	return table.Flush()
}

// age is how long ago a time was, in its two largest units.
func age(now, then time.Time) string {
	d := max(now.Sub(then), 0)
	switch {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}
