package progress

import (
	"os"

	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
)

// newConsole returns what mpb draws on: its own writer, which knows the console.
func newConsole(screen *os.File, _ func(string) string) mpb.ConsoleWriter {
	return cupwriter.New(screen, false)
}
