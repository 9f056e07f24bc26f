package modes

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"fenc/config/need"
)

// eachCommand calls do for every command that help shows.
func eachCommand(commands []*cli.Command, above string, do func(name string, c *cli.Command)) {
	for _, c := range commands {
		if !c.Hidden {
			do(above+" "+c.Name, c)
			eachCommand(c.Subcommands, above+" "+c.Name, do)
		}
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	t.Parallel()
	eachCommand(App(Streams{}).Commands, "fenc", func(name string, c *cli.Command) {
		if !strings.Contains("\n"+c.Description, "\n   "+name) && !strings.Contains(c.Description, "(fenc "+c.Name) {
			t.Errorf("%s --help has no example, a line that begins with three spaces and %[1]s", name)
		}
		if c.Usage == "" || c.UsageText == "" {
			t.Errorf("%s: no usage", name)
		}
		for _, f := range c.Flags {
			if usageOf(f) == "" {
				t.Errorf("%s %s: no usage", name, f.Names()[0])
			}
		}
	})
}

func output(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := Run(t.Context(), append([]string{"fenc"}, args...), Streams{In: strings.NewReader(""), Out: &out, Err: &out}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestManPageHasAllThatHelpHas(t *testing.T) {
	t.Parallel()
	page := output(t, "man")
	plain := strings.NewReplacer(`\-`, "-", `\fB`, "", `\fR`, "", `\fI`, "", `\&`, "", `\e`, `\`).Replace(page)
	eachCommand(App(Streams{}).Commands, "fenc", func(name string, c *cli.Command) {
		_, section, found := strings.Cut(plain, "\n.SS "+name+"\n")
		if !found {
			t.Errorf("%s is not in the man page", name)
			return
		}
		section, _, _ = strings.Cut(section, "\n.S")
		for _, f := range c.Flags {
			for _, option := range f.Names() {
				if !strings.Contains(section, twoDashes(option)) {
					t.Errorf("%s %s is not in the man page", name, option)
				}
			}
		}
	})
	for _, e := range exitStatuses {
		if row := fmt.Sprintf(".TP\n.B %d\n%s\n", e.Status, e.Meaning); !strings.Contains(plain, row) {
			t.Errorf("the man page has not %q", row)
		}
	}
	groff := need.Program(t, "groff", "groff")
	command := exec.Command(groff, "-man", "-ww", "-z", "-Tutf8")
	command.Stdin = strings.NewReader(page)
	if said, err := command.CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("groff says %v:\n%s", err, said)
	}
}

// There is one table of exit statuses.
func TestExitStatusesAreDocumentedOnce(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| exit status | meaning |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var want strings.Builder
	for _, e := range exitStatuses {
		fmt.Fprintf(&want, "| %d | %s |\n", e.Status, e.Meaning)
	}
	if table+"\n" != want.String() {
		t.Errorf("README.md has\n%s\nwant\n%s", table, want.String())
	}
	help := output(t, "send", "--help")
	for _, e := range exitStatuses {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^ +%d +%s$`, e.Status, regexp.QuoteMeta(e.Meaning))).MatchString(help) {
			t.Errorf("fenc send --help has not %d, %s", e.Status, e.Meaning)
		}
	}
	source, err := os.ReadFile("modes.go")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(regexp.MustCompile(`(?m)^\tExit\w+ += \d+`).FindAll(source, -1)); got != len(exitStatuses) {
		t.Errorf("modes.go has %d constants of exit statuses, the table %d", got, len(exitStatuses))
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		words []string
		want  string // the first words of the answer's lines
	}{
		{[]string{"ser"}, "serve :nothing"},
		{[]string{"send", "--exclude"}, "--exclude --exclude-from :nothing"},
		{[]string{"send", "a.txt", "--max"}, "--max-size :nothing"},
		{[]string{"send", "--config", ""}, ":files"},
		{[]string{"send", ""}, ":files"},
		{[]string{"send", "--", "--max"}, ":files"},
		{[]string{"get", "x", "--dir="}, ":folders"},
		{[]string{"get", "x", "--dir", "=", "y"}, ":folders"}, // as bash breaks words
		{[]string{"send", "--protocol", ""}, "3 4 :nothing"},
		{[]string{"clients", "--config", "=", "x", "rev"}, "revoke :nothing"},
		{[]string{"clients", "revoke", "--data"}, "--database :nothing"},
		{[]string{"help", "vers"}, "version :nothing"},
		{[]string{"completion", ""}, "bash zsh fish :nothing"},
		{[]string{"nonsense", ""}, ":nothing"},
	} {
		var got []string
		for _, line := range strings.Split(strings.TrimSuffix(output(t, append([]string{completeCommandName}, test.words...)...), "\n"), "\n") {
			word, _, _ := strings.Cut(line, "\t")
			got = append(got, word)
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%q: got %q, want %q", test.words, got, test.want)
		}
	}
	if all := output(t, completeCommandName, ""); strings.Contains(all, completeCommandName) || !strings.Contains(all, "send\t") {
		t.Errorf("commands: got %q", all)
	}
}
