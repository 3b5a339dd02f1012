package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/mod/sumdb/note"

	"cardea/internal/app"
	"cardea/internal/approval"
	"cardea/internal/ceremony"
	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/keyspec"
	"cardea/internal/lifecycle"
	"cardea/internal/notekey"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

type ceremonyCommands struct {
	Generate   ceremonyGenerateCommand   `cmd:"" help:"Make key material of components, a file for each custodian."`
	Check      ceremonyCheckCommand      `cmd:"" help:"Check a component and print its check value, never the component."`
	Parameters ceremonyParametersCommand `cmd:"" help:"Get what wraps material for a key (GetParametersForImport), to take to a machine without a network."`
	Wrap       ceremonyWrapCommand       `cmd:"" help:"Combine the custodians' components in memory and wrap the key for import. Needs no network."`
	Import     ceremonyImportCommand     `cmd:"" help:"Import wrapped material (ImportKeyMaterial)."`
}

// writeNew writes a file that must not exist.
func writeNew(flag, path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err == nil {
		_, err = f.Write(text)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

type ceremonyGenerateCommand struct {
	journal
	output
	KeySpec    string `default:"SYMMETRIC_DEFAULT" placeholder:"SPEC" help:"SYMMETRIC_DEFAULT (default), HMAC_256, HMAC_384 or HMAC_512."`
	Components int    `default:"3" placeholder:"N" help:"How many, each for another custodian; all are needed (default 3)."`
	Threshold  int    `placeholder:"K" help:"Make Shamir shares in place of components, of which K are needed, and a seal that they open."`
	OutDir     string `required:"" type:"path" placeholder:"DIR" help:"Folder for the components, one file each. It must not have any yet."`
}

// generatedView is what was made, without it.
type generatedView struct {
	Set   string     `json:"set,omitempty"`
	KCV   string     `json:"kcv"` // of the combined key
	Files []partView `json:"files"`
	Seal  string     `json:"seal,omitempty"`
}

type partView struct {
	File string `json:"file"`
	KCV  string `json:"kcv"`
}

func (v *generatedView) text(w io.Writer) error {
	var rows [][]string
	for _, f := range v.Files {
		rows = append(rows, []string{f.File, "check value " + f.KCV})
	}
	if v.Seal != "" {
		rows = append(rows, []string{v.Seal, "the seal, for whoever imports the key"})
	}
	if err := fields(w, rows...); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "check value of the combined key %s\n", v.KCV)
	return err
}

// Help implements kong.HelpProvider.
func (ceremonyGenerateCommand) Help() string {
	return "Examples:\n  cardea ceremony generate --components 3 --out-dir /media/safe\n\nDo this on a machine without a network, with all custodians there. Each takes one file, the only copy, and keeps it apart from the others. " +
		"Write down the check value of the combined key, which is printed: it is not secret."
}

func (c ceremonyGenerateCommand) Run(ctx context.Context, p *Process) error {
	if c.Threshold != 0 {
		return c.shares(ctx, p)
	}
	cs, kcv, err := ceremony.Generate(ceremony.Algorithm(c.KeySpec), c.Components)
	if err != nil {
		return usageError{err}
	}
	defer ceremony.Destroy(cs)
	if err := os.MkdirAll(c.OutDir, 0o700); err != nil {
		return fmt.Errorf("--out-dir: %w", err)
	}
	set := cs[0].Set.String()
	v := generatedView{Set: set, KCV: kcv}
	err = c.perform(ctx, p, false, app.OpCeremonyGenerate, vault.Target{Reference: set}, "", func() (string, string, error) {
		for _, x := range cs {
			path := filepath.Join(c.OutDir, fmt.Sprintf("component-%d-of-%d.txt", x.Index, x.Count))
			text := x.Text()
			err := writeNew("--out-dir", path, text.Expose(), 0o600)
			text.Destroy()
			if err != nil {
				return "", "", err
			}
			v.Files = append(v.Files, partView{path, x.KCV()})
		}
		return "generated", fmt.Sprintf("set %s of %d components, %s, kcv %s", set, len(cs), c.KeySpec, kcv), nil
	})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, v, v.text)
}

