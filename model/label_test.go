package model

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"fenc/wire/fuzztest"
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

func FuzzLabel(tf *testing.F) {
	f := fuzztest.New(tf)
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

func FuzzPack(tf *testing.F) {
	f := fuzztest.New(tf)
	f.Add(EncodePackLabel(3), EncodeLabels([]Label{testLabel(), testLabel()}))
	f.Add([]byte(`{"fenc":1,"labels":9223372036854775807}`), []byte("\n"))
	f.Add([]byte(`{"fenc":1,"labels":-1}`), []byte("{}\n"))
	f.Fuzz(func(t *testing.T, label, text []byte) {
		if off, ok := ParsePackLabel(label); ok {
			if again, ok := ParsePackLabel(EncodePackLabel(off)); !ok || again != off || off < 0 {
				t.Fatalf("%d became %d, %v", off, again, ok)
			}
		}
		labels, err := ParseLabels(text)
		if err != nil {
			return
		}
		again, err := ParseLabels(EncodeLabels(labels))
		if err != nil || !slices.Equal(again, labels) {
			t.Fatalf("%+v became %+v, %v", labels, again, err)
		}
		for _, l := range labels {
			if p := l.FilePath(); !fs.ValidPath(p) || !strings.HasPrefix(p, l.Folder+"/") || l.Offset+l.Size < 0 {
				t.Fatalf("%+v leads to %q", l, p)
			}
		}
	})
}

func FuzzRoster(tf *testing.F) {
	f := fuzztest.New(tf)
	f.Add([]byte(`[{"id":"0102030405060708090A0B0C0D0E0F10","name":"grace","protocol":4,"rights":7,"registered_at":"2026-01-01T00:00:00Z","folder":"grace"}]`))
	f.Add([]byte(`[{"id":"00","folder":"../x"}]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		clients, err := parseRoster(text)
		if err != nil {
			return
		}
		for _, c := range clients {
			if !fs.ValidPath(c.Folder) || strings.ContainsAny(c.Folder, "/\x00") || c.Folder[0] == '.' || c.Rights&^AllRights != 0 || c.Name == "" {
				t.Fatalf("taken: %+v", c)
			}
		}
	})
}
