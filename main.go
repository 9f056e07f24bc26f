// Command fenc gets files onto a server you own: fenc serve on one side, fenc
// send FILE on the other.
package main

import (
	"context"
	"fmt"
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
	streams := modes.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, OwnProcess: true}
	os.Exit(run(ctx, os.Args, streams))
}

// run is fenc with everything it touches passed in; it returns the exit status.
func run(ctx context.Context, args []string, s modes.Streams) int {
	err := modes.Run(ctx, args, s)
	if err != nil {
		fmt.Fprintf(s.Err, "fenc: %v\n", err)
	}
	return modes.ExitStatus(err)
}
