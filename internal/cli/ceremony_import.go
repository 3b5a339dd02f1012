package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/app"
	"cardea/internal/approval"
	"cardea/internal/ceremony"
	"cardea/internal/vault"
)

type ceremonyImportCommand struct {
	keyAccess
	registerFile
	journal
	output
	Wrapped       string `required:"" type:"path" placeholder:"FILE" help:"What 'cardea ceremony wrap' wrote."`
	Approval      string `required:"" type:"path" placeholder:"FILE" help:"Approved request for key.import-material of this key, with param kcv=DIGITS."`
	Expires       string `placeholder:"TIME" help:"When KMS forgets the material: a time such as 2027-01-31T00:00:00Z or a duration such as 8760h, at most 365 days. Import it again before."`
	NeverExpires  bool   `help:"Let it never expire: against the rule that keys have a cryptoperiod; --reason says why. To be approved: --param expires=never."`
	Reason        string `placeholder:"TEXT" help:"Why the material may never expire."`
	NewMaterial   bool   `help:"The key has other material already: this is new material for rotation. To be approved: --param new-material=yes."`
	MaterialNotes string `name:"description" placeholder:"TEXT" help:"Description of the material in KMS."`
}

// Help implements kong.HelpProvider.
func (ceremonyImportCommand) Help() string {
	return "Examples:\n  cardea ceremony import --register people.toml --wrapped wrapped.json --approval import.request --expires 2027-01-31T00:00:00Z\n\n" +
		"The request is made by 'cardea approval request --operation key.import-material --target KEY-ARN --param kcv=DIGITS', with --param expires=never and --param new-material=yes if that is meant. " +
		"To import the same material again before it expires, get new parameters and wrap the components again."
}

// importView is what came of an import.
type importView struct {
	KeyID      string    `json:"key_id"`
	MaterialID string    `json:"key_material_id,omitempty"`
	KCV        string    `json:"kcv"`
	Expires    time.Time `json:"expires,omitzero"`
	State      string    `json:"key_state"`
	Custodians []string  `json:"custodians"`
	Approvers  []string  `json:"approvers"`
}

func (c ceremonyImportCommand) Run(ctx context.Context, p *Process) (err error) {
	expires, err := c.expiry(p.Now())
	if err != nil {
		return usageError{err}
	}
	reg, err := c.read()
	if err != nil {
		return err
	}
	text, err := readSmall(c.Wrapped)
	if err != nil {
		return fmt.Errorf("--wrapped: %w", err)
	}
	w, err := ceremony.ParseWrapped(text)
	if err != nil {
		return fmt.Errorf("--wrapped: %w", err)
	}
	_, custodians, err := ceremony.OpenTranscript(w, custodianVerifiers(reg, p.Now()))
	if err != nil {
		return fmt.Errorf("--wrapped: %w", err)
	}
	signed, err := readSmall(c.Approval)
	if err != nil {
		return fmt.Errorf("--approval: %w", err)
	}
	st, err := approval.Check(signed, reg, p.Now(), approval.Want{
		Operation: approval.KeyImport, Target: w.KeyID, Params: c.approved(w), Approvals: 2,
	})
	if err != nil { // who tries without approval is recorded, too
		return c.perform(ctx, p, true, app.OpCeremonyImport, vault.Target{}, w.KeyID, func() (string, string, error) {
			return "", "", fmt.Errorf("--approval: %w", err)
		})
	}
	cfg, err := installation(p, c.Config, c.DataDir)
	if err != nil {
		return err
	}
	ledger := ledgerOf(p, cfg)
	defer func() { err = errors.Join(err, ledger.Close()) }()
	v := importView{KeyID: w.KeyID, KCV: w.KCV, Expires: expires, Custodians: custodians, Approvers: st.Approvers}
	err = c.perform(ctx, p, true, app.OpCeremonyImport, vault.Target{Reference: st.Request.ID}, w.KeyID, func() (string, string, error) {
		detail := fmt.Sprintf("kcv %s, custodians %s, approved by %s, register %.16s", w.KCV, strings.Join(custodians, ", "), strings.Join(st.Approvers, ", "), reg.Digest())
		if c.NeverExpires {
			detail += ", never expires: " + c.Reason
		}
		again, err := ledger.Begin(st.Request, signed)
		if err != nil {
			return "", detail, err
		}
		if err := c.importMaterial(ctx, w, &v, again); err != nil {
			return "", detail, err
		}
		return "imported", detail, ledger.Finish(st.Request, "imported, material "+v.MaterialID)
	})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, v, func(out io.Writer) error {
		expires := "never"
		if !v.Expires.IsZero() {
			expires = v.Expires.UTC().Format(time.RFC3339) + ": import it again before"
		}
		return fields(out, []string{"key", v.KeyID}, []string{"state", v.State}, []string{"material", v.MaterialID}, []string{"check value", v.KCV}, []string{"expires", expires},
			[]string{"custodians", strings.Join(v.Custodians, ", ")}, []string{"approved by", strings.Join(v.Approvers, ", ")})
	})
}

