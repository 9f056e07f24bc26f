package modes

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
	"fenc/wire"
)

// ofServer is the word that leaves a client's retention to the server's.
const ofServer = "server"

func retentionCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name: "retention", Usage: "set how long a client's files stay", ArgsUsage: "NAME",
		UsageText: "fenc clients retention [--keep-versions N] [--expire-after AGE] [--keep-partial AGE] NAME",
		Description: `Sets for one client what keep_versions, expire_after and keep_partial of
server.toml set for all; the word server goes back to those. Without options it
prints what holds. AGE is a duration such as 90d or 36h.

   fenc clients retention --keep-versions 5 --expire-after 90d grace`,
		Flags: serverFlags(
			&cli.StringFlag{Name: "keep-versions", Usage: "keep `N` earlier versions of a file, 0 to 1000"},
			&cli.StringFlag{Name: "expire-after", Usage: "remove a file so long after its receipt, 1h to 36500d; 0s is never"},
			&cli.StringFlag{Name: "keep-partial", Usage: "keep an upload that does not get on so long, 1h to 365d"},
		),
		Action: errandOf(model.Options{Beside: true}, func(e errand) error {
			change, err := retentionChange(e.Context)
			if err != nil {
				return err
			}
			if err := e.catalogue.SetRetention(e.args[0], change); err != nil {
				return explainClient(err, e.args[0])
			}
			client, _, err := e.catalogue.ClientNamed(e.args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(s.Out, "%s: %s\n", wire.Printable(e.args[0]), retentionText(client, retention(e.settings)))
			return nil
		}),
	}
}

func retentionChange(c *cli.Context) (change model.RetentionChange, err error) {
	change.SetVersions, change.SetExpire, change.SetPartial = c.IsSet("keep-versions"), c.IsSet("expire-after"), c.IsSet("keep-partial")
	if text := c.String("keep-versions"); change.SetVersions && text != ofServer {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > 1000 {
			return change, usagef("--keep-versions %q: write a whole number from 0 to 1000, or %s", text, ofServer)
		}
		change.KeepVersions = &n
	}
	if change.ExpireAfter, err = duration(c, "expire-after", config.CheckExpireAfter); err != nil {
		return change, err
	}
	change.KeepPartial, err = duration(c, "keep-partial", config.CheckKeepPartial)
	return change, err
}

// duration reads an option of that kind; nil is the server's.
func duration(c *cli.Context, name string, check func(config.Duration) error) (*time.Duration, error) {
	text := c.String(name)
	if !c.IsSet(name) || text == ofServer {
		return nil, nil
	}
	var d config.Duration
	err := d.UnmarshalText([]byte(text))
	if err == nil {
		err = check(d)
	}
	if err != nil {
		return nil, usagef("--%s %q: %w; write a duration such as 90d, or %s", name, text, err, ofServer)
	}
	length := time.Duration(d)
	return &length, nil
}

// retentionText says what holds for a client, and where it comes from.
func retentionText(client model.Client, own model.Retention) string {
	holds := client.Retention(own)
	from := func(set bool) string {
		if set {
			return ""
		}
		return " (server.toml)"
	}
	expire := "never expire"
	if holds.ExpireAfter > 0 {
		expire = "expire after " + config.Duration(holds.ExpireAfter).String()
	}
	return strings.Join([]string{
		fmt.Sprintf("%d earlier versions kept%s", holds.KeepVersions, from(client.KeepVersions != nil)),
		fmt.Sprintf("files %s%s", expire, from(client.ExpireAfter != nil)),
		fmt.Sprintf("unfinished uploads stay %s%s", config.Duration(holds.KeepPartial), from(client.KeepPartial != nil)),
	}, ", ")
}

// durationText is a duration in nanoseconds as settings have it; empty for none.
func durationText(nanoseconds *int64) string {
	if nanoseconds == nil {
		return ""
	}
	return config.Duration(*nanoseconds).String()
}