// shares makes shares and their seal.
func (c ceremonyGenerateCommand) shares(ctx context.Context, p *Process) error {
	seal, parts, kcv, err := ceremony.GenerateShares(ceremony.Algorithm(c.KeySpec), c.Components, c.Threshold)
	if err != nil {
		return usageError{err}
	}
	defer func() {
		for _, x := range parts {
			x.Destroy()
		}
	}()
	if err := os.MkdirAll(c.OutDir, 0o700); err != nil {
		return fmt.Errorf("--out-dir: %w", err)
	}
	v := generatedView{KCV: kcv, Seal: filepath.Join(c.OutDir, "seal.b64")}
	err = c.perform(ctx, p, false, app.OpCeremonyGenerate, vault.Target{}, "", func() (string, string, error) {
		path := v.Seal
		if err := writeNew("--out-dir", path, []byte(base64.StdEncoding.EncodeToString(seal)+"\n"), 0o600); err != nil {
			return "", "", err
		}
		for _, x := range parts {
			path := filepath.Join(c.OutDir, fmt.Sprintf("share-%d-of-%d.txt", x.Index(), len(parts)))
			text := x.Text()
			line := append(slices.Clone(text.Expose()), '\n')
			err := writeNew("--out-dir", path, line, 0o600)
			secret.Wipe(line)
			text.Destroy()
			if err != nil {
				return "", "", err
			}
			v.Files = append(v.Files, partView{path, ceremony.ShareKCV(x)})
		}
		return "generated", fmt.Sprintf("%d of %d shares, %s, kcv %s", c.Threshold, len(parts), c.KeySpec, kcv), nil
	})
	if err != nil {
		return err
	}
	return c.print(p.Stdout, v, v.text)
}

type ceremonyCheckCommand struct {
	Component string `arg:"" type:"path" placeholder:"FILE" help:"The component."`
}

// Help implements kong.HelpProvider.
func (ceremonyCheckCommand) Help() string {
	return "Examples:\n  cardea ceremony check component-1-of-3.txt"
}

func (c ceremonyCheckCommand) Run(p *Process) error {
	x, err := readComponent(c.Component)
	if err != nil {
		return err
	}
	defer ceremony.Destroy([]ceremony.Component{x})
	_, err = fmt.Fprintf(p.Stdout, "set %s, %s, %s, check value %s\n", x.Set, x.Name(), x.Algorithm, x.KCV())
	return err
}

func readComponent(path string) (ceremony.Component, error) {
	text, err := readSmall(path)
	if err != nil {
		return ceremony.Component{}, err
	}
	s := secret.New(text)
	defer s.Destroy()
	x, err := ceremony.ParseComponent(s)
	if err != nil {
		return x, fmt.Errorf("%s: %w", path, err)
	}
	return x, nil
}

// administer makes a client for administration.
func (a keyAccess) administer(ctx context.Context, id string) (*awskms.Client, error) {
	region := a.Region
	if arn, err := iam.ParseARN(id); err == nil {
		region = arn.Region
	}
	return lifecycle.Connect(ctx, lifecycle.Access{Region: region, Profile: a.Profile, Endpoint: a.EndpointURL, CAFile: a.CAFile})
}

type ceremonyParametersCommand struct {
	keyAccess
	output
	KeyID     string `required:"" name:"key-id" placeholder:"KEY" help:"The key, made with origin EXTERNAL."`
	Algorithm string `default:"RSAES_OAEP_SHA_256" placeholder:"NAME" help:"RSAES_OAEP_SHA_256 (default), or RSA_AES_KEY_WRAP_SHA_256 where the key service takes it for the key."`
	Out       string `required:"" type:"path" placeholder:"FILE" help:"File for them, which must not exist. They hold for 24 hours."`
}

// Help implements kong.HelpProvider.
func (ceremonyParametersCommand) Help() string {
	return "Examples:\n  cardea ceremony parameters --key-id alias/imported --out parameters.json\n\nRead the digest that is printed aloud on the other machine: it must be the same there."
}

func (c ceremonyParametersCommand) Run(ctx context.Context, p *Process) error {
	k, err := c.administer(ctx, c.KeyID)
	if err != nil {
		return err
	}
	ps, err := importParameters(ctx, k, c.KeyID, c.Algorithm)
	if err != nil {
		return err
	}
	text, err := ps.Encode()
	if err != nil {
		return err
	}
	if err := writeNew("--out", c.Out, text, 0o600); err != nil {
		return err
	}
	v := struct {
		KeyID   string    `json:"key_id"`
		Digest  string    `json:"digest"`
		ValidTo time.Time `json:"valid_to"`
	}{ps.KeyID, ps.Digest(), ps.ValidTo.UTC()}
	return c.print(p.Stdout, v, func(w io.Writer) error {
		return fields(w, []string{"key", v.KeyID}, []string{"digest", v.Digest}, []string{"valid until", v.ValidTo.Format(time.RFC3339)})
	})
}

