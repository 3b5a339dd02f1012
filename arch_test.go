// Package cardea has no code of its own, only the test that holds the layers.
package cardea

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers says which packages may import which: a package imports only packages
// of lower layers, never a sibling. A new package must be put here.
var layers = [][]string{
	{"internal/secret", "internal/disk", "internal/turns"},
	{"internal/notekey"},
	{"internal/pan", "internal/iam", "internal/ciphertext", "internal/keyspec", "internal/audit", "internal/httpd", "internal/sdkhttp"},
	{"internal/config", "internal/custodian", "internal/sigv4", "internal/cloudtrail", "internal/hyperswitch"},
	{"internal/vault", "internal/kms", "internal/identity", "internal/kmsclient", "internal/collect", "internal/detect", "internal/ceremony", "internal/approval"},
	{"internal/keymanager", "internal/store", "internal/store/lockerdb", "internal/lockerapi", "internal/kmsapi", "internal/adminapi", "internal/hsm/soft", "internal/hsm/pkcs11", "internal/siem", "internal/fileenc", "internal/lifecycle", "internal/retention", "internal/watch"},
	{"internal/app"},
	{"internal/cli"},
	{"cmd/cardea"},
}

// testOnly are packages that only tests and benchmarks use; their own imports are free.
var testOnly = []string{"internal/bubble", "internal/testlog", "internal/store/storetest", "internal/vault/vaulttest", "internal/kms/kmstest", "internal/identity/identitytest", "internal/hsm/hsmtest", "internal/apptest", "internal/kmsclient/faultproxy", "internal/awstest", "internal/detect/traffic", "deploy/terraform/moduletest", "bench"}

// forbidden are imports that would put a concern into the wrong layer.
var forbidden = map[string][]string{
	"internal/pan":        {"net/http", "database/sql"},
	"internal/iam":        {"net/http", "database/sql"},
	"internal/ciphertext": {"net/http", "database/sql", "math/rand", "math/rand/v2"},
	"internal/audit":      {"net/http", "database/sql"},
	"internal/custodian":  {"net/http", "database/sql", "math/rand", "math/rand/v2"},
	"internal/vault":      {"net/http", "database/sql", "math/rand", "math/rand/v2"},
	"internal/keyspec":    {"net/http", "database/sql", "math/rand", "math/rand/v2"},
	"internal/kms":        {"net/http", "database/sql", "math/rand", "math/rand/v2"},
	"internal/identity":   {"net/http", "database/sql", "math/rand", "math/rand/v2"},
	"internal/kmsapi":     {"database/sql"},
	"internal/keymanager": {"database/sql", "math/rand", "math/rand/v2"},
	"internal/lockerapi":  {"database/sql"},
}

const module = "cardea/"

type listed struct {
	ImportPath string
	Imports    []string
	Doc        string
	GoFiles    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Doc,GoFiles", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			all = append(all, p)
		}
	}
}

// TestImportsPointDown fails on an upward, sideways or unlisted import.
func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	level := map[string]int{}
	for i, l := range layers {
		for _, p := range l {
			level[p] = i
		}
	}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if slices.Contains(testOnly, name) || p.ImportPath == "cardea" {
			continue
		}
		mine, ok := level[name]
		if !ok {
			t.Errorf("%s has no layer: put it into the table", name)
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(forbidden[name], imp) {
				t.Errorf("%s imports %s, which belongs to another layer", name, imp)
			}
			dep, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if slices.Contains(testOnly, dep) {
				t.Errorf("%s imports the test helper %s", name, dep)
			} else if theirs, ok := level[dep]; ok && theirs >= mine {
				t.Errorf("%s (layer %d) imports %s (layer %d): calls go down", name, mine, dep, theirs)
			}
		}
	}
}

// TestOnlyStoreSpeaksSQL keeps SQL drivers out of every other package.
func TestOnlyStoreSpeaksSQL(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if name == "internal/store" || strings.HasPrefix(name, "internal/store/") || name == "bench" {
			continue
		}
		for _, imp := range p.Imports {
			if imp == "database/sql" || strings.HasPrefix(imp, "modernc.org/sqlite") || strings.HasPrefix(imp, "github.com/jackc/pgx") {
				t.Errorf("%s imports %s: only internal/store speaks SQL", name, imp)
			}
		}
	}
}

// TestEveryPackageHasAComment asks for a sentence on what the package promises.
func TestEveryPackageHasAComment(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if len(strings.TrimSpace(p.Doc)) < 20 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
