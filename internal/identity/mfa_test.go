package identity_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/identity"
)

// app is an authenticator app, written apart from what it tests.
type app struct{ key []byte }

func scan(t testing.TB, uri []byte) app {
	t.Helper()
	u := must(url.Parse(string(uri)))(t)
	q := u.Query()
	if u.Scheme != "otpauth" || u.Host != "totp" || q.Get("algorithm") != "SHA1" || q.Get("digits") != "6" || q.Get("period") != "30" {
		t.Fatalf("not what apps take: %s %s and parameters but the secret", u.Scheme, u.Host)
	}
	return app{must(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(q.Get("secret")))(t)}
}

func (a app) code(at time.Time) string {
	m := hmac.New(sha1.New, a.key)
	binary.Write(m, binary.BigEndian, at.Unix()/30)
	sum := m.Sum(nil)
	off := sum[19] & 0xf
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[off:off+4])&0x7fffffff)%1000000)
}

// wrong is a code that is not right at the time.
func (a app) wrong(at time.Time) string {
	for i := 0; ; i++ {
		c := fmt.Sprintf("%06d", i)
		if c != a.code(at) && c != a.code(at.Add(-30*time.Second)) && c != a.code(at.Add(30*time.Second)) {
			return c
		}
	}
}

// mfa gives a user an authenticator whose codes of the steps around start differ, as
// those of one secret in 100,000 do not.
func (f *fixture) mfa(user string) (app, string) {
	f.t.Helper()
	in := &identity.MFAInput{Account: acct, User: user}
	for {
		d := must(f.EnableMFA(f.ctx, f.op, in))(f.t)
		a, codes := scan(f.t, d.URI.Expose()), map[string]bool{}
		for i := range 5 {
			codes[a.code(start.Add(time.Duration(i-2)*30*time.Second))] = true
		}
		if len(codes) == 5 {
			return a, d.Serial
		}
		f.ok(f.DisableMFA(f.ctx, f.op, in))
	}
}

func TestEnrolledURI(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("b+b@x")
	mark := f.mark()
	d := must(f.EnableMFA(f.ctx, f.op, &identity.MFAInput{Account: acct, User: "b+b@x", Device: "phone"}))(t)
	uri := string(d.URI.Expose())
	head, rest, _ := strings.Cut(uri, "secret=")
	key, tail, _ := strings.Cut(rest, "&")
	if head != "otpauth://totp/Cardea:b+b@x@111122223333?" || len(key) != 32 || tail != "issuer=Cardea&algorithm=SHA1&digits=6&period=30" {
		t.Errorf("got %s… of %d characters…%s", head, len(key), tail)
	}
	u := must(url.Parse(uri))(t)
	if u.Path != "/Cardea:b+b@x@111122223333" {
		t.Errorf("got path %s", u.Path)
	}
	if d.Serial != "arn:aws:iam::111122223333:mfa/phone" || d.User != "b+b@x" {
		t.Errorf("got %+v", d.MFADevice)
	}
	if e := f.last(mark, 1); e.Op != "identity.enable_mfa_device" || e.PCI != "10.2.1.5" || strings.Contains(f.store.Entries()[mark], key) {
		t.Errorf("got entry %+v", e)
	}
	for _, r := range f.store.Rows() {
		if strings.Contains(string(r.Body), key) {
			t.Errorf("the secret stands in row %s", r.Kind)
		}
	}
	d.Destroy()
	if d.URI.Len() != 0 {
		t.Error("not wiped")
	}
}

