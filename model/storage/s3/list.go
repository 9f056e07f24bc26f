package s3

import (
	"strings"

	"github.com/minio/minio-go/v7"

	"fenc/model/storage"
)

// Objects calls do for every object of the buckets, and stray for every other name
// that is found below their prefixes, with the bucket's before it. It lists whole
// buckets: only who compares all asks for that.
func (s *Store) Objects(do func(storage.Listed) error, stray func(name string) error) error {
	for _, of := range s.options.Buckets {
		b := bucket(of)
		for found := range s.core.ListObjectsIter(s.ctx, b.Name, minio.ListObjectsOptions{Prefix: b.below(), Recursive: true}) {
			if found.Err != nil {
				return s.explain(found.Err, "list bucket %q", b.Name)
			}
			var err error
			if key, ok := b.key(found.Key); ok {
				err = do(storage.Listed{Key: key, Size: found.Size})
			} else {
				err = stray(b.Name + "/" + found.Key)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Uploads calls do for the key of every upload of parts that is open in the buckets.
// What a store does not list is not told.
func (s *Store) Uploads(do func(key string) error) error {
	for _, of := range s.options.Buckets {
		b := bucket(of)
		keyMarker, idMarker := "", ""
		for {
			page, err := s.core.ListMultipartUploads(s.ctx, b.Name, b.below(), keyMarker, idMarker, "", 1000)
			if a, ok := answer(err); ok && !mayPass(err) && a.Code != minio.NoSuchBucket {
				break
			}
			if err != nil {
				return s.explain(err, "list the uploads in bucket %q", b.Name)
			}
			for _, u := range page.Uploads {
				if key, ok := b.key(u.Key); ok {
					if err := do(key); err != nil {
						return err
					}
				}
			}
			if !page.IsTruncated || page.NextKeyMarker == keyMarker && page.NextUploadIDMarker == idMarker {
				break
			}
			keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
		}
	}
	return nil
}

// below is what the names of all objects begin with.
func (b bucket) below() string {
	if b.Prefix == "" {
		return ""
	}
	return b.Prefix + "/"
}

// key returns the key that an object of this name has; ok is false where it is none's.
func (b bucket) key(name string) (key string, ok bool) {
	key = name[strings.LastIndexByte(name, '/')+1:]
	return key, storage.IsKey(key) && b.object(key) == name
}
