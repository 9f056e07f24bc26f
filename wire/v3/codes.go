package v3

import "fmt"

// Code says what a message is.
type Code uint16

// The requests.
const (
	CodeRegister  Code = 1100 // registration: payload is the client's name alone
	CodePublicKey Code = 1101 // the client's public key
	CodeFile      Code = 1103 // a file with its encrypted content
	CodeValid     Code = 1104 // checksum valid
	CodeResend    Code = 1105 // checksum invalid, the file follows again
	CodeGiveUp    Code = 1106 // checksum invalid, no more attempts
)

// The responses.
const (
	CodeRegistered   Code = 2100 // with the client's new id
	CodeRefused      Code = 2101 // registration refused, id of zeros
	CodeKey          Code = 2102 // the session's key under the client's
	CodeFileReceived Code = 2103 // with the checksum of what was received
	CodeReceived     Code = 2104 // acknowledges 1104, 1105 and 1106
)

var codeNames = map[Code]string{
	CodeRegister: "registration", CodePublicKey: "public key", CodeFile: "file",
	CodeValid: "checksum valid", CodeResend: "checksum invalid, resending", CodeGiveUp: "checksum invalid, finished",
	CodeRegistered: "registered", CodeRefused: "registration refused", CodeKey: "key",
	CodeFileReceived: "file received", CodeReceived: "received",
}

// String returns the number and the table's name.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return fmt.Sprintf("%d (%s)", uint16(c), name)
	}
	return fmt.Sprintf("%d (unknown)", uint16(c))
}
