package identity

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Error is a refusal or failure that the IAM or STS API has a name for. Message is
// AWS's text where one is known. Neither holds a secret.
type Error struct {
	Code    Code
	Message string
	// Reason is for the audit log and its readers only, such as the statement that
	// decided or the cause inside; the client never sees it.
	Reason string
	cause  error
}

// Code is the type of an error on the wire of AWS's Query protocol.
type Code string

// The codes. The transport's table has the HTTP status of each.
const (
	CodeAccessDenied           Code = "AccessDenied"
	CodeConcurrentModification Code = "ConcurrentModification"
	CodeDeleteConflict         Code = "DeleteConflict"
	CodeEntityAlreadyExists    Code = "EntityAlreadyExists"
	CodeExpiredToken           Code = "ExpiredToken"
	CodeInvalidClientTokenID   Code = "InvalidClientTokenId"
	CodeLimitExceeded          Code = "LimitExceeded"
	CodeMalformedPolicy        Code = "MalformedPolicyDocument"
	CodeNoSuchEntity           Code = "NoSuchEntity"
	CodePackedPolicyTooLarge   Code = "PackedPolicyTooLarge"
	CodeRegionDisabled         Code = "RegionDisabledException"
	CodeServiceFailure         Code = "ServiceFailure"
	CodeServiceUnavailable     Code = "ServiceUnavailable" // secrets cannot be sealed or opened now
	CodeValidation             Code = "ValidationError"
)

func (e *Error) Error() string {
	if e.Message == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Message
}

// Unwrap is the cause inside, which the client does not see.
func (e *Error) Unwrap() error { return e.cause }

func refuse(code Code, message string) *Error { return &Error{Code: code, Message: message} }

// broken is a failure of what the service depends on.
func broken(code Code, message string, cause error) *Error {
	return &Error{Code: code, Message: message, Reason: cause.Error(), cause: cause}
}

// ErrSecretUnavailable says that the secret of an access key cannot be opened now,
// as while the root key is sealed: nobody can tell whether a signature is right.
// The cause is wrapped beside it.
var ErrSecretUnavailable = errors.New("the secret of the access key cannot be opened")

// violations collects what of a request is out of bounds, in the words of AWS.
type violations struct{ found []string }

// add says that a member's value fails a constraint. Values that may be secret or
// long are not shown: show is then empty.
func (v *violations) add(member, show, constraint string) {
	value := "Value at '" + member + "'"
	if show != "" {
		value = "Value '" + cut(show) + "' at '" + member + "'"
	}
	v.found = append(v.found, value+" failed to satisfy constraint: Member must "+constraint)
}

func cut(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// err is the ValidationError of all that was found, nil if nothing was.
func (v *violations) err() error {
	switch n := len(v.found); n {
	case 0:
		return nil
	case 1:
		return refuse(CodeValidation, "1 validation error detected: "+v.found[0])
	default:
		return refuse(CodeValidation, strconv.Itoa(n)+" validation errors detected: "+strings.Join(v.found, "; "))
	}
}

// required says that the member must be there.
func (v *violations) required(member string, there bool) bool {
	if !there {
		v.add(member, "", "not be null")
	}
	return there
}

// length checks how many characters a member has; show is its value if it may be shown.
func (v *violations) length(member, show string, n, least, most int) bool {
	switch {
	case n < least:
		v.add(member, show, "have length greater than or equal to "+strconv.Itoa(least))
	case n > most:
		v.add(member, show, "have length less than or equal to "+strconv.Itoa(most))
	default:
		return true
	}
	return false
}

// number checks a member that may be absent, which is 0.
func (v *violations) number(member string, n, least, most int) {
	switch {
	case n == 0:
	case n < least:
		v.add(member, strconv.Itoa(n), "have value greater than or equal to "+strconv.Itoa(least))
	case n > most:
		v.add(member, strconv.Itoa(n), "have value less than or equal to "+strconv.Itoa(most))
	}
}

// name checks a required name of the characters that IAM allows.
func (v *violations) name(member, s string, most int) { v.nameOf(member, s, 1, most) }

func (v *violations) nameOf(member, s string, least, most int) {
	if v.required(member, s != "") && v.length(member, s, utf8.RuneCountInString(s), least, most) && !isName(s) {
		v.add(member, s, `satisfy regular expression pattern: [\w+=,.@-]+`)
	}
}

// isName reports whether s has only the characters of IAM's names, of ASCII.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && !strings.ContainsRune("_+=,.@-", rune(c)) {
			return false
		}
	}
	return s != ""
}

// path checks a path, which may be absent: "/" or "/a/b/", of printable ASCII.
func (v *violations) path(member, s string) {
	if s == "" || !v.length(member, s, len(s), 1, 512) {
		return
	}
	ok := strings.HasPrefix(s, "/") && strings.HasSuffix(s, "/") && !strings.Contains(s, "//")
	for i := range len(s) {
		// AWS allows any of ! to DEL; those that have a meaning in policies would
		// make ARNs that no policy can name.
		ok = ok && s[i] > ' ' && s[i] < 0x7f && !strings.ContainsRune(`*?$:"\`, rune(s[i]))
	}
	if !ok {
		v.add(member, s, `satisfy regular expression pattern: (\u002F)|(\u002F[\u0021-\u007E]+\u002F)`)
	}
}

// account checks a required account id.
func (v *violations) account(s string) {
	if v.required("accountId", s != "") && !isAccount(s) {
		v.add("accountId", s, `satisfy regular expression pattern: \d{12}`)
	}
}

func isAccount(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) == 12
}

// Limits of tags.
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// tags checks tags, which may be none.
func (v *violations) tags(ts []Tag) {
	if len(ts) > maxTags {
		v.add("tags", "", "have length less than or equal to "+strconv.Itoa(maxTags))
		return
	}
	seen := map[string]bool{}
	for i, t := range ts {
		at := "tags." + strconv.Itoa(i+1) + ".member."
		switch lower := strings.ToLower(t.Key); {
		case !v.length(at+"key", t.Key, utf8.RuneCountInString(t.Key), 1, maxTagKey):
		case !isTagText(t.Key) || strings.HasPrefix(lower, "aws:"):
			v.add(at+"key", t.Key, `satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+ and not begin with aws:`)
		case seen[lower]:
			v.add(at+"key", t.Key, "be unique: tag keys are not case-sensitive")
		default:
			seen[lower] = true
		}
		if v.length(at+"value", "", utf8.RuneCountInString(t.Value), 0, maxTagValue) && !isTagText(t.Value) {
			v.add(at+"value", "", `satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*`)
		}
	}
}
