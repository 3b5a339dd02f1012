package identity

import (
	"context"
	"crypto/fips140"
	"encoding/base32"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"cardea/internal/iam"
	"cardea/internal/secret"
)

// maxDevices is how many second factors a user may have.
const maxDevices = 8

// MFADevice is a second factor as it is told: without its secret.
type MFADevice struct {
	Serial    string // arn:aws:iam::ACCOUNT:mfa/device
	User      string
	CreatedAt time.Time
	LastUsed  time.Time // to half a minute; zero if never
}

// NewMFADevice is a second factor with its secret, which is told this once.
type NewMFADevice struct {
	MFADevice
	URI secret.Bytes // otpauth://…, for a QR code or to be typed
}

// Destroy wipes the secret.
func (d *NewMFADevice) Destroy() { d.URI.Destroy() }

func deviceARN(account, name string) string { return "arn:aws:iam::" + account + ":mfa/" + name }

func deviceOf(d *stored[deviceBody]) MFADevice {
	out := MFADevice{Serial: deviceARN(d.Account, d.Body.Name), User: d.Body.User, CreatedAt: d.Body.Created}
	if d.Body.Used > 0 {
		out.LastUsed = time.Unix(int64(d.Body.Used)*int64(totpStep/time.Second), 0).UTC()
	}
	return out
}

// MFAInput names a second factor of a user.
type MFAInput struct {
	Account string
	User    string
	Device  string // name, unique in the account; default the user's name
}

func (in *MFAInput) check(v *violations) {
	checkEntity(v, kindUser, &EntityInput{in.Account, in.User})
	if in.Device != "" {
		v.name("virtualMFADeviceName", in.Device, 226)
	}
}

func (in *MFAInput) device() string {
	if in.Device == "" {
		return in.User
	}
	return in.Device
}

// EnableMFA makes a second factor for a user: TOTP of RFC 6238 with SHA-1, 30 s and
// 6 digits. It counts only where policies ask for it. The caller destroys the answer.
func (s *Service) EnableMFA(ctx context.Context, who Caller, in *MFAInput) (*NewMFADevice, error) {
	return perform(ctx, s, who, OpEnableMFADevice, in, func(c *call, out *NewMFADevice) error {
		name := in.device()
		u, err := c.entity(ctx, kindUser, &EntityInput{in.Account, in.User})
		if err != nil {
			return err
		}
		c.param("serialNumber", deviceARN(in.Account, name))
		if fips140.Enforced() {
			return refuse(CodeServiceUnavailable, "Second factors need SHA-1, which GODEBUG=fips140=only forbids.")
		}
		if len(u.Body.Devices) >= maxDevices {
			return refuse(CodeLimitExceeded, "Cannot exceed quota for MFADevicesPerUser: "+strconv.Itoa(maxDevices))
		}
		key := secret.Random(20) // RFC 4226 section 4, R6: 160 bits
		defer key.Destroy()
		sealed, err := s.seal(ctx, kindDevice, in.Account, fold(name), key)
		if err != nil {
			return err
		}
		d := &stored[deviceBody]{
			Name: Name{kindDevice, in.Account, fold(name)},
			Body: &deviceBody{V: rowVersion, Name: name, User: u.Body.Name, Secret: sealed, Created: moment(c.at)},
		}
		out.MFADevice, out.URI = deviceOf(d), otpauth(s.issuer, u.Body.Name+"@"+in.Account, key)
		return c.changeEntity(ctx, u, func(ctx context.Context, tx Tx, u *stored[entity]) error {
			if err := absent(ctx, tx, d.Name, "MFADevice entity at the same path and name already exists."); err != nil {
				return err
			}
			u.Body.Devices = append(u.Body.Devices, name)
			slices.Sort(u.Body.Devices)
			return put(ctx, tx, d)
		})
	})
}

// otpauth is the key in the form that authenticator apps take ("Key Uri Format" of
// Google Authenticator).
func otpauth(issuer, account string, key secret.Bytes) secret.Bytes {
	b32 := base32.StdEncoding.WithPadding(base32.NoPadding)
	uri := []byte("otpauth://totp/" + url.PathEscape(issuer) + ":" + url.PathEscape(account) + "?secret=")
	tail := "&issuer=" + url.QueryEscape(issuer) + "&algorithm=SHA1&digits=" + strconv.Itoa(totpDigits) + "&period=30"
	// One allocation, so that no copy of the secret is left behind.
	whole := make([]byte, len(uri)+b32.EncodedLen(key.Len())+len(tail))
	n := copy(whole, uri)
	b32.Encode(whole[n:], key.Expose())
	copy(whole[n+b32.EncodedLen(key.Len()):], tail)
	return secret.New(whole)
}

