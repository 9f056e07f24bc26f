package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestBuckets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]Bucket{
		"files":                          nil,
		"s3://bucket":                    {{"bucket", ""}},
		"s3://bucket/":                   {{"bucket", ""}},
		"s3://my.bucket-1/a/b/":          {{"my.bucket-1", "a/b"}},
		"s3://one/p, s3://two,s3://one":  {{"one", "p"}, {"two", ""}, {"one", ""}},
		"s3://one/FENC_objects,s3://two": {{"one", "FENC_objects"}, {"two", ""}},
	} {
		dir := t.TempDir()
		s, _, err := LoadServer(write(t, dir, "server.toml", fmt.Sprintf("storage = %q", text)))
		if err == nil {
			err = s.Validate()
		}
		if err != nil || !reflect.DeepEqual(s.Buckets(), want) || s.InBuckets() != (want != nil) {
			t.Errorf("%s: got %v, %v, want %v", text, s.Buckets(), err, want)
		}
		if s.InBuckets() && s.Storage != text {
			t.Errorf("%s became %s", text, s.Storage)
		}
	}
}

func TestS3Errors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"no bucket", `storage = "s3://"`, `1: storage = "s3://": "" is not the name of a bucket`},
		{"capitals", `storage = "s3://Bucket"`, `"Bucket" is not the name of a bucket: 3 to 63 small letters`},
		{"a folder among buckets", `storage = "s3://bucket,files"`, "entry 2: no s3:// in front"},
		{"odd prefix", `storage = "s3://bucket/../x"`, `"../x" is not a prefix`},
		{"empty segment", `storage = "s3://bucket//x"`, `"/x" is not a prefix`},
		{"twice", `storage = "s3://bucket/a,s3://bucket/a/"`, "stands there twice; write a directory"},
		{"other scheme", `storage = "gs://bucket"`, `1: storage = "gs://bucket": gs:// is not known; write a directory`},
		{"no table", `s3 = "x"`, `1: s3 = "x": text where a table belongs; write [s3]`},
		{"list of tables", "[[s3]]\nregion = \"x\"", `1: s3 = {…}: a list of tables where one belongs`},
		{"unknown key", "[s3]\nendpont = \"x\"", "2: endpont = \"x\": unknown key; did you mean `endpoint`?"},
		{"key of the file", "[s3]\nlisten = \":1\"", "2: listen = \":1\": stands in a [s3] table, which has no such key; write it above the first table"},
		{"scheme", "[s3]\nendpoint = \"s3.example.org\"", `2: endpoint = "s3.example.org": neither http:// nor https://; write an address`},
		{"path", "[s3]\nendpoint = \"https://s3.example.org/bucket\"", "holds more than the host; buckets stand in storage"},
		{"user", "[s3]\nendpoint = \"https://a:b@s3.example.org\"", "holds a user"},
		{"region", "[s3]\nregion = \"EU\"", `2: region = "EU": not the name of a region; write the name of a region`},
		{"buffers", "[s3]\npart_buffers = 0", "2: part_buffers = 0: under 1; write a whole number from 1 to 1024"},
		{"verify", "[s3]\n\nverify = \"none\"", `3: verify = "none": not known; write "hash" or "read"`},
		{"type", "[s3]\npath_style = 1", "2: path_style = 1: a number where true or false belongs; write true or false"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, _, err := LoadServer(write(t, dir, "server.toml", c.text))
			if err == nil {
				err = s.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestS3FromFileAndEnvironment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := write(t, dir, "server.toml", "storage = \"s3://bucket\"\n[s3]\nendpoint = \"http://127.0.0.1:9000\"\nsecret_key_file = \"secret\"\npart_buffers = 3\npath_style = false\n")
	env := map[string]string{"FENC_S3_PART_BUFFERS": "5", "FENC_S3_REGION": "garage"}
	s, _, err := Lookup{WorkDir: dir, Getenv: func(name string) string { return env[name] }}.LoadServer(path)
	if err == nil {
		err = s.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultS3()
	want.Endpoint, want.SecretKeyFile, want.PartBuffers, want.PathStyle, want.Region = "http://127.0.0.1:9000", filepath.Join(dir, "secret"), 5, false, "garage"
	if want.origins = s.S3.origins; !reflect.DeepEqual(s.S3, want) {
		t.Errorf("got %+v, want %+v", s.S3, want)
	}
	env["FENC_S3_PART_BUFFERS"] = "many"
	if _, _, err := (Lookup{WorkDir: dir, Getenv: func(name string) string { return env[name] }}).LoadServer(path); err == nil || !strings.Contains(err.Error(), `FENC_S3_PART_BUFFERS="many": not a whole number`) {
		t.Errorf("got %v", err)
	}
	moved, _, err := Lookup{WorkDir: dir}.LoadServer(write(t, dir, "moved.toml", "\nstorage = \"s3://bucket\"\n\n[s3]\nendpoint = \"http://127.0.0.1:9000\"\nsecret_key_file = \"secret\"\npart_buffers = 5\npath_style = false\nregion = \"garage\""))
	if err != nil {
		t.Fatal(err)
	}
	if changed := s.Changed(&moved); changed != nil {
		t.Errorf("what stands elsewhere counts as changed: %v", changed)
	}
	moved.S3.Verify = "read"
	if changed := s.Changed(&moved); !reflect.DeepEqual(changed, []string{"s3"}) {
		t.Errorf("changed: got %v", changed)
	}
}

func TestPlainIsBeyondThisMachine(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]bool{
		"": false, "https://s3.example.org": false, "http://s3.example.org": true, "http://10.0.0.1:9000": true,
		"http://127.0.0.1:9000": false, "http://[::1]:9000": false, "http://localhost": false,
	} {
		if s := (S3{Endpoint: endpoint}); s.Plain() != want {
			t.Errorf("%q: got %v", endpoint, s.Plain())
		}
	}
}

func TestS3Credentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, S3SecretName)
	if err := os.WriteFile(secret, []byte("from-a-credential\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("from-a-file"), 0o600); err != nil {
		t.Fatal(err)
	}
	aws := map[string]string{"AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "from-env", "AWS_SESSION_TOKEN": "token"}
	unit := map[string]string{"CREDENTIALS_DIRECTORY": dir, "AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "from-env"}
	for _, c := range []struct {
		name string
		s    S3
		env  map[string]string
		want S3Credentials
	}{
		{"environment", S3{}, aws, S3Credentials{"env", "from-env", "token"}},
		{"settings", S3{AccessKey: "a", SecretKeyFile: file}, aws, S3Credentials{"a", "from-a-file", ""}},
		{"credential", S3{AccessKey: "a"}, unit, S3Credentials{"a", "from-a-credential", ""}},
	} {
		got, err := Lookup{Getenv: func(name string) string { return c.env[name] }}.S3Credentials(c.s)
		if err != nil || got != c.want {
			t.Errorf("%s: got %v, %v", c.name, got, err)
		}
		if text := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(text, "from-") || strings.Contains(text, "token") && c.want.Token != "" {
			t.Errorf("%s: prints %s", c.name, text)
		}
	}
	many := write(t, dir, "many", "two\nlines\n")
	os.Chmod(many, 0o600)
	for name, s := range map[string]S3{"no name of the S3 credentials": {SecretKeyFile: file}, "no secret of the S3": {AccessKey: "a"}, "is one line": {AccessKey: "a", SecretKeyFile: many}} {
		if _, err := (Lookup{}).S3Credentials(s); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "two") {
			t.Errorf("got %v, want %q in it", err, name)
		}
	}
	if runtime.GOOS != "windows" {
		os.Chmod(file, 0o644)
		if _, err := (Lookup{}).S3Credentials(S3{AccessKey: "a", SecretKeyFile: file}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a secret that others may read: got %v", err)
		}
	}
}
