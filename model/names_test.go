package model

import (
	"slices"
	"testing"
	"time"
)

// spiteful are names that mean something to SQL, to LIKE or to a careless prefix.
var spiteful = []string{
	`x'; DROP TABLE files; --`, `" OR 1=1 --`, `%`, `_`, `a%b`, `a_b`, `\`, `a`, `ab`, `a/b`, `a0`, `a/%`, `${x}`, `?`, `@p1`, `NULL`, `a*`, `[a]`,
}

func keepSpiteful(t *testing.T, path string) (*Catalogue, Client) {
	t.Helper()
	c := open(t, path, Options{})
	invite(t, c, Invite{TokenHash: Hash{1}, Rights: AllRights, ExpiresAt: Time{time.Now().Add(time.Hour)}})
	client, _, err := admit(c, 1, `o'brien"%_; DROP TABLE clients; --`, Hash{1}, RegistrationInvite)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := c.Reserve(len(spiteful))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range spiteful {
		if name == "a" { // is a folder below, and cannot be a file too
			continue
		}
		outcomes, err := c.CommitSmall([]SmallFile{{Client: client.ID, Name: name, Size: 1, Digest: Hash{byte(i + 1)}, Object: ids[i]}}, nil, Bounds{})
		if err != nil || outcomes[0].Err != nil {
			t.Fatalf("%q: %v, %+v", name, err, outcomes)
		}
	}
	return c, client
}

func TestSpitefulNamesFindTheirOwnFiles(t *testing.T) {
	onEach(t, testSpitefulNamesFindTheirOwnFiles)
}

func testSpitefulNamesFindTheirOwnFiles(t *testing.T, fresh func(*testing.T) string) {
	c, client := keepSpiteful(t, fresh(t))
	if found, ok, _ := c.ClientNamed(client.Name); !ok || found.ID != client.ID {
		t.Errorf("client %q: got %+v, %v", client.Name, found, ok)
	}
	for i, name := range spiteful {
		if name == "a" {
			continue
		}
		files, err := c.List(client.ID, name, "", 100)
		if err != nil || len(files) != 1 || files[0].FileName != name || files[0].Digest != (Hash{byte(i + 1)}) {
			t.Errorf("list %q: got %+v, %v; want that file alone", name, files, err)
		}
		if yes, err := c.Supersedes(Label{Client: client.ID, Name: name, Version: 1, Size: 1, Digest: Hash{byte(i + 1)}}); err != nil || yes {
			t.Errorf("label of %q supersedes its own file: %v, %v", name, yes, err)
		}
	}
	for _, stranger := range []string{`x' OR 'a'='a`, "a%", "%%", "b"} {
		if files, err := c.List(client.ID, stranger, "", 100); err != nil || len(files) != 0 {
			t.Errorf("list %q: got %+v, %v; want nothing", stranger, files, err)
		}
	}
	if err := c.Revoke("%"); err != ErrUnknownClient {
		t.Errorf("revoke %%: got %v, want ErrUnknownClient", err)
	}
}

func TestPrefixBoundary(t *testing.T) { onEach(t, testPrefixBoundary) }

func testPrefixBoundary(t *testing.T, fresh func(*testing.T) string) {
	c, client := keepSpiteful(t, fresh(t))
	files, err := c.List(client.ID, "a", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.FileName)
	}
	if want := []string{"a/%", "a/b"}; !slices.Equal(names, want) { // not ab, a0, a%b, a_b
		t.Errorf("below a: got %q, want %q", names, want)
	}
}
