package s3_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"fenc/config/need"
	"fenc/model/storage/s3/s3test"
)

var (
	runs = flag.Int("s3.runs", 0, "uploads that are made up by chance; 0: 4, or 1 with -short")
	seed = flag.Uint64("s3.seed", 1, "of the first of them; those after it follow")
)

// Uploads of chunks that come, stop half-way, are forgotten, come again with other
// content, and go on in another process, over a line that fails: what is sealed is
// what came last, whatever is late.
func TestUploadsByChance(t *testing.T) {
	t.Parallel()
	for i := range need.Rounds(*runs, 4, 1) {
		seed := *seed + uint64(i)
		t.Run(fmt.Sprintf("s3.seed=%d", seed), func(t *testing.T) { byChance(t, seed) })
	}
}

func byChance(t *testing.T, seed uint64) {
	draw := rand.New(rand.NewPCG(seed, 1))
	o, proxy := behind(t)
	o.PartBuffers = 3 // no more chunks are half there at once
	s := open(t, o)
	proxy.Set(flaky(draw.Uint64()))
	const chunks = 3
	size := (chunks-1)*chunk + 1 + draw.IntN(mib)
	key := newKey()
	p := begin(t, s, key, size)

	var (
		holds [chunks]uint64   // the content of each, by its seed; 0: none
		rows  [chunks]struct { // what a catalogue would have
			mark string
			seed uint64
		}
		come uint64
	)
	length := func(i int) int { return min(chunk, size-i*chunk) }
	send := func(i, n int) {
		rows[i].mark, holds[i] = "", 0 // the row goes before the chunk comes again
		come++
		data := make([]byte, i*chunk, size)
		data = append(data, content(come, length(i))...)
		if err := tryWrite(p, data, i*chunk, n); err != nil {
			t.Fatal(err)
		}
		if n == length(i) {
			holds[i] = come
		}
	}
	sync := func() {
		marks, err := p.Sync()
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			if holds[i] != 0 {
				rows[i].mark, rows[i].seed = marks[i], holds[i]
			}
		}
	}
	for range 6 + draw.IntN(8) {
		switch i := draw.IntN(chunks); draw.IntN(8) {
		case 0, 1, 2:
			send(i, length(i))
		case 3: // from its beginning, and not to its end
			send(i, 1+draw.IntN(length(i)))
			if holds[i] == 0 {
				p.Forget(i)
			}
		case 4:
			send(i, length(i))
			send(i, length(i))
		case 5:
			sync()
		case 6, 7:
			if draw.IntN(2) == 0 {
				sync()
			}
			token := p.Token()
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			p = resume(t, s, key, token, size)
			for i := range rows {
				holds[i] = 0
				if rows[i].mark == "" {
					continue
				}
				wantHolds(t, p, i, rows[i].mark, true)
				holds[i] = rows[i].seed
			}
		}
	}
	want := make([]byte, 0, size)
	for i := range holds {
		if holds[i] == 0 {
			send(i, length(i))
		}
		want = append(want, content(holds[i], length(i))...)
	}
	sync()
	marks := make([]string, chunks)
	for i := range rows {
		marks[i] = rows[i].mark
	}
	if err := p.Seal(t.Context(), int64(size), marks); err != nil {
		t.Fatal(err)
	}
	proxy.Set(nil)
	wantObject(t, s, key, want)
	if err := errors.Join(p.Close(), s.Remove(key)); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, o)
}

// flaky is a line on which some requests are refused, some cut, and of some the
// answer is lost.
func flaky(seed uint64) s3test.Fault {
	var mu sync.Mutex
	draw := rand.New(rand.NewPCG(seed, 2))
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		mu.Lock()
		fate := draw.IntN(16)
		mu.Unlock()
		switch fate {
		case 0:
			s3test.Answer(w, http.StatusServiceUnavailable, "SlowDown")
		case 1:
			s3test.Cut(w)
		case 2:
			pass.ServeHTTP(httptest.NewRecorder(), r)
			s3test.Cut(w)
		default:
			pass.ServeHTTP(w, r)
		}
	}
}
