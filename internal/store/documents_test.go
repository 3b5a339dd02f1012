package store_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cardea/internal/kms"
	"cardea/internal/store"
	"cardea/internal/store/storetest"
)

var update = flag.Bool("update", false, "write the documents of testdata anew")

// TestDocumentsKeepTheirForm: what older releases have stored reads as it did, and
// what is stored now older releases read. See docs/spec/key-service-tables.md before
// you change a document.
func TestDocumentsKeepTheirForm(t *testing.T) {
	t.Parallel()
	testDocument[kms.Key](t, "key")
	testDocument[kms.Alias](t, "alias")
	testDocument[kms.Grant](t, "grant")
	testDocument[kms.KeyStore](t, "keystore")
	testDocument[kms.Usage](t, "usage")
}

func testDocument[T any](t *testing.T, name string) {
	t.Helper()
	path := filepath.Join("testdata", "documents", name+".json")
	want := storetest.Filled[T]()
	got, err := store.EncodeDocument(want)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc := strings.TrimSuffix(string(text), "\n")
	if string(got) != doc {
		t.Errorf("%s is stored as\n%s\nwant\n%s", name, got, doc)
	}
	read := new(T)
	if err := store.DecodeDocument([]byte(doc), read); err != nil || !reflect.DeepEqual(read, want) {
		t.Errorf("%s reads as %+v, %v", name, read, err)
	}
	for what, bad := range map[string]string{
		"an unknown member": `{"future":1,` + doc[1:],
		"a member twice":    `{"created_at":"2026-11-22T10:00:00Z","created_at":"2026-11-22T10:00:00Z"}`,
		"another case":      doc[:1] + strings.ToUpper(doc[1:6]) + doc[6:],
		"two documents":     doc + doc,
		"a cut":             doc[:len(doc)-1],
		"invalid text":      strings.Replace(doc, "text", "\xff", 1),
		"nothing":           "",
	} {
		if err := store.DecodeDocument([]byte(bad), new(T)); err == nil {
			t.Errorf("%s with %s is read", name, what)
		}
	}
}
