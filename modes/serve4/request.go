package serve4

import (
	"fmt"
	"time"

	"fenc/modes/archive"
	"fenc/wire"
	"fenc/wire/v4"
)

// kind is what began a request, and so decides what may follow it.
type kind int

const (
	reading  kind = iota // 1112 or 1113: nothing follows
	byBlocks             // 1103
	entire               // 1103 with flag 2, and 1111: 1111 may follow, once
	further              // 1107
)

// request is one that waits for its final answer.
type request struct {
	kind    kind
	upload  *archive.Upload // of byBlocks and further, once it is open
	earlier *archive.Earlier
	offer   v4.Offer
	begun   time.Time
	sent    int64 // bytes of a file that is read back
	busy    bool  // a goroutine is making the answer
	size    int   // bytes in the window

	inFlight int  // blocks in the pipeline
	over     bool // answered; the upload is left when nothing is in flight
}

// open makes a new request active. Numbers grow, so that what comes late for one
// that is over is known.
func (k *Session) open(number uint32, kind kind) (*request, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if number <= k.last {
		return nil, fmt.Errorf("%w: number %d after %d", errProtocol, number, k.last)
	}
	k.last = number
	if len(k.active) >= windowFiles {
		return nil, fmt.Errorf("%w: more than the window of %d requests without an answer", errProtocol, windowFiles)
	}
	r := &request{kind: kind, begun: time.Now()}
	k.active[number] = r
	return r, nil
}

// find returns an active request; nil where it is over, so that what its sender
// could not know is passed over.
func (k *Session) find(number uint32) (*request, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.active[number]
	if r == nil && (number > k.last || number == 0) {
		return nil, fmt.Errorf("%w: number %d was never given", errProtocol, number)
	}
	return r, nil
}

// findUpload is find for what belongs to an upload by blocks of this connection's
// own offer: code says what came. upload is nil where the request is over, or was
// not accepted yet.
func (k *Session) findUpload(number uint32, code v4.Code) (*request, *archive.Upload, error) {
	r, err := k.find(number)
	if err != nil || r == nil {
		return nil, nil, err
	}
	if r.kind != byBlocks {
		return nil, nil, fmt.Errorf("%w: %s for number %d, which is no offer by blocks", errProtocol, code, number)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return r, r.upload, nil
}

// grow counts content that came for a request into the window.
func (k *Session) grow(r *request, size int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending+size > windowBytes+v4.MaxBlock {
		return fmt.Errorf("%w: more than the window of %d bytes without an answer", errProtocol, windowBytes)
	}
	r.size += size
	k.pending += size
	return nil
}

// answer sends the final answer to a request and makes it inactive.
func (k *Session) answer(number uint32, message any) {
	if k.settle(number, func() { k.answers <- message }) { // has room for every active request
		k.end(errStopping)
	}
}

// settle makes a request inactive, once, and sends its answer. It reports whether
// that was the last one that the session was to end after.
func (k *Session) settle(number uint32, send func()) (last bool) {
	k.mu.Lock()
	r := k.active[number]
	if r == nil {
		k.mu.Unlock()
		return false
	}
	delete(k.active, number)
	k.pending -= r.size
	r.over = true
	leave := r.upload != nil && r.inFlight == 0
	last = k.stopping && len(k.active) == 0
	k.mu.Unlock()
	if leave {
		r.upload.Detach(k)
	}
	send()
	return last
}

// landed notes that a block of the request has left the pipeline.
func (k *Session) landed(r *request) {
	k.mu.Lock()
	r.inFlight--
	leave := r.over && r.inFlight == 0
	k.mu.Unlock()
	if leave {
		r.upload.Detach(k)
	}
}

// refuse answers a request with what prevents it.
func (k *Session) refuse(number uint32, reason v4.Reason, err error) {
	k.mu.Lock()
	r := k.active[number]
	k.mu.Unlock()
	if r == nil {
		return
	}
	k.log.Warn("file", "file", wire.Printable(r.offer.Path), "bytes", r.offer.Size, "seconds", time.Since(r.begun).Seconds(),
		"verdict", "refused", "number", uint16(reason), "reason", err.Error())
	k.count(r, refusedBy(reason), err.Error())
	k.answer(number, &v4.Refused{Number: number, Reason: reason, Again: reason.Again(), Text: textOf(reason, err)})
}
