package storagetest

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"sync"

	"fenc/model/storage"
)

// Marked is a store in memory with marks, which several archives may write at once, as
// an S3-compatible one is.
type Marked struct {
	Chunk int64 // Limits' MinChunk

	mu      sync.Mutex
	objects map[string][]byte
	uploads map[string]map[int][]byte // by token: parts
	down    error
	sealing func(key string) // called in Seal, after the object is there
}

// NewMarked returns an empty store whose chunks have at least so many bytes.
func NewMarked(chunk int64) *Marked {
	return &Marked{Chunk: chunk, objects: make(map[string][]byte), uploads: make(map[string]map[int][]byte)}
}

// Fail has everything that is asked of the store fail with err, until it is nil.
func (m *Marked) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

// OnSeal has do called when an upload has become an object, before its writer knows.
func (m *Marked) OnSeal(do func(key string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sealing = do
}

// Objects returns the content of all objects by their keys.
func (m *Marked) Objects() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.objects)
}

// Uploads returns how many uploads are open.
func (m *Marked) Uploads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.uploads)
}

func (m *Marked) failing() error {
	if m.down == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", storage.ErrDegraded, m.down)
}

// Limits implements storage.Store.
func (m *Marked) Limits() storage.Limits {
	return storage.Limits{MinChunk: m.Chunk, MaxChunks: 8192, Marks: true, Shared: true, PackAll: true}
}

// Begin implements storage.Store.
func (m *Marked) Begin(ctx context.Context, key string, size int64) (storage.Partial, error) {
	return m.BeginBlocks(ctx, key, size, max(size, 1))
}

// BeginBlocks implements storage.Store.
func (m *Marked) BeginBlocks(_ context.Context, key string, size, chunk int64) (storage.Partial, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	// One token a key: of several processes the first that makes one decides.
	token := "upload of " + key
	if m.uploads[token] == nil {
		m.uploads[token] = make(map[int][]byte)
	}
	return &marked{store: m, key: key, token: token, size: size, chunk: chunk, filling: make(map[int][]byte)}, m.failing()
}

// ResumeBlocks implements storage.Store.
func (m *Marked) ResumeBlocks(_ context.Context, key, _ string, size, chunk int64) (storage.Partial, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	token := "upload of " + key
	if m.uploads[token] == nil {
		return nil, storage.ErrGone
	}
	return &marked{store: m, key: key, token: token, size: size, chunk: chunk, filling: make(map[int][]byte)}, m.failing()
}

// Settle implements storage.Store.
func (m *Marked) Settle(ctx context.Context, s storage.Sealed, read func(io.Reader) error) error {
	m.mu.Lock()
	content, ok := m.objects[s.Key]
	m.mu.Unlock()
	if !ok && s.Marks != nil {
		p, err := m.ResumeBlocks(ctx, s.Key, s.Token, s.Size, s.Chunk)
		if err != nil {
			return err
		}
		return p.Seal(ctx, s.Size, s.Marks)
	}
	if !ok || int64(len(content)) != s.Size {
		return storage.ErrGone
	}
	if s.Marks != nil {
		return nil
	}
	return read(bytes.NewReader(content))
}

// PutAll implements storage.Store.
func (m *Marked) PutAll(_ context.Context, objects ...storage.Small) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.failing(); err != nil {
		return err
	}
	for _, o := range objects {
		m.objects[o.Key] = bytes.Join(o.Data, nil)
	}
	return nil
}

// Open implements storage.Store.
func (m *Marked) Open(key string) (storage.Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.objects[key]
	if !ok {
		return nil, storage.ErrGone
	}
	return reader{bytes.NewReader(content)}, m.failing()
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

// Has implements storage.Store.
func (m *Marked) Has(key string, size int64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.objects[key]
	return ok && int64(len(content)) == size, m.failing()
}

// Remove implements storage.Store.
func (m *Marked) Remove(keys ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.objects, key)
		delete(m.uploads, "upload of "+key)
	}
	return m.failing()
}

// Purge implements storage.Store.
func (m *Marked) Purge(keys ...string) error { return m.Remove(keys...) }

// Degraded implements storage.Store.
func (m *Marked) Degraded() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failing()
}

// Probe implements storage.Store.
func (m *Marked) Probe() error { return m.Degraded() }

// Reach implements storage.Store.
func (m *Marked) Reach() error { return m.Degraded() }

// Free implements storage.Store.
func (m *Marked) Free() (int64, error) { return math.MaxInt64, nil }

// Close implements storage.Store.
func (m *Marked) Close() error { return nil }

// marked is an open upload of a Marked.
type marked struct {
	store       *Marked
	key, token  string
	size, chunk int64

	mu      sync.Mutex
	filling map[int][]byte
	marks   map[int]string
	closed  bool
}

func (p *marked) Token() string { return p.token }

func (p *marked) WriteStream(_ context.Context, r io.Reader, limit int64) (int64, error) {
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(content)) > limit {
		return limit, storage.ErrTooLong
	}
	if err == nil {
		err = p.put(0, content)
	}
	return int64(len(content)), err
}

func (p *marked) length(i int) int64 { return min(p.chunk, p.size-int64(i)*p.chunk) }

func (p *marked) WriteBlock(b *storage.Block, n int, off int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return storage.ErrSealed
	}
	i := int(off / p.chunk)
	if off == int64(i)*p.chunk {
		p.filling[i] = nil
	}
	p.filling[i] = append(p.filling[i], (*b)[:n]...)
	if int64(len(p.filling[i])) < p.length(i) {
		return nil
	}
	content := p.filling[i]
	delete(p.filling, i)
	return p.put(i, content)
}

func (p *marked) put(i int, content []byte) error {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	if err := p.store.failing(); err != nil {
		return err
	}
	parts := p.store.uploads[p.token]
	if parts == nil {
		return storage.ErrGone
	}
	parts[i] = content
	if p.marks == nil {
		p.marks = make(map[int]string)
	}
	p.marks[i] = mark(content)
	return nil
}

func mark(content []byte) string {
	sum := md5.Sum(content)
	return hex.EncodeToString(sum[:])
}

func (p *marked) Forget(chunk int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.filling, chunk)
}

func (p *marked) Sync() (map[int]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return maps.Clone(p.marks), p.store.failing()
}

func (p *marked) Holds(chunk int, want string, _ func(io.Reader) error) (bool, error) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	content, ok := p.store.uploads[p.token][chunk]
	return ok && mark(content) == want, p.store.failing()
}

func (p *marked) SetLabel([]byte) error { return nil }

func (p *marked) Seal(_ context.Context, size int64, marks []string) error {
	p.store.mu.Lock()
	if err := p.store.failing(); err != nil {
		p.store.mu.Unlock()
		return err
	}
	parts := p.store.uploads[p.token]
	var content []byte
	for i := range max(len(marks), len(parts)) {
		if marks != nil && (i >= len(marks) || mark(parts[i]) != marks[i]) {
			p.store.mu.Unlock()
			return storage.ErrGone
		}
		content = append(content, parts[i]...)
	}
	if _, done := p.store.objects[p.key]; !done || parts != nil {
		if int64(len(content)) != size {
			p.store.mu.Unlock()
			return storage.ErrGone
		}
		p.store.objects[p.key] = content
		delete(p.store.uploads, p.token)
	}
	tell := p.store.sealing
	p.store.mu.Unlock()
	if tell != nil {
		tell(p.key)
	}
	return nil
}

func (p *marked) Discard() error {
	return p.store.Remove(p.key)
}

func (p *marked) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

var _ storage.Store = (*Marked)(nil)
