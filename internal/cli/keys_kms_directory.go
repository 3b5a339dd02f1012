package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"cardea/internal/adminapi"
	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/lifecycle"
	"cardea/internal/sdkhttp"
)

// userOrRole takes the ARN of a user or role apart.
func userOrRole(text string) (account, kind, name string) {
	arn, err := iam.ParseARN(text)
	if err != nil {
		return "", "", ""
	}
	kind, name, _ = strings.Cut(arn.Resource, "/")
	return arn.Account, kind, name[strings.LastIndexByte(name, '/')+1:]
}

// serviceDirectory are the identities of a running key service.
type serviceDirectory struct{ *keyService }

// Identity implements lifecycle.Directory.
func (s serviceDirectory) Identity(ctx context.Context, arn string) (*lifecycle.Identity, error) {
	account, kind, name := userOrRole(arn)
	i := &lifecycle.Identity{ARN: arn, In: "key service", AccessKeys: []lifecycle.AccessKey{}}
	if kind == "role" {
		var r identity.Role
		if err := s.call(ctx, "identity/DescribeRole", &identity.EntityInput{Account: account, Name: name}, &r); err != nil {
			return nil, unlessGone(err)
		}
		i.ID, i.Policies = r.ID, r.Policies
		i.Open = []string{"others may assume the role: see that its trust policy names nobody who left ('cardea identity role show " + name + "')"}
		return i, sameARN(r.ARN, arn)
	}
	var u identity.User
	if err := s.call(ctx, "identity/DescribeUser", &identity.EntityInput{Account: account, Name: name}, &u); err != nil {
		return nil, unlessGone(err)
	}
	i.ID, i.Groups, i.Policies, i.MFADevices = u.ID, u.Groups, u.Policies, u.MFADevices
	keys, err := s.keys(ctx, account, name)
	for _, k := range keys {
		i.AccessKeys = append(i.AccessKeys, lifecycle.AccessKey{ID: k.ID, Active: k.Active})
	}
	return i, errors.Join(err, sameARN(u.ARN, arn))
}

// sameARN refuses a namesake with another path.
func sameARN(is, want string) error {
	if is != want {
		return fmt.Errorf("there is %s: name it by its whole ARN", is)
	}
	return nil
}

// unlessGone is nil if there is no such identity.
func unlessGone(err error) error {
	if refused, ok := errors.AsType[*adminapi.Error](err); ok && refused.Code == string(identity.CodeNoSuchEntity) {
		return nil
	}
	return err
}

func (s serviceDirectory) keys(ctx context.Context, account, user string) ([]identity.AccessKey, error) {
	var list identity.List[identity.AccessKey]
	err := s.call(ctx, "identity/ListAccessKeys", &identity.EntityInput{Account: account, Name: user}, &list)
	return list.Items, err
}

// Deactivate implements lifecycle.Directory.
func (s serviceDirectory) Deactivate(ctx context.Context, i *lifecycle.Identity) (string, error) {
	account, kind, name := userOrRole(i.ARN)
	in := identity.RevokeInput{Account: account, User: name}
	if kind == "role" {
		in.User, in.Role = "", name
	}
	off := 0
	for _, k := range i.AccessKeys {
		if !k.Active {
			continue
		}
		if err := s.call(ctx, "identity/UpdateAccessKey", &identity.AccessKeyInput{Account: account, User: name, ID: k.ID}, nil); err != nil {
			return "", fmt.Errorf("access key %s: %w", k.ID, err)
		}
		off++
	}
	if err := s.call(ctx, "identity/RevokeSessions", &in, nil); err != nil {
		return "", fmt.Errorf("sessions: %w", err)
	}
	return fmt.Sprintf("%d access keys are off, sessions are ended", off), nil
}

// iamDirectory are the identities of an account of AWS.
type iamDirectory struct{ *awsiam.Client }

func newIAMDirectory(ctx context.Context, a keyAccess) (iamDirectory, error) {
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(a.Region), awsconfig.WithSharedConfigProfile(a.Profile), awsconfig.WithAppID("cardea"))
	if err != nil {
		return iamDirectory{}, fmt.Errorf("AWS configuration: %w", err)
	}
	cfg.HTTPClient = sdkhttp.New(cfg.HTTPClient)
	return iamDirectory{awsiam.NewFromConfig(cfg)}, nil
}

