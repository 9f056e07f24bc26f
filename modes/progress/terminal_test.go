//go:build unix

package progress

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"fenc/modes/progress/screentest"
	"fenc/modes/send"
)

// shown is a transfer that is shown on a terminal.
func shown(t *testing.T, columns, rows int, environment ...string) (*screentest.Screen, *Display) {
	t.Helper()
	s := screentest.New(t, columns, rows)
	return s, New(Options{Out: s.TTY, Err: s.TTY, Getenv: func(name string) string {
		for _, v := range environment {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}})
}

// begun is a file on its way.
func begun(d *Display, name string, size int64) *send.Progress {
	p := &send.Progress{Name: name, Size: size, Acknowledged: true}
	d.Begin(p)
	return p
}

// verify ends a file well.
func verify(d *Display, p *send.Progress) {
	d.End(p, send.Result{Name: p.Name, Size: p.Size, Checksum: "blake3 0123456789abcdef0123", Attempts: 1})
}

// 100,000 files take no more memory and no more of the screen than a thousand do.
func TestHundredThousandFiles(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {30, 24}, {20, 10}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			const files, window = 100_000, 1000
			screen, d := shown(t, size[0], size[1])
			d.Found(files, files*10)
			d.Counted()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var open []*send.Progress
			end := func() {
				for _, p := range open {
					verify(d, p)
				}
				open = open[:0]
			}
			for i := range files {
				p := &send.Progress{Name: fmt.Sprintf("folder/file %d", i), Size: 10}
				d.Begin(p)
				p.Start(0)
				p.Move(10)
				if open = append(open, p); len(open) == window {
					if i == files-1 { // all but these
						screen.Await(`^total .*9\d%`, nil)
						if seen := screen.Percents("total"); seen[len(seen)-1] > 99 {
							t.Errorf("percentages: got %v while files were on their way", seen)
						}
					}
					end()
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
				t.Errorf("%d bytes were kept of %d files, want no more than of what is on its way", grown, files)
			}
			d.Close(nil, 0)
			text := screen.Await(`^fenc: 100,000 files\s+verified`, nil)
			if strings.Contains(text, "total") {
				t.Errorf("after the end:\n%s\nwant no bars", text)
			}
			listed := regexp.MustCompile(`folder/file \d+`).FindAllString(screen.Raw(), -1)
			if len(listed) != maxListed {
				t.Errorf("%d files are listed, want %d", len(listed), maxListed)
			}
		})
	}
}

func TestNothingIsAtHundredPercentBeforeItIsVerified(t *testing.T) {
	t.Parallel()
	screen, d := shown(t, 80, 24)
	d.Found(1, 1000)
	d.Counted()
	p := begun(d, "big", 1000)
	p.Start(0)
	p.Move(1000)
	screen.Await(`^big +\[=+> +\] +verifying$`, nil)
	p.Hold(1000)
	screen.Await(`^big +\[#+> +\]  99%  verifying\nheld 1000 B of 1000 B  sent 1000 B$`, nil)
	verify(d, p)
	d.Close(nil, 0)
	screen.Await(`\Abig  1000 B  0\.0 s  blake3 0123456789abcdef  verified\z`, nil)
	if strings.Contains(screen.Raw(), "100%") {
		t.Errorf("100%% was drawn:\n%s", screen.Raw())
	}
}

func TestRowsAtWidths(t *testing.T) {
	t.Parallel()
	for width, want := range map[int]string{
		80: `^a/long/path/of/big +\[#+=+> +\]  20%`,
		54: `^…\S*path/of/big +\[#+=*> +\]  20%`,
		30: `^…\S*th/of/big  20%`,
		20: `^…\S*path/of/big  20%$`,
	} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			t.Parallel()
			screen, d := shown(t, width, 24)
			d.Found(2, 4000)
			d.Counted()
			p := begun(d, "a/long/path/of/big", 1000)
			p.Start(0)
			screen.Await(`^\S*of/big`, nil)
			p.Move(500)
			p.Hold(200)
			text := screen.Await(want, nil)
			for line := range strings.Lines(text) {
				if n := len([]rune(strings.TrimRight(line, "\n"))); n >= width {
					t.Errorf("a line of %d cells on a screen of %d: %q", n, width, line)
				}
			}
			screen.Await(`^total .* ?5%`, nil)
			verify(d, p)
			d.Close(nil, 0)
		})
	}
}

