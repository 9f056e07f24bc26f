package archive

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/semaphore"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
	"fenc/wire/v4/tree"
)

var (
	// ErrGateRefused: the operator's gate says that the content may not become a file.
	ErrGateRefused = errors.New("the operator's gate refuses this content")
	// ErrGateUnavailable: the operator's gate has said nothing. The file may be sent
	// again.
	ErrGateUnavailable = errors.New("the operator's gate was not available")
)

// Gate says whether the content of a sealed upload, an object that is durable, may
// become a file of the client: nil, ErrGateRefused, ErrGateUnavailable, or what ctx
// ended with.
type Gate func(ctx context.Context, u model.Upload, client string) error

// gate is what an archive knows of its gate.
type gate struct {
	ask    Gate
	atOnce int
	slots  *semaphore.Weighted

	ctx  context.Context // of small files; it ends when the archive is closed
	stop context.CancelFunc

	// Uploads whose gate was interrupted, by the end of a process or of a session.
	left chan model.Upload
}

func newGate(ask Gate, atOnce int) *gate {
	if ask == nil {
		return nil
	}
	g := &gate{ask: ask, atOnce: max(atOnce, 1), slots: semaphore.NewWeighted(int64(max(atOnce, 1))), left: make(chan model.Upload)}
	g.ctx, g.stop = context.WithCancel(context.Background())
	return g
}

// pass asks the gate about a sealed upload, if there is one.
func (a *Archive) pass(ctx context.Context, u model.Upload) error {
	if a.gate == nil {
		return nil
	}
	if err := a.gate.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer a.gate.slots.Release(1)
	owner, _, err := a.Catalogue.Client(u.ClientID)
	if err != nil {
		return err
	}
	err = a.gate.ask(ctx, u, owner.Name)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// stopped settles a sealed upload that did not pass: refused, it is removed; where
// nobody waits for the gate's word any more, the gate is asked again.
func (a *Archive) stopped(ctx context.Context, u model.Upload, err error) error {
	if ctx.Err() == nil {
		return errors.Join(err, a.drop(u.ID, lease{}))
	}
	go func() {
		select {
		case a.gate.left <- u:
		case <-a.gate.ctx.Done(): // the next start does it
		}
	}()
	return err
}

// runGate completes uploads whose gate was interrupted, until ctx ends.
func (a *Archive) runGate(ctx context.Context) {
	if a.gate == nil {
		return
	}
	for _, u := range a.ungated {
		go func() {
			select {
			case a.gate.left <- u:
			case <-ctx.Done():
			}
		}()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case u := <-a.gate.left:
			if err := a.complete(ctx, u); err != nil && ctx.Err() == nil {
				a.log.Error("interrupted upload stays until the next start", "file", wire.Printable(u.FileName), "error", err)
			}
		}
	}
}

// runGated keeps small files one by one, several at once, each after the gate.
func (a *Archive) runGated() {
	for {
		select {
		case f := <-a.small.queue:
			f.Done(a.keepGated(a.gate.ctx, f))
		case <-a.small.stop:
			return
		}
	}
}

// keepGated takes a small file through the order of steps of a large one: the gate
// may take long, and what a crash leaves must be known.
func (a *Archive) keepGated(ctx context.Context, f SmallFile) (unchanged bool, err error) {
	size := int64(len(f.Data))
	same, err := a.Retime(f.Client, f.Path, size, f.Digest, f.ModTime, f.Mode)
	if err != nil || same {
		return same, err
	}
	if err := a.store.Degraded(); err != nil {
		return false, err
	}
	bounds := a.policy.Load().Bounds
	bounds.Uploads = 0 // it comes in one piece
	u, err := a.Catalogue.Offer(model.Upload{
		ClientID: f.Client, FileName: f.Path, Path: f.Path, Size: size, ModTime: f.ModTime, Mode: f.Mode, Protocol: 4, ChunkSize: tree.ChunkSize(size),
	}, bounds)
	if err != nil {
		return false, err
	}
	l, err := a.seal(u.ID, size, model.Sums{BLAKE3: f.Digest})
	defer l.end()
	if err != nil {
		return false, errors.Join(err, a.forget(u.ID))
	}
	u.Digest = f.Digest
	label, err := a.labelText(u)
	if err != nil {
		return false, errors.Join(err, a.drop(u.ID, l))
	}
	object := storage.Small{Key: u.ID.String(), Data: [][]byte{f.Data}, Label: label}
	if err := a.store.PutAll(ctx, object); err != nil {
		return false, errors.Join(err, a.drop(u.ID, l))
	}
	if err := a.pass(ctx, u); err != nil {
		if ctx.Err() != nil {
			return false, fmt.Errorf("%w: the server ends", ErrGateUnavailable) // the next start asks again
		}
		return false, errors.Join(err, a.drop(u.ID, l))
	}
	_, err = a.commit(u, nil, l)
	if isRefused(err) {
		return false, errors.Join(err, a.drop(u.ID, l))
	}
	return false, err
}

// isRefused reports whether a sealed upload cannot become a file.
func isRefused(err error) bool {
	return errors.Is(err, model.ErrPathTaken) || errors.Is(err, model.ErrNoReplace) || errors.Is(err, model.ErrRevoked)
}