func TestSessionTokenWithSecondFactor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	id := f.key("bob").ID
	a, serial := f.mfa("bob")
	plain := must(f.GetSessionToken(f.ctx, f.signed(id), &identity.GetSessionTokenInput{}))(t)
	if !plain.ExpiresAt.Equal(start.Add(12 * time.Hour)) {
		t.Errorf("ends %v", plain.ExpiresAt)
	}
	if who := subject(t, f.Service, plain.AccessKeyID).Caller; !who.MFA.IsZero() || !who.Issued.Equal(start) || who.ARN != bob.ARN || who.Session != "" || who.ID != bob.ID {
		t.Errorf("got %+v", who)
	}
	c := must(f.GetSessionToken(f.ctx, f.signed(id), &identity.GetSessionTokenInput{Duration: 900, SerialNumber: serial, TokenCode: a.code(start)}))(t)
	if who := subject(t, f.Service, c.AccessKeyID).Caller; !who.MFA.Equal(start) || !c.ExpiresAt.Equal(start.Add(15*time.Minute)) {
		t.Errorf("got %+v", who)
	}
	_, err := f.GetSessionToken(f.ctx, f.signed(c.AccessKeyID), &identity.GetSessionTokenInput{})
	refused(t, err, identity.CodeAccessDenied, "Cannot call GetSessionToken with session credentials")
	for _, n := range []int{899, 129601} {
		_, err = f.GetSessionToken(f.ctx, f.signed(id), &identity.GetSessionTokenInput{Duration: n})
		bound := map[int]string{899: "greater than or equal to 900", 129601: "less than or equal to 129600"}[n]
		refused(t, err, identity.CodeValidation, fmt.Sprintf(
			"1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have value %s", n, bound))
	}
	l := must(f.ListMFADevices(f.ctx, f.op, &identity.EntityInput{Account: acct, Name: "bob"}))(t)
	want := identity.MFADevice{Serial: serial, User: "bob", CreatedAt: start, LastUsed: start}
	if len(l.Items) != 1 || l.Items[0] != want {
		t.Errorf("got %+v, want %+v", l.Items, want)
	}
}

const (
	mfaWrong   = "MultiFactorAuthentication failed with invalid MFA one time pass code. "
	mfaUnknown = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user."
)

func TestSecondFactorRefusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	id := f.key("bob").ID
	a, serial := f.mfa("bob")
	f.user("eve")
	eve, eveSerial := f.mfa("eve")
	now := f.clock.now()
	for name, c := range map[string]struct{ serial, code, message string }{
		"no code":              {serial, "", "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."},
		"no serial":            {"", "123456", "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."},
		"wrong code":           {serial, a.wrong(now), mfaWrong},
		"old code":             {serial, a.code(now.Add(-time.Minute)), mfaWrong},
		"early code":           {serial, a.code(now.Add(time.Minute)), mfaWrong},
		"no device":            {serial + "x", a.code(now), mfaUnknown},
		"another's device":     {eveSerial, eve.code(now), mfaUnknown},
		"another account's":    {strings.Replace(serial, acct, other, 1), a.code(now), mfaUnknown},
		"device in other case": {strings.Replace(serial, "bob", "Bob", 1), a.code(now), mfaUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			mark := f.mark()
			_, err := f.GetSessionToken(f.ctx, f.signed(id), &identity.GetSessionTokenInput{SerialNumber: c.serial, TokenCode: c.code})
			refused(t, err, identity.CodeAccessDenied, c.message)
			if e := f.last(mark, 1); e.Outcome != "denied" || e.PCI != "10.2.1.4" {
				t.Errorf("got entry %+v", e)
			}
		})
	}
	f.secrets.Lock(true)
	_, err := f.GetSessionToken(f.ctx, f.signed(id), &identity.GetSessionTokenInput{SerialNumber: serial, TokenCode: a.code(now)})
	refused(t, err, identity.CodeServiceUnavailable, "The second factor cannot be verified now: the root key of the key service is not available.")
}

// TestRoleHasNoSecondFactor: a session of a role must not use the factor of a user
// who is named as the role is.
func TestRoleHasNoSecondFactor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	id := f.key("bob").ID
	a, serial := f.mfa("bob")
	f.role(acct, "bob", trusting("", bob.ARN))
	f.role(acct, "app", trusting("", roleARN("bob")))
	s := f.assume(f.signed(id), identity.AssumeRoleInput{RoleARN: roleARN("bob")})
	_, err := f.AssumeRole(f.ctx, f.signed(s.AccessKeyID), &identity.AssumeRoleInput{
		RoleARN: roleARN("app"), SessionName: "s1", SerialNumber: serial, TokenCode: a.code(start),
	})
	refused(t, err, identity.CodeAccessDenied, mfaUnknown)
}

