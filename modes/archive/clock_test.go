package archive

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fenc/model"
	"fenc/model/storage/storagetest"
)

// A clock that is set back, by more than anything is kept, costs no file, no chunk
// that was held, and leaves nothing behind: what is newer is told by numbers.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	scratch := scratchDir(t)
	s := &script{machine: machine{disk: storagetest.NewDisk()}, noted: never}
	s.disk = s.machine.disk
	s.disk.Meanwhile = func() int64 { return 0 }
	s.random = rand.New(rand.NewPCG(1, 0))
	newest := make(map[string][]byte)
	held := s.bytes(1<<20 + 5000)
	for _, ahead := range []time.Duration{0, -48 * time.Hour, -49 * time.Hour, 1000 * time.Hour, -time.Hour} {
		s.machine.ahead = ahead
		dir := scratch()
		var err error
		if s.run, err = s.machine.start(dir); err != nil {
			t.Fatal(err)
		}
		s.run.SetPolicy(Policy{Retention: model.Retention{KeepPartial: 2000 * time.Hour}})
		for _, name := range []string{"a", "b", "d/e"} {
			newest[name] = s.bytes(2000)
			if err := s.version3(name, newest[name]); err != nil {
				t.Fatal(err)
			}
		}
		newest["large"] = s.bytes(1<<20 + 100)
		err = errors.Join(s.run.sendBlocks("large", newest["large"]), s.group(3), s.group(packFrom), s.run.sweep(), s.run.expirePartials(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if ahead == 0 {
			err = s.someBlocks("held", held, 0)
		} else {
			err = holding{name: "held", content: held, chunk: 0}.judgeHeld(s.run)
		}
		if err != nil {
			t.Errorf("clock %s ahead: %v", ahead, err)
		}
		for name, content := range newest {
			f, ok, _ := s.run.Catalogue.File(s.run.client.ID, name)
			if got, err := s.run.content(f); !ok || !f.Verified || err != nil || !bytes.Equal(got, content) {
				t.Errorf("clock %s ahead: %s is not what was sent last (%v)", ahead, name, err)
			}
		}
		if err := errors.Join(s.run.finish(), s.run.judgeStorage(s.disk)); err != nil {
			t.Errorf("clock %s ahead: %v", ahead, err)
		}
		if err := s.run.Close(); err != nil {
			t.Fatal(err)
		}
		if s.machine.db, err = os.ReadFile(filepath.Join(dir, "fenc.db")); err != nil {
			t.Fatal(err)
		}
	}
}
