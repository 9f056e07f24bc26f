package s3

import (
	"bytes"
	"crypto/sha256"
	"slices"
)

// bucket is a bucket as objects are named in it.
type bucket Bucket

// object returns the name of a key's object.
func (b bucket) object(key string) string {
	name := key
	if len(key) >= 2 {
		name = key[:2] + "/" + key
	}
	if b.Prefix != "" {
		name = b.Prefix + "/" + name
	}
	return name
}

// ranked returns the buckets in the order in which they are a key's own. Its first
// takes what is new; the others are asked when something is not there, since a
// bucket that is added becomes the first of some keys. Which is first depends on the
// key and the bucket alone, so that adding one moves as few keys as can be.
func (s *Store) ranked(key string) []bucket {
	if len(s.options.Buckets) == 1 {
		return []bucket{bucket(s.options.Buckets[0])}
	}
	type scored struct {
		bucket
		score [sha256.Size]byte
	}
	all := make([]scored, len(s.options.Buckets))
	for i, b := range s.options.Buckets {
		all[i] = scored{bucket(b), sha256.Sum256([]byte(b.Name + "\x00" + b.Prefix + "\x00" + key))}
	}
	slices.SortFunc(all, func(a, b scored) int { return bytes.Compare(b.score[:], a.score[:]) })
	buckets := make([]bucket, len(all))
	for i, b := range all {
		buckets[i] = b.bucket
	}
	return buckets
}

// home returns the bucket that takes what is new of a key.
func (s *Store) home(key string) bucket { return s.ranked(key)[0] }
