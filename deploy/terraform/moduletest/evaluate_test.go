package moduletest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"
)

// module writes a module to a folder of its own.
func module(t *testing.T, text string) *Module {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestExpressionsAreEvaluatedAsTerraformDoes(t *testing.T) {
	t.Parallel()
	m := module(t, `
variable "names" { type = list(string) }
variable "limits" { type = map(object({ most = number, least = optional(number, 1), note = optional(string) })) }
locals {
  upper  = [for n in var.names : upper(n)]
  chosen = { for name, l in var.limits : name => l if l.least == 1 }
}
resource "aws_kms_key" "each" {
  for_each    = toset(var.names)
  description = each.key
}
resource "aws_sns_topic" "some" {
  count = length(var.names)
  name  = "t${count.index}"
}
resource "aws_cloudtrail" "blocks" {
  name = "x"
  dynamic "selector" {
    for_each = local.upper
    content { value = selector.value }
  }
  selector { value = "last" }
}
output "keys" { value = [for k in aws_kms_key.each : k.description] }
output "topics" { value = aws_sns_topic.some[*].arn }
output "replaced" { value = "${replace("a-b.c", "/[^a-z]/", "_")} ${replace("a-b", "-", "+")}" }
output "chosen" { value = local.chosen }
output "one" { value = [one([]), one(["x"])] }
output "truths" { value = [alltrue([]), anytrue([]), alltrue([true, false]), anytrue([true, false]), can(cidrnetmask("::/8")), startswith("ab", "a"), endswith("ab", "a")] }
`)
	p, err := m.Evaluate(inputs(t, `
names  = ["a", "b"]
limits = { x = { most = 3 }, y = { most = 4, least = 2 } }
`))
	if err != nil {
		t.Fatal(err)
	}
	text := func(all ...string) cty.Value {
		var v []cty.Value
		for _, s := range all {
			v = append(v, cty.StringVal(s))
		}
		return cty.TupleVal(v)
	}
	for name, want := range map[string]cty.Value{
		"keys":     text("a", "b"),
		"topics":   text("arn:aws:sns:us-east-1:111122223333:t0", "arn:aws:sns:us-east-1:111122223333:t1"),
		"replaced": cty.StringVal("a_b_c a+b"),
		"chosen": cty.ObjectVal(map[string]cty.Value{"x": cty.ObjectVal(map[string]cty.Value{
			"most": cty.NumberIntVal(3), "least": cty.NumberIntVal(1), "note": cty.NullVal(cty.String),
		})}),
		"one":    cty.TupleVal([]cty.Value{cty.NullVal(cty.DynamicPseudoType), cty.StringVal("x")}),
		"truths": cty.TupleVal([]cty.Value{cty.True, cty.False, cty.False, cty.True, cty.False, cty.True, cty.False}),
	} {
		if got := p.Outputs[name]; !got.RawEquals(want) {
			t.Errorf("%s = %#v, want %#v", name, got, want)
		}
	}
	if _, ok := p.Resources[`aws_kms_key.each["b"]`]; !ok || len(p.Resources) != 5 {
		t.Errorf("resources %v", p.Resources)
	}
	if n := p.attr(t, "aws_cloudtrail.blocks", "selector").LengthInt(); n != 3 {
		t.Errorf("%d blocks, want 3", n)
	}
}

func TestEvaluationRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`output "x" { value = local.y }`:                                                                    "has no local.y",
		`output "x" { value = var.y }`:                                                                      "has no var.y",
		`output "x" { value = data.aws_region.y }`:                                                          "has no data.aws_region",
		"locals {\n  a = local.b\n  b = local.a\n}\noutput \"x\" { value = local.a }":                       "refers to itself: local.a → local.b",
		`output "x" { value = file("x") }`:                                                                  "no function named \"file\"",
		"resource \"aws_sns_topic\" \"a\" { name = \"x\" }\noutput \"x\" { value = aws_sns_topic.a.owner }": "does not have an attribute named \"owner\"",
		`module "x" { source = "registry/module" }`:                                                         `source "registry/module": only folders here`,
		"variable \"a\" { type = string }":                                                                  `variable "a" is required`,
		"variable \"a\" {\n  type = number\n  default = \"x\"\n}":                                           `variable "a": a number is required`,
		"resource \"aws_sns_topic\" \"a\" {\n  name = \"x\"\n  lifecycle {\n    precondition {\n      condition = 1 > 2\n      error_message = \"not so\"\n    }\n  }\n}": "not so",
	} {
		if _, err := module(t, text).Evaluate(nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no *.tf files") {
		t.Errorf("an empty folder: %v", err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "main.tf"), []byte("variable {"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(broken); err == nil {
		t.Error("a file that is no HCL is taken")
	}
}
