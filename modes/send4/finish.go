package send4

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"fenc/modes/send"
	"fenc/modes/session4"
	"fenc/wire/v4"
	"fenc/wire/v4/tree"
)

// abandon has the server forget an upload that this run will not finish.
func (u *upload) abandon(err error) error {
	var refusal *session4.RefusalError
	if err == nil || u.s.over() != nil || errors.As(err, &refusal) {
		return err
	}
	if u.s.main.Send(&v4.GiveUp{Number: u.number}) != nil {
		return err
	}
	for range answersAtOnce { // more cannot have been on their way
		answer, lost := u.await()
		if _, ended := answer.(*v4.Ended); ended || lost != nil {
			return err
		}
	}
	u.s.broke("no end of an upload that was given up")
	return err
}

// finish asks for the verdict, and mends what can be mended.
func (u *upload) finish() error {
	missing := 0
	for {
		if err := u.f.changed(); err != nil {
			return err
		}
		digest := v4.Digest(tree.Root(u.hashes))
		var barriers errgroup.Group
		for _, lane := range u.lanes[1:] {
			barriers.Go(func() error { return lane.session.Barrier(u.s.ctx) })
		}
		if err := barriers.Wait(); err != nil {
			return err
		}
		if err := u.s.main.Send(&v4.Finish{Number: u.number, Digest: digest}); err != nil {
			return err
		}
		answer, err := u.await()
		if err != nil {
			return err
		}
		switch m := answer.(type) {
		case *v4.Received:
			if err := received(m, u.f.size, digest); err != nil {
				return err
			}
			if d := u.s.engine.settings.Digests; d != nil {
				d.Put(u.f.before, digest, u.began)
			}
			u.s.engine.succeed(u.f.item, u.f.state(), m)
			return nil
		case *v4.Missing:
			if missing++; missing > maxMissing {
				return fmt.Errorf("%w: chunks are missing again and again", errMismatch)
			}
			err = u.mend(m.Chunks)
		case *v4.Differs:
			err = u.mendDifferent(m.Hashes)
		default:
			err = fmt.Errorf("%w: %s answers 1110", v4.ErrFrame, nameOf(answer))
		}
		if err != nil {
			return err
		}
	}
}

// mend sends chunks that are missing, or has them copied.
func (u *upload) mend(missing []uint32) error {
	var chunks []int
	told := make([]bool, len(u.hashes))
	for _, c := range missing {
		if int64(c) >= int64(len(u.hashes)) || told[c] {
			return fmt.Errorf("%w: chunk %d of %d is missing, or is told twice", v4.ErrFrame, c, len(u.hashes))
		}
		told[c] = true
		if !slices.Contains(u.same, int(c)) {
			chunks = append(chunks, int(c))
		}
	}
	if err := u.copy(); err != nil {
		return err
	}
	return u.transfer(chunks, false)
}

// mendDifferent sends the chunks again that arrived as something else.
func (u *upload) mendDifferent(stored []v4.Digest) error {
	if len(stored) != len(u.hashes) {
		return fmt.Errorf("%w: %d hashes of %d chunks", v4.ErrFrame, len(stored), len(u.hashes))
	}
	var chunks []int
	again := &v4.Resend{Number: u.number}
	for i, h := range stored {
		if tree.Hash(h) != u.hashes[i] {
			chunks = append(chunks, i)
			again.Chunks = append(again.Chunks, uint32(i))
		}
	}
	if len(chunks) == 0 {
		return fmt.Errorf("%w: the server has every chunk and another digest", v4.ErrFrame)
	}
	if u.f.item.attempts++; u.f.item.attempts > u.s.engine.settings.Attempts {
		u.f.item.attempts--
		return send.ErrChecksum
	}
	var bytes int64
	for _, i := range chunks {
		bytes += u.length(i)
	}
	u.f.item.progress.Again(bytes)
	if err := u.s.main.Send(again); err != nil {
		return err
	}
	return u.transfer(chunks, false)
}
