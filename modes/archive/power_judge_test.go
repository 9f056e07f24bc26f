package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"lukechampine.com/blake3"

	"fenc/model"
	"fenc/model/storage"
	"fenc/model/storage/storagetest"
)

// settled are the promises as they stand for good after a cut.
func (s *script) settled(at moment) []promise {
	var files []promise
	for _, p := range s.promises {
		if !p.first.until(at) {
			continue
		}
		p.first = moment{}
		if p.kept.until(at) {
			p.kept = moment{}
		} else {
			p.kept = never
		}
		files = append(files, p)
	}
	return files
}

// audit starts an archive on what a cut has left and returns what is broken, and
// whether the start had an upload to complete.
func (s *script) audit(m machine, at moment, dir string) (settles bool, err error) {
	r, err := m.start(dir)
	if err != nil {
		return false, fmt.Errorf("start: %w", err)
	}
	settles = strings.Contains(r.log.String(), "interrupted upload")
	defer func() { err = errors.Join(err, r.Close()) }()
	errs := []error{s.judgeFiles(r, at)}
	if note, err := r.folder.Note(RosterNote); s.noted.until(at) && !bytes.Contains(note, []byte("grace")) {
		errs = append(errs, fmt.Errorf("list of clients was noted and is %q (%v)", note, err))
	}
	for _, h := range s.holdings {
		if h.since.until(at) && at.until(h.over) {
			errs = append(errs, h.judge(r))
		}
	}
	errs = append(errs, r.finish(), r.judgeStorage(m.disk))
	if err := errors.Join(errs...); err != nil {
		return settles, fmt.Errorf("%w\n%s", err, r.log)
	}
	return settles, nil
}

// judgeFiles looks for what was promised.
func (s *script) judgeFiles(r *running, at moment) error {
	var errs []error
	may := make(map[string][][]byte)
	must := make(map[string]bool)
	for _, p := range s.promises {
		if !p.first.until(at) {
			continue
		}
		if p.kept.until(at) {
			may[p.name], must[p.name] = nil, true
		}
		may[p.name] = append(may[p.name], p.content)
	}
	for name := range must {
		if f, ok, _ := r.Catalogue.File(r.client.ID, name); !ok || !f.Verified {
			errs = append(errs, fmt.Errorf("%s was verified and is lost", name))
		}
	}
	files, err := r.Catalogue.Files()
	if err != nil {
		errs = append(errs, err)
	}
	for _, f := range files {
		if !f.File.Verified {
			errs = append(errs, fmt.Errorf("%s is not verified", f.File.FileName))
			continue
		}
		got, err := r.content(f.File)
		if err != nil || !slices.ContainsFunc(may[f.File.FileName], func(p []byte) bool { return bytes.Equal(p, got) }) {
			errs = append(errs, fmt.Errorf("%s has a content that it must not have (%d bytes, %v)", f.File.FileName, len(got), err))
		}
	}
	return errors.Join(errs...)
}

// judgeHeld offers an upload again, which must have what was said to be held.
func (h holding) judgeHeld(r *running) error {
	offered, err := r.Offer(context.Background(), r.row(h.name, h.content), model.Bounds{}, true, false, r, deaf{})
	if err != nil {
		return err
	}
	got, held := offered.Held[h.chunk]
	offered.Upload.Detach(r)
	if !held || got != chunkHash(h.content, h.chunk) {
		return fmt.Errorf("chunk %d of %s was held and is lost", h.chunk, h.name)
	}
	return nil
}

// judge resumes an upload, and completes it.
func (h holding) judge(r *running) error {
	if err := h.judgeHeld(r); err != nil {
		return err
	}
	if err := r.sendBlocks(h.name, h.content); err != nil {
		return fmt.Errorf("go on with %s: %w", h.name, err)
	}
	f, _, _ := r.Catalogue.File(r.client.ID, h.name)
	if got, err := r.content(f); err != nil || !bytes.Equal(got, h.content) {
		return fmt.Errorf("%s, resumed, has another content (%v)", h.name, err)
	}
	return nil
}

// judgeStorage compares storage and catalogue after everything is settled.
func (r *running) judgeStorage(disk *storagetest.Disk) error {
	var errs []error
	broken := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	shown := make(map[string]bool)
	files, err := r.Catalogue.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.File.Pack != nil {
			broken("%s is still packed", f.File.FileName)
			continue
		}
		shown[f.File.FilePath] = true
		versions, err := r.Catalogue.Versions([]model.File{f.File})
		if err != nil {
			broken("versions of %s: %v", f.File.FileName, err)
		}
		for _, v := range versions[f.File.ID] {
			if content, err := r.content(v); err != nil || v.Pack != nil || blake3.Sum256(content) != v.Digest && crc32.ChecksumIEEE(content) != v.Checksum {
				broken("version %d of %s has another content (%v)", v.Version, v.FileName, err)
			}
		}
		if yes, err := r.folder.Shows(f.File.Object.String(), f.File.FilePath); err != nil || !yes {
			broken("%s is not shown (%v)", f.File.FilePath, err)
		}
		text, err := r.folder.Label(f.File.Object.String())
		if l, labelErr := model.ParseLabel(text); err != nil || labelErr != nil || l.FilePath() != f.File.FilePath || l.Size != f.File.Size {
			broken("%s has the label %q (%v, %v)", f.File.FilePath, text, err, labelErr)
		}
	}
	err = r.folder.Tree(func(path string) error {
		if !shown[path] {
			broken("%s is shown and no file", path)
		}
		return nil
	})
	known, objectsErr := r.Catalogue.Objects()
	garbage, garbageErr := r.Catalogue.GarbageBefore(r.now().Add(time.Hour), 100_000)
	for _, id := range garbage {
		known[id] = struct{}{}
	}
	listErr := r.folder.Objects(func(o storage.Listed) error {
		id, err := model.ParseID(o.Key)
		if _, is := known[id]; err != nil || !is {
			text, _ := r.folder.Label(o.Key)
			broken("object %s has no row: %s", o.Key, text)
		}
		return nil
	}, func(name string) error {
		broken("%s lies among the objects", name)
		return nil
	})
	open, openErr := r.Catalogue.Uploads(model.UploadOpen)
	parts, partsErr := r.folder.Parts()
	for _, p := range parts {
		if !slices.ContainsFunc(open, func(u model.Upload) bool { return u.ID.String() == p }) {
			broken("upload %s has no row", p)
		}
	}
	private, privateErr := disk.ReadDir(".fenc")
	for _, e := range private {
		if n := e.Name(); n != "objects" && n != "part" && n != "note-clients" {
			broken("%s is left in .fenc", n)
		}
	}
	return errors.Join(errors.Join(errs...), err, objectsErr, garbageErr, listErr, openErr, partsErr, privateErr)
}
