package model

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// key is a key for tests; its fingerprint is all that counts.
func key(n byte) (PublicKey, Hash) { return PublicKey{n}, Hash{n} }

func admit(c *Catalogue, n byte, name string, token Hash, r Registration) (Client, Admitted, error) {
	public, fingerprint := key(n)
	return c.Admit(Admission{Key: public, Fingerprint: fingerprint, Name: name, Token: token, Registration: r})
}

func invite(t *testing.T, c *Catalogue, i Invite) {
	t.Helper()
	if err := c.Invite(i); err != nil {
		t.Fatal(err)
	}
}

func TestAdmit(t *testing.T) { onEach(t, testAdmit) }

func testAdmit(t *testing.T, fresh func(*testing.T) string) {
	clock := newClock()
	c := open(t, fresh(t), Options{Now: clock.Now})
	soon := Time{clock.Now().Add(time.Hour)}
	invite(t, c, Invite{TokenHash: Hash{101}, Name: "grace", Rights: RightSend, Quota: 1000, ExpiresAt: soon})
	invite(t, c, Invite{TokenHash: Hash{102}, Rights: AllRights, ExpiresAt: soon})
	invite(t, c, Invite{TokenHash: Hash{103}, Name: "late", Rights: AllRights, ExpiresAt: Time{clock.Now().Add(-time.Second)}})
	invite(t, c, Invite{TokenHash: Hash{104}, Name: "taken back", Rights: AllRights, ExpiresAt: soon})
	if _, err := c.RevokeInvite("taken back"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Register("three", 3); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what  string
		key   byte
		name  string
		token Hash
		mode  Registration
		err   error
		how   Admitted
		gets  string
	}{
		{"stranger", 1, "grace", Hash{}, RegistrationInvite, ErrNotAdmitted, 0, ""},
		{"stranger with a name of somebody", 1, "three", Hash{}, RegistrationInvite, ErrNotAdmitted, 0, ""},
		{"stranger, closed", 1, "x", Hash{}, RegistrationClosed, ErrNotAdmitted, 0, ""},
		{"invite, closed", 1, "", Hash{101}, RegistrationClosed, ErrNotAdmitted, 0, ""},
		{"unknown invite", 1, "", Hash{99}, RegistrationInvite, ErrInviteUnknown, 0, ""},
		{"expired invite", 1, "", Hash{103}, RegistrationInvite, ErrInviteExpired, 0, ""},
		{"invite taken back", 1, "", Hash{104}, RegistrationInvite, ErrInviteRevoked, 0, ""},
		{"invite", 1, "another name", Hash{101}, RegistrationInvite, nil, Registered, "grace"},
		{"same key and invite again", 1, "another name", Hash{101}, RegistrationInvite, nil, Returned, "grace"},
		{"other key, used invite", 2, "", Hash{101}, RegistrationInvite, ErrInviteUsed, 0, ""},
		{"known key by another name", 1, "ada", Hash{}, RegistrationInvite, ErrUnknownClient, 0, ""},
		{"known key", 1, "grace", Hash{}, RegistrationClosed, nil, Returned, "grace"},
		{"known key, no name", 1, "", Hash{}, RegistrationClosed, nil, Returned, "grace"},
		{"invite for any name, one in use", 2, "three", Hash{102}, RegistrationInvite, ErrNameTaken, 0, ""},
		{"which leaves the invite good", 2, "ada", Hash{102}, RegistrationInvite, nil, Registered, "ada"},
		{"open, name in use", 3, "grace", Hash{}, RegistrationOpen, ErrNameTaken, 0, ""},
		{"open", 3, "alan", Hash{}, RegistrationOpen, nil, Registered, "alan"},
	} {
		client, how, err := admit(c, step.key, step.name, step.token, step.mode)
		if !errors.Is(err, step.err) || err == nil && (how != step.how || client.Name != step.gets || client.Protocol != 4) {
			t.Errorf("%s: got %q, %v, %v, want %q, %v, %v", step.what, client.Name, how, err, step.gets, step.how, step.err)
		}
	}
	if grace, _, _ := c.ClientNamed("grace"); grace.Rights != RightSend || grace.Quota != 1000 {
		t.Errorf("rights and quota: got %v, %d, want those of the invite", grace.Rights, grace.Quota)
	}
}

func TestInviteOnceUnderRace(t *testing.T) { onEach(t, testInviteOnceUnderRace) }

func testInviteOnceUnderRace(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{})
	invite(t, c, Invite{TokenHash: Hash{9}, Rights: AllRights, ExpiresAt: Time{time.Now().Add(time.Hour)}})
	var all sync.WaitGroup
	results := make([]error, 200)
	for i := range results {
		all.Go(func() { _, _, results[i] = admit(c, byte(i+1), fmt.Sprint("name ", i), Hash{9}, RegistrationInvite) })
	}
	all.Wait()
	admitted := 0
	for _, err := range results {
		if err == nil {
			admitted++
		} else if !errors.Is(err, ErrInviteUsed) {
			t.Errorf("got %v, want ErrInviteUsed", err)
		}
	}
	if admitted != 1 {
		t.Errorf("%d keys were admitted by one invite, want 1", admitted)
	}
}

// A clock that is set back does not bring back what has expired.
func TestExpiredInviteStaysExpired(t *testing.T) { onEach(t, testExpiredInviteStaysExpired) }

