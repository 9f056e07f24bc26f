package progress

import (
	"fmt"
	"strings"
	"time"

	"fenc/modes/send"
)

// part is what a part of a transfer's time went by with.
type part struct {
	who   string // held the transfer back, if this is the most
	doing string
	took  time.Duration
}

// explain says what held a transfer back, and the figures that say so. The stages
// of a transfer overlap: the one that took most of its time is what others waited
// for.
func explain(e *ending, getting bool) string {
	if e.elapsed <= 0 {
		return "fenc: nothing was on its way, so nothing held it back"
	}
	parts := partsOf(e.spent, e.paused, getting)
	most := 0
	for i, p := range parts {
		if p.took > parts[most].took {
			most = i
		}
	}
	var others []string
	for i, p := range parts {
		if i != most {
			others = append(others, fmt.Sprintf("%s %s", p.doing, share(p.took, e.elapsed)))
		}
	}
	who := parts[most].who
	if 2*parts[most].took < e.elapsed {
		who = "nothing alone"
	}
	return fmt.Sprintf("fenc: %s held it back: of %s, %s took %s; meanwhile, %s.",
		who, seconds(e.elapsed), parts[most].doing, share(parts[most].took, e.elapsed), strings.Join(others, ", "))
}

func partsOf(s *send.Spent, paused time.Duration, getting bool) []part {
	disk := part{"the disk", "reading files", s.Disk}
	processor := part{"the processor", "hashing and encrypting", s.Processor}
	network := part{"the network", "waiting until the connection took more", s.Network}
	server := part{"the server", "waiting for the server's answers", s.Server}
	if getting {
		disk.doing, processor.doing, network.doing = "writing files", "decrypting and hashing", "waiting for content to come"
	} else if 2*s.Receiver > s.Network {
		network.who, network.doing = "the server (or a proxy before it)", "waiting until it took what the network had room for"
	}
	parts := []part{disk, processor, network, server}
	if s.Limit > 0 {
		parts = append(parts, part{"the bandwidth limit (bwlimit)", "keeping to it", s.Limit})
	}
	if paused > 0 {
		parts = append(parts, part{"lost connections", "pauses before trying again", paused})
	}
	return parts
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// share is a time with its share of the whole.
func share(d, whole time.Duration) string {
	return fmt.Sprintf("%s (%.0f %%)", seconds(d), min(100, 100*d.Seconds()/whole.Seconds()))
}
