package model

import (
	"encoding/binary"
	"slices"

	"gorm.io/gorm"
)

// order says what a write must not run beside, where several processes write. Each
// write may think that it is alone with what its order names.
type order struct {
	all     bool // any other write
	clients []ID // writes that concern one of these clients
	upload  ID   // writes that concern this upload's client
}

var (
	// nobody is the order of a write that decides by its own conditions alone.
	nobody = order{}
	// everybody is the order of a write that looks at more than some clients.
	everybody = order{all: true}
	// names is the order of registrations: by whom names and folders are given out.
	names = of(ID{'n', 'a', 'm', 'e', 's'})
)

func of(clients ...ID) order   { return order{clients: clients} }
func ofUpload(upload ID) order { return order{upload: upload} }

func ofFiles(files []File) order {
	var o order
	for _, f := range files {
		o.clients = append(o.clients, f.ClientID)
	}
	return o
}

func ofSmall(files []SmallFile) order {
	var o order
	for _, f := range files {
		o.clients = append(o.clients, f.Client)
	}
	return o
}

// once is a write that makes something, and for which done tells, where it runs again
// because the answer to its commit was lost, whether it was made.
func once(do func(tx *gorm.DB) error, done func(tx *gorm.DB) (bool, error)) func(tx *gorm.DB) error {
	again := false
	return func(tx *gorm.DB) error {
		if again {
			if made, err := done(tx); err != nil || made {
				return err
			}
		}
		again = true
		return do(tx)
	}
}

// stands reports whether a table has such a row.
func stands(tx *gorm.DB, table any, where string, args ...any) (bool, error) {
	var rows int64
	err := tx.Model(table).Where(where, args...).Limit(1).Count(&rows).Error
	return rows > 0, err
}

// catalogueKey is the advisory lock that every write holds: alone, who writes more
// than some clients.
const catalogueKey = 0x66656e63_63617400 // "fenccat"

// keys returns the clients' advisory locks in the order in which they are taken.
func (o order) keys() []int64 {
	keys := make([]int64, len(o.clients))
	for i, id := range o.clients {
		keys[i] = lockKey(id)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// lockKey is the advisory lock of a client. Ids are random; two clients of one key
// wait for each other, no more.
func lockKey(id ID) int64 {
	return int64(binary.BigEndian.Uint64(id[:8]) ^ binary.BigEndian.Uint64(id[8:]))
}
