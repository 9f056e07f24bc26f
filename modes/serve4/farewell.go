package serve4

import (
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"fenc/model"
	"fenc/modes/archive"
	"fenc/wire"
	"fenc/wire/v4"
)

// farewell says why the session ends, and gives the client time to read it.
func (k *Session) farewell(err error) {
	<-k.wrote
	buf := k.unsent()
	var last any
	switch {
	case err == nil:
		last = &v4.Farewell{}
	default:
		reason := finalReason(err)
		if reason == 0 {
			return // the connection is gone
		}
		last = &v4.Refusal{Reason: reason, Again: reason.Again(), Text: finalText(reason, err)}
	}
	buf = v4.Append(buf, last)
	if _, err := k.conn.Write(buf); err != nil {
		return
	}
	if k.conn.Flush() != nil {
		return
	}
	// Closing with unread bytes would take the farewell away from the client.
	k.raw.Linger(lingerTime)
}

// unsent takes the final answers that the writer had no time for, and gives back
// what the other messages hold.
func (k *Session) unsent() []byte {
	var buf []byte
	for {
		select {
		case message := <-k.answers:
			if p, isPage := message.(*page); isPage {
				p.giveBack()
				message = p.entries
			}
			buf = v4.Append(buf, message)
		case message := <-k.replies:
			if data, isData := message.(*dataFrame); isData {
				data.release()
			}
		default:
			return buf
		}
	}
}

// finalReason numbers the end of a session; 0 where there is nobody to tell.
func finalReason(err error) v4.Reason {
	switch {
	case errors.Is(err, errProtocol), errors.Is(err, v4.ErrFrame), errors.Is(err, archive.ErrBlock):
		return v4.ReasonProtocol
	case errors.Is(err, errTooMany):
		return v4.ReasonTooMany
	case errors.Is(err, errStopping):
		return v4.ReasonStopping
	case errors.Is(err, errSuperseded):
		return v4.ReasonSuperseded
	case errors.Is(err, model.ErrRevoked):
		return v4.ReasonRevoked
	case errors.Is(err, model.ErrNameTaken):
		return v4.ReasonNameInUse
	case errors.Is(err, model.ErrInviteUnknown):
		return v4.ReasonInviteUnknown
	case errors.Is(err, model.ErrInviteUsed):
		return v4.ReasonInviteUsed
	case errors.Is(err, model.ErrInviteExpired), errors.Is(err, model.ErrInviteRevoked):
		return v4.ReasonInviteExpired
	case errors.Is(err, model.ErrNotAdmitted):
		return v4.ReasonNotAdmitted
	case errors.Is(err, model.ErrUnknownClient):
		return v4.ReasonOtherName
	case errors.Is(err, os.ErrDeadlineExceeded):
		return v4.ReasonSilence
	case errors.Is(err, model.ErrUnavailable), errors.Is(err, model.ErrBroken):
		return v4.ReasonFault
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return 0
	}
	return 0
}

func finalText(reason v4.Reason, err error) string {
	if reason == v4.ReasonFault {
		return "a fault of the server; its log says which"
	}
	return bounded(err.Error())
}

func (k *Session) logEnd(err error) {
	k.mu.Lock()
	files, bytes := k.files, k.bytes
	k.mu.Unlock()
	attributes := []any{"seconds", time.Since(k.begun).Seconds(), "files", files, "bytes", bytes}
	switch {
	case err == nil, errors.Is(err, io.EOF):
		k.log.Info("session ended", attributes...)
	default:
		k.log.Warn("session ended", append(attributes, "reason", plainReason(err))...)
	}
}

// plainReason is an error in a line of the log.
func plainReason(err error) string {
	return wire.Printable(strings.ReplaceAll(err.Error(), "\n", "; "))
}
