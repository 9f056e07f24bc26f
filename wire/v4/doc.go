// Package v4 is protocol 4 as it travels: the TLS channel with pinned keys, the
// invite, and the frames. PROTOCOL.md beside this file specifies it; the structs
// of messages.go are its tables.
package v4
