package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/minio/minio-go/v7"

	"fenc/model/storage"
)

// sums are the hashes of what is sent.
type sums struct {
	sha [sha256.Size]byte
	md5 []byte // nil: not made
}

// sha256Hex is the payload's hash as a signature has it.
func (h sums) sha256Hex() string { return hex.EncodeToString(h.sha[:]) }

// accepts checks the ETag that a store gave for content of these hashes.
func (s *Store) accepts(etag string, of sums) error {
	if etag == "" {
		return fmt.Errorf("%w: it gave no ETag", errOtherContent)
	}
	if plain, _ := s.etags(); plain && of.md5 != nil && etag != hex.EncodeToString(of.md5) {
		return fmt.Errorf("%w: its ETag is %q, the MD5 is %x", errOtherContent, etag, of.md5)
	}
	return nil
}

// etags reports what is known of the store's ETags.
func (s *Store) etags() (plain, summed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plainMD5, s.summedMD5
}

// put makes an object of the size's bytes of content. It returns its ETag; open is
// whether the request, or one before it, may yet be done.
func (s *Store) put(ctx context.Context, stop <-chan struct{}, b bucket, key string, content io.ReadSeeker, size int64, of sums) (etag string, open bool, err error) {
	err = s.retry(ctx, stop, 0, func(ctx context.Context) error {
		err := s.buffers.sending(ctx, content, func(ctx context.Context, sent *body) error {
			info, err := s.core.PutObject(ctx, b.Name, b.object(key), sent, size, "", of.sha256Hex(), minio.PutObjectOptions{DisableContentSha256: true})
			if err == nil {
				err = s.accepts(info.ETag, of)
			}
			etag = info.ETag
			return err
		})
		open = open || isOpen(err)
		return err
	})
	return etag, open, err
}

// putPart makes a part of an upload, and returns its ETag.
func (s *Store) putPart(ctx context.Context, stop <-chan struct{}, b bucket, key, upload string, number int, content io.ReadSeeker, size int64, of sums) (etag string, err error) {
	err = s.retry(ctx, stop, 0, func(ctx context.Context) error {
		return s.buffers.sending(ctx, content, func(ctx context.Context, sent *body) error {
			// Over plain HTTP the client ignores Sha256Hex without the other.
			part, err := s.core.PutObjectPart(ctx, b.Name, b.object(key), upload, number, sent, size,
				minio.PutObjectPartOptions{Sha256Hex: of.sha256Hex(), DisableContentSha256: true})
			if err == nil {
				err = s.accepts(part.ETag, of)
			}
			etag = part.ETag
			return err
		})
	})
	return etag, err
}

// listed is what a store has of a part.
type listed struct {
	etag string
	size int64
}

// parts lists what the store has of an upload; storage.ErrGone where it has dropped it.
func (s *Store) parts(ctx context.Context, b bucket, key, upload string) (map[int]listed, error) {
	all := make(map[int]listed)
	for marker := 0; ; {
		var page minio.ListObjectPartsResult
		err := s.retry(ctx, nil, short, func(ctx context.Context) (err error) {
			page, err = s.core.ListObjectParts(ctx, b.Name, b.object(key), upload, marker, 1000)
			return err
		})
		if err != nil {
			return nil, s.explain(err, "list the parts of upload %s in bucket %q", key, b.Name)
		}
		for _, p := range page.ObjectParts {
			all[p.PartNumber] = listed{strings.Trim(p.ETag, `"`), p.Size}
		}
		if !page.IsTruncated {
			return all, nil
		}
		if page.NextPartNumberMarker <= marker {
			return nil, fmt.Errorf("S3 store: list the parts of upload %s in bucket %q: the page behind part %d comes again", key, b.Name, marker)
		}
		marker = page.NextPartNumberMarker
	}
}

// head returns size and ETag of an object; storage.ErrGone where there is none. An
// answer to HEAD has no words, so that another is asked for whether it is the object
// that is missing or the bucket.
func (s *Store) head(ctx context.Context, b bucket, key string) (size int64, etag string, err error) {
	err = s.retry(ctx, nil, short, func(ctx context.Context) error {
		info, err := s.core.StatObject(ctx, b.Name, b.object(key), minio.StatObjectOptions{})
		if isGone(err) {
			var content io.ReadCloser
			content, info, _, err = s.core.GetObject(ctx, b.Name, b.object(key), minio.GetObjectOptions{})
			if err == nil { // it has come since
				content.Close()
			}
		}
		size, etag = info.Size, info.ETag
		return err
	})
	return size, etag, s.explain(err, "look at object %s in bucket %q", key, b.Name)
}

// find looks for an object where it may be: storage.ErrGone if it is nowhere.
func (s *Store) find(ctx context.Context, key string) (b bucket, size int64, etag string, err error) {
	for _, b = range s.ranked(key) {
		size, etag, err = s.head(ctx, b, key)
		if !errors.Is(err, storage.ErrGone) {
			break
		}
	}
	return b, size, etag, err
}

// get asks for the bytes of an object from off on: length of them, or all for -1.
func (s *Store) get(ctx context.Context, b bucket, key string, off, length int64) (io.ReadCloser, error) {
	var o minio.GetObjectOptions
	want := ""
	switch {
	case length >= 0:
		want = fmt.Sprintf("bytes=%d-%d", off, off+length-1)
	case off > 0:
		want = fmt.Sprintf("bytes=%d-", off)
	}
	if want != "" {
		o.Set("Range", want)
	}
	content, _, header, err := s.core.GetObject(ctx, b.Name, b.object(key), o)
	if err != nil {
		return nil, err
	}
	if from := fmt.Sprintf("bytes %d-", off); want != "" && !strings.HasPrefix(header.Get("Content-Range"), from) {
		content.Close()
		return nil, fmt.Errorf("%w: it answered %q to a request for %q", errOtherContent, header.Get("Content-Range"), want)
	}
	return content, nil
}

// Has implements storage.Store.
func (s *Store) Has(key string, size int64) (bool, error) {
	_, has, _, err := s.find(s.ctx, key)
	if errors.Is(err, storage.ErrGone) {
		return false, nil
	}
	return err == nil && has == size, err
}