func TestCodeIsNotAcceptedTwice(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	id := f.key("bob").ID
	a, serial := f.mfa("bob")
	in := func(at time.Time) *identity.GetSessionTokenInput {
		return &identity.GetSessionTokenInput{SerialNumber: serial, TokenCode: a.code(at)}
	}
	must(f.GetSessionToken(f.ctx, f.signed(id), in(start)))(t)
	_, err := f.GetSessionToken(f.ctx, f.signed(id), in(start))
	refused(t, err, identity.CodeAccessDenied, mfaWrong)
	_, err = f.GetSessionToken(f.ctx, f.signed(id), in(start.Add(-30*time.Second)))
	refused(t, err, identity.CodeAccessDenied, mfaWrong) // of before the one that was used
	_, err = f.node("n2").GetSessionToken(f.ctx, f.signed(id), in(start))
	refused(t, err, identity.CodeAccessDenied, mfaWrong)
	must(f.GetSessionToken(f.ctx, f.signed(id), in(start.Add(30*time.Second))))(t)
}

// TestCodeIsUsedUpByARefusal: a right code with a role that is refused must not be
// good for a second try.
func TestCodeIsUsedUpByARefusal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	id := f.key("bob").ID
	a, serial := f.mfa("bob")
	f.role(acct, "app", trusting("", bob.ARN))
	mark := f.mark()
	in := &identity.AssumeRoleInput{RoleARN: roleARN("no"), SessionName: "s1", SerialNumber: serial, TokenCode: a.code(start)}
	_, err := f.AssumeRole(f.ctx, f.signed(id), in)
	refused(t, err, identity.CodeAccessDenied, "User: "+bob.ARN+" is not authorized to perform: sts:AssumeRole on resource: "+roleARN("no"))
	if e := f.last(mark, 1); e.Outcome != "denied" || e.Detail != "denied: there is no such role" {
		t.Errorf("got entry %+v", e)
	}
	in.RoleARN = roleARN("app")
	_, err = f.AssumeRole(f.ctx, f.signed(id), in)
	refused(t, err, identity.CodeAccessDenied, mfaWrong)
}

// TestConcurrentUsesOfOneCode lets many use a code at once, on two nodes: one may.
func TestConcurrentUsesOfOneCode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	who := f.signed(f.key("bob").ID)
	a, serial := f.mfa("bob")
	nodes := []*identity.Service{f.Service, f.node("n2")}
	var wg sync.WaitGroup
	got := make([]error, 8)
	for i := range got {
		wg.Go(func() {
			_, got[i] = nodes[i%2].GetSessionToken(f.ctx, who, &identity.GetSessionTokenInput{SerialNumber: serial, TokenCode: a.code(start)})
		})
	}
	wg.Wait()
	n := 0
	for _, err := range got {
		if err == nil {
			n++
		} else {
			refused(t, err, identity.CodeAccessDenied, mfaWrong)
		}
	}
	if n != 1 {
		t.Errorf("the code was accepted %d times", n)
	}
}

func TestAssumeRoleWithSecondFactor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bob := f.user("bob")
	id := f.key("bob").ID
	a, serial := f.mfa("bob")
	f.role(acct, "admin", trusting(`{"Bool":{"aws:MultiFactorAuthPresent":"true"},"NumericLessThan":{"aws:MultiFactorAuthAge":"300"}}`, bob.ARN))
	in := identity.AssumeRoleInput{RoleARN: roleARN("admin"), SessionName: "s1"}
	_, err := f.AssumeRole(f.ctx, f.signed(id), &in)
	refused(t, err, identity.CodeAccessDenied, "User: "+bob.ARN+" is not authorized to perform: sts:AssumeRole on resource: "+roleARN("admin"))
	in.SerialNumber, in.TokenCode = serial, a.code(start)
	r := f.assume(f.signed(id), in)
	if who := subject(t, f.Service, r.AccessKeyID).Caller; !who.MFA.Equal(start) {
		t.Errorf("got %+v", who)
	}
	// By a session that was begun with a second factor, while that is young.
	f.clock.advance(time.Minute)
	s := must(f.GetSessionToken(f.ctx, f.signed(id), &identity.GetSessionTokenInput{SerialNumber: serial, TokenCode: a.code(f.clock.now())}))(t)
	r = f.assume(f.signed(s.AccessKeyID), identity.AssumeRoleInput{RoleARN: roleARN("admin")})
	if who := subject(t, f.Service, r.AccessKeyID).Caller; !who.MFA.IsZero() {
		t.Error("the role's session has a second factor that was not given for it")
	}
	f.clock.advance(5 * time.Minute)
	_, err = f.AssumeRole(f.ctx, f.signed(s.AccessKeyID), &identity.AssumeRoleInput{RoleARN: roleARN("admin"), SessionName: "s1"})
	refused(t, err, identity.CodeAccessDenied, "User: "+bob.ARN+" is not authorized to perform: sts:AssumeRole on resource: "+roleARN("admin"))
}

func TestGuessingCodesLocksOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	id := f.key("bob").ID
	a, serial := f.mfa("bob")
	try := func(code string) error {
		_, err := f.GetSessionToken(f.ctx, f.signed(id), &identity.GetSessionTokenInput{SerialNumber: serial, TokenCode: code})
		return err
	}
	for range 9 {
		refused(t, try(a.wrong(f.clock.now())), identity.CodeAccessDenied, mfaWrong)
		f.clock.advance(2 * time.Second)
	}
	mark := f.mark()
	refused(t, try(a.wrong(f.clock.now())), identity.CodeAccessDenied, mfaWrong)
	lines := f.store.Entries()[mark:]
	if len(lines) != 2 || !strings.Contains(lines[0], `"op":"identity.lockout"`) || !strings.Contains(lines[0], `"pci":"10.2.1.4"`) ||
		!strings.Contains(lines[0], serial) || !strings.Contains(lines[1], `"op":"sts.get_session_token"`) {
		t.Errorf("got entries\n%s", strings.Join(lines, "\n"))
	}
	f.clock.advance(29 * time.Minute)
	refused(t, try(a.code(f.clock.now())), identity.CodeAccessDenied, mfaWrong)
	f.clock.advance(time.Minute)
	f.ok(try(a.code(f.clock.now())))
}

func TestMFARefusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("bob")
	f.user("eve")
	f.mfa("bob")
	in := func(user, device string) *identity.MFAInput {
		return &identity.MFAInput{Account: acct, User: user, Device: device}
	}
	enable := func(user, device string) error {
		_, err := f.EnableMFA(f.ctx, f.op, in(user, device))
		return err
	}
	refused(t, enable("bob", ""), identity.CodeEntityAlreadyExists, "MFADevice entity at the same path and name already exists.")
	refused(t, enable("eve", "BOB"), identity.CodeEntityAlreadyExists, "MFADevice entity at the same path and name already exists.")
	refused(t, enable("no", ""), identity.CodeNoSuchEntity, "The user with name no cannot be found.")
	refused(t, enable("bob", "a/b"), identity.CodeValidation,
		`1 validation error detected: Value 'a/b' at 'virtualMFADeviceName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]+`)
	for i := range 7 {
		f.ok(enable("bob", fmt.Sprint("d", i)))
	}
	refused(t, enable("bob", "one-more"), identity.CodeLimitExceeded, "Cannot exceed quota for MFADevicesPerUser: 8")
	refused(t, f.DisableMFA(f.ctx, f.op, in("eve", "bob")), identity.CodeNoSuchEntity,
		"VirtualMFADevice with serial number arn:aws:iam::111122223333:mfa/bob does not exist.")
	f.ok(f.DisableMFA(f.ctx, f.op, in("bob", "")))
	refused(t, f.DisableMFA(f.ctx, f.op, in("bob", "")), identity.CodeNoSuchEntity,
		"VirtualMFADevice with serial number arn:aws:iam::111122223333:mfa/bob does not exist.")
	f.ok(enable("eve", "bob"))
	f.secrets.Lock(true)
	refused(t, enable("eve", "x"), identity.CodeServiceUnavailable, "The secret cannot be stored now: the root key of the key service is not available.")
}
