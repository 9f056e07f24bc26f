// Package storage keeps content as immutable objects under random keys, and
// shows them in a readable tree:
//
//	CLIENT/PATH            what people see: hard links to objects (relative
//	                       symbolic links where the file system has no hard ones)
//	.fenc/objects/AB/KEY   the objects
//	.fenc/part/KEY         uploads that are still open
//	.fenc/lock             held by the one process that writes here
//
// A key is 32 upper-case hexadecimal digits, AB its first two. The package knows
// no names of files and no database; which object counts, the catalogue says.
//
// Objects have mode 0600, folders 0700. A failed sync is never tried again on
// the same content: the kernel may have marked the lost pages clean. The upload
// is thrown away and the storage is degraded until a probe file can be written
// and synced.
package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/gofrs/flock"
)

var (
	// ErrDegraded: the disk failed and has not been seen to work since; nothing
	// new is taken. Probe ends it.
	ErrDegraded = errors.New("storage degraded")
	// ErrNoSpace: the disk or the quota is full.
	ErrNoSpace = errors.New("not enough space")
	// ErrTooLarge: no file of this file system has so many bytes.
	ErrTooLarge = errors.New("more bytes than a file can have here")
	// ErrGone: no such object or upload.
	ErrGone = errors.New("content is not there")
	// ErrMarks: the store no longer has the chunks that these marks were given for.
	ErrMarks = errors.New("the store has other chunks than these")
	// ErrTooLong: more bytes came than were announced.
	ErrTooLong = errors.New("more bytes than announced")
	// ErrLocked: another process serves this storage.
	ErrLocked = errors.New("in use by another fenc serve")
	// ErrSealed: the upload has become an object and takes no more bytes.
	ErrSealed = errors.New("upload is sealed")
)

const (
	private    = ".fenc"
	objectsDir = private + "/objects"
	partDir    = private + "/part"
	lockFile   = private + "/lock"
	probeFile  = private + "/probe"
	linkFile   = private + "/link-" // and the object's key: a link on its way into the tree

	folderMode = 0o700
	objectMode = 0o600
)

// Folder is a storage in a local folder.
type Folder struct {
	fs       FS
	lock     *flock.Flock
	hardlink bool
	folds    bool
	labels   bool // the file system keeps labels with its files

	mu       sync.Mutex
	degraded error // why; nil while the disk is trusted
}

// OpenFolder opens the storage at dir, makes it where there is none, and locks
// it for this process. A folder that others may write into is refused.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	if err := checkGuarded(dir, info); err != nil {
		return nil, fmt.Errorf("storage %w", err)
	}
	root, err := openRootFS(dir)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	for _, inner := range []string{private, objectsDir, partDir} {
		info, err := root.Lstat(inner)
		if err == nil {
			err = checkGuarded(filepath.Join(dir, filepath.FromSlash(inner)), info)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(fmt.Errorf("storage: %w", err), root.Close())
		}
	}
	f, err := openOn(root, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("storage %s: %w", dir, err), root.Close())
	}
	return f, nil
}

// checkGuarded refuses a folder that others may write into.
func checkGuarded(dir string, info fs.FileInfo) error {
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s has mode %04o, so others could change what is verified: chmod go-w %[1]s", dir, info.Mode().Perm())
	}
	return nil
}

// OpenFolderOn is OpenFolder on another file system; dir is where the lock file
// stands.
func OpenFolderOn(fsys FS, dir string) (*Folder, error) { return openOn(fsys, dir) }

// RootFS is the file system that OpenFolder uses, for wrapping.
func RootFS(dir string) (FS, error) { return openRootFS(dir) }

func openOn(fsys FS, dir string) (*Folder, error) {
	f := &Folder{fs: fsys}
	if err := fsys.Mkdir(private, folderMode); err != nil {
		return nil, err
	}
	f.lock = flock.New(filepath.Join(dir, filepath.FromSlash(lockFile)), flock.SetPermissions(objectMode))
	switch held, err := f.lock.TryLock(); {
	case err != nil:
		return nil, err
	case !held:
		return nil, ErrLocked
	}
	if err := f.layOut(); err != nil {
		return nil, errors.Join(err, f.lock.Unlock())
	}
	return f, nil
}

