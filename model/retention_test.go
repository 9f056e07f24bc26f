package model

import (
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gorm.io/gorm"
)

// madeAnew makes a database with the tables of an older version.
func madeAnew(t *testing.T, schema string) string {
	t.Helper()
	text, err := os.ReadFile(schema)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fenc.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(string(text)); err != nil {
		t.Fatal(err)
	}
	return path
}

// A database of an older schema has afterwards the columns and indexes of a new one, and
// what was in it.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"schema-2.sql", "schema-3.sql"} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			testUpgrade(t, madeAnew(t, "testdata/"+schema))
		})
	}
}

func testUpgrade(t *testing.T, path string) {
	c := open(t, path, Options{})
	anew := open(t, filepath.Join(t.TempDir(), "fenc.db"), Options{})
	for _, what := range []string{
		"SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || c.\"notnull\" FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY 1",
		"SELECT name || ' ' || tbl_name FROM sqlite_master WHERE type = 'index' ORDER BY 1",
	} {
		var got, want []string
		for db, list := range map[*gorm.DB]*[]string{c.db: &got, anew.db: &want} {
			if err := db.Raw(what).Scan(list).Error; err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%q\nwant\n%q", got, want)
		}
	}
	grace, ok, _ := c.ClientNamed("grace")
	f, there, _ := c.File(grace.ID, "a.txt")
	if !ok || !there || f.Version != 3 || !f.Verified || grace.Quota != 4096 || grace.KeepVersions != nil {
		t.Errorf("got %+v, %+v, want what was there", grace, f)
	}
	f, err := keep(t, c, grace, "a.txt", "a.txt", "")
	if err != nil || f.Version != 4 || f.Change != 8 {
		t.Errorf("replace: got %+v, %v, want version 4 as change 8", f, err)
	}
	c.Close()
	if got := query[int](t, open(t, path, Options{}), "SELECT value FROM settings WHERE name = 'schema'"); got != schemaVersion {
		t.Errorf("schema: got %d, want %d", got, schemaVersion)
	}
}

// What has been removed leaves no number of a change to be used again: the settled
// mark would take a later commit for one that was looked at.
func TestChangesAreNotNumberedAgain(t *testing.T) { onEach(t, testChangesAreNotNumberedAgain) }

func testChangesAreNotNumberedAgain(t *testing.T, fresh func(*testing.T) string) {
	path := fresh(t)
	c := open(t, path, Options{})
	grace := register(t, c, "grace")
	f, err := keep(t, c, grace, "a", "a", "")
	if err != nil {
		t.Fatal(err)
	}
	gone, err := c.Expire([]File{f})
	if err != nil || !gone[0] {
		t.Fatalf("expire: got %v, %v", gone, err)
	}
	c.Close()
	c = open(t, path, Options{})
	again, err := keep(t, c, grace, "a", "a", "")
	if err != nil || again.Change <= f.Change || again.Version != 1 {
		t.Errorf("after %+v was removed: got %+v, %v, want a later change and version 1", f, again, err)
	}
}

// Each client's own retention wins over the server's.
func TestRetentionOfOneClient(t *testing.T) { onEach(t, testRetentionOfOneClient) }

func testRetentionOfOneClient(t *testing.T, fresh func(*testing.T) string) {
	clock := newClock()
	c := open(t, fresh(t), Options{Now: clock.Now, KeepVersions: 1})
	day := 24 * time.Hour
	own := Retention{KeepVersions: 1, ExpireAfter: 10 * day, KeepPartial: day}
	short, long, none, many := 2*day, 20*day, time.Duration(0), int64(3)
	for name, change := range map[string]RetentionChange{
		"short": {SetExpire: true, ExpireAfter: &short}, "long": {SetExpire: true, ExpireAfter: &long, SetPartial: true, KeepPartial: &long},
		"never": {SetExpire: true, ExpireAfter: &none, SetVersions: true, KeepVersions: &many}, "plain": {},
	} {
		client := register(t, c, name)
		if err := c.SetRetention(name, change); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, err := keep(t, c, client, "a", "a", ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	excess, err := c.Excess(own, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DropVersions(excess); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]int64{"short": {4}, "never": {4, 3, 2}, "plain": {4}} {
		client, _, _ := c.ClientNamed(name)
		f, _, _ := c.File(client.ID, "a")
		versions, err := c.Versions([]File{f})
		var got []int64
		for _, v := range versions[f.ID] {
			got = append(got, v.Version)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: versions kept: got %v, %v, want %v", name, got, err, want)
		}
	}
	for _, step := range []struct {
		after time.Duration
		want  []string
	}{{day, nil}, {2 * day, []string{"short"}}, {8 * day, []string{"plain", "short"}}, {10 * day, []string{"long", "plain", "short"}}} {
		clock.advance(step.after)
		files, versions, err := c.Expired(own, 100)
		var got []string
		for _, f := range files {
			got = append(got, f.Client.Name)
		}
		slices.Sort(got)
		if err != nil || !slices.Equal(got, step.want) || len(versions) != len(got) {
			t.Errorf("after %s more: got %q, %d versions, %v, want %q", step.after, got, len(versions), err, step.want)
		}
	}
	if err := c.SetRetention("never", RetentionChange{SetExpire: true}); err != nil {
		t.Fatal(err)
	}
	if files, _, _ := c.Expired(own, 100); len(files) != 4 {
		t.Errorf("back to the server's: got %d files expired, want 4", len(files))
	}
}
