package progress

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"fenc/modes/send"
	"fenc/wire"
)

// lines shows a line for each file, for a log or another program.
type lines struct{ o Options }

func (v *lines) result(r send.Result)                    { r.Print(v.o.Out, wire.Printable) }
func (v *lines) skipped(path, why string)                { fmt.Fprint(v.o.Err, skippedLine(path, why)) }
func (v *lines) retrying(why error, pause time.Duration) { fmt.Fprint(v.o.Err, retryLine(why, pause)) }
func (v *lines) planned(path, name string, remove bool) {
	fmt.Fprint(v.o.Out, plannedLine(path, name, remove))
}
func (v *lines) note(text string, _ bool) { fmt.Fprintf(v.o.Err, "fenc: %s\n", text) }
func (v *lines) draw(*snapshot)           {}

func (v *lines) end(e *ending) {
	if e.spent != nil {
		fmt.Fprintln(v.o.Err, explain(e, v.o.Getting))
	}
}

func plannedLine(path, name string, remove bool) string {
	then := ""
	if remove {
		then = ", and removed here"
	}
	return fmt.Sprintf("%s  would be sent as %s%s\n", wire.Printable(path), wire.Printable(name), then)
}

func skippedLine(path, why string) string {
	return fmt.Sprintf("fenc: %s skipped: %s\n", wire.Printable(path), why)
}

func retryLine(why error, pause time.Duration) string {
	return fmt.Sprintf("fenc: %v; trying again in %s\n", why, pause.Round(100*time.Millisecond))
}

// quiet shows what went wrong. What may still pass is not that.
type quiet struct{ o Options }

func (v *quiet) result(r send.Result) {
	if r.Err != nil && !errors.Is(r.Err, context.Canceled) {
		fmt.Fprintf(v.o.Err, "fenc: %s not verified: %s\n", wire.Printable(r.Name), strings.ReplaceAll(r.Err.Error(), "\n", "; "))
	}
}
func (v *quiet) skipped(string, string)        {}
func (v *quiet) retrying(error, time.Duration) {}
func (v *quiet) planned(string, string, bool)  {}

func (v *quiet) note(text string, warning bool) {
	if warning {
		fmt.Fprintf(v.o.Err, "fenc: %s\n", text)
	}
}

func (v *quiet) draw(*snapshot) {}

func (v *quiet) end(e *ending) {
	if e.spent != nil {
		fmt.Fprintln(v.o.Err, explain(e, v.o.Getting))
	}
}
