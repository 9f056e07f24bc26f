package s3

import (
	"context"
	"errors"

	"github.com/minio/minio-go/v7"
)

// Remove implements storage.Store: of each key the object goes, and the uploads that
// were begun for it.
func (s *Store) Remove(keys ...string) error {
	return each(keys, func(key string) error {
		var errs []error
		for _, b := range s.ranked(key) {
			errs = append(errs, s.abortAll(s.ctx, b, key), s.remove(s.ctx, b, key))
		}
		return errors.Join(errs...)
	})
}

// Purge implements storage.Store. It is for what has become an object, and looks for
// no open upload.
func (s *Store) Purge(keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	return each(s.options.Buckets, func(of Bucket) error { return s.removeMany(bucket(of), keys) })
}

// remove removes an object, if there is one.
func (s *Store) remove(ctx context.Context, b bucket, key string) error {
	err := s.retry(ctx, nil, short, func(ctx context.Context) error {
		err := s.core.RemoveObject(ctx, b.Name, b.object(key), minio.RemoveObjectOptions{})
		if isGone(err) {
			return nil
		}
		return err
	})
	return s.explain(err, "remove %s from bucket %q", key, b.Name)
}

// removeMany removes objects by the thousand.
func (s *Store) removeMany(b bucket, keys []string) error {
	if len(keys) == 1 {
		return s.remove(s.ctx, b, keys[0])
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	names := make(chan minio.ObjectInfo)
	go func() {
		defer close(names)
		for _, key := range keys {
			select {
			case names <- minio.ObjectInfo{Key: b.object(key)}:
			case <-ctx.Done():
				return
			}
		}
	}()
	failed := make(map[string]bool)
	for of := range s.core.RemoveObjects(ctx, b.Name, names, minio.RemoveObjectsOptions{}) {
		if of.ObjectName == "" {
			return s.explain(of.Err, "remove objects from bucket %q", b.Name)
		}
		failed[of.ObjectName] = failed[of.ObjectName] || !isGone(of.Err)
	}
	// One by one, where many at once fail or are not known: that says why, too.
	var again []string
	for _, key := range keys {
		if failed[b.object(key)] {
			again = append(again, key)
		}
	}
	return each(again, func(key string) error { return s.remove(s.ctx, b, key) })
}

// abort drops an upload of parts, if there is one.
func (s *Store) abort(ctx context.Context, b bucket, key, token string) error {
	err := s.retry(ctx, nil, short, func(ctx context.Context) error {
		err := s.core.AbortMultipartUpload(ctx, b.Name, b.object(key), token)
		if isGone(err) {
			return nil
		}
		return err
	})
	return s.explain(err, "drop an upload of %s in bucket %q", key, b.Name)
}

// abortAll drops all uploads of parts that were begun for a key.
func (s *Store) abortAll(ctx context.Context, b bucket, key string) error {
	var tokens []string
	err := s.retry(ctx, nil, short, func(ctx context.Context) error {
		tokens = nil
		keyMarker, idMarker := "", ""
		for {
			page, err := s.core.ListMultipartUploads(ctx, b.Name, b.object(key), keyMarker, idMarker, "", 1000)
			if err != nil {
				return err
			}
			for _, u := range page.Uploads {
				if u.Key == b.object(key) {
					tokens = append(tokens, u.UploadID)
				}
			}
			if !page.IsTruncated || page.NextKeyMarker == keyMarker && page.NextUploadIDMarker == idMarker {
				return nil
			}
			keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
		}
	})
	if a, ok := answer(err); ok && !mayPass(err) && a.Code != minio.NoSuchBucket {
		// A store that does not list uploads, or not to everybody: what is left behind is
		// never completed, and costs only its room.
		err = nil
	}
	err = s.explain(err, "look for uploads of %s in bucket %q", key, b.Name)
	for _, token := range tokens {
		err = errors.Join(err, s.abort(ctx, b, key, token))
	}
	return err
}
