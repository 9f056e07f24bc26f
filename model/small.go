package model

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// SmallFile is a whole file whose content is durable already, in an object of its
// own or in a pack.
type SmallFile struct {
	Client     ID
	Name       string // as it was sent; it is its path in the client's folder too
	Size       int64
	Digest     Hash
	ModTime    int64
	Mode       uint32
	Object     ID    // its own object: with the content, or for later, where it is in a pack
	PackOffset int64 // in the pack
}

// ReservedFor is how long after Reserve an id is good. It is less than the age from
// which garbage is removed: what is being removed can no longer be taken.
const ReservedFor = 8 * time.Minute

// Reserve returns n ids of objects to be. Their rows stand among the garbage until
// CommitSmall takes them, so that what a crash leaves under them is removed. They
// are good for ReservedFor.
func (c *Catalogue) Reserve(n int) ([]ID, error) {
	ids := make([]ID, n)
	rows := make([]Garbage, n)
	for i := range ids {
		ids[i] = NewID()
		rows[i] = Garbage{Object: ids[i], Since: Time{c.now()}}
	}
	err := c.write(nobody, func(tx *gorm.DB) error {
		return tx.Clauses(clause.OnConflict{DoNothing: true}).CreateInBatches(rows, 1000).Error
	})
	if err != nil {
		return nil, fmt.Errorf("reserve ids: %w", err)
	}
	return ids, nil
}

// Outcome is what became of one small file.
type Outcome struct {
	File      File
	Unchanged bool  // the same content stood there already; the new object is not used
	Err       error // ErrRevoked, ErrNotAllowed, ErrNoReplace, ErrPathTaken, ErrQuota or ErrManyFiles
}

// CommitSmall is the commit point of a group of small files: one transaction for
// all, in which each becomes the file of its name or is refused for itself. pack,
// unless nil, is the reserved id of the object that holds the content of all of
// them; else each one's Object is a reserved id. Where one name comes twice, the
// later one wins.
func (c *Catalogue) CommitSmall(group []SmallFile, pack *ID, bounds Bounds) ([]Outcome, error) {
	var outcomes []Outcome
	again := false
	err := c.write(ofSmall(group), func(tx *gorm.DB) error {
		g := smallGroup{c: c, tx: tx, pack: pack, bounds: bounds, files: group, outcomes: make([]Outcome, len(group)), again: again}
		outcomes, again = g.outcomes, true
		return g.commit()
	})
	if err != nil {
		return nil, fmt.Errorf("commit small files: %w", err)
	}
	files := make([]File, 0, len(outcomes))
	for _, o := range outcomes {
		if o.Err == nil {
			files = append(files, o.File)
		}
	}
	c.view.putFiles(files...)
	c.announce()
	return outcomes, nil
}

// smallGroup is a group on its way through its transaction.
type smallGroup struct {
	c        *Catalogue
	tx       *gorm.DB
	pack     *ID
	bounds   Bounds
	files    []SmallFile
	outcomes []Outcome
	again    bool // the outcome of an earlier try is not known

	earlier  map[ID]File // of an earlier try that was committed, what has been replaced since, by object
	clients  map[ID]Client
	standing map[fileName]File // what the catalogue holds under the group's names
	last     map[fileName]int  // the last of the group under each name
	refused  map[ID]error      // clients that may not send
	rooms    map[ID]*room      // what each client has taken, with what the group has so far
	clashes  map[string]bool   // path keys that stand in another file's way
}

type fileName struct {
	client ID
	name   string
}

func (f SmallFile) key() fileName { return fileName{f.Client, f.Name} }

