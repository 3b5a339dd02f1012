package adminapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// route decodes a request, has it done, and returns what to answer.
type route func(ctx context.Context, x *exchange, body io.Reader) (any, error)

// Error is a refusal as the client gets it.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// call makes a route of an operation of the identity service with an answer.
func call[I, O any](f func(*identity.Service, context.Context, identity.Caller, *I) (*O, error)) route {
	return func(ctx context.Context, x *exchange, body io.Reader) (any, error) {
		in := new(I)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		out, err := f(x.server.o.Identities, ctx, x.identityCaller(), in)
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// do is call for an operation without an answer.
func do[I any](f func(*identity.Service, context.Context, identity.Caller, *I) error) route {
	return func(ctx context.Context, x *exchange, body io.Reader) (any, error) {
		in := new(I)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		return struct{}{}, f(x.server.o.Identities, ctx, x.identityCaller(), in)
	}
}

// routes are the operations by path. Their names are those of package identity.
func routes() map[string]route {
	type s = identity.Service
	return map[string]route{
		"/identity/Bootstrap":     call((*s).Bootstrap),
		"/identity/CreateAccount": call((*s).CreateAccount),
		"/identity/ListAccounts":  call((*s).ListAccounts),

		"/identity/CreateUser":   call((*s).CreateUser),
		"/identity/DescribeUser": call((*s).DescribeUser),
		"/identity/ListUsers":    call((*s).ListUsers),
		"/identity/DeleteUser":   do((*s).DeleteUser),
		"/identity/TagUser":      do((*s).TagUser),
		"/identity/UntagUser":    do((*s).UntagUser),

		"/identity/CreateGroup":         call((*s).CreateGroup),
		"/identity/DescribeGroup":       call((*s).DescribeGroup),
		"/identity/ListGroups":          call((*s).ListGroups),
		"/identity/DeleteGroup":         do((*s).DeleteGroup),
		"/identity/AddUserToGroup":      do((*s).AddUserToGroup),
		"/identity/RemoveUserFromGroup": do((*s).RemoveUserFromGroup),

		"/identity/CreateRole":        call((*s).CreateRole),
		"/identity/DescribeRole":      call((*s).DescribeRole),
		"/identity/ListRoles":         call((*s).ListRoles),
		"/identity/DeleteRole":        do((*s).DeleteRole),
		"/identity/UpdateRole":        do((*s).UpdateRole),
		"/identity/UpdateTrustPolicy": do((*s).UpdateTrustPolicy),
		"/identity/TagRole":           do((*s).TagRole),
		"/identity/UntagRole":         do((*s).UntagRole),
		"/identity/RevokeSessions":    do((*s).RevokeSessions),

		"/identity/PutUserPolicy":     do((*s).PutUserPolicy),
		"/identity/PutRolePolicy":     do((*s).PutRolePolicy),
		"/identity/PutGroupPolicy":    do((*s).PutGroupPolicy),
		"/identity/GetUserPolicy":     call((*s).GetUserPolicy),
		"/identity/GetRolePolicy":     call((*s).GetRolePolicy),
		"/identity/GetGroupPolicy":    call((*s).GetGroupPolicy),
		"/identity/DeleteUserPolicy":  do((*s).DeleteUserPolicy),
		"/identity/DeleteRolePolicy":  do((*s).DeleteRolePolicy),
		"/identity/DeleteGroupPolicy": do((*s).DeleteGroupPolicy),
		"/identity/SetUserBoundary":   do((*s).SetUserBoundary),
		"/identity/SetRoleBoundary":   do((*s).SetRoleBoundary),

		"/identity/CreateAccessKey": call((*s).CreateAccessKey),
		"/identity/ListAccessKeys":  call((*s).ListAccessKeys),
		"/identity/UpdateAccessKey": do((*s).UpdateAccessKey),
		"/identity/DeleteAccessKey": do((*s).DeleteAccessKey),
		"/identity/UnlockAccessKey": do((*s).UnlockAccessKey),

		"/identity/EnableMFA":      call((*s).EnableMFA),
		"/identity/ListMFADevices": call((*s).ListMFADevices),
		"/identity/DisableMFA":     do((*s).DisableMFA),

		"/kms/Status":  status,
		"/kms/Explain": explain,

		"/kms/DepositApproval":  depositApproval,
		"/kms/ListApprovals":    listApprovals,
		"/kms/WithdrawApproval": withdrawApproval,
	}
}

// strict refuses what the other end cannot have meant.
var strict = json.JoinOptions(json.RejectUnknownMembers(true), json.WithUnmarshalers(json.UnmarshalFromFunc(decodeSecret)))

func decode(body io.Reader, in any) error {
	if err := json.UnmarshalRead(body, in, strict); err != nil {
		if big, is := errors.AsType[*http.MaxBytesError](err); is {
			return &Error{Code: "RequestTooLarge", Message: fmt.Sprintf("The request is longer than %d bytes.", big.Limit)}
		}
		return &Error{Code: "ValidationError", Message: "The request cannot be read: " + err.Error()}
	}
	return nil
}

// Secrets are texts here: access keys, codes and the like.

func decodeSecret(d *jsontext.Decoder, s *secret.Bytes) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	text, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return err
	}
	*s = secret.New(text)
	return nil
}

func encodeSecret(e *jsontext.Encoder, s secret.Bytes) error {
	text, err := jsontext.AppendQuote(nil, s.Expose())
	if err != nil {
		return err
	}
	defer secret.Wipe(text)
	return e.WriteValue(text)
}

func reply(w http.ResponseWriter, status int, out any) {
	text, err := json.Marshal(out, json.WithMarshalers(json.MarshalToFunc(encodeSecret)))
	if err != nil {
		http.Error(w, "the answer cannot be encoded", http.StatusInternalServerError)
		return
	}
	defer secret.Wipe(text)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(text) //nolint:errcheck // the client is gone
}

// errorOf is an error for the client, and its status.
func errorOf(err error) (*Error, int) {
	if e, is := errors.AsType[*Error](err); is {
		return e, http.StatusBadRequest
	}
	if e, is := errors.AsType[*identity.Error](err); is {
		return &Error{Code: string(e.Code), Message: e.Message}, http.StatusBadRequest
	}
	if e, is := errors.AsType[*kms.Error](err); is {
		return &Error{Code: string(e.Code), Message: e.Message}, http.StatusBadRequest
	}
	if e, is := errors.AsType[*vault.Refusal](err); is {
		return &Error{Code: "Refused", Message: e.Reason}, http.StatusBadRequest
	}
	if e, is := errors.AsType[*vault.ValidationError](err); is && !errors.Is(err, vault.ErrUnavailable) {
		return &Error{Code: "ValidationError", Message: e.Error()}, http.StatusBadRequest
	}
	for _, v := range vaultErrors {
		if errors.Is(err, v.err) {
			return &Error{Code: v.code, Message: err.Error()}, v.status
		}
	}
	return &Error{Code: "ServiceFailure", Message: "The request failed inside the service."}, http.StatusInternalServerError
}
