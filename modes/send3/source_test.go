package send3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"fenc/modes/send"
	"fenc/wire/v3"
)

func TestContentArrivesWhateverItsSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 15, 16, 17, pieceSize - 1, pieceSize, pieceSize + 1,
		2*pieceSize - 1, 2 * pieceSize, 2*pieceSize + 1, 5*pieceSize + 12345} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			want := pattern(size)
			s := newServer(t, func(p *peer) {
				p.agreeKey()
				if got := p.answered(0); !bytes.Equal(got, want) {
					p.fail("content: got %d bytes, want the %d that were sent", len(got), len(want))
				}
				p.concluded(v3.CodeValid)
				p.ended()
			})
			results, err := runAll(t.Context(), t, s.settings(), tempFile(t, "a", want))
			if r := results[0]; err != nil || r.Err != nil || r.Size != int64(size) || r.Attempts != 1 {
				t.Errorf("got %+v, %v, want %d bytes verified", r, err, size)
			}
		})
	}
}

// TestFileThatChangesOnceIsSentAgain changes the file between the header of its
// first attempt and the answer to it.
func TestFileThatChangesOnceIsSentAgain(t *testing.T) {
	t.Parallel()
	const size = 3 * pieceSize
	for name, change := range map[string]func(path string) error{
		"grows":    func(path string) error { return os.Truncate(path, size+5) },
		"shrinks":  func(path string) error { return os.Truncate(path, size-5) },
		"emptied":  func(path string) error { return os.Truncate(path, 0) },
		"modified": func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := tempFile(t, "a", pattern(size))
			s := newServer(t, func(p *peer) {
				p.agreeKey()
				f := p.fileHead()
				if err := change(src.Path); err != nil {
					p.fail("%v", err)
				}
				p.content(f) // as long as announced, whatever is left of the file
				p.respond(v3.CodeFileReceived, received(f, 0))
				p.concluded(v3.CodeResend)
				want, err := os.ReadFile(src.Path)
				if err != nil {
					p.fail("%v", err)
				}
				if got := p.answered(0); !bytes.Equal(got, want) {
					p.fail("second attempt: got %d bytes, want the %d of the file as it is now", len(got), len(want))
				}
				p.concluded(v3.CodeValid)
				p.ended()
			})
			results, err := runAll(t.Context(), t, s.settings(), src)
			if err != nil || results[0].Err != nil || results[0].Attempts != 2 {
				t.Errorf("got %+v, %v, want verified in 2 attempts", results[0], err)
			}
		})
	}
}

// TestFileThatNeverHoldsStillIsReported: the server's checksums are right each
// time, and still the file is none of what was sent.
func TestFileThatNeverHoldsStillIsReported(t *testing.T) {
	t.Parallel()
	src := tempFile(t, "log", pattern(100))
	s := newServer(t, func(p *peer) {
		p.agreeKey()
		for i, verdict := range []v3.Code{1105, 1105, 1105, 1106} {
			f := p.fileHead()
			plain := p.content(f)
			if err := os.Truncate(src.Path, int64(99-i)); err != nil {
				p.fail("%v", err)
			}
			p.respond(v3.CodeFileReceived, received(f, checksum(plain)))
			p.concluded(verdict)
		}
		// The conversation is in step: the next file goes through.
		p.answered(0)
		p.concluded(v3.CodeValid)
		p.ended()
	})
	results, err := runAll(t.Context(), t, s.settings(), src, tempFile(t, "b", []byte("b")))
	if err != nil {
		t.Fatal(err)
	}
	mustSay(t, results[0].Err, "changed while it was sent: 97 bytes, then 96")
	if !errors.Is(results[0].Err, send.ErrChanged) || results[0].Attempts != 4 {
		t.Errorf("got %d attempts, %v, want 4, send.ErrChanged", results[0].Attempts, results[0].Err)
	}
	if results[1].Err != nil {
		t.Errorf("next file: got %v, want verified", results[1].Err)
	}
}

// TestFileThatGrowsOverTheLimitIsGivenUp: 1105 promised another attempt; as
// there is none, 1106 follows, as the first client has it.
func TestFileThatGrowsOverTheLimitIsGivenUp(t *testing.T) {
	t.Parallel()
	src := tempFile(t, "a", []byte("abc"))
	s := newServer(t, func(p *peer) {
		p.agreeKey()
		f := p.fileHead()
		p.content(f)
		if err := os.Truncate(src.Path, v3.MaxFileSize+1); err != nil {
			p.fail("%v", err)
		}
		p.respond(v3.CodeFileReceived, received(f, 0))
		p.concluded(v3.CodeResend)
		p.concluded(v3.CodeGiveUp)
		p.answered(0)
		p.concluded(v3.CodeValid)
		p.ended()
	})
	results, err := runAll(t.Context(), t, s.settings(), src, tempFile(t, "b", []byte("b")))
	if err != nil || results[1].Err != nil {
		t.Errorf("next file: got %v, %v, want verified", results[1].Err, err)
	}
	mustSay(t, results[0].Err, "over protocol 3's limit")
}

