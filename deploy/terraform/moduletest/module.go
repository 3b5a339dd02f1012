// Package moduletest evaluates the Terraform modules beside it without Terraform: the
// same expressions, with chosen variables, become the same policies and resources, so
// that they can be asked questions in any test run.
//
// It knows as much of Terraform's language as the modules use, and refuses the rest:
// no data sources, no providers, no state. What only AWS could tell, such as a new
// key's ARN, is made up, always alike. Where Terraform is installed, its plans are
// compared with the results (interop).
package moduletest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Module is a folder of *.tf files.
type Module struct {
	Dir       string
	Variables map[string]*Variable
	Outputs   map[string]*Output
	Locals    map[string]hclsyntax.Expression
	Resources map[string]*hclsyntax.Block // by type.name
	Calls     map[string]*hclsyntax.Block // of other modules
	Providers []*hclsyntax.Block
	Terraform []*hclsyntax.Block
	Others    []*hclsyntax.Block // data, moved, import …
}

// Variable is an input.
type Variable struct {
	Name, Description string
	TypeText          string // as written
	Type              cty.Type
	Default           *cty.Value // nil if required
	DefaultText       string     // as written
	Sensitive         bool
	Nullable          bool
	Validations       []*hclsyntax.Block

	defaults *typeexpr.Defaults
}

// Output is what a module gives back.
type Output struct {
	Name, Description string
	Sensitive         bool
	Value             hclsyntax.Expression
}

// Load parses the *.tf files of a folder.
func Load(dir string) (*Module, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no *.tf files", dir)
	}
	m := &Module{
		Dir: dir, Variables: map[string]*Variable{}, Outputs: map[string]*Output{}, Locals: map[string]hclsyntax.Expression{},
		Resources: map[string]*hclsyntax.Block{}, Calls: map[string]*hclsyntax.Block{},
	}
	parser := hclparse.NewParser()
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		f, diags := parser.ParseHCL(text, path)
		if diags.HasErrors() {
			return nil, diags
		}
		for _, b := range f.Body.(*hclsyntax.Body).Blocks {
			if err := m.add(b, text); err != nil {
				return nil, fmt.Errorf("%s: %w", b.DefRange(), err)
			}
		}
	}
	return m, nil
}

func (m *Module) add(b *hclsyntax.Block, text []byte) error {
	switch b.Type {
	case "variable":
		v, err := variable(b, text)
		if err != nil {
			return err
		}
		m.Variables[v.Name] = v
	case "output":
		o := &Output{Name: b.Labels[0], Value: b.Body.Attributes["value"].Expr}
		for name, to := range map[string]any{"description": &o.Description, "sensitive": &o.Sensitive} {
			if err := constant(b, name, to); err != nil {
				return err
			}
		}
		m.Outputs[o.Name] = o
	case "locals":
		for name, a := range b.Body.Attributes {
			m.Locals[name] = a.Expr
		}
	case "resource":
		m.Resources[b.Labels[0]+"."+b.Labels[1]] = b
	case "module":
		m.Calls[b.Labels[0]] = b
	case "provider":
		m.Providers = append(m.Providers, b)
	case "terraform":
		m.Terraform = append(m.Terraform, b)
	default:
		m.Others = append(m.Others, b)
	}
	return nil
}

func variable(b *hclsyntax.Block, text []byte) (*Variable, error) {
	v := &Variable{Name: b.Labels[0], Type: cty.DynamicPseudoType, Nullable: true}
	for name, to := range map[string]any{"description": &v.Description, "sensitive": &v.Sensitive, "nullable": &v.Nullable} {
		if err := constant(b, name, to); err != nil {
			return nil, err
		}
	}
	if a := b.Body.Attributes["type"]; a != nil {
		var diags hcl.Diagnostics
		if v.Type, v.defaults, diags = typeexpr.TypeConstraintWithDefaults(a.Expr); diags.HasErrors() {
			return nil, diags
		}
		v.TypeText = string(a.Expr.Range().SliceBytes(text))
	}
	if a := b.Body.Attributes["default"]; a != nil {
		value, diags := a.Expr.Value(nil)
		if diags.HasErrors() {
			return nil, diags
		}
		v.Default, v.DefaultText = &value, string(a.Expr.Range().SliceBytes(text))
	}
	for _, inner := range b.Body.Blocks {
		if inner.Type == "validation" {
			v.Validations = append(v.Validations, inner)
		}
	}
	return v, nil
}

// constant reads an attribute that is a plain string or truth value, if it is there.
func constant(b *hclsyntax.Block, name string, to any) error {
	a := b.Body.Attributes[name]
	if a == nil {
		return nil
	}
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		return diags
	}
	switch to := to.(type) {
	case *string:
		*to = strings.TrimSpace(v.AsString())
	case *bool:
		*to = v.True()
	}
	return nil
}
