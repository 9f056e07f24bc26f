package v3

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

// Registered is response 2100, and with an id of zeros 2101.
type Registered struct {
	ClientID ClientID
}

// Key is response 2102.
type Key struct {
	ClientID ClientID
	Wrapped  [WrappedKeySize]byte // the AES key under RSA-OAEP with SHA-1
}

// FileReceived is response 2103.
type FileReceived struct {
	ClientID    ClientID
	ContentSize uint32 // of the ciphertext, as in 1103
	FileName    Name
	Checksum    uint32 // CRC-32 (IEEE) of the plaintext
}