// approved is what those who approve must have read. An end of any time within a
// year is for whoever imports to choose; that there is none is not, nor is rotation.
func (c ceremonyImportCommand) approved(w *ceremony.Wrapped) map[string]string {
	params := map[string]string{"kcv": w.KCV}
	if c.NeverExpires {
		params["expires"] = "never"
	}
	if c.NewMaterial {
		params["new-material"] = "yes"
	}
	return params
}

// maxImported is the longest that AWS KMS keeps imported material, but for ever.
const maxImported = 365 * 24 * time.Hour

// expiry is when the material expires, zero for never.
func (c ceremonyImportCommand) expiry(now time.Time) (time.Time, error) {
	switch {
	case (c.Expires == "") != c.NeverExpires:
		return time.Time{}, errors.New("--expires: say when the material expires; or --never-expires with --reason")
	case c.NeverExpires && strings.TrimSpace(c.Reason) == "":
		return time.Time{}, errors.New("--reason: say why the material may never expire: it is recorded")
	case c.NeverExpires:
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, c.Expires)
	if err != nil {
		d, derr := time.ParseDuration(c.Expires)
		if derr != nil {
			return t, fmt.Errorf("--expires: %q is neither a time such as 2027-01-31T00:00:00Z nor a duration such as 8760h", c.Expires)
		}
		t = now.Add(d)
	}
	if !t.After(now) {
		return t, fmt.Errorf("--expires: %s is not in the future", t.UTC().Format(time.RFC3339))
	}
	if t.Sub(now) > maxImported {
		return t, fmt.Errorf("--expires: %s is more than 365 days from now: material is imported again within its cryptoperiod", t.UTC().Format(time.RFC3339))
	}
	return t.UTC().Truncate(time.Second), nil
}

// importMaterial imports, and asks what came of it. again says that an import with the
// same approval was begun before and may have been done.
func (c ceremonyImportCommand) importMaterial(ctx context.Context, w *ceremony.Wrapped, v *importView, again bool) error {
	k, err := c.administer(ctx, w.KeyID)
	if err != nil {
		return err
	}
	in := &awskms.ImportKeyMaterialInput{KeyId: &w.KeyID, EncryptedKeyMaterial: w.Material, ImportToken: w.ImportToken, ExpirationModel: types.ExpirationModelTypeKeyMaterialExpires, ValidTo: aws.Time(v.Expires)}
	if c.NeverExpires {
		in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialDoesNotExpire, nil
	}
	if c.NewMaterial {
		in.ImportType = types.ImportTypeNewKeyMaterial
	}
	if c.MaterialNotes != "" {
		in.KeyMaterialDescription = &c.MaterialNotes
	}
	out, err := k.ImportKeyMaterial(ctx, in)
	if err != nil && again && c.NewMaterial { // if it is the key's already it is new no more, but can be imported as what it has
		in.ImportType = types.ImportTypeExistingKeyMaterial
		if known, kerr := k.ImportKeyMaterial(ctx, in); kerr == nil {
			out, err = known, nil
		}
	}
	if err != nil {
		return fmt.Errorf("import key material: %w", err)
	}
	v.MaterialID = aws.ToString(out.KeyMaterialId)
	d, err := k.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &w.KeyID})
	if err != nil {
		return fmt.Errorf("describe key: %w", err)
	}
	v.State = string(d.KeyMetadata.KeyState)
	if !c.NewMaterial && d.KeyMetadata.KeyState != types.KeyStateEnabled && d.KeyMetadata.KeyState != types.KeyStateDisabled {
		return fmt.Errorf("the key is %s after the import", v.State)
	}
	return nil
}
