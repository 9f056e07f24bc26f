package serve4

import (
	"context"

	"fenc/model"
)

// What one client may have of the server at a time, over all of its connections:
// whoever takes no answers, or sends by the byte, keeps up nobody but himself.
const (
	blocksAClient = blocksAtOnce / 4 // in memory; a page of a list counts as one
	workAClient   = 64               // offers, lists and fetches that are being answered
)

// share is a client's part of the server.
type share struct {
	sessions int // guarded by Server.mu
	blocks   chan struct{}
	work     chan struct{}
}

// joinShare gives a session its client's share. s.mu is held.
func (s *Server) joinShare(client model.ID) *share {
	of := s.shares[client]
	if of == nil {
		of = &share{blocks: make(chan struct{}, blocksAClient), work: make(chan struct{}, workAClient)}
		s.shares[client] = of
	}
	of.sessions++
	return of
}

// leaveShare is the end of joinShare. s.mu is held.
func (s *Server) leaveShare(client model.ID) {
	of := s.shares[client]
	if of.sessions--; of.sessions == 0 {
		delete(s.shares, client)
	}
}

// takeRoom waits until there is room in memory for one more block, of the client's
// share and of what all have. It returns how the room is given back.
func (k *Session) takeRoom() (giveBack func(), err error) {
	mine := k.share.blocks
	if err := take(k.ctx, mine); err != nil {
		return nil, err
	}
	if err := take(k.ctx, k.server.blocks); err != nil {
		<-mine
		return nil, err
	}
	return func() {
		<-k.server.blocks
		<-mine
	}, nil
}

// takeWork waits until one more request of the client may be worked on.
func (k *Session) takeWork() (giveBack func(), err error) {
	if err := take(k.ctx, k.share.work); err != nil {
		return nil, err
	}
	return func() { <-k.share.work }, nil
}

func take(ctx context.Context, tokens chan struct{}) error {
	select {
	case tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
