package moduletest

import (
	"fmt"
	"testing"
)

func TestTmp(t *testing.T) {
	m, err := Load("../modules/key-policy")
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Evaluate(inputs(t, `
account_id = "111122223333"
regions = ["us-east-1"]
administrators = ["arn:aws:iam::111122223333:role/key-admin"]
users = ["arn:aws:iam::111122223333:role/app"]
via_services = ["rds"]
grants_for_aws_resources = true
`))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(p.Outputs["json"].AsString())
}
