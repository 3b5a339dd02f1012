package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/ceremony"
	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

// TestNewMaterialIsImportedAlsoAfterAStop goes on with an import that was done by a run
// that was killed before it could say so: the key service takes no material for new twice.
func TestNewMaterialIsImportedAlsoAfterAStop(t *testing.T) {
	f := newFileKeys(t)
	out, err := f.sdk.CreateKey(t.Context(), &kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	if err != nil {
		t.Fatal(err)
	}
	wrapped := func(material secret.Bytes) *ceremony.Wrapped {
		p, err := f.sdk.GetParametersForImport(t.Context(), &kms.GetParametersForImportInput{KeyId: out.KeyMetadata.Arn, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048})
		if err != nil {
			t.Fatal(err)
		}
		public, err := keyspec.ParsePublic("RSA_2048", p.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		text, err := keyspec.Wrap(keyspec.WrapOAEPSHA256, public, material)
		if err != nil {
			t.Fatal(err)
		}
		return &ceremony.Wrapped{KeyID: *out.KeyMetadata.Arn, Material: text, ImportToken: p.ImportToken}
	}
	c := ceremonyImportCommand{keyAccess: keyAccess{EndpointURL: f.url}}
	imports := func(material secret.Bytes, again bool) (string, error) {
		v := &importView{Expires: time.Now().Add(time.Hour)}
		err := c.importMaterial(t.Context(), wrapped(material), v, again)
		return v.MaterialID, err
	}
	if _, err := imports(secret.Random(32), false); err != nil {
		t.Fatal(err)
	}
	c.NewMaterial = true
	fresh := secret.Random(32)
	id, err := imports(fresh, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := imports(fresh, false); err == nil || !strings.Contains(err.Error(), "already associated with the KMS key") {
		t.Errorf("it is new no more: %v", err)
	}
	if same, err := imports(fresh, true); err != nil || same != id {
		t.Errorf("%q is not %q, or %v", same, id, err)
	}
	if _, err := imports(secret.Random(32), true); err == nil || !strings.Contains(err.Error(), "already has key material pending rotation") {
		t.Errorf("other material: %v", err)
	}
}
