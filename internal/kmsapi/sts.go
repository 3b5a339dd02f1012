package kmsapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"cardea/internal/identity"
)

// action is a row of the table of STS's operations.
type action struct {
	name string
	// run performs the operation and appends its result to x.out.
	run func(ctx context.Context, sts STS, who identity.Caller, f *form, out *xml) error
}

// actions is the table.
func actions() []*action {
	return []*action{
		{"AssumeRole", assumeRole},
		{"GetCallerIdentity", getCallerIdentity},
		{"GetSessionToken", getSessionToken},
	}
}

func stsActions() (names []string) {
	for _, a := range actions() {
		names = append(names, a.name)
	}
	return names
}

const (
	stsVersion   = "2011-06-15"
	stsNamespace = "https://sts.amazonaws.com/doc/" + stsVersion + "/"
)

// stsCaller is the caller as package identity knows it.
func (x *exchange) stsCaller() identity.Caller {
	w := &x.who
	return identity.Caller{
		Subject: w.Subject, Auth: w.Auth, Region: w.Region, RequestID: w.RequestID, IP: w.IP, UserAgent: w.UserAgent, TLS: w.TLS,
	}
}

// serveSTS takes the steps of serveKMS in the Query protocol.
func (a *API) serveSTS(x *exchange) {
	err := a.runSTS(x)
	status := http.StatusOK
	if err != nil {
		var e *identity.Error
		e, status = x.failedSTS(a, err)
		x.out.clear()
		encodeQueryError(x.out, e, status, x.who.RequestID)
		a.metrics.failed(x.op, string(e.Code), a.now().Sub(x.start))
	} else {
		a.metrics.succeeded(x.op, a.now().Sub(x.start))
	}
	x.respond(status, headerXML)
}

func (a *API) runSTS(x *exchange) error {
	if err := x.read(a.bodyLimit); err != nil {
		return a.refusedSTS(err)
	}
	if err := x.authenticate(a, a.stsKeys); err != nil {
		return a.refusedSTS(err)
	}
	f, err := parseForm(x.in.b)
	if err != nil {
		return err
	}
	name, version := f.text("Action"), f.text("Version")
	for _, act := range actions() {
		if act.name != name || version != stsVersion {
			continue
		}
		x.op = name
		out := &xml{b: x.out}
		out.b.text("<" + name + `Response xmlns="` + stsNamespace + `"><` + name + "Result>")
		if err := act.run(x.ctx, a.sts, x.stsCaller(), f, out); err != nil {
			return err
		}
		out.b.text("</" + name + "Result><ResponseMetadata>")
		out.text("RequestId", x.who.RequestID)
		out.b.text("</ResponseMetadata></" + name + "Response>")
		return nil
	}
	return refuseSTS(codeInvalidAction, "Could not find operation for the Action and Version given. The operations of STS here are AssumeRole, GetCallerIdentity and GetSessionToken, of Version "+stsVersion+".")
}

// failedSTS is failed for STS.
func (x *exchange) failedSTS(a *API, err error) (*identity.Error, int) {
	if r, ok := errors.AsType[*queryRefusal](err); ok {
		who, name := x.stsCaller(), x.op
		aerr := x.refuse(a, "sts."+name, string(r.err.Code), func(ctx context.Context, counted string) error {
			return a.sts.Refuse(ctx, who, name, r.err, counted)
		})
		if aerr != nil {
			err = aerr
		}
		x.countFailure(a)
	}
	e, status, known := answerToSTS(err)
	switch {
	case !known && x.ctx.Err() != nil:
		// The client went away in the middle; nobody reads this answer.
	case status >= http.StatusInternalServerError:
		a.log.ErrorContext(x.ctx, "request failed", slog.String("op", x.op), slog.String("request_id", x.who.RequestID),
			slog.Any("error", err), slog.String("reason", e.Reason))
	}
	return e, status
}

func getCallerIdentity(ctx context.Context, sts STS, who identity.Caller, f *form, out *xml) error {
	if err := f.end(); err != nil {
		return err
	}
	r, err := sts.GetCallerIdentity(ctx, who)
	if err != nil {
		return err
	}
	out.text("Arn", r.ARN)
	out.text("UserId", r.UserID)
	out.text("Account", r.Account)
	return nil
}

func getSessionToken(ctx context.Context, sts STS, who identity.Caller, f *form, out *xml) error {
	in := &identity.GetSessionTokenInput{
		Duration: f.number("DurationSeconds"), SerialNumber: f.text("SerialNumber"), TokenCode: f.text("TokenCode"),
	}
	if err := f.end(); err != nil {
		return err
	}
	r, err := sts.GetSessionToken(ctx, who, in)
	if err != nil {
		return err
	}
	defer r.Destroy()
	out.credentials(r)
	return nil
}

func assumeRole(ctx context.Context, sts STS, who identity.Caller, f *form, out *xml) error {
	in := &identity.AssumeRoleInput{
		RoleARN: f.text("RoleArn"), SessionName: f.text("RoleSessionName"), Duration: f.number("DurationSeconds"),
		Policy: f.text("Policy"), PolicyARNs: f.list("PolicyArns", ".arn"), TransitiveTagKeys: f.list("TransitiveTagKeys", ""),
		ExternalID: f.text("ExternalId"), SerialNumber: f.text("SerialNumber"), TokenCode: f.text("TokenCode"), SourceIdentity: f.text("SourceIdentity"),
	}
	keys, values := f.list("Tags", ".Key"), f.list("Tags", ".Value")
	if len(keys) != len(values) {
		return refuseSTS(codeValidation, "Every tag must have a Key and a Value.")
	}
	for i, k := range keys {
		in.Tags = append(in.Tags, identity.Tag{Key: k, Value: values[i]})
	}
	if err := f.end(); err != nil {
		return err
	}
	r, err := sts.AssumeRole(ctx, who, in)
	if err != nil {
		return err
	}
	defer r.Destroy()
	if r.SourceIdentity != "" {
		out.text("SourceIdentity", r.SourceIdentity)
	}
	out.b.text("<AssumedRoleUser>")
	out.text("AssumedRoleId", r.ID)
	out.text("Arn", r.ARN)
	out.b.text("</AssumedRoleUser>")
	out.credentials(&r.Credentials)
	if r.PackedPolicySize > 0 {
		out.number("PackedPolicySize", r.PackedPolicySize)
	}
	return nil
}