func importParameters(ctx context.Context, k *awskms.Client, id, algorithm string) (*ceremony.Parameters, error) {
	switch keyspec.WrappingAlgorithm(algorithm) {
	case keyspec.WrapOAEPSHA256, keyspec.WrapRSAAESKW256:
	default:
		return nil, usageError{fmt.Errorf("--algorithm: %q is refused, want %s or %s: SHA-1 is not for new material", algorithm, keyspec.WrapRSAAESKW256, keyspec.WrapOAEPSHA256)}
	}
	d, err := k.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &id})
	if err != nil {
		return nil, fmt.Errorf("describe key: %w", err)
	}
	m := d.KeyMetadata
	if m.Origin != types.OriginTypeExternal {
		return nil, fmt.Errorf("key %s has origin %s: material is imported only into a key that was made with origin EXTERNAL", aws.ToString(m.Arn), m.Origin)
	}
	out, err := k.GetParametersForImport(ctx, &awskms.GetParametersForImportInput{
		KeyId: m.Arn, WrappingAlgorithm: types.AlgorithmSpec(algorithm), WrappingKeySpec: types.WrappingKeySpecRsa4096,
	})
	if err != nil {
		return nil, fmt.Errorf("get parameters for import: %w", err)
	}
	return &ceremony.Parameters{
		KeyID: aws.ToString(m.Arn), KeySpec: ceremony.Algorithm(m.KeySpec), Algorithm: keyspec.WrappingAlgorithm(algorithm),
		PublicKey: out.PublicKey, ImportToken: out.ImportToken, ValidTo: aws.ToTime(out.ParametersValidTo),
	}, nil
}

type ceremonyWrapCommand struct {
	registerFile
	journal
	Parameters string   `required:"" type:"path" placeholder:"FILE" help:"What 'cardea ceremony parameters' wrote."`
	Digest     string   `required:"" placeholder:"DIGEST" help:"The parameters' digest, as it was read on the other machine."`
	Custodian  []string `required:"" sep:"none" placeholder:"COMPONENT,KEY" help:"A custodian's component or share file, and own key file (see 'cardea approval keygen'); repeat for each."`
	Seal       string   `type:"path" placeholder:"FILE" help:"The seal that shares open, if there are shares in place of components."`
	KCV        string   `name:"kcv" placeholder:"DIGITS" help:"Check value that the combined key must have."`
	Out        string   `required:"" type:"path" placeholder:"FILE" help:"File for the wrapped material, which must not exist; it is not secret."`
}

// Help implements kong.HelpProvider.
func (ceremonyWrapCommand) Help() string {
	return "Examples:\n  cardea ceremony wrap --register people.toml --parameters parameters.json --digest 0123456789ABCDEF0123 " +
		"--custodian component-1-of-2.txt,alice.key --custodian component-2-of-2.txt,bob.key --out wrapped.json\n\n" +
		"Each custodian must be in the register with an acknowledgement in force, and signs the transcript. Components are combined in memory only."
}

func (c ceremonyWrapCommand) Run(ctx context.Context, p *Process) error {
	reg, err := c.read()
	if err != nil {
		return err
	}
	text, err := readSmall(c.Parameters)
	if err != nil {
		return fmt.Errorf("--parameters: %w", err)
	}
	ps, err := ceremony.ParseParameters(text)
	if err != nil {
		return fmt.Errorf("--parameters: %w", err)
	}
	if !strings.EqualFold(c.Digest, ps.Digest()) {
		return fmt.Errorf("--digest: the parameters' is %s: these are not the ones that were got on the other machine", ps.Digest())
	}
	m, witnesses, err := c.material(p, reg, ps.KeySpec)
	defer func() {
		for _, w := range witnesses {
			w.Signer.Destroy()
		}
	}()
	if err != nil {
		return err
	}
	defer m.Destroy()
	return c.perform(ctx, p, false, app.OpCeremonyImport, vault.Target{}, ps.KeyID, func() (string, string, error) {
		w, err := ceremony.Wrap(ps, m, c.KCV, p.Now())
		if err != nil {
			return "", "", err
		}
		transcript, err := ceremony.Transcript(ps, w, witnesses, p.Now())
		if err != nil {
			return "", "", err
		}
		w.Transcript = string(transcript)
		out, err := w.Encode()
		if err == nil {
			err = writeNew("--out", c.Out, out, 0o600)
		}
		if err == nil {
			_, err = fmt.Fprintf(p.Stdout, "%s\ncheck value of the combined key %s: compare it with what was written down when it was made\n", strings.TrimSpace(string(transcript)), w.KCV)
		}
		return "wrapped", fmt.Sprintf("kcv %s, parameters %s, custodians %s", w.KCV, ps.Digest(), witnessNames(witnesses)), err
	})
}

