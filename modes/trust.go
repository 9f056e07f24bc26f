package modes

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/wire/v4"
)

func trustCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "trust",
		Usage:     "pin the server's key, in the place of the one that is pinned",
		ArgsUsage: "FINGERPRINT",
		UsageText: "fenc trust [--config transfer.toml] [--server ADDR] [FINGERPRINT]",
		Description: `For a server that was set up anew. The server must show the key with this
FINGERPRINT; get it from the server's operator, who finds it in the first line that
fenc serve logs. Without FINGERPRINT, shows the server's key and asks.

   fenc trust SHA256:CcY75e7dEn1Wm7qxPBanOYY+N3MDGwfNT/kFCmqc1k8`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "change `FILE` (default: transfer.toml, where there is one)"},
			&cli.StringFlag{Name: "server", Usage: "the server is at `ADDR`, host:port (FENC_SERVER; default: server of transfer.toml)"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usagef("trust takes one FINGERPRINT, got %d arguments", c.NArg())
			}
			settings, source, err := config.LoadTransfer(c.String("config"))
			if err == nil {
				err = overridden(c, settings.Override, "server")
			}
			if err == nil {
				err = settings.Validate()
			}
			if err != nil {
				return &usageError{err}
			}
			if err := trust(c, s, settings, source); err != nil {
				return fmt.Errorf("trust: %w", err)
			}
			return nil
		},
	}
}

func trust(c *cli.Context, s Streams, settings config.Transfer, source config.Source) error {
	k := &contact{streams: s, settings: settings, source: source}
	k.mePath, _ = config.System().MePath(settings.Me, source)
	var want v4.Fingerprint
	if c.Args().Present() {
		var err error
		if want, err = v4.ParseFingerprint(c.Args().First()); err != nil {
			return &usageError{err}
		}
	}
	key, err := probe(c.Context, k.to())
	if err != nil {
		return k.explain(err)
	}
	switch {
	case !want.IsZero() && key != want:
		return fmt.Errorf("the server at %s shows another key, %s: nothing was changed; ask the server's operator which is right", settings.Server, key)
	case slices.Contains(settings.ServerKey, key.String()):
		fmt.Fprintf(s.Out, "%s is trusted already\n", key)
		return nil
	case want.IsZero():
		if !isTerminal(s.In) {
			return usagef("the server at %s shows the key %s: name it behind fenc trust once you have compared it with the one that fenc serve logs", settings.Server, key)
		}
		for _, old := range settings.ServerKey {
			fmt.Fprintf(s.Err, "pinned until now:  %s\n", old)
		}
		fmt.Fprintf(s.Err, "the server shows:  %s\n\nfenc serve logs its key at every start. Is it this one? [yes/no] ", key)
		if err := confirmed(c.Context, s); err != nil {
			return err
		}
	}
	k.settings.ServerKey = []string{key.String()}
	if err := k.savePin(); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "trusted from now on: %s\n", key)
	return nil
}
