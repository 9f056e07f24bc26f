package v3

// RequestHeader opens every request: 23 bytes.
type RequestHeader struct {
	ClientID    ClientID // zeros before registration
	Version     uint8
	Code        Code
	PayloadSize uint32 // bytes that follow
}

// Request 1100 has no type: its payload is the client's name alone, of the length
// that the header announces. See ReadRegistration and WriteRegistration.

// PublicKey is request 1101.
type PublicKey struct {
	Name Name                // the client's
	Key  [PublicKeySize]byte // DER SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7)
}

// File is request 1103. The encrypted content follows it on the wire.
type File struct {
	ClientID    ClientID
	ContentSize uint32 // bytes of ciphertext that follow
	FileName    Name
}

// Verdict is request 1104, 1105 or 1106, by its code.
type Verdict struct {
	ClientID ClientID
	FileName Name
}