// ListMFADevices lists the second factors of a user, ordered by name.
func (s *Service) ListMFADevices(ctx context.Context, who Caller, in *EntityInput) (*List[MFADevice], error) {
	return perform(ctx, s, who, OpListMFADevices, entityInput{in, kindUser}, func(c *call, out *List[MFADevice]) error {
		u, err := c.entity(ctx, kindUser, in)
		if err != nil {
			return err
		}
		for _, name := range u.Body.Devices {
			d, err := load[deviceBody](ctx, s.store, kindDevice, in.Account, fold(name))
			if errors.Is(err, ErrNoRow) {
				continue // removed meanwhile
			}
			if err != nil {
				return err
			}
			out.Items = append(out.Items, deviceOf(d))
		}
		return nil
	})
}

// DisableMFA removes a second factor of a user. Sessions that were begun with it go on.
func (s *Service) DisableMFA(ctx context.Context, who Caller, in *MFAInput) error {
	return s.do(ctx, &who, OpDeactivateMFADevice, in, func(c *call) error {
		u, err := c.entity(ctx, kindUser, &EntityInput{in.Account, in.User})
		if err != nil {
			return err
		}
		serial := deviceARN(in.Account, in.device())
		c.param("serialNumber", serial)
		return c.changeEntity(ctx, u, func(ctx context.Context, tx Tx, u *stored[entity]) error {
			i, found := slices.BinarySearch(u.Body.Devices, in.device())
			if !found {
				return refuse(CodeNoSuchEntity, "VirtualMFADevice with serial number "+serial+" does not exist.")
			}
			u.Body.Devices = slices.Delete(u.Body.Devices, i, i+1)
			return tx.Delete(ctx, kindDevice, in.Account, fold(in.device()))
		})
	})
}

// secondFactor checks what a request says of a second factor.
func (v *violations) secondFactor(serial, code string) {
	if serial != "" && v.length("serialNumber", "", len(serial), 9, 256) && !isName(strings.NewReplacer(":", "", "/", "").Replace(serial)) {
		v.add("serialNumber", "", `satisfy regular expression pattern: [\w+=/:,.@-]*`)
	}
	if code != "" && v.length("tokenCode", "", len(code), totpDigits, totpDigits) && strings.Trim(code, "0123456789") != "" {
		v.add("tokenCode", "", `satisfy regular expression pattern: [\d]*`)
	}
}

// Texts of refused second factors, AWS's. The first is of a factor that is not the
// caller's as of one that does not exist.
const (
	textFactorUnknown = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user."
	textFactorWrong   = "MultiFactorAuthentication failed with invalid MFA one time pass code. "
	textFactorHalf    = "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
)

// factorGuard is under which name failures of second factors are counted, by user.
const factorGuard = "mfa"

// secondFactor verifies the caller's second factor, if the request has one. It
// returns the row that says that the code is used up, which must be put whatever
// becomes of the request.
func (c *call) secondFactor(ctx context.Context, serial, code string) (*stored[deviceBody], error) {
	if serial == "" && code == "" {
		return nil, nil
	}
	if serial == "" || code == "" {
		return nil, refuse(CodeAccessDenied, textFactorHalf)
	}
	who := &c.who.subject().Caller
	name, ok := strings.CutPrefix(serial, deviceARN(who.Account, ""))
	if !ok || who.Type != iam.CallerUser || fips140.Enforced() {
		return nil, refuse(CodeAccessDenied, textFactorUnknown)
	}
	d, err := load[deviceBody](ctx, c.s.store, kindDevice, who.Account, fold(name))
	if errors.Is(err, ErrNoRow) || err == nil && (d.Body.Name != name || d.Body.User != lastName(who.ARN)) {
		return nil, refuse(CodeAccessDenied, textFactorUnknown)
	}
	if err != nil {
		return nil, err
	}
	if err := c.s.guard.Allow(factorGuard, who.ID); err != nil {
		return nil, &Error{Code: CodeAccessDenied, Message: textFactorWrong, Reason: err.Error(), cause: err}
	}
	key, err := c.s.secrets.OpenSecret(ctx, secretLabel(kindDevice, who.Account, fold(name)), d.Body.Secret)
	if err != nil {
		return nil, broken(CodeServiceUnavailable, "The second factor cannot be verified now: the root key of the key service is not available.", err)
	}
	defer key.Destroy()
	counter, ok := checkTOTP(key, code, c.at, d.Body.Used)
	if !ok {
		if c.s.guard.Fail(factorGuard, who.ID) {
			if err := c.s.recordLockout(ctx, c.who, serial, who.Account, nil); err != nil {
				return nil, err
			}
		}
		return nil, refuse(CodeAccessDenied, textFactorWrong)
	}
	c.s.guard.Success(factorGuard, who.ID)
	d.Body.Used = counter
	return d, nil
}
