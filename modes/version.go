package modes

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// Version is the release that this source becomes.
const Version = "0.3.0"

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
			fmt.Fprintf(s.Out, "fenc %s (%s, %s/%s%s), protocols: 3\n", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, revision())
			return nil
		},
	}
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
