package progress

import (
	"testing"
	"time"

	"fenc/modes/send"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	const whole = 10 * time.Second
	for name, test := range map[string]struct {
		spent   send.Spent
		paused  time.Duration
		getting bool
		want    string
	}{
		"network": {send.Spent{Disk: time.Second, Processor: 2 * time.Second, Network: 9 * time.Second, Server: 300 * time.Millisecond}, 0, false,
			"fenc: the network held it back: of 10.0 s, waiting until the connection took more took 9.0 s (90 %); meanwhile, " +
				"reading files 1.0 s (10 %), hashing and encrypting 2.0 s (20 %), waiting for the server's answers 0.3 s (3 %)."},
		"slow reader": {send.Spent{Network: 9 * time.Second, Receiver: 8 * time.Second}, 0, false,
			"fenc: the server (or a proxy before it) held it back: of 10.0 s, waiting until it took what the network had room for took 9.0 s (90 %); meanwhile, " +
				"reading files 0.0 s (0 %), hashing and encrypting 0.0 s (0 %), waiting for the server's answers 0.0 s (0 %)."},
		"disk, getting": {send.Spent{Disk: 6 * time.Second, Network: 5 * time.Second}, 0, true,
			"fenc: the disk held it back: of 10.0 s, writing files took 6.0 s (60 %); meanwhile, " +
				"decrypting and hashing 0.0 s (0 %), waiting for content to come 5.0 s (50 %), waiting for the server's answers 0.0 s (0 %)."},
		"nothing": {send.Spent{Disk: 2 * time.Second, Processor: 4 * time.Second}, 0, false,
			"fenc: nothing alone held it back: of 10.0 s, hashing and encrypting took 4.0 s (40 %); meanwhile, " +
				"reading files 2.0 s (20 %), waiting until the connection took more 0.0 s (0 %), waiting for the server's answers 0.0 s (0 %)."},
		"pauses": {send.Spent{Limit: time.Second}, 8 * time.Second, false,
			"fenc: lost connections held it back: of 10.0 s, pauses before trying again took 8.0 s (80 %); meanwhile, " +
				"reading files 0.0 s (0 %), hashing and encrypting 0.0 s (0 %), waiting until the connection took more 0.0 s (0 %), " +
				"waiting for the server's answers 0.0 s (0 %), keeping to it 1.0 s (10 %)."},
	} {
		e := &ending{snapshot: &snapshot{elapsed: whole}, spent: &test.spent}
		e.paused = test.paused
		if got := explain(e, test.getting); got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, test.want)
		}
	}
}
