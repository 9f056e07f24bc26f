package modes

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// Version is the release that this source becomes.
const Version = "0.4.0"

func versionCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:        "version",
		Usage:       "print the version and the protocols spoken",
		UsageText:   "fenc version",
		Description: "   fenc version",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return printVersion(s.Out)
		},
	}
}

func printVersion(w io.Writer) error {
	_, err := fmt.Fprintf(w, "fenc %s (%s, %s/%s%s), protocols: 3, 4\n", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, revision())
	return err
}

// revision is the commit that the binary was built from, where it is known.
func revision() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return ", commit " + s.Value[:min(12, len(s.Value))]
		}
	}
	return ""
}