// layOut makes the folders, durable before anything counts on them, and finds
// out what the file system can do.
func (f *Folder) layOut() error {
	for _, dir := range []string{objectsDir, partDir} {
		if err := f.fs.Mkdir(dir, folderMode); err != nil {
			return err
		}
	}
	for i := range 256 {
		if err := f.fs.Mkdir(fmt.Sprintf("%s/%02X", objectsDir, i), folderMode); err != nil {
			return err
		}
	}
	for _, dir := range []string{objectsDir, private, "."} {
		if err := f.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	if err := f.writeProbe(); err != nil {
		return err
	}
	if err := f.findLabels(); err != nil {
		return err
	}
	if err := f.clear(); err != nil {
		return err
	}
	link := linkFile + "probe"
	f.hardlink = f.fs.Link(probeFile, link) == nil
	f.fs.Remove(link)
	_, err := f.fs.Lstat(private + "/PROBE")
	f.folds = err == nil
	return f.fs.Remove(probeFile)
}

// clear removes what a process left that ended between two steps: a note half
// written, links that had not come into the tree.
func (f *Folder) clear() error {
	entries, err := f.fs.ReadDir(private)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := private + "/" + e.Name()
		if name != noteTemp && !strings.HasPrefix(name, linkFile) {
			continue
		}
		if err := f.fs.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// Folds reports whether the file system takes names that differ only in case for
// the same.
func (f *Folder) Folds() bool { return f.folds }

// Close gives the lock back.
func (f *Folder) Close() error {
	var err error
	if f.lock != nil { // OpenBeside takes none
		err = f.lock.Close()
	}
	return errors.Join(err, f.fs.Close())
}

// Degraded returns why the storage takes nothing new, nil while it does.
func (f *Folder) Degraded() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.degraded == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrDegraded, f.degraded)
}

// Probe does what an upload needs with a file (write, sync, rename, sync the
// folder) and trusts the disk again if all of it works.
func (f *Folder) Probe() error {
	if err := f.writeProbe(); err != nil {
		return err
	}
	if err := f.fs.Rename(probeFile, probeFile+"-2"); err != nil {
		return err
	}
	if err := f.fs.Remove(probeFile + "-2"); err != nil {
		return err
	}
	if err := f.fs.SyncDir(private); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.degraded = nil
	return nil
}

func (f *Folder) writeProbe() error {
	file, err := f.fs.OpenFile(probeFile, os.O_RDWR|os.O_CREATE|os.O_TRUNC, objectMode)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(make([]byte, directAlign), 0)
	return errors.Join(err, file.Sync(), file.Close())
}

// distrust sorts a failure to write: a full disk is ErrNoSpace and passes, as a
// size that no file can have (ErrTooLarge) and a lack of descriptors do; anything
// else degrades the storage.
func (f *Folder) distrust(err error) error {
	if err == nil || errors.Is(err, ErrNoSpace) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrDegraded) {
		return err
	}
	if errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, errQuota) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return err // descriptors ran out: says nothing of the disk
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.degraded == nil {
		f.degraded = err
	}
	return fmt.Errorf("%w: %w", ErrDegraded, err)
}

func objectDir(key string) string  { return objectsDir + "/" + key[:2] }
func objectPath(key string) string { return objectDir(key) + "/" + key }
func partPath(key string) string   { return partDir + "/" + key }

// Open implements Store.
func (f *Folder) Open(key string) (Reader, error) {
	o, err := f.open(objectPath(key))
	if err != nil {
		return nil, err
	}
	return o, nil
}

func (f *Folder) open(name string) (*Object, error) {
	file, err := f.fs.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Object{SectionReader: io.NewSectionReader(file, 0, info.Size()), file: file}, nil
}

// Object is an open object.
type Object struct {
	*io.SectionReader
	file File
}

// Close closes the object.
func (o *Object) Close() error { return o.file.Close() }

// Remove removes objects and open uploads; absent is fine.
func (f *Folder) Remove(keys ...string) error {
	var errs []error
	for _, key := range keys {
		names := []string{objectPath(key), partPath(key)}
		if !f.labels {
			names = append(names, objectPath(key)+labelFile)
		}
		for _, name := range names {
			if err := f.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Purge removes objects for good: once it has returned, no power cut brings them
// back.
func (f *Folder) Purge(keys ...string) error {
	if err := f.Remove(keys...); err != nil {
		return err
	}
	synced := make(map[string]bool)
	for _, key := range keys {
		dir := objectDir(key)
		if synced[dir] {
			continue
		}
		if err := f.fs.SyncDir(dir); err != nil {
			return err
		}
		synced[dir] = true
	}
	return nil
}

// RemoveParts removes what Parts lists, whatever it is called, and no object;
// absent is fine.
func (f *Folder) RemoveParts(names ...string) error {
	var errs []error
	for _, name := range names {
		if err := f.fs.Remove(partPath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Parts lists the names of what lies in the folder of open uploads: their keys,
// and what else has come there.
func (f *Folder) Parts() ([]string, error) {
	entries, err := f.fs.ReadDir(partDir)
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(entries))
	for i, e := range entries {
		keys[i] = path.Base(e.Name())
	}
	return keys, nil
}

// Free returns the bytes that are free on the disk; math.MaxInt64 where the system
// does not tell.
func (f *Folder) Free() (int64, error) { return f.fs.Free() }

// Reach looks whether the storage's own folder is there.
func (f *Folder) Reach() error {
	if _, err := f.fs.Lstat(objectsDir); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	return nil
}