func TestFileThatVanishedIsReportedAndTheNextIsSent(t *testing.T) {
	t.Parallel()
	gone := tempFile(t, "a", []byte("abc"))
	if err := os.Remove(gone.Path); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, func(p *peer) {
		p.agreeKey()
		p.answered(0)
		p.concluded(v3.CodeValid)
		p.ended()
	})
	results, err := runAll(t.Context(), t, s.settings(), gone, tempFile(t, "b", []byte("b")))
	if err != nil || results[1].Err != nil {
		t.Errorf("next file: got %v, %v, want verified", results[1].Err, err)
	}
	mustSay(t, results[0].Err, "no such file")
}

// checksum is what a right server answers.
func checksum(plain []byte) uint32 {
	sum, _, err := writeContent(io.Discard, bytes.NewReader(plain), int64(len(plain)), v3.SessionKey{}, new(send.Waits), func(int64) {})
	if err != nil {
		panic(err)
	}
	return sum
}

func TestUnreadableSourceEndsTheConversation(t *testing.T) {
	t.Parallel()
	broken := errors.New("input/output error")
	_, _, err := writeContent(io.Discard, io.MultiReader(bytes.NewReader(pattern(pieceSize)), failing{broken}), 2*pieceSize, v3.SessionKey{}, new(send.Waits), func(int64) {})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	mustSay(t, err, "read the file: input/output error")
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestShortSourceIsFilledUp(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ has, announced int }{
		{0, 1}, {0, 16}, {1, pieceSize}, {pieceSize, pieceSize + 1}, {pieceSize + 3, 4 * pieceSize},
	} {
		var out bytes.Buffer
		sum, missing, err := writeContent(&out, bytes.NewReader(pattern(test.has)), int64(test.announced), v3.SessionKey{}, new(send.Waits), func(int64) {})
		if err != nil || missing != int64(test.announced-test.has) {
			t.Errorf("%d of %d bytes: got %d missing, %v, want %d", test.has, test.announced, missing, err, test.announced-test.has)
		}
		if want := v3.CipherSize(int64(test.announced)); int64(out.Len()) != want {
			t.Errorf("%d of %d bytes: got %d bytes of ciphertext, want %d", test.has, test.announced, out.Len(), want)
		}
		filled := append(pattern(test.has), make([]byte, test.announced-test.has)...)
		if want := checksum(filled); sum != want {
			t.Errorf("%d of %d bytes: got checksum %08x, want %08x", test.has, test.announced, sum, want)
		}
	}
}

func TestSizeLimit(t *testing.T) {
	t.Parallel()
	src := tempFile(t, "big", nil)
	for size, refused := range map[int64]bool{v3.MaxFileSize: false, v3.MaxFileSize + 1: true, 1 << 32: true, 1 << 40: true} {
		if err := os.Truncate(src.Path, size); err != nil {
			t.Skipf("no sparse file of %d bytes here: %v", size, err)
		}
		big, err := send.NewSource(src.Path, "big")
		if err != nil {
			t.Fatal(err)
		}
		err = CheckSize(big)
		if (err != nil) != refused {
			t.Errorf("%d bytes: got %v, want refused %t", size, err, refused)
		}
		if refused {
			mustSay(t, err, fmt.Sprint(size), "limit of 4294967007 bytes", "32 bits")
		}
	}
}

// TestMemoryStaysConstant sends 256 MiB of a sparse file. Not parallel: it looks
// at the heap of the whole process.
func TestMemoryStaysConstant(t *testing.T) {
	const size = 256 << 20
	src := tempFile(t, "big", nil)
	if err := os.Truncate(src.Path, size); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, func(p *peer) {
		p.agreeKey()
		f := p.fileHead()
		if n, err := io.CopyN(io.Discard, p, int64(f.ContentSize)); err != nil {
			p.fail("content: %d bytes, %v", n, err)
		}
		p.respond(v3.CodeFileReceived, received(f, 0))
		p.concluded(v3.CodeGiveUp)
		p.ended()
	})
	settings := s.settings()
	settings.Attempts = 0
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	results, err := runAll(context.Background(), t, settings, src)
	runtime.ReadMemStats(&after)
	if err != nil || !errors.Is(results[0].Err, send.ErrChecksum) {
		t.Fatalf("got %v, %v, want a mismatch after all of it was sent", results[0].Err, err)
	}
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(size/2); got > most { // the race detector's sync.Pool drops some buffers
		t.Errorf("allocated for %d bytes: got %d, want %d at most", size, got, most)
	}
}
