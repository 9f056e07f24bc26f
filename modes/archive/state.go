package archive

import (
	"context"
	"fmt"
	"math"
)

// Space returns the bytes that are free for the storage; ok is false where the
// system does not tell.
func (a *Archive) Space() (free int64, ok bool) {
	free, err := a.store.Free()
	return free, err == nil && free < math.MaxInt64
}

// Degraded returns why the storage takes nothing new, nil while it does.
func (a *Archive) Degraded() error { return a.store.Degraded() }

// Reach looks whether the storage is there and takes files. A disk that hangs is
// waited for until ctx ends.
func (a *Archive) Reach(ctx context.Context) error {
	if err := a.store.Degraded(); err != nil {
		return err
	}
	looked := make(chan error, 1)
	select {
	case a.reaching <- struct{}{}: // one at a time: each that hangs is a thread
		go func() {
			looked <- a.store.Reach()
			<-a.reaching
		}()
	case <-ctx.Done():
	}
	select {
	case err := <-looked:
		return err
	case <-ctx.Done():
		return fmt.Errorf("storage does not answer: %w", context.Cause(ctx))
	}
}
