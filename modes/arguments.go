package modes

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"fenc/config"
)

// Run runs the fenc command: args are the program's name and what stands behind it.
// Options may stand before and behind the other arguments, up to a "--". The error
// is for ExitStatus.
func Run(ctx context.Context, args []string, s Streams) error {
	s, after := watched(s)
	app := App(s)
	app.Setup()
	ordered, err := optionsFirst(app, args)
	if err != nil {
		return err
	}
	return after(app.RunContext(ctx, ordered))
}

// optionsFirst moves each command's options in front of its arguments, where the
// parser of package flag wants them. Which of them take a value, and so the next
// argument whatever it begins with, their definitions say.
func optionsFirst(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	ordered := args[:1:1]
	name, flags, commands, rest := app.Name, app.Flags, app.Commands, args[1:]
	for {
		line, err := splitLine(name, flags, commands, rest)
		if err != nil {
			return nil, err
		}
		ordered = append(ordered, line.options...)
		switch {
		case line.help:
			return append(ordered[:len(ordered)-len(line.options)], "--help"), nil // whatever else stands there
		case line.command == nil:
			return append(append(ordered, "--"), line.arguments...), nil
		}
		ordered = append(ordered, line.command.Name)
		if line.command.SkipFlagParsing {
			return append(ordered, line.behind...), nil
		}
		name, flags, commands, rest = name+" "+line.command.Name, line.command.Flags, line.command.Subcommands, line.behind
	}
}

// line is what stands behind a command's name.
type line struct {
	options, arguments []string
	help               bool         // is asked for
	command            *cli.Command // one below it, nil where there is none
	behind             []string     // what stands behind that one
}

// splitLine tells options from arguments, up to the name of a command below.
func splitLine(name string, flags []cli.Flag, commands []*cli.Command, args []string) (l line, err error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			l.arguments = append(l.arguments, args[i+1:]...)
			return l, nil
		case !isOption(arg) && len(commands) > 0:
			if l.command = commandNamed(commands, arg); l.command == nil {
				l.arguments = args[i:] // an unknown command's options are nobody's
			}
			l.behind = args[i+1:]
			return l, nil
		case !isOption(arg):
			l.arguments = append(l.arguments, arg)
			continue
		}
		flag := flagNamed(flags, optionName(arg))
		if flag == nil {
			return l, unknownOption(name, flags, commands, arg)
		}
		l.options = append(l.options, arg)
		l.help = l.help || flag.Names()[0] == "help"
		if takesValue(flag) && !strings.Contains(arg, "=") {
			if i++; i == len(args) {
				return l, usagef("no value for the option %s: %s --help lists the options", twoDashes(optionName(arg)), name)
			}
			l.options = append(l.options, args[i])
		}
	}
	return l, nil
}

// isOption reports whether arg is written as an option is; "-" is standard input.
func isOption(arg string) bool { return len(arg) > 1 && arg[0] == '-' && arg != "--" }

// optionName is an option's name, without dashes and value.
func optionName(arg string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
	return name
}

func takesValue(f cli.Flag) bool {
	documented, ok := f.(cli.DocGenerationFlag)
	return ok && documented.TakesValue()
}

func flagNamed(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func commandNamed(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// unknownOption says which option is none, and which was meant.
func unknownOption(command string, flags []cli.Flag, commands []*cli.Command, arg string) error {
	name := optionName(arg)
	var known []string
	for _, f := range flags {
		known = append(known, f.Names()...)
	}
	hint := ""
	if near := config.Nearest(name, known); near != "" {
		hint = "did you mean " + twoDashes(near) + "? "
	} else if of := commandsWith(commands, name); len(of) > 0 {
		hint = fmt.Sprintf("it is one of %s %s, and stands behind that name; ", command, strings.Join(of, ", "))
	}
	if _, err := os.Lstat(arg); err == nil {
		hint += fmt.Sprintf("the file of that name is ./%s; ", arg)
	}
	return usagef("no such option %s: %s%s --help lists the options", twoDashes(name), hint, command)
}

// commandsWith names the commands that have the option.
func commandsWith(commands []*cli.Command, option string) (names []string) {
	for _, c := range commands {
		if !c.Hidden && flagNamed(c.Flags, option) != nil {
			names = append(names, c.Name)
		}
	}
	return names
}

// twoDashes writes an option as people do.
func twoDashes(option string) string {
	name := strings.TrimLeft(option, "-")
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// otherWords are what other programs call what a command does.
var otherWords = map[string]string{
	"put": "send", "push": "send", "upload": "send", "cp": "send", "sync": "send",
	"pull": "get", "download": "get", "fetch": "get", "ls": "list", "dir": "list",
	"server": "serve", "daemon": "serve", "start": "serve", "register": "join", "login": "join", "init": "join",
	"verify": "check", "fsck": "check", "users": "clients", "diagnose": "doctor",
}

// unknownCommand says which command is none, and which was meant.
func unknownCommand(above string, commands []*cli.Command, name string) error {
	var known []string
	for _, c := range commands {
		if !c.Hidden {
			known = append(known, c.Name)
		}
	}
	near := ""
	if word := otherWords[strings.ToLower(name)]; slices.Contains(known, word) {
		near = word
	}
	hint := ""
	if near = cmp.Or(near, config.Nearest(name, known)); near != "" {
		hint = fmt.Sprintf("did you mean %q? ", above+" "+near)
	}
	_, typed, below := strings.Cut(above+" "+name, " ")
	if !below {
		typed = name
	}
	return usagef("no such command %q: %s%s --help lists them", typed, hint, above)
}
