package modes

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// manCommand prints the man page: fenc man >/usr/local/share/man/man1/fenc.1.
func manCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:        "man",
		Usage:       "print the man page",
		UsageText:   "fenc man",
		Description: "Prints fenc(1), made from the same text as --help, for man(1) to read:\n\n   fenc man | man -l -",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			_, err := io.WriteString(s.Out, manPage(c.App))
			return err
		},
	}
}

// manPage is the man page in the macros of man(7).
func manPage(app *cli.App) string {
	m := &roff{}
	m.line(`.TH FENC 1 "" "fenc %s" "User Commands"`, Version)
	m.line(".SH NAME\nfenc \\- %s", escaped(app.Usage))
	m.line(".SH SYNOPSIS")
	for _, c := range visible(app.Commands) {
		m.example(strings.Split(c.UsageText, "\n"))
	}
	m.line(".SH DESCRIPTION")
	m.text(app.Description)
	m.line(".SH COMMANDS")
	m.commands(app.Name, app.Commands)
	m.line(".SH FILES")
	for _, f := range [][2]string{
		{"server.toml", "the settings of fenc serve and of the operator's commands"},
		{"transfer.toml", "the settings of fenc send, get, list and watch"},
		{"me.toml", "who a client is to its server: a private key, for its owner alone"},
		{"server.key", "the server's private key, beside the database: keep a copy"},
	} {
		m.line(".TP\n.I %s\n%s", escaped(f[0]), escaped(f[1]))
	}
	m.line(".PP")
	m.text(`They are looked for in the working directory, and then in fenc/ of the user's
configuration directory ($XDG_CONFIG_HOME, or ~/.config).`)
	m.line(".SH ENVIRONMENT")
	m.text(`Each key of server.toml and transfer.toml is also the environment variable FENC_
and the key in upper case, which wins over the file.`)
	m.line(".TP\n.B CREDENTIALS_DIRECTORY\n%s", escaped("what systemd's LoadCredential= sets: server.key, me.toml and an invite are looked for there first"))
	m.line(".TP\n.B NO_COLOR\n%s", escaped("if it is set, nothing is coloured"))
	m.line(".SH EXIT STATUS")
	for _, e := range exitStatuses {
		m.line(".TP\n.B %d\n%s", e.Status, escaped(e.Meaning))
	}
	return m.String()
}

func visible(commands []*cli.Command) (shown []*cli.Command) {
	for _, c := range commands {
		if !c.Hidden {
			shown = append(shown, c)
		}
	}
	return shown
}

// roff writes the macros of man(7).
type roff struct{ strings.Builder }

func (m *roff) line(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

// commands describes commands and those below them.
func (m *roff) commands(above string, commands []*cli.Command) {
	for _, c := range visible(commands) {
		name := above + " " + c.Name
		m.line(".SS %s", escaped(name))
		m.line("%s.", escaped(strings.ToUpper(c.Usage[:1])+c.Usage[1:]))
		m.line(".PP")
		m.example(strings.Split(c.UsageText, "\n"))
		m.text(c.Description)
		for _, f := range c.Flags {
			m.option(f)
		}
		m.commands(name, c.Subcommands)
	}
}

func (m *roff) option(f cli.Flag) {
	var names []string
	for _, name := range f.Names() {
		names = append(names, `\fB`+escaped(twoDashes(name))+`\fR`)
	}
	head := strings.Join(names, ", ")
	if value := valueOf(f); value != "" {
		head += ` \fI` + escaped(value) + `\fR`
	}
	usage := usageOf(f)
	if documented, ok := f.(cli.DocGenerationFlag); ok && documented.GetDefaultText() != "" && takesValue(f) {
		usage += " (default: " + documented.GetDefaultText() + ")"
	}
	m.line(".TP\n%s\n%s", head, escaped(usage))
}

// example shows lines as they are.
func (m *roff) example(lines []string) {
	m.line(".nf")
	for _, l := range lines {
		m.line("%s", escaped(strings.TrimSpace(l)))
	}
	m.line(".fi")
}

// text writes paragraphs; lines that are set in are shown as they are.
func (m *roff) text(text string) {
	for _, paragraph := range strings.Split(text, "\n\n") {
		m.line(".PP")
		lines := strings.Split(strings.Trim(paragraph, "\n"), "\n")
		for i := 0; i < len(lines); {
			end := i
			for end < len(lines) && strings.HasPrefix(lines[end], "   ") == strings.HasPrefix(lines[i], "   ") {
				end++
			}
			if strings.HasPrefix(lines[i], "   ") {
				m.line(".RS 4")
				m.example(lines[i:end])
				m.line(".RE")
			} else {
				m.line("%s", escaped(strings.Join(lines[i:end], "\n")))
			}
			i = end
		}
	}
}

// escaped is text that roff takes for nothing else.
func escaped(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
