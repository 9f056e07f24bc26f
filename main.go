// Command fenc gets files onto a server you own: fenc serve on one side, fenc
// send FILE on the other.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"fenc/modes"
	"fenc/modes/confine"
)

func main() {
	if err := confine.Process(); err != nil {
		fmt.Fprintf(os.Stderr, "fenc: %v\n", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is fenc with everything it touches passed in; it returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := modes.App(modes.Streams{In: stdin, Out: stdout, Err: stderr}).RunContext(ctx, args)
	if err != nil {
		fmt.Fprintf(stderr, "fenc: %v\n", err)
	}
	return modes.ExitStatus(err)
}
