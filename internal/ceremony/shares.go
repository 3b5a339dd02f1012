package ceremony

import (
	"fmt"

	"cardea/internal/custodian"
	"cardea/internal/secret"
)

// sealName is what the seal of key material is bound to in place of a tenant.
func sealName(a Algorithm) string { return "ceremony." + string(a) }

// GenerateShares makes material of 32 bytes, sealed under a key that is divided into
// shares of which threshold open it. The seal is no secret without them, and all who
// import need it; each share goes to another custodian. Nobody has the material.
func GenerateShares(a Algorithm, shares, threshold int) (seal []byte, parts []custodian.Part, kcv string, err error) {
	if err := sharable(a); err != nil {
		return nil, nil, "", err
	}
	m, err := newMaterial(a, secret.Random(a.Size()))
	if err != nil { // one in 2^100
		return nil, nil, "", err
	}
	defer m.Destroy()
	s, parts, err := custodian.SealMaster(sealName(a), m.value, custodian.FormShares, shares, threshold)
	if err != nil {
		return nil, nil, "", err
	}
	if seal, err = s.MarshalBinary(); err != nil {
		return nil, nil, "", fmt.Errorf("encode seal: %w", err)
	}
	return seal, parts, m.KCV, nil
}

func sharable(a Algorithm) error {
	if err := a.check(); err != nil {
		return err
	}
	if a.Size() != 32 {
		return fmt.Errorf("algorithm %s: only material of 32 bytes is divided into shares; make components", a)
	}
	return nil
}

// OpenShares opens a seal with a quorum of its shares. Errors: those of package
// custodian, ErrWeak.
func OpenShares(a Algorithm, seal []byte, parts []custodian.Part) (*Material, error) {
	if err := sharable(a); err != nil {
		return nil, err
	}
	var s custodian.Seal
	if err := s.UnmarshalBinary(seal); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if s.Info().Tenant != sealName(a) {
		return nil, fmt.Errorf("%w: the seal is of %q, not of material for %s", ErrMismatch, s.Info().Tenant, a)
	}
	value, err := s.Open(parts)
	if err != nil {
		return nil, err
	}
	return newMaterial(a, value)
}

// ShareKCV is the check value of a share, as a transcript names it: of its text, by
// HMAC, since a share is no key.
func ShareKCV(p custodian.Part) string {
	text := p.Text()
	defer text.Destroy()
	return checkText(text)
}
