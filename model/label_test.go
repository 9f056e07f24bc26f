package model

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func testLabel() Label {
	return Label{
		Client: NewID(), ClientName: "grace", Folder: "grace", Name: "a/b <&>.bin", Path: "a/b <&>.bin", Size: 1 << 40, Checksum: 7,
		Digest: Hash{1, 2}, ModTime: -1, Mode: 0o640, Protocol: 4, Version: 3, ReceivedAt: time.Unix(5, 6).UTC(), Offset: 9,
	}
}

func TestLabelComesBack(t *testing.T) {
	t.Parallel()
	spare := testLabel()
	spare.Folder, spare.Path, spare.Protocol, spare.Digest, spare.Version = "_grace", "b-1", 3, Hash{}, 1
	for _, want := range []Label{testLabel(), spare} {
		text := want.Encode()
		if got, err := ParseLabel(text); err != nil || got != want {
			t.Errorf("%s\ngot  %+v, %v\nwant %+v", text, got, err, want)
		}
		if _, ok := ParsePackLabel(text); ok {
			t.Errorf("%s is taken for a pack's", text)
		}
	}
	long := testLabel()
	long.Name = strings.Repeat(`"`, 1024)
	long.Path, long.ClientName, long.Folder = long.Name, strings.Repeat(`\`, 127), strings.Repeat("_", 127)
	if n := len(long.Encode()); n > 3000 {
		t.Errorf("%d bytes", n)
	}
	pack := EncodePackLabel(77)
	if off, ok := ParsePackLabel(pack); !ok || off != 77 {
		t.Errorf("%s: %d, %v", pack, off, ok)
	}
	if _, err := ParseLabel(pack); !errors.Is(err, ErrLabel) {
		t.Errorf("a pack's label is taken for a file's: %v", err)
	}
	labels, err := ParseLabels(EncodeLabels([]Label{testLabel(), spare}))
	if err != nil || len(labels) != 2 || labels[1] != spare {
		t.Errorf("%v, %v", labels, err)
	}
}

func TestLabelThatLeadsAstrayIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Label){
		"no client":         func(l *Label) { l.Client = ID{} },
		"no client name":    func(l *Label) { l.ClientName, l.Folder = "", "x" },
		"client name long":  func(l *Label) { l.ClientName = strings.Repeat("x", 128) },
		"folder of fenc":    func(l *Label) { l.Folder = ".fenc" },
		"folder above":      func(l *Label) { l.Folder = ".." },
		"folder of two":     func(l *Label) { l.Folder = "a/b" },
		"path above":        func(l *Label) { l.Path = "../x" },
		"path absolute":     func(l *Label) { l.Path = "/x" },
		"path within above": func(l *Label) { l.Path = "a/../../x" },
		"path is folder":    func(l *Label) { l.Path = "." },
		"path with NUL":     func(l *Label) { l.Path = "a\x00" },
		"name with NUL":     func(l *Label) { l.Name = "a\x00" },
		"negative size":     func(l *Label) { l.Size = -1 },
		"negative offset":   func(l *Label) { l.Offset = -1 },
		"too far":           func(l *Label) { l.Size, l.Offset = 1<<62, 1<<62 },
		"protocol 2":        func(l *Label) { l.Protocol = 2 },
		"no digest":         func(l *Label) { l.Digest = Hash{} },
		"version 0":         func(l *Label) { l.Version = 0 },
	} {
		l := testLabel()
		spoil(&l)
		if _, err := ParseLabel(l.Encode()); !errors.Is(err, ErrLabel) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzLabel(f *testing.F) {
	f.Add(testLabel().Encode())
	f.Add(EncodePackLabel(3))
	f.Add([]byte(`{"fenc":1,"id":"00","blake3":"!"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseLabel(text)
		if err != nil {
			if !errors.Is(err, ErrLabel) {
				t.Fatal(err)
			}
			return
		}
		if again, err := ParseLabel(l.Encode()); err != nil || again != l {
			t.Fatalf("%+v became %+v, %v", l, again, err)
		}
	})
}
