package lockerapi

import (
	"errors"
	"net/http"
	"strconv"

	"cardea/internal/custodian"
	"cardea/internal/secret"
)

func (a *API) submitKey1(x *exchange) error {
	return a.submit(x, &keySpec, "Received Key1", func(t secret.Bytes) (custodian.Part, error) { return custodian.ParseHalf(1, t) })
}

func (a *API) submitKey2(x *exchange) error {
	return a.submit(x, &keySpec, "Received Key2", func(t secret.Bytes) (custodian.Part, error) { return custodian.ParseHalf(2, t) })
}

func (a *API) submitShare(x *exchange) error {
	return a.submit(x, &shareSpec, "Received Share", custodian.ParseShare)
}

// submit hands in one custodian's part.
func (a *API) submit(x *exchange, of *spec, message string, parse func(secret.Bytes) (custodian.Part, error)) error {
	req := partBody{of: of}
	defer func() { req.part.Destroy() }()
	if f := x.decode(a, &req); f != nil {
		return f
	}
	part, err := parse(req.part)
	if err != nil {
		// The error names the part and what is wrong with its form, never its text.
		return bodyFault(err.Error())
	}
	defer part.Destroy()
	err = a.service.SubmitPart(x.ctx, x.who, x.tenant.name, part)
	switch {
	case err == nil:
		a.custodians.Submitted(x.tenant.name, x.who.Name, true)
	case errors.Is(err, custodian.ErrWrongPart):
		a.custodians.Submitted(x.tenant.name, x.who.Name, false)
	}
	if err != nil {
		return err
	}
	return encodeMember(x.out, "message", message)
}

func (a *API) unlock(x *exchange) error {
	if err := a.service.Unlock(x.ctx, x.who, x.tenant.name); err != nil {
		return err
	}
	return encodeMember(x.out, "message", "Decryption of Custodian key is successful")
}

// statusAll lists the tenants whose custodian asks: exactly one, because a
// custodian belongs to one tenant and has no business with the names of others.
func (a *API) statusAll(x *exchange) error {
	x.out.text("[")
	if err := a.statusOne(x); err != nil {
		return err
	}
	x.out.text("]")
	return nil
}

// statusOne tells how far the unlocking is; 423 while the tenant is locked.
func (a *API) statusOne(x *exchange) error {
	st, err := a.service.CustodyStatus(x.ctx, x.who, x.tenant.name)
	if err != nil {
		return err
	}
	if !st.Unlocked {
		x.status = http.StatusLocked
	}
	x.out.text(`{"tenant_id":`)
	if err := quote(x.out, x.tenant.name); err != nil {
		return err
	}
	x.out.text(`,"unlocked":`)
	x.out.text(strconv.FormatBool(st.Unlocked))
	x.out.text(`,"form":`)
	if err := quote(x.out, st.Form); err != nil {
		return err
	}
	for _, n := range [...]struct {
		name  string
		value int
	}{
		{`,"threshold":`, st.Threshold}, {`,"shares":`, st.Shares}, {`,"submitted":`, st.Submitted}, {`,"generation":`, st.Generation},
	} {
		x.out.text(n.name)
		x.out.text(strconv.Itoa(n.value))
	}
	x.out.text("}")
	return nil
}
