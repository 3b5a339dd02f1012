package cli

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"cardea/internal/awstest"
	"cardea/internal/sdkhttp"
)

func TestAccessKeysInIAMAreTurnedOff(t *testing.T) {
	t.Parallel()
	d := iamDirectory{awsiam.New(awsiam.Options{
		BaseEndpoint: aws.String(awstest.Moto(t)), Region: "us-east-1", HTTPClient: sdkhttp.New(nil), Credentials: credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "secret", ""),
	})}
	name := aws.String("bob")
	u, err := d.CreateUser(t.Context(), &awsiam.CreateUserInput{UserName: name, Path: aws.String("/team/")})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.CreateAccessKey(t.Context(), &awsiam.CreateAccessKeyInput{UserName: name}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.CreateLoginProfile(t.Context(), &awsiam.CreateLoginProfileInput{UserName: name, Password: aws.String("not-a-real-1!Password")}); err != nil {
		t.Fatal(err)
	}
	i, err := d.Identity(t.Context(), *u.User.Arn)
	if err != nil || i == nil || len(i.AccessKeys) != 2 || !i.AccessKeys[0].Active || i.ID != *u.User.UserId || len(i.Open) != 1 {
		t.Fatalf("%+v, %v", i, err)
	}
	if i.Open[0] != "he has a password for the console: 'aws iam delete-login-profile --user-name bob'" {
		t.Errorf("got %q", i.Open)
	}
	for range 2 { // it may be called again
		if done, err := d.Deactivate(t.Context(), i); err != nil || done != "2 access keys are off" {
			t.Errorf("%s, %v", done, err)
		}
	}
	keys, err := d.ListAccessKeys(t.Context(), &awsiam.ListAccessKeysInput{UserName: name})
	if err != nil || len(keys.AccessKeyMetadata) != 2 || keys.AccessKeyMetadata[0].Status != types.StatusTypeInactive || keys.AccessKeyMetadata[1].Status != types.StatusTypeInactive {
		t.Errorf("%+v, %v", keys, err)
	}
	if _, err := d.Identity(t.Context(), "arn:aws:iam::123456789012:user/bob"); err == nil || !strings.Contains(err.Error(), "there is "+*u.User.Arn+": name it by its whole ARN") {
		t.Errorf("got %v", err)
	}
	for _, gone := range []string{"arn:aws:iam::123456789012:user/nobody", "arn:aws:iam::123456789012:role/nobody"} {
		if i, err := d.Identity(t.Context(), gone); err != nil || i != nil {
			t.Errorf("%+v, %v", i, err)
		}
	}
}