func TestWhatHappensIsSaid(t *testing.T) {
	t.Parallel()
	screen, d := shown(t, 80, 24)
	d.Found(3, 3000)
	p := begun(d, "big", 1000)
	screen.Await(`^total .*counting…\n0/3\+ files`, nil)
	d.Counted()
	p.Start(430)
	screen.Await(`^big +\[.*\]  43%  resuming at 43%$`, nil)
	d.Retry(errors.New("connection to the server lost"), time.Hour)
	screen.Await(`^fenc: connection to the server lost; trying again in 1h0m0s$`, nil)
	screen.Await(`^total .*again in (1:00:00|59:\d\d)`, nil)
	screen.Await(`1 retries`, nil)
	d.Skip("link", "is a symbolic link")
	screen.Await(`^fenc: link skipped: is a symbolic link$`, nil)
	screen.Await(`1 skipped`, nil)
	d.End(nil, send.Result{Name: "gone", Err: errors.New("no such file")})
	screen.Await(`^gone  not verified: no such file$`, nil)
	screen.Await(`^0/3 files  1 failed`, nil)
	d.End(nil, send.Result{Name: "old", Size: 1000, Checksum: "blake3 01", Unchanged: true})
	screen.Await(`^old  1000 B  0\.0 s  blake3 01  unchanged$`, nil)
	screen.Await(`1 unchanged`, nil)
	verify(d, p)
	d.Close(nil, 0)
	screen.Await(`^fenc: 2 files verified \(1 unchanged\), 1 not; 2\.0 KiB in \d+:\d\d`, nil)
}

// What was sent and has to be sent again is not taken off what was shown.
func TestPercentagesDoNotFall(t *testing.T) {
	t.Parallel()
	screen, d := shown(t, 80, 24)
	d.Found(2, 2000)
	d.Counted()
	p := begun(d, "big", 1000)
	p.Start(0)
	p.Move(500)
	p.Hold(500)
	screen.Await(`^big .* 50%`, nil)
	screen.Await(`^total .* 25%`, nil)
	p.Again(400)
	screen.Await(`^held 100 B|  held 100 B`, nil)
	p.Move(500)
	p.Hold(600)
	screen.Await(`^big .* 60%`, nil)
	screen.Await(`^total .* 30%`, nil)
	d.Close(nil, 0)
}

func TestResizedScreen(t *testing.T) {
	t.Parallel()
	screen, d := shown(t, 80, 24)
	d.Found(2, 2000)
	d.Counted()
	p := begun(d, "big", 1000)
	p.Start(0)
	p.Hold(200)
	screen.Await(`^big +\[##+`, nil)
	for _, width := range []int{30, 100, 20} {
		screen.Resize(width, 24)
		p.Hold(p.Counters().Held + 100)
		screen.Await(fmt.Sprintf(`^big.* %d%%`, p.Counters().Held/10), nil)
		text := screen.Await(fmt.Sprintf(`^total .* %d%%`, p.Counters().Held/20), nil)
		if n := strings.Count(text, "total"); n != 1 {
			t.Errorf("%d columns: got\n%s\nwant one row of the total", width, text)
		}
	}
	d.Close(nil, 0)
}

// Where a terminal folds lines that have become too long, they are gone behind, too.
func TestFoldedLinesAreRemoved(t *testing.T) {
	t.Parallel()
	for environment, want := range map[string]string{"TMUX=yes": "\x1b[3A", "TERM=xterm": "\x1b[1A"} {
		screen := screentest.New(t, 80, 24)
		c := newConsole(screen.TTY, func(name string) string {
			value, _ := strings.CutPrefix(environment, name+"=")
			if value == environment {
				return ""
			}
			return value
		})
		draw := func() {
			if _, err := c.ReadFrom(strings.NewReader(strings.Repeat("x", 79) + "\n")); err != nil {
				t.Fatal(err)
			}
			if err := c.Flush(1); err != nil {
				t.Fatal(err)
			}
		}
		draw()
		screen.Resize(30, 24)
		draw()
		fmt.Fprintln(screen.TTY, "end")
		screen.Await("end", nil)
		if !strings.Contains(screen.Raw(), want) {
			t.Errorf("%s: got %q, want %q in it", environment, screen.Raw(), want)
		}
	}
}

func TestEnvironmentIsHeeded(t *testing.T) {
	t.Parallel()
	for environment, test := range map[string]struct{ bars, colours bool }{
		"TERM=xterm": {true, true}, "NO_COLOR=1": {true, false}, "TERM=dumb": {false, false},
	} {
		t.Run(environment, func(t *testing.T) {
			t.Parallel()
			screen, d := shown(t, 80, 24, environment)
			d.Found(1, 1000)
			d.Counted()
			p := begun(d, "big", 1000)
			p.Start(0)
			p.Move(600)
			p.Hold(500)
			if test.bars {
				screen.Await(` 50%`, nil)
			}
			verify(d, p)
			d.Close(nil, 0)
			screen.Await(`^big  .*verified`, nil)
			raw := screen.Raw()
			if bars := strings.Contains(raw, "\x1b[J"); bars != test.bars {
				t.Errorf("bars: got %t, want %t, in %q", bars, test.bars, raw)
			}
			if colours := strings.Contains(raw, "\x1b[32m"); colours != test.colours {
				t.Errorf("colours: got %t, want %t, in %q", colours, test.colours, raw)
			}
			if !test.bars && strings.Contains(raw, "\x1b") {
				t.Errorf("got %q, want no escape sequences", raw)
			}
		})
	}
}
