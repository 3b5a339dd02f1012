package app

import (
	"fmt"
	"maps"
	"os"
	"time"

	"cardea/internal/approval"
	"cardea/internal/ceremony"
	"cardea/internal/config"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// maxRegisterFile bounds the register of people, in bytes.
const maxRegisterFile = 1 << 20

// people judges approvals by the register in a file, which it reads each time: who has
// left must not count until the service is started again.
type people struct{ path string }

// dualControl is what of cfg the key service enforces. A register that cannot be read
// now is an error; later it is one for whoever needs an approval.
func dualControl(cfg config.DualControl) (kms.DualControl, error) {
	if cfg.Register == "" {
		return kms.DualControl{}, nil
	}
	p := people{cfg.Register}
	if _, err := p.register(); err != nil {
		return kms.DualControl{}, fmt.Errorf("key_service.dual_control.register: %w", err)
	}
	return kms.DualControl{Judge: p, Operations: cfg.Operations, Tag: cfg.Tag, Approvals: cfg.Approvals, CheckValue: checkValue}, nil
}

func checkValue(s keyspec.Spec, material secret.Bytes) (string, error) {
	return ceremony.KCV(ceremony.Algorithm(s), material)
}

func (p people) register() (*approval.Register, error) {
	info, err := os.Stat(p.path)
	if err == nil && info.Size() > maxRegisterFile {
		err = fmt.Errorf("%s: longer than %d bytes", p.path, maxRegisterFile)
	}
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(p.path)
	if err != nil {
		return nil, err
	}
	r, err := approval.ParseRegister(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	return r, nil
}

// Read implements kms.Judge.
func (p people) Read(signed []byte, at time.Time) (*kms.Approved, error) {
	r, err := p.register()
	if err != nil {
		return nil, err
	}
	st, err := approval.Open(signed, r, at)
	if err != nil {
		return nil, err
	}
	return approved(st, r), nil
}

// Check implements kms.Judge.
func (p people) Check(signed []byte, at time.Time, w kms.Wanted) (*kms.Approved, error) {
	r, err := p.register()
	if err != nil {
		return nil, err
	}
	st, err := approval.Check(signed, r, at, approval.Want{
		Operation: approval.Operation(w.Operation), Target: w.Target, Params: w.Params, Approvals: w.Approvals,
	})
	if err != nil {
		return nil, err
	}
	return approved(st, r), nil
}

func approved(st *approval.State, r *approval.Register) *kms.Approved {
	q := st.Request
	return &kms.Approved{
		Wanted: kms.Wanted{Operation: string(q.Operation), Target: q.Target, Params: maps.Clone(q.Params), Approvals: q.Approvals},
		ID:     q.ID, Requester: q.Requester, Approvers: st.Approvers, Expires: q.Expires, Register: r.Digest(),
	}
}
