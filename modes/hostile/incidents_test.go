package hostile_test

import (
	"crypto/tls"
	"reflect"
	"testing"

	"fenc/model"
	"fenc/modes/serve/servetest"
)

// Users of x/crypto/ssh took the key that was offered for the one that was proved. A
// copied certificate without its key leaves no trace of its owner: no session, no
// "last seen", no line under its name.
func TestUnprovenKeyLeavesNoTrace(t *testing.T) {
	t.Parallel()
	s := serveTarget(t)
	victim := s.newClient(t, "victim")
	victim.session(t).bye()
	must(t, s.archive.Catalogue.FlushSeen())
	before, ok, _ := s.archive.Catalogue.ClientNamed("victim")
	if !ok {
		t.Fatal("the victim is not known")
	}
	log := len(s.log.String())
	a := &attacker{T: t, client: s.newClient(t, "attacker")}
	for range 10 {
		a.turnedAway(showing(tls.Certificate{Certificate: victim.certificate.Certificate, PrivateKey: a.key}))
		s.log.Await(t, a.last, "session ended", "signature")
	}
	// Nor does a key that nobody knows yet: it is registered by its hello alone.
	a.connect().Close()
	s.log.Await(t, a.last, "session ended")
	must(t, s.archive.Catalogue.FlushSeen())
	if after, _, _ := s.archive.Catalogue.ClientNamed("victim"); !reflect.DeepEqual(after, before) {
		t.Errorf("the victim is %+v, was %+v", after, before)
	}
	if since := s.log.String()[log:]; servetest.LinesWith(since, "victim") != "" || servetest.LinesWith(since, victim.fingerprint().String()) != "" {
		t.Errorf("the log has the victim:\n%s", since)
	}
	if revoked, err := s.archive.Catalogue.IsRevoked(model.Hash(a.fingerprint())); err != nil || revoked {
		t.Error("the attacker's own key is revoked")
	}
	if _, there, _ := s.archive.Catalogue.ClientNamed("attacker"); there {
		t.Error("a handshake alone has registered a client")
	}
	s.serves(t)
}
