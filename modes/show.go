package modes

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"

	"fenc/modes/progress"
	"fenc/modes/send"
)

// showFlags are those of the commands that transfer files, which say how that is
// shown.
func showFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print errors alone", DisableDefaultText: true},
		&cli.BoolFlag{Name: "json", Usage: "print JSON lines, as examples/messages.schema.json describes them", DisableDefaultText: true},
		&cli.BoolFlag{Name: "explain", Usage: "say at the end what held the transfer back", DisableDefaultText: true},
	}
}

// show is a transfer as it is shown, and what its user is told at the end.
type show struct {
	*progress.Display
	waits *send.Waits
	again string // how to go on, after what is held
}

// showing begins to show a transfer. The caller must end it.
func showing(c *cli.Context, s Streams, getting bool) *show {
	waits := new(send.Waits)
	o := progress.Options{
		Out: s.Out, Err: s.Err, Quiet: c.Bool("quiet"), JSON: c.Bool("json"), Explain: c.Bool("explain"), Waits: waits, Getting: getting,
	}
	if o.JSON {
		o.Out = printableJSON{s.Out}
	}
	v := &show{Display: progress.New(o), waits: waits, again: "the server holds %s: send again to go on there"}
	if getting {
		v.again = "%s are here: get again to go on there"
	}
	return v
}

// end ends what is shown, and returns err.
func (v *show) end(err error) error {
	v.Close(err, ExitStatus(err))
	return err
}

// inFiles is how messages count files: "1 file", "2,000 files".
func inFiles(n int64) string { return english.Plural(int(n), "file", "") }

// outcome is the error for a transfer that ended with err, or none: nil if every
// file was verified. explain adds what to do about a session's error.
func (v *show) outcome(ctx context.Context, err error, explain func(error) error) error {
	verified, failed := v.Files()
	held := v.Left()
	if held != "" {
		held = fmt.Sprintf(v.again, held)
	}
	switch {
	case ctx.Err() != nil && held != "":
		return &interrupted{fmt.Errorf("%s verified; %s", inFiles(verified), held)}
	case ctx.Err() != nil:
		return &interrupted{fmt.Errorf("%s verified; run it again to go on", inFiles(verified))}
	case err != nil && held != "":
		return fmt.Errorf("%w; %s", explain(err), held)
	case err != nil:
		return explain(err)
	case failed == 0:
		return nil
	case failed == 1 && v.Refused():
		return send.ErrRefused
	case v.Refused() && held == "":
		return fmt.Errorf("%d of %d files not verified: %w", failed, failed, send.ErrRefused)
	case v.Refused():
		return fmt.Errorf("%d of %d files not verified: %w; %s", failed, failed, send.ErrRefused, held)
	case held != "":
		return fmt.Errorf("%d of %d files not verified; %s", failed, verified+failed, held)
	}
	return fmt.Errorf("%d of %d files not verified", failed, verified+failed)
}