// material combines what the custodians bring. The caller destroys the signers, also
// with an error.
func (c ceremonyWrapCommand) material(p *Process, reg *approval.Register, a ceremony.Algorithm) (*ceremony.Material, []ceremony.Witness, error) {
	var (
		cs        []ceremony.Component
		shares    []custodian.Part
		witnesses []ceremony.Witness
	)
	defer func() {
		ceremony.Destroy(cs)
		for _, x := range shares {
			x.Destroy()
		}
	}()
	for _, text := range c.Custodian {
		file, key, ok := strings.Cut(text, ",")
		if !ok {
			return nil, witnesses, usageError{fmt.Errorf("--custodian: %q is not COMPONENT,KEY", text)}
		}
		s, err := personKey{key}.signer()
		if err != nil {
			return nil, witnesses, fmt.Errorf("--custodian: %w", err)
		}
		w := ceremony.Witness{Signer: s}
		witnesses = append(witnesses, w)
		if err := custodianSigns(reg, s, p.Now()); err != nil {
			return nil, witnesses, fmt.Errorf("--custodian: %w", err)
		}
		if c.Seal != "" {
			x, err := readShare(file)
			if err != nil {
				return nil, witnesses, fmt.Errorf("--custodian: %w", err)
			}
			shares = append(shares, x)
			w.Component, w.KCV = x.Name(), ceremony.ShareKCV(x)
		} else {
			x, err := readComponent(file)
			if err != nil {
				return nil, witnesses, fmt.Errorf("--custodian: %w", err)
			}
			cs = append(cs, x)
			w.Component, w.KCV = x.Name(), x.KCV()
		}
		witnesses[len(witnesses)-1] = w
	}
	if c.Seal == "" {
		m, err := ceremony.Combine(cs)
		return m, witnesses, err
	}
	text, err := readSmall(c.Seal)
	if err != nil {
		return nil, witnesses, fmt.Errorf("--seal: %w", err)
	}
	seal, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, witnesses, fmt.Errorf("--seal: %s is not one that 'cardea ceremony generate' wrote", c.Seal)
	}
	m, err := ceremony.OpenShares(a, seal, shares)
	return m, witnesses, err
}

func readShare(path string) (custodian.Part, error) {
	s, err := secretFile(path)
	if err != nil {
		return custodian.Part{}, err
	}
	defer s.Destroy()
	x, err := custodian.ParseShare(s)
	if err != nil {
		return x, fmt.Errorf("%s: %w", path, err)
	}
	return x, nil
}

// custodianSigns checks that a key is that of a custodian in the register.
func custodianSigns(reg *approval.Register, s *notekey.Signer, now time.Time) error {
	if err := reg.Custodian(s.Name(), now); err != nil {
		return err
	}
	person, err := reg.Person(s.Name())
	if err == nil && person.Key != s.Verifier() {
		err = fmt.Errorf("the key is not the one that the register has of %q", s.Name())
	}
	return err
}

func witnessNames(ws []ceremony.Witness) string {
	var all []string
	for _, w := range ws {
		all = append(all, w.Signer.Name())
	}
	return strings.Join(all, ", ")
}

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

func (c ceremonyImportCommand) Run(ctx context.Context, p *Process) error {
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
	ledger := approval.Ledger{Dir: filepath.Join(cfg.Node.DataDir, "approvals")}
	v := importView{KeyID: w.KeyID, KCV: w.KCV, Expires: expires, Custodians: custodians, Approvers: st.Approvers}
	err = c.perform(ctx, p, true, app.OpCeremonyImport, vault.Target{Reference: st.Request.ID}, w.KeyID, func() (string, string, error) {
		detail := fmt.Sprintf("kcv %s, custodians %s, approved by %s, register %.16s", w.KCV, strings.Join(custodians, ", "), strings.Join(st.Approvers, ", "), reg.Digest())
		if c.NeverExpires {
			detail += ", never expires: " + c.Reason
		}
		if _, err := ledger.Begin(st.Request, signed); err != nil {
			return "", detail, err
		}
		if err := c.importMaterial(ctx, w, &v); err != nil {
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

// importMaterial imports, and asks what came of it.
func (c ceremonyImportCommand) importMaterial(ctx context.Context, w *ceremony.Wrapped, v *importView) error {
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

// custodianVerifiers are the keys of the custodians whose word counts.
func custodianVerifiers(reg *approval.Register, now time.Time) note.Verifiers {
	var all []note.Verifier
	for _, p := range reg.People {
		if !slices.Contains(p.Roles, approval.RoleCustodian) || reg.Custodian(p.Name, now) != nil {
			continue
		}
		if v, err := note.NewVerifier(p.Key); err == nil {
			all = append(all, v)
		}
	}
	return note.VerifierList(all...)
}