func testExpiredInviteStaysExpired(t *testing.T, fresh func(*testing.T) string) {
	clock, path := newClock(), fresh(t)
	c := open(t, path, Options{Now: clock.Now})
	invite(t, c, Invite{TokenHash: Hash{9}, Name: "grace", Rights: AllRights, ExpiresAt: Time{clock.Now().Add(time.Hour)}})
	ada, _, err := admit(c, 1, "ada", Hash{}, RegistrationOpen)
	if err != nil {
		t.Fatal(err)
	}
	clock.advance(2 * time.Hour)
	c.Touch(ada.ID)
	if err := c.FlushSeen(); err != nil {
		t.Fatal(err)
	}
	clock.advance(-2 * time.Hour)
	if _, _, err := admit(c, 2, "", Hash{9}, RegistrationInvite); !errors.Is(err, ErrInviteExpired) {
		t.Errorf("got %v, want ErrInviteExpired", err)
	}
}

// An operator's process changes clients beside the server's.
func TestManagedBeside(t *testing.T) { onEach(t, testManagedBeside) }

func testManagedBeside(t *testing.T, fresh func(*testing.T) string) {
	path := fresh(t)
	server := open(t, path, Options{})
	grace, _, err := admit(server, 1, "grace", Hash{}, RegistrationOpen)
	if err != nil {
		t.Fatal(err)
	}
	ada, _, err := admit(server, 2, "ada", Hash{}, RegistrationOpen)
	if err != nil {
		t.Fatal(err)
	}
	operator := open(t, path, Options{Beside: true})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	reloaded := func(want ...ID) {
		t.Helper()
		changed, err := server.Reload()
		if err != nil || len(changed) != len(want) || len(want) > 0 && changed[0] != want[0] {
			t.Fatalf("changed clients: got %v, %v, want %v", changed, err, want)
		}
	}
	reloaded()
	must(operator.SetRights("grace", RightSend|RightRead))
	must(operator.SetQuota("grace", 5))
	reloaded(grace.ID)
	reloaded()
	if now, _, _ := server.Client(grace.ID); now.Rights != RightSend|RightRead || now.Quota != 5 {
		t.Errorf("after rights and quota: got %v, %d", now.Rights, now.Quota)
	}
	if _, err := server.Offer(Upload{ClientID: grace.ID, FileName: "a", Path: "grace/a", Size: 6, Protocol: 4}, Bounds{}); !errors.Is(err, ErrQuota) {
		t.Errorf("offer over the quota: got %v, want ErrQuota", err)
	}
	must(operator.Revoke("ada"))
	if err := operator.Revoke("ada"); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoke again: got %v, want ErrRevoked", err)
	}
	reloaded(ada.ID)
	for key, want := range map[Hash]bool{{2}: true, {1}: false, {77}: false} {
		if got, err := server.IsRevoked(key); err != nil || got != want {
			t.Errorf("key %v is revoked: got %t, %v, want %t", key, got, err, want)
		}
	}
	if _, _, err := admit(server, 2, "ada", Hash{}, RegistrationOpen); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked key: got %v, want ErrRevoked", err)
	}
	if _, _, err := admit(server, 3, "ada", Hash{}, RegistrationOpen); !errors.Is(err, ErrNameTaken) {
		t.Errorf("revoked name: got %v, want ErrNameTaken", err)
	}
	if err := operator.Revoke("nobody"); !errors.Is(err, ErrUnknownClient) {
		t.Errorf("revoke nobody: got %v, want ErrUnknownClient", err)
	}

	must(operator.InviteRekey("ada", Hash{50}, time.Now().Add(time.Hour)))
	must(operator.InviteRekey("ada", Hash{51}, time.Now().Add(time.Hour))) // takes the first one back
	if _, _, err := admit(server, 3, "", Hash{50}, RegistrationClosed); !errors.Is(err, ErrInviteRevoked) {
		t.Errorf("first invite to another key: got %v, want ErrInviteRevoked", err)
	}
	back, how, err := admit(server, 3, "", Hash{51}, RegistrationClosed)
	if err != nil || how != Rekeyed || back.ID != ada.ID || !back.RevokedAt.IsZero() {
		t.Errorf("another key: got %+v, %v, %v, want ada again", back, how, err)
	}
	if _, _, err := admit(server, 2, "", Hash{}, RegistrationClosed); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("the key before: got %v, want ErrNotAdmitted", err)
	}

	uses, err := operator.Clients()
	if err != nil || len(uses) != 2 || uses[0].Client.Name != "ada" || uses[1].Client.Quota != 5 {
		t.Errorf("clients: got %+v, %v", uses, err)
	}
}

func TestRevokedClientOfProtocol3(t *testing.T) { onEach(t, testRevokedClientOfProtocol3) }

func testRevokedClientOfProtocol3(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{})
	grace := register(t, c, "grace")
	if _, err := c.OpenSession(grace.ID, "grace", 3, []byte("key"), ""); err != nil {
		t.Fatal(err)
	}
	if err := c.Revoke("grace"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenSession(grace.ID, "grace", 3, []byte("key"), ""); !errors.Is(err, ErrUnknownClient) {
		t.Errorf("session: got %v, want ErrUnknownClient", err)
	}
	if _, err := c.Begin(Upload{ClientID: grace.ID, FileName: "a", Path: "grace/a", Protocol: 3}, Bounds{}); !errors.Is(err, ErrRevoked) {
		t.Errorf("upload: got %v, want ErrRevoked", err)
	}
	if err := c.InviteRekey("grace", Hash{1}, time.Now()); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("another key: got %v, want ErrNotAllowed", err)
	}
}

func TestParseRights(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Rights{
		"send": RightSend, "read,send": RightSend | RightRead, "send, read, replace": AllRights, "none": 0,
	} {
		got, err := ParseRights(text)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
		if again, err := ParseRights(got.String()); err != nil || again != got {
			t.Errorf("%q: printed as %q, which reads as %v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "write", "send;read", "send,,read"} {
		if _, err := ParseRights(text); err == nil {
			t.Errorf("%q: want an error", text)
		}
	}
}