// Identity implements lifecycle.Directory.
func (d iamDirectory) Identity(ctx context.Context, arn string) (*lifecycle.Identity, error) {
	_, kind, name := userOrRole(arn)
	i := &lifecycle.Identity{ARN: arn, In: "AWS IAM", AccessKeys: []lifecycle.AccessKey{}}
	if kind == "role" {
		r, err := d.GetRole(ctx, &awsiam.GetRoleInput{RoleName: &name})
		if err != nil {
			return nil, unlessNoEntity(err)
		}
		i.ID = aws.ToString(r.Role.RoleId)
		i.Open = []string{"others may assume the role: see that its trust policy names nobody who left, and revoke its sessions in the console of IAM"}
		return i, sameARN(aws.ToString(r.Role.Arn), arn)
	}
	u, err := d.GetUser(ctx, &awsiam.GetUserInput{UserName: &name})
	if err != nil {
		return nil, unlessNoEntity(err)
	}
	if i.ID = aws.ToString(u.User.UserId); aws.ToString(u.User.Arn) != arn {
		return nil, sameARN(aws.ToString(u.User.Arn), arn)
	}
	if err := d.belongings(ctx, name, i); err != nil {
		return nil, err
	}
	_, err = d.GetLoginProfile(ctx, &awsiam.GetLoginProfileInput{UserName: &name})
	if err == nil {
		i.Open = append(i.Open, "he has a password for the console: 'aws iam delete-login-profile --user-name "+name+"'")
	}
	return i, unlessNoEntity(err)
}

// belongings are a user's access keys, second factors, groups and policies.
func (d iamDirectory) belongings(ctx context.Context, name string, i *lifecycle.Identity) error {
	for pages := awsiam.NewListAccessKeysPaginator(d, &awsiam.ListAccessKeysInput{UserName: &name}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, k := range page.AccessKeyMetadata {
			i.AccessKeys = append(i.AccessKeys, lifecycle.AccessKey{ID: aws.ToString(k.AccessKeyId), Active: k.Status == types.StatusTypeActive})
		}
	}
	groups, err := d.ListGroupsForUser(ctx, &awsiam.ListGroupsForUserInput{UserName: &name})
	if err != nil {
		return err
	}
	for _, g := range groups.Groups {
		i.Groups = append(i.Groups, aws.ToString(g.GroupName))
	}
	attached, err := d.ListAttachedUserPolicies(ctx, &awsiam.ListAttachedUserPoliciesInput{UserName: &name})
	if err != nil {
		return err
	}
	for _, p := range attached.AttachedPolicies {
		i.Policies = append(i.Policies, aws.ToString(p.PolicyName))
	}
	factors, err := d.ListMFADevices(ctx, &awsiam.ListMFADevicesInput{UserName: &name})
	if err != nil {
		return err
	}
	for _, f := range factors.MFADevices {
		i.MFADevices = append(i.MFADevices, aws.ToString(f.SerialNumber))
	}
	return nil
}

func unlessNoEntity(err error) error {
	if none, _ := errors.AsType[*types.NoSuchEntityException](err); none != nil {
		return nil
	}
	return err
}

// Deactivate implements lifecycle.Directory. Sessions of GetSessionToken end with the
// access key that they were begun with.
func (d iamDirectory) Deactivate(ctx context.Context, i *lifecycle.Identity) (string, error) {
	_, kind, name := userOrRole(i.ARN)
	if kind == "role" {
		return "a role has no access keys", nil
	}
	off := 0
	for _, k := range i.AccessKeys {
		if !k.Active {
			continue
		}
		if _, err := d.UpdateAccessKey(ctx, &awsiam.UpdateAccessKeyInput{UserName: &name, AccessKeyId: &k.ID, Status: types.StatusTypeInactive}); err != nil {
			return "", fmt.Errorf("access key %s: %w", k.ID, err)
		}
		off++
	}
	return fmt.Sprintf("%d access keys are off", off), nil
}
