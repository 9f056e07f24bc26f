package model

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

// Label says what an object is, in words that travel with it, so that a lost
// catalogue can be made anew from the storage. Its text is JSON.
type Label struct {
	Client     ID
	ClientName string
	Folder     string // the client's, in the storage
	Name       string // of the file, as it was sent
	Path       string // below Folder, where the file should stand
	Size       int64
	Checksum   uint32 // CRC-32 (IEEE); protocol 3
	Digest     Hash   // BLAKE3; protocol 4
	ModTime    int64  // nanoseconds since 1970
	Mode       uint32
	Protocol   int
	Version    int64 // 1, and one more than of what stood under the name
	ReceivedAt time.Time
	Offset     int64 // of the content in the object, where many share it
}

// labelText is the JSON of a Label. Short names: a file system gives it little
// room.
type labelText struct {
	Format     int    `json:"fenc"` // 1
	Client     string `json:"id"`
	ClientName string `json:"client"`
	Folder     string `json:"folder,omitempty"` // where it is not ClientName
	Name       string `json:"name"`
	Path       string `json:"path,omitempty"` // where it is not Name
	Size       int64  `json:"size"`
	Checksum   uint32 `json:"crc32,omitempty"`
	Digest     string `json:"blake3,omitempty"` // base64
	ModTime    int64  `json:"mtime,omitempty"`
	Mode       uint32 `json:"mode,omitempty"`
	Protocol   int    `json:"protocol"`
	Version    int64  `json:"version"`
	ReceivedAt int64  `json:"at"` // nanoseconds since 1970
	Offset     int64  `json:"offset,omitempty"`
}

const labelFormat = 1

// ErrLabel: a label that fenc has not written, or that was damaged.
var ErrLabel = errors.New("label is damaged")

// Encode returns the text of the label, at most about 2,500 bytes.
func (l Label) Encode() []byte {
	t := labelText{
		Format: labelFormat, Client: l.Client.String(), ClientName: l.ClientName, Name: l.Name, Size: l.Size, Checksum: l.Checksum,
		ModTime: l.ModTime, Mode: l.Mode, Protocol: l.Protocol, Version: l.Version, ReceivedAt: l.ReceivedAt.UnixNano(), Offset: l.Offset,
	}
	if l.Folder != l.ClientName {
		t.Folder = l.Folder
	}
	if l.Path != l.Name {
		t.Path = l.Path
	}
	if !l.Digest.IsZero() {
		t.Digest = base64.RawStdEncoding.EncodeToString(l.Digest[:])
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // which makes six bytes of one
	e.Encode(t)            // a buffer takes everything
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// ParseLabel reads what Encode has written. It returns ErrLabel for anything
// else: names that could not have been sent, or that lead out of the client's
// folder.
func ParseLabel(text []byte) (Label, error) {
	var t labelText
	if err := json.Unmarshal(text, &t); err != nil || t.Format != labelFormat {
		return Label{}, ErrLabel
	}
	id, err := ParseID(t.Client)
	if err != nil || id.IsZero() {
		return Label{}, fmt.Errorf("%w: client id", ErrLabel)
	}
	l := Label{
		Client: id, ClientName: t.ClientName, Folder: t.Folder, Name: t.Name, Path: t.Path, Size: t.Size, Checksum: t.Checksum,
		ModTime: t.ModTime, Mode: t.Mode & 0o777, Protocol: t.Protocol, Version: t.Version, ReceivedAt: time.Unix(0, t.ReceivedAt).UTC(), Offset: t.Offset,
	}
	if l.Folder == "" {
		l.Folder = l.ClientName
	}
	if l.Path == "" {
		l.Path = l.Name
	}
	if t.Digest != "" {
		digest, err := base64.RawStdEncoding.DecodeString(t.Digest)
		if err != nil || len(digest) != len(l.Digest) {
			return Label{}, fmt.Errorf("%w: digest", ErrLabel)
		}
		copy(l.Digest[:], digest)
	}
	switch {
	case l.ClientName == "" || len(l.ClientName) > MaxClientName || !utf8.ValidString(l.ClientName):
		err = errors.New("client name")
	case !plainFolder(l.Folder):
		err = errors.New("folder")
	case l.Name == "" || !plainText(l.Name):
		err = errors.New("name")
	case !plainPath(l.Path):
		err = errors.New("path")
	case l.Size < 0 || l.Offset < 0 || l.Offset+l.Size < 0:
		err = errors.New("size")
	case l.Protocol < 3 || l.Protocol >= 4 && l.Digest.IsZero():
		err = errors.New("protocol")
	case l.Version < 1:
		err = errors.New("version")
	}
	if err != nil {
		return Label{}, fmt.Errorf("%w: %w", ErrLabel, err)
	}
	return l, nil
}

func plainText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

func plainPath(p string) bool { return plainText(p) && fs.ValidPath(p) && p != "." }

// plainFolder reports whether a client's folder may be called so: fenc's own
// begins with a dot.
func plainFolder(p string) bool {
	return plainPath(p) && !strings.Contains(p, "/") && p[0] != '.'
}

// Labels of a pack's files stand behind their content in the pack, a line each; the
// pack's own label tells where.

// EncodePackLabel returns the label of a pack whose files' labels begin at off.
func EncodePackLabel(off int64) []byte {
	return fmt.Appendf(nil, `{"fenc":%d,"labels":%d}`, labelFormat, off)
}

// ParsePackLabel returns where in a pack its files' labels begin; ok is false for
// any other label than a pack's.
func ParsePackLabel(text []byte) (off int64, ok bool) {
	var t struct {
		Format int    `json:"fenc"`
		Labels *int64 `json:"labels"`
	}
	if json.Unmarshal(text, &t) != nil || t.Format != labelFormat || t.Labels == nil || *t.Labels < 0 {
		return 0, false
	}
	return *t.Labels, true
}

// EncodeLabels returns labels as they stand in a pack.
func EncodeLabels(labels []Label) []byte {
	var text []byte
	for _, l := range labels {
		text = append(append(text, l.Encode()...), '\n')
	}
	return text
}

// ParseLabels reads what EncodeLabels has written.
func ParseLabels(text []byte) ([]Label, error) {
	var labels []Label
	for line := range bytes.Lines(text) {
		l, err := ParseLabel(line)
		if err != nil {
			return nil, err
		}
		labels = append(labels, l)
	}
	return labels, nil
}

// FilePath is where the file stands below the storage.
func (l Label) FilePath() string { return path.Join(l.Folder, l.Path) }
