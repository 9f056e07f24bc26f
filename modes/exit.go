package modes

import (
	"fmt"
	"strings"
)

// exitStatuses is the table of exit statuses: fenc send --help, the man page and
// README say what stands here.
var exitStatuses = []struct {
	Status  int
	Meaning string
}{
	{ExitOK, "done; all files verified"},
	{ExitFailed, "a transfer failed, a check found something, or the server ended by a fault"},
	{ExitUsage, "wrong usage or configuration; nothing was done"},
	{ExitRefused, "refused by the server: not admitted, revoked, over the quota, name in use"},
	{ExitServerKey, "the server has another key than the pinned one; nothing was sent"},
	{ExitInterrupted, "interrupted, by SIGINT or SIGTERM"},
}

// exitText is the table as help shows it.
func exitText() string {
	var b strings.Builder
	b.WriteString("Exit status:\n")
	for _, e := range exitStatuses {
		fmt.Fprintf(&b, "\n   %-3d  %s", e.Status, e.Meaning)
	}
	return b.String()
}