func (g *smallGroup) commit() error {
	if err := g.look(); err != nil {
		return err
	}
	changes, err := g.c.engine.numbers(g.tx, len(g.files))
	if err != nil {
		return err
	}
	var created, replaced []int
	var used []ID
	var news []File
	superseded := make(map[ID][]File) // by client
	fresh := make(map[int]bool)       // has new content by this try
	for i, f := range g.files {
		out := &g.outcomes[i]
		if last := g.last[f.key()]; last != i {
			continue // takes the outcome of the last one
		}
		have, there := g.standing[f.key()]
		if was, committed := g.earlier[f.Object]; committed {
			out.File = was
			continue
		}
		if there && have.Object == f.Object { // an earlier try was committed: no other content, and never garbage
			out.File = have
			continue
		}
		if out.Err = g.refusal(f); out.Err != nil {
			continue
		}
		out.File = have
		if there && have.holds(f.Size, f.Digest) {
			out.Unchanged, out.File.ModTime, out.File.Mode = true, f.ModTime, f.Mode
			if have.ModTime != f.ModTime || have.Mode != f.Mode {
				replaced = append(replaced, i)
			}
			continue
		}
		g.rooms[f.Client].take(f.Name, f.Size)
		if there {
			superseded[f.Client] = append(superseded[f.Client], have)
			replaced = append(replaced, i)
		} else {
			out.File = File{ClientID: f.Client, FileName: f.Name}
			out.File.FilePath = path.Join(g.clients[f.Client].Folder, f.Name)
			out.File.PathKey = g.c.fold(out.File.FilePath)
			created = append(created, i)
		}
		n := &out.File
		n.Size, n.Digest, n.ModTime, n.Mode, n.Object = f.Size, f.Digest, f.ModTime, f.Mode, f.Object
		n.Checksum, n.Pack, n.PackOffset = 0, g.pack, f.PackOffset
		n.Verified, n.Protocol, n.ReceivedAt, n.Version = true, 4, Time{g.c.now()}, n.Version+1
		n.Change, changes = changes[0], changes[1:]
		fresh[i] = true
		if g.pack == nil {
			used = append(used, f.Object)
		}
	}
	if g.pack != nil && len(created)+len(replaced) > 0 {
		pack := Pack{ID: *g.pack, MadeAt: Time{g.c.now()}}
		for _, f := range g.files {
			pack.Size = max(pack.Size, f.PackOffset+f.Size)
		}
		made := g.tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&pack)
		if made.Error != nil {
			return made.Error
		}
		if made.RowsAffected > 0 {
			used = append(used, *g.pack)
		}
	}
	if err := g.save(created, replaced); err != nil {
		return err
	}
	for part := range slices.Chunk(used, 1000) {
		taken := g.tx.Delete(&Garbage{}, "object IN ? AND since > ?", part, Time{g.c.now().Add(-ReservedFor)})
		if taken.Error == nil && taken.RowsAffected != int64(len(part)) {
			return ErrNoUpload // removed meanwhile: the reservation was too old
		}
		if taken.Error != nil {
			return taken.Error
		}
	}
	for client, files := range superseded {
		if err := g.c.supersede(g.tx, g.clients[client], files...); err != nil {
			return err
		}
	}
	for i := range g.files {
		if out := g.outcomes[i]; fresh[i] {
			news = append(news, out.File)
		}
	}
	if err := g.c.record(g.tx, EventVerified, Time{g.c.now()}, g.clients, news...); err != nil {
		return err
	}
	for i, f := range g.files {
		if last := g.last[f.key()]; last != i {
			g.outcomes[i] = g.outcomes[last]
		}
	}
	return nil
}

// look reads what the group's judgement needs, in a few queries for all.
func (g *smallGroup) look() error {
	g.clients, g.standing = make(map[ID]Client), make(map[fileName]File)
	g.last, g.clashes, g.refused = make(map[fileName]int), make(map[string]bool), make(map[ID]error)
	g.rooms = make(map[ID]*room)
	names := make(map[ID][]string)
	for i, f := range g.files {
		g.last[f.key()] = i
		names[f.Client] = append(names[f.Client], f.Name)
	}
	for id, own := range names {
		var client Client
		if err := g.tx.Take(&client, "id = ?", id).Error; err != nil {
			return err
		}
		g.clients[id] = client
		var files []File
		if err := g.tx.Find(&files, "client_id = ? AND file_name IN ?", id, own).Error; err != nil {
			return err
		}
		for _, f := range files {
			g.standing[fileName{id, f.FileName}] = f
		}
		if _, err := maySend(g.tx, id); err != nil {
			if !isRefusal(err) {
				return err
			}
			g.refused[id] = err
		}
		var err error
		if g.rooms[id], err = roomOf(g.tx, client, g.bounds, own...); err != nil {
			return err
		}
	}
	if err := g.lookForEarlier(); err != nil {
		return err
	}
	return g.lookForClashes()
}

