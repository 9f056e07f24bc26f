package model

import (
	"context"
	"sync"
)

// gates let one write at a time of this process to each client's lock in the
// database, so that those of a client who is waited for hold one connection and not
// all.
type gates struct {
	mu   sync.Mutex
	open map[int64]*gate
}

type gate struct {
	turn chan struct{} // holds a value while somebody is through
	here int           // who is through, and who waits
}

// enter passes the gates of keys, in their order, and returns how to leave them.
func (g *gates) enter(ctx context.Context, keys []int64) (leave func(), err error) {
	passed := 0
	leave = func() {
		for _, key := range keys[:passed] {
			g.leave(key, true)
		}
	}
	for _, key := range keys {
		g.mu.Lock()
		if g.open == nil {
			g.open = make(map[int64]*gate)
		}
		at := g.open[key]
		if at == nil {
			at = &gate{turn: make(chan struct{}, 1)}
			g.open[key] = at
		}
		at.here++
		g.mu.Unlock()
		select {
		case at.turn <- struct{}{}:
			passed++
		case <-ctx.Done():
			g.leave(key, false)
			leave()
			return nil, ctx.Err()
		}
	}
	return leave, nil
}

func (g *gates) leave(key int64, through bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.open[key]
	if through {
		<-at.turn
	}
	if at.here--; at.here == 0 {
		delete(g.open, key)
	}
}
