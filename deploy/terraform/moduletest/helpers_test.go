package moduletest

import (
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// inputs are variables as a *.tfvars file has them.
func inputs(t *testing.T, text string) map[string]cty.Value {
	t.Helper()
	f, diags := hclsyntax.ParseConfig([]byte(text), "inputs.tfvars", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	attrs, diags := f.Body.JustAttributes()
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	values := map[string]cty.Value{}
	for name, a := range attrs {
		if values[name], diags = a.Expr.Value(nil); diags.HasErrors() {
			t.Fatal(diags)
		}
	}
	return values
}
