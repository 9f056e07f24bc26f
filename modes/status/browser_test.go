package status

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"fenc/config/need"
)

const patience = 3 * time.Minute // after which a test is stuck, not slow

// browser is a page of a real browser, without a window.
type browser struct {
	t   *testing.T // that looks at it now
	ctx context.Context

	mu       sync.Mutex
	asked    []string // addresses that the page had anything from
	mistakes []string // that the browser reports of the page
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	program := need.Program(t, "chromium", "chromium", "chromium-browser", "google-chrome")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.UserDataDir(t.TempDir()),
		chromedp.WSURLReadTimeout(patience))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocated, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(func() {
		chromedp.Cancel(ctx) // waits for the browser's end
		cancel()
	})
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.note); err != nil {
		t.Fatal(err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	return b
}

// show loads a status page on a screen of the given size, and waits until it is
// live.
func (b *browser) show(t *testing.T, url string, width, height int64, theme string) {
	t.Helper()
	b.t = t
	b.mu.Lock()
	b.asked, b.mistakes = nil, nil
	b.mu.Unlock()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
	})
	b.do(chromedp.EmulateViewport(width, height), chromedp.Navigate(url))
	b.await(`document.getElementById("connection").className === "live"`)
}

// call sends the browser a command.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.asked = append(b.asked, e.Request.URL)
	case *log.EventEntryAdded:
		b.mistakes = append(b.mistakes, e.Entry.Text+" "+e.Entry.URL)
	case *runtime.EventExceptionThrown:
		b.mistakes = append(b.mistakes, e.ExceptionDetails.Text)
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// evaluate returns the value of an expression in the page.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// await waits until an expression in the page is true.
func (b *browser) await(expression string) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(patience))); err != nil {
		b.t.Fatalf("await %s: %v", expression, err)
	}
}

// picture keeps a screenshot where FENC_PICTURES says, to be looked at.
func (b *browser) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("FENC_PICTURES")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestInABrowser(t *testing.T) {
	t.Parallel()
	s := busy()
	web := httptest.NewServer(New(s.look).Handler())
	t.Cleanup(web.Close)
	b := startBrowser(t)
	screens := []struct {
		name          string
		width, height int64
		theme         string
	}{
		{"desk-light", 1280, 900, "light"},
		{"desk-dark", 1280, 900, "dark"},
		{"phone-light", 360, 740, "light"},
		{"phone-dark", 360, 740, "dark"},
	}
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			b.show(t, web.URL, screen.width, screen.height, screen.theme)
			if got := evaluate[int64](b, `document.documentElement.scrollWidth`); got > screen.width {
				t.Errorf("the page is %d wide on a screen of %d", got, screen.width)
			}
			if got := evaluate[string](b, `document.title`); got != "fenc" {
				t.Errorf("a peer's name made the title %q", got)
			}
			if got := evaluate[int](b, `document.images.length + document.querySelectorAll("main script").length`); got != 0 {
				t.Errorf("%d elements come from peers' names", got)
			}
			if got := evaluate[string](b, `document.getElementById("arriving").innerText`); !strings.Contains(got, evil) {
				t.Errorf("the evil name is not readable: %s", got)
			}
			if dark := evaluate[bool](b, `getComputedStyle(document.body).backgroundColor === "rgb(20, 23, 28)"`); dark != (screen.theme == "dark") {
				t.Errorf("dark is %t with the theme %s", dark, screen.theme)
			}
			for _, of := range []string{"dt", ".none, small", ".mark.bad", ".mark.good", "td.name", "#now strong"} {
				if got := evaluate[float64](b, contrast(of)); got < 4.5 {
					t.Errorf("contrast of %s is %.1f, want 4.5 at least", of, got)
				}
			}
			b.picture(screen.name)
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, url := range b.asked {
				if !strings.HasPrefix(url, web.URL) {
					t.Errorf("the page asked for %s", url)
				}
			}
			for _, mistake := range b.mistakes {
				t.Errorf("the browser says: %s", mistake)
			}
		})
	}
	t.Run("up to date", func(t *testing.T) { testStaysUpToDate(t, b) })
}

// contrast is an expression for the ratio of brightness between an element's text
// and what is behind it, as WCAG 2.2 has it, section 1.4.3.
func contrast(of string) string {
	return `(() => {
		const light = (color) => {
			const [r, g, b] = color.match(/[\d.]+/g).map(Number).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
			return 0.2126 * r + 0.7152 * g + 0.0722 * b;
		};
		const element = document.querySelector("` + of + `");
		let ground = element;
		while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
		const [a, b] = [light(getComputedStyle(element).color), light(getComputedStyle(ground).backgroundColor)];
		return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
	})()`
}

// testStaysUpToDate: what changes is on the page without loading it again, and so
// is that the server has ended.
func testStaysUpToDate(t *testing.T, b *browser) {
	s := busy()
	web := httptest.NewServer(New(s.look).Handler())
	t.Cleanup(web.Close)
	b.show(t, web.URL, 1280, 900, "light")
	evaluate[bool](b, `window.loadedOnce = true`)
	s.set(func(v *View) {
		v.Sessions[0].Transfers[0].Done = v.Sessions[0].Transfers[0].Bytes / 2
		v.Recent = append(v.Recent[:0:0], v.Recent[0])
		v.Recent[0].Path = "arrived-just-now"
	})
	b.await(`document.querySelector("#arriving progress").value === 50`)
	b.await(`document.getElementById("recent").innerText.includes("arrived-just-now")`)
	if !evaluate[bool](b, `window.loadedOnce`) {
		t.Error("the page was loaded again")
	}
	web.CloseClientConnections()
	web.Listener.Close()
	b.await(`document.getElementById("connection").className === "cut"`)
	b.picture("cut")
}
