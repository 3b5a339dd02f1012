package moduletest

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	json "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// golden is testdata/cde.json: what examples/cde comes to with example.tfvars, for
// people to read and for Terraform's own plan to be compared with. What AWS would tell
// is made up in it.
type golden struct {
	Resources []string                  `json:"resources"`
	Policies  map[string]jsontext.Value `json:"policies"` // by address.attribute
}

func TestExampleComesToWhatItDid(t *testing.T) {
	t.Parallel()
	p := examplePlan(t)
	g := golden{Resources: slices.Sorted(maps.Keys(p.Resources)), Policies: map[string]jsontext.Value{}}
	for address := range p.policies(t) {
		i := strings.LastIndex(address, ".")
		g.Policies[address] = jsontext.Value(p.attr(t, address[:i], address[i+1:]).AsString())
	}
	// A statement a line, so that a difference shows which.
	var b bytes.Buffer
	text := func(v any) {
		if err := json.MarshalWrite(&b, v, json.Deterministic(true)); err != nil {
			t.Fatal(err)
		}
	}
	b.WriteString("{\"resources\": [\n")
	for i, address := range g.Resources {
		text(address)
		b.WriteString(map[bool]string{true: "\n", false: ",\n"}[i == len(g.Resources)-1])
	}
	b.WriteString("],\n\"policies\": {\n")
	for i, address := range slices.Sorted(maps.Keys(g.Policies)) {
		text(address)
		b.WriteString(": ")
		b.WriteString(strings.ReplaceAll(string(g.Policies[address]), "},{\"Action\"", "},\n {\"Action\""))
		b.WriteString(map[bool]string{true: "\n", false: ",\n"}[i == len(g.Policies)-1])
	}
	b.WriteString("}}\n")
	const path = "testdata/cde.json"
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("%s is not what the example comes to; if that is meant: go test ./deploy/terraform/moduletest -run Example -update, and look at the difference", path)
	}
}
