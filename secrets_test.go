package cardea

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// secretName is how a field is called that may hold a secret or a card number.
var secretName = regexp.MustCompile(`(?i)(secret|passw|passphrase|plaintext|private|masterkey|cardnumber|share|seed|otp)|^(pin|pan|dek|kek|key|token)$`)

// notInClear are the fields so called, of a type that prints what it holds, which hold
// nothing that must not be printed, or are never handed on. A secret of its own belongs
// into secret.Bytes, which no verb, no JSON and no log prints.
var notInClear = map[string]string{
	"internal/identity.keyBody.Secret":                                                "sealed under the root key",
	"internal/identity.deviceBody.Secret":                                             "sealed under the root key",
	"internal/identity.sessionBody.Secret":                                            "sealed under the root key",
	"internal/identity.sessionBody.Token":                                             "a hash",
	"internal/kms.KeyStore.Password":                                                  "sealed by the backend",
	"internal/kms.Key.MaterialSecret":                                                 "sealed by the backend",
	"internal/kms.GenerateDataKeyPairOutput.PrivateKeyCiphertextBlob":                 "ciphertext",
	"internal/kms.GenerateDataKeyPairWithoutPlaintextOutput.PrivateKeyCiphertextBlob": "ciphertext",
	"internal/sigv4.keyEntry.key":                                                     "of the cache of signing keys, in no other package's hands",
	"internal/sigv4.claim.token":                                                      "of the request that is verified, in no other package's hands",
	"internal/kmsclient.question.Plaintext":                                           "lent by secret.Bytes while a request is written, in no other package's hands",
	"internal/kmsclient.answer.Plaintext":                                             "secret.New takes it over, in no other package's hands",
	"internal/collect.bucketLister.token":                                             "of the next page of a list",
	"internal/collect.Lookup.token":                                                   "of the next page of a list",
	"internal/cli.migrateHyperswitchCommand.MasterKey":                                "the name of a file",
	"internal/keyspec.ecPKCS8.PrivateKey":                                             "while a key is encoded, wiped after it",
	"internal/httpd.pemFiles.key":                                                     "while files are read, in no other package's hands",
	"internal/lockerapi.jweBody.key":                                                  "encrypted, as it came over the wire",
	"internal/store/lockerdb.Merchant.Key":                                            "wrapped under the peer's master key",
	"internal/store.recordRow.key":                                                    "the id of a key",
	"internal/vault.Holder.Secret":                                                    "of no use without the branch key; its rows are the store's",
	"internal/vault.RecordContext.HolderSecret":                                       "as Holder.Secret",
	"internal/config.RootToken.Token":                                                 "label of a PKCS #11 token",
	"internal/config.Cluster.Token":                                                   "label of a PKCS #11 token",
	"internal/config.TenantPKCS11.Token":                                              "label of a PKCS #11 token",
}

// TestSecretsAreSecretBytes: a field that by its name holds a secret, and by its type
// would be printed with it, is one of those that are listed here, with why. Types that
// hold secrets otherwise are secret.Bytes inside, whose own test prints them in all ways.
func TestSecretsAreSecretBytes(t *testing.T) {
	found := map[string]bool{}
	err := filepath.WalkDir("internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && slices.Contains(testOnly, filepath.ToSlash(path)) {
			return orSkip(err)
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, is := n.(*ast.TypeSpec); is {
				for _, field := range printable(spec) {
					found[filepath.ToSlash(filepath.Dir(path))+"."+spec.Name.Name+"."+field] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for field := range found {
		if _, known := notInClear[field]; !known {
			t.Errorf("%s looks like a secret in clear: make it secret.Bytes, or list it with why it is none", field)
		}
	}
	for field := range notInClear {
		if !found[field] {
			t.Errorf("%s is listed and is not there any more", field)
		}
	}
}

func orSkip(err error) error {
	if err != nil {
		return err
	}
	return filepath.SkipDir
}

// printable are the fields of a struct that are called as a secret and are text or
// bytes. A string called Key names a key.
func printable(spec *ast.TypeSpec) (names []string) {
	st, is := spec.Type.(*ast.StructType)
	if !is {
		return nil
	}
	for _, f := range st.Fields.List {
		of := f.Type
		if p, is := of.(*ast.StarExpr); is {
			of = p.X
		}
		text := false
		if a, is := of.(*ast.ArrayType); is {
			of = a.Elt
		} else {
			text = true
		}
		elem, is := of.(*ast.Ident)
		if !is || elem.Name != "byte" && elem.Name != "string" {
			continue
		}
		for _, n := range f.Names {
			name := strings.ToLower(n.Name)
			isName := strings.HasSuffix(name, "file") || strings.HasSuffix(name, "id") || text && name == "key"
			if secretName.MatchString(n.Name) && !isName {
				names = append(names, n.Name)
			}
		}
	}
	return names
}
