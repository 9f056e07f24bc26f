package modes

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeCommandName is the command that the scripts of fenc completion ask.
const completeCommandName = "__complete"

// What the last line of an answer says: what else the shell may offer.
const (
	offerFiles   = ":files"
	offerFolders = ":folders"
	offerNothing = ":nothing"
)

// completionScripts have each shell ask fenc itself, whose words are those of the
// version that is installed.
var completionScripts = map[string]string{
	"bash": `# Completion of fenc for bash: source <(fenc completion bash)
_fenc() {
    local IFS=$'\n' cur="${COMP_WORDS[COMP_CWORD]}" line offer
    COMPREPLY=()
    [[ $cur == "=" || $cur == ":" ]] && cur=
    while IFS= read -r line; do
        case $line in
        :*) offer=$line ;;
        *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    case $offer in
    :files) type compopt &>/dev/null && compopt -o filenames; COMPREPLY+=($(compgen -f -- "$cur")) ;;
    :folders) type compopt &>/dev/null && compopt -o filenames; COMPREPLY+=($(compgen -d -- "$cur")) ;;
    esac
}
complete -F _fenc fenc
`,
	"zsh": `#compdef fenc
# Completion of fenc for zsh: source <(fenc completion zsh), or as the file _fenc in
# a directory of $fpath.
_fenc() {
    local -a described
    local line offer
    while IFS= read -r line; do
        case $line in
        :*) offer=$line ;;
        *) line=${line//:/\\:}; described+=("${line/$'\t'/:}") ;;
        esac
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#described )) && _describe fenc described
    case $offer in
    :files) _files ;;
    :folders) _files -/ ;;
    esac
}
if [ "$funcstack[1]" = _fenc ]; then _fenc "$@"; else compdef _fenc fenc; fi
`,
	"fish": `# Completion of fenc for fish: fenc completion fish | source
function __fenc_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l offer
    for line in (command $words[1] __complete $words[2..-1] 2>/dev/null)
        switch $line
            case ':*'
                set offer $line
            case '*'
                echo $line
        end
    end
    switch $offer
        case ':files'
            __fish_complete_path (commandline -ct)
        case ':folders'
            __fish_complete_directories (commandline -ct)
    end
end
complete -c fenc -f -a '(__fenc_complete)'
`,
}

var completionShells = []string{"bash", "zsh", "fish"}

func completionCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what makes a shell complete fenc's commands and options",
		ArgsUsage: "SHELL",
		UsageText: "fenc completion bash|zsh|fish",
		Description: `Prints a script for SHELL. For every new shell, put its line where the shell reads
it at its start:

   source <(fenc completion bash)     in ~/.bashrc
   source <(fenc completion zsh)      in ~/.zshrc, behind compinit
   fenc completion fish | source      in ~/.config/fish/config.fish`,
		Action: func(c *cli.Context) error {
			args, err := arguments(c)
			if err != nil {
				return err
			}
			script, known := completionScripts[args[0]]
			if !known {
				return usagef("no completion for the shell %q: bash, zsh and fish have one", args[0])
			}
			_, err = io.WriteString(s.Out, script)
			return err
		},
	}
}

// completeCommand answers the scripts: the words behind fenc up to the cursor, the
// last of which is what is being typed.
func completeCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name: completeCommandName, Hidden: true, SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			words := joinBroken(c.Args().Slice())
			if len(words) == 0 {
				words = []string{""}
			}
			last := len(words) - 1
			for _, line := range complete(c.App, words[:last], words[last]) {
				if _, err := fmt.Fprintln(s.Out, line); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// joinBroken joins what bash takes for words of its own: = and :, and what stands at
// them.
func joinBroken(words []string) []string {
	var joined []string
	glue := false
	for i, w := range words {
		broken := i > 0 && (w == "=" || w == ":")
		if n := len(joined); n > 0 && (broken || glue) {
			joined[n-1] += w
		} else {
			joined = append(joined, w)
		}
		glue = broken
	}
	return joined
}

// complete returns what may stand in the place of the word typed, a line each with a
// tab and a description, and at last what else the shell may offer.
func complete(app *cli.App, before []string, typed string) []string {
	flags, commands := app.Flags, app.Commands
	command := &cli.Command{}
	onlyArguments := false
	for i := 0; i < len(before); i++ {
		word := before[i]
		switch {
		case onlyArguments:
		case word == "--":
			onlyArguments = true
		case isOption(word):
			if f := flagNamed(flags, optionName(word)); f != nil && takesValue(f) && !strings.Contains(word, "=") {
				if i++; i == len(before) {
					return completeValue(f, typed)
				}
			}
		case len(commands) > 0 && word == "help" && command.Name == "":
			return append(namesOf(commands, typed), offerNothing)
		case len(commands) > 0:
			below := commandNamed(commands, word)
			if below == nil {
				return []string{offerNothing}
			}
			command, flags, commands = below, below.Flags, below.Subcommands
		}
	}
	switch name, value, hasValue := strings.Cut(typed, "="); {
	case onlyArguments:
	case isOption(typed) && hasValue:
		if f := flagNamed(flags, optionName(name)); f != nil {
			return completeValue(f, value)
		}
		return []string{offerNothing}
	case strings.HasPrefix(typed, "-"):
		return append(optionsOf(flags, typed), offerNothing)
	case len(commands) > 0:
		return append(namesOf(commands, typed), offerNothing)
	}
	switch {
	case command.Name == "completion":
		return append(startingWith(completionShells, typed), offerNothing)
	case strings.Contains(command.ArgsUsage, "DIR"):
		return []string{offerFolders}
	case strings.Contains(command.ArgsUsage, "FILE"):
		return []string{offerFiles}
	}
	return []string{offerNothing}
}

func startingWith(words []string, typed string) (matching []string) {
	for _, w := range words {
		if strings.HasPrefix(w, typed) {
			matching = append(matching, w)
		}
	}
	return matching
}

func namesOf(commands []*cli.Command, typed string) (lines []string) {
	for _, c := range commands {
		if !c.Hidden && strings.HasPrefix(c.Name, typed) {
			lines = append(lines, c.Name+"\t"+c.Usage)
		}
	}
	return lines
}

func optionsOf(flags []cli.Flag, typed string) (lines []string) {
	for _, f := range flags {
		for _, name := range f.Names() {
			if option := twoDashes(name); strings.HasPrefix(option, typed) {
				lines = append(lines, option+"\t"+usageOf(f))
			}
		}
	}
	return lines
}

// usageOf is what help says of an option, without marks.
func usageOf(f cli.Flag) string {
	if documented, ok := f.(cli.DocGenerationFlag); ok {
		return strings.ReplaceAll(documented.GetUsage(), "`", "")
	}
	return ""
}

// valueOf is what help calls an option's value; empty for one that takes none.
func valueOf(f cli.Flag) string {
	documented, ok := f.(cli.DocGenerationFlag)
	if !ok || !documented.TakesValue() {
		return ""
	}
	if parts := strings.SplitN(documented.GetUsage(), "`", 3); len(parts) == 3 {
		return parts[1]
	}
	return "VALUE"
}

// completeValue completes an option's value.
func completeValue(f cli.Flag, typed string) []string {
	if f.Names()[0] == "protocol" {
		return append(startingWith([]string{"3", "4"}, typed), offerNothing)
	}
	switch valueOf(f) {
	case "FILE", "DSN":
		return []string{offerFiles}
	case "DIR":
		return []string{offerFolders}
	}
	return []string{offerNothing}
}
