package v4

import "fmt"

// Version is the first byte of every frame.
const Version = 4

// Minor is the protocol's minor version: what is added within version 4 counts
// it up.
const Minor = 0

// Code says what a frame is. Codes that version 3 has keep their meaning.
type Code uint16

// Requests, from client to server.
const (
	CodeHello   Code = 1100 // opens every session
	CodeOffer   Code = 1103 // a file to send
	CodeResend  Code = 1105 // chunks that differed will be sent again
	CodeGiveUp  Code = 1106 // the upload is over, unverified
	CodeAttach  Code = 1107 // a further connection takes part in an upload
	CodeBlock   Code = 1108 // content of an upload
	CodeBarrier Code = 1109 // asks when everything before it is held
	CodeFinish  Code = 1110 // the whole file's digest
	CodeSmall   Code = 1111 // a whole file, offer, content and digest in one
	CodeList    Code = 1112 // a page of the client's own files
	CodeFetch   Code = 1113 // one of the client's own files
	CodePing    Code = 1114
	CodeBye     Code = 1115
	CodeCopy    Code = 1116 // chunks that are as in the version before
)

// Responses, from server to client.
const (
	CodeWelcome  Code = 2100
	CodeRefusal  Code = 2101 // final: ends the session
	CodeReceived Code = 2103 // durable, catalogued, equal
	CodeEnded    Code = 2104 // answers 1106
	CodeAccept   Code = 2105 // what is held of an upload, and where to go on
	CodeEarlier  Code = 2106 // the hashes of the verified version before
	CodeAttached Code = 2107
	CodeMissing  Code = 2108 // chunks that finish found missing
	CodeDiffers  Code = 2109 // the hashes of what was stored
	CodeRefused  Code = 2110 // one request is refused; the session goes on
	CodeHeld     Code = 2111 // how much of an upload is durable
	CodeReached  Code = 2112 // answers 1109
	CodeEntries  Code = 2113 // answers 1112
	CodeFile     Code = 2114 // answers 1113; the content follows
	CodeData     Code = 2115 // content of a fetched file
	CodeDataEnd  Code = 2116 // the last of it has been sent
	CodePong     Code = 2117
	CodeWait     Code = 2118 // the answer is still being made
	CodeFarewell Code = 2120 // answers 1115
)

func (c Code) String() string { return fmt.Sprintf("%d", uint16(c)) }

// Reason numbers a refusal. Numbers never change and are never used again.
type Reason uint16

// Reasons of 2101, which end the session.
const (
	ReasonNotAdmitted   Reason = 1  // unknown key, and no invite that helps
	ReasonNameInUse     Reason = 2  // open registration: the name is another client's
	ReasonInviteUnknown Reason = 3  // no such invite
	ReasonInviteUsed    Reason = 4  // another key has used the invite
	ReasonInviteExpired Reason = 5  // too late, or revoked
	ReasonRevoked       Reason = 6  // the client has been revoked
	ReasonProtocol      Reason = 7  // the frame broke the protocol
	ReasonTooMany       Reason = 8  // too many sessions
	ReasonStopping      Reason = 9  // the server is shutting down
	ReasonFault         Reason = 10 // a fault of the server
	ReasonSuperseded    Reason = 11 // a later session of the same instance has begun
	ReasonSilence       Reason = 12 // nothing came for too long
	ReasonOtherName     Reason = 13 // the key is known by another name
)

// Reasons of 2110, which end one upload, list or fetch.
const (
	ReasonNotAllowed  Reason = 20 // the client lacks the right
	ReasonBadPath     Reason = 21 // the path cannot be a file's
	ReasonPathTaken   Reason = 22 // a file stands where a folder is needed, or the other way round
	ReasonTooLarge    Reason = 23 // over max_file_size
	ReasonQuota       Reason = 24 // over the client's bytes
	ReasonNoSpace     Reason = 25 // the disk is full
	ReasonDegraded    Reason = 26 // the storage has failed and is being probed
	ReasonManyUploads Reason = 27 // too many open uploads of this client
	ReasonManyFiles   Reason = 28 // too many files of this client
	ReasonOfferAgain  Reason = 29 // the upload is gone: offer the file again
	ReasonNotFound    Reason = 31 // no such file
	ReasonNoReplace   Reason = 32 // another content stands there and may not be replaced
	ReasonDamaged     Reason = 33 // the stored content is lost or damaged
	ReasonWriteFailed Reason = 34 // the content could not be stored
	ReasonUnavailable Reason = 35 // the catalogue takes nothing for now
	ReasonBadDigest   Reason = 36 // a whole file's content has another digest than its frame says
	ReasonGateRefused Reason = 37 // the operator's gate says that this content may not become a file
	ReasonGateSilent  Reason = 38 // the operator's gate was not available
)

// Again reports whether the same request may succeed later without anybody
// changing anything.
func (r Reason) Again() bool {
	switch r {
	case ReasonTooMany, ReasonStopping, ReasonFault, ReasonSilence,
		ReasonNoSpace, ReasonDegraded, ReasonOfferAgain, ReasonWriteFailed, ReasonUnavailable, ReasonBadDigest, ReasonGateSilent:
		return true
	}
	return false
}
