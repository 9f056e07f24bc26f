// Package modes is the command line: one file per mode of the fenc binary, each
// turning flags and configuration files into the settings of the packages below.
package modes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"fenc/modes/send"
)

// Exit statuses. They are part of the interface: scripts decide by them.
const (
	ExitOK          = 0
	ExitFailed      = 1   // a transfer failed, or the server ended by a fault
	ExitUsage       = 2   // wrong usage or configuration; nothing was done
	ExitRefused     = 3   // the server refused the client
	ExitServerKey   = 4   // the server has another key than the one that is pinned
	ExitInterrupted = 130 // ended by a signal
)

// usageError is a mistake in how fenc was called or configured.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// ExitStatus is the exit status for the error that App's run returned.
func ExitStatus(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, send.ErrServerKey):
		return ExitServerKey
	case errors.Is(err, send.ErrRefused):
		return ExitRefused
	case errors.As(err, &usage):
		return ExitUsage
	}
	return ExitFailed
}

// Streams are the standard streams that a mode works with.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer

	// OwnProcess: the process does nothing else, so that what holds for all of it
	// may be set: what it may open, and how much memory it keeps to.
	OwnProcess bool

	// Storage opens the server's storage; nil is storage.OpenFolder. Tests put
	// file systems in its place that fail.
	Storage openStorage
}

// App is the fenc command with its modes. Results go to s.Out, log lines and
// help after a mistake to s.Err; errors are returned for ExitStatus to judge.
func App(s Streams) *cli.App {
	app := &cli.App{
		Name:  "fenc",
		Usage: "get files onto a server you own: encrypted, verified end to end, catalogued",
		Description: `On the server:

   fenc serve
   fenc invite --name NAME

On a client:

   fenc join INVITE
   fenc send FILE

Settings come from server.toml, transfer.toml and me.toml, looked for in the
working directory and then in fenc/ of your configuration directory. Flags win
over the environment (FENC_ and the key in upper case), that over the files.`,
		Commands: []*cli.Command{
			serveCommand(s), inviteCommand(s), clientsCommand(s), filesCommand(s), uploadsCommand(s), eventsCommand(s),
			sessionsCommand(s), reloadCommand(s), healthCommand(s), backupCommand(s), checkCommand(s), migrateCommand(s), copyCommand(s),
			joinCommand(s), sendCommand(s), watchCommand(s), listCommand(s), getCommand(s), trustCommand(s), importCommand(s), versionCommand(s), hookRunnerCommand(s),
			doctorCommand(s), completionCommand(s), manCommand(s), completeCommand(s),
		},
		Reader:          s.In,
		Writer:          s.Out,
		ErrWriter:       s.Err,
		Flags:           []cli.Flag{helpFlag(), &cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true}},
		HideHelp:        true, // cli's own help flag is a variable that all Apps would share
		HideHelpCommand: true,
		HideVersion:     true,
		// A pattern may have a comma in it.
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {}, // main decides
		OnUsageError:              asUsage,
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool("version"):
				return printVersion(s.Out)
			case !c.Args().Present():
				return cli.ShowAppHelp(c)
			case c.Args().First() == "help":
				return showHelp(c)
			}
			return unknownCommand(c.App.Name, c.App.Commands, c.Args().First())
		},
	}
	dress(app.Commands)
	return app
}

// dress gives commands, and those below them, what all have.
func dress(commands []*cli.Command) {
	for _, command := range commands {
		command.OnUsageError = asUsage
		command.Flags = append(command.Flags, helpFlag())
		command.HideHelp, command.HideHelpCommand = true, true
		dress(command.Subcommands)
	}
}

// showHelp is fenc help [COMMAND...], which people try first.
func showHelp(c *cli.Context) error {
	name, commands := c.App.Name, c.App.Commands
	call := []string{name}
	for _, word := range c.Args().Tail() {
		command := commandNamed(commands, word)
		if command == nil {
			return unknownCommand(name, commands, word)
		}
		name, commands, call = name+" "+word, command.Subcommands, append(call, word)
	}
	return c.App.RunContext(c.Context, append(call, "--help"))
}

func helpFlag() cli.Flag {
	return &cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show help", DisableDefaultText: true}
}

// asUsage is what the flags' parser says, in the words of this program.
func asUsage(c *cli.Context, err error, _ bool) error {
	command := c.App.Name
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != command {
		command += " " + c.Command.Name
	}
	return usagef("%w: %s --help lists the options", err, command)
}

// noArguments refuses arguments to a command that takes none.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("%s takes no arguments, got %q: fenc %[1]s --help shows how", commandName(c), c.Args().First())
	}
	return nil
}

// overridden sets each key whose flag was given.
func overridden(c *cli.Context, override func(key string, text ...string) error, keys ...string) error {
	for _, key := range keys {
		if at, set := given(c, key); set {
			text := at.Value(key)
			if err := override(strings.ReplaceAll(key, "-", "_"), fmt.Sprint(text)); err != nil {
				return err
			}
		}
	}
	return nil
}

// given finds the command in whose options the key stands: a command's own, or
// those before it, as in fenc clients --config FILE revoke NAME.
func given(c *cli.Context, key string) (at *cli.Context, set bool) {
	for _, at := range c.Lineage() {
		if at.IsSet(key) {
			return at, true
		}
	}
	return c, false
}
