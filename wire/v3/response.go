package v3

// ResponseHeader opens every response: 7 bytes.
type ResponseHeader struct {
	Version     uint8
	Code        Code
	PayloadSize uint32 // bytes that follow
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
