package serve4

import (
	"cmp"
	"slices"
	"time"

	"fenc/modes/stats"
	"fenc/wire/v4"
)

// count counts a request that has come to a result, if it was to upload a file.
func (k *Session) count(r *request, result stats.Result, reason string) {
	if r.kind == reading || r.offer.Path == "" {
		return
	}
	k.counts.Ended(stats.File{
		Path: r.offer.Path, Bytes: int64(r.offer.Size), Seconds: time.Since(r.begun).Seconds(), Result: result, Reason: reason,
	})
}

// refusedBy says whether a refusal is the client's or the server's fault.
func refusedBy(reason v4.Reason) stats.Result {
	switch reason {
	case v4.ReasonWriteFailed, v4.ReasonNoSpace, v4.ReasonDegraded, v4.ReasonUnavailable, v4.ReasonFault:
		return stats.Failed
	case v4.ReasonBadDigest:
		return stats.Mismatch
	case v4.ReasonOfferAgain:
		return stats.Interrupted
	}
	return stats.Refused
}

// transfers lists what is under way, oldest first.
func (k *Session) transfers() []stats.Transfer {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []stats.Transfer
	for _, r := range k.active {
		t := stats.Transfer{Path: r.offer.Path, Bytes: int64(r.offer.Size), Done: r.sent, Outgoing: r.kind == reading, Since: r.begun}
		if r.upload != nil { // perhaps one that another connection offered
			t.Path, t.Bytes, t.Done = r.upload.Name(), r.upload.Size(), r.upload.Here()
		} else if r.size > 0 {
			t.Done = int64(r.size)
		}
		if t.Path != "" {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b stats.Transfer) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Path, b.Path))
	})
	return all
}