// lookForEarlier finds what an earlier try has committed and has been replaced since.
// What was kept as a version stays one; what turned to garbage comes back, for the
// one or the other was written last.
func (g *smallGroup) lookForEarlier() error {
	g.earlier = make(map[ID]File)
	if !g.again {
		return nil
	}
	objects := make([]ID, len(g.files))
	now := make(map[ID]File) // what stands under its name, by object
	for i, f := range g.files {
		objects[i], now[f.Object] = f.Object, g.standing[f.key()]
	}
	for part := range slices.Chunk(objects, 1000) {
		var kept []KeptVersion
		if err := g.tx.Find(&kept, "object IN ?", part).Error; err != nil {
			return err
		}
		for _, k := range kept {
			g.earlier[k.Object] = k.as(now[k.Object])
		}
		if g.pack == nil {
			continue // their rows among the garbage are theirs in either case
		}
		if err := g.tx.Delete(&Garbage{}, "object IN ? AND since > ?", part, Time{g.c.now().Add(-ReservedFor)}).Error; err != nil {
			return err
		}
	}
	return nil
}

// lookForClashes finds the new paths of the group that another file holds, has
// for a folder, or needs as one; in the catalogue and in the group itself.
func (g *smallGroup) lookForClashes() error {
	var keys []string
	ownerOf := make(map[string]string) // a folder of the group's new files → the file below it
	for i, f := range g.files {
		if _, there := g.standing[f.key()]; there || g.last[f.key()] != i {
			continue
		}
		key := g.c.fold(path.Join(g.clients[f.Client].Folder, f.Name))
		keys = append(keys, key)
		for _, above := range ancestors(key) {
			ownerOf[above] = key
		}
	}
	seen := make(map[string]bool)
	for _, key := range keys {
		if seen[key] {
			g.clashes[key] = true // two spellings of one path
		}
		seen[key] = true
	}
	for _, key := range keys {
		if ownerOf[key] != "" {
			g.clashes[key] = true
		}
	}
	folders := make([]string, 0, len(ownerOf))
	for folder := range ownerOf {
		folders = append(folders, folder)
	}
	slices.Sort(folders)
	for part := range slices.Chunk(append(folders, keys...), 1000) {
		var held []string
		if err := g.tx.Model(&File{}).Where("path_key IN ?", part).Pluck("path_key", &held).Error; err != nil {
			return err
		}
		for _, h := range held {
			for _, key := range keys {
				if key == h || strings.HasPrefix(key, h+"/") {
					g.clashes[key] = true
				}
			}
		}
	}
	for part := range slices.Chunk(keys, 300) {
		values := make([]string, len(part))
		args := make([]any, len(part))
		for i, key := range part {
			values[i], args[i] = "(?)", key
		}
		var folders []string
		err := g.tx.Raw("WITH k(v) AS (VALUES "+strings.Join(values, ",")+") SELECT v FROM k WHERE EXISTS "+
			"(SELECT 1 FROM files WHERE path_key >= v || '/' AND path_key < v || '0')", args...).Scan(&folders).Error
		if err != nil {
			return err
		}
		for _, key := range folders {
			g.clashes[key] = true
		}
	}
	return nil
}

// refusal says why a file of the group is not taken.
func (g *smallGroup) refusal(f SmallFile) error {
	client := g.clients[f.Client]
	have, there := g.standing[f.key()]
	same := there && have.holds(f.Size, f.Digest)
	if err := g.refused[f.Client]; err != nil || same {
		return err
	}
	if err := g.rooms[f.Client].refuses(f.Name, f.Size); err != nil {
		return err
	}
	switch {
	case there && client.Rights&RightReplace == 0:
		return ErrNoReplace
	case !there && g.clashes[g.c.fold(path.Join(client.Folder, f.Name))]:
		return ErrPathTaken
	}
	return nil
}

// save writes the rows of new and of changed files.
func (g *smallGroup) save(created, replaced []int) error {
	if len(created) > 0 {
		rows := make([]File, len(created))
		for i, at := range created {
			rows[i] = g.outcomes[at].File
		}
		if err := g.tx.Omit(clause.Associations).CreateInBatches(rows, 1000).Error; err != nil {
			return err
		}
		for i, at := range created {
			g.outcomes[at].File = rows[i]
		}
	}
	for _, at := range replaced {
		if err := g.tx.Omit(clause.Associations).Save(&g.outcomes[at].File).Error; err != nil {
			return err
		}
	}
	return nil
}
