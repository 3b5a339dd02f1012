package moduletest

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// Plan is what a module comes to with given variables.
type Plan struct {
	Resources map[string]cty.Value // by address, as Terraform writes it: module.x["k"].aws_kms_key.this["rds"]
	Outputs   map[string]cty.Value
}

// Evaluate evaluates the module and the modules that it calls. The error tells of an
// input that a validation refuses by its message.
func (m *Module) Evaluate(inputs map[string]cty.Value) (*Plan, error) {
	plan := &Plan{Resources: map[string]cty.Value{}}
	outputs, err := m.evaluate("", inputs, plan.Resources)
	plan.Outputs = outputs
	return plan, err
}

func (m *Module) evaluate(address string, inputs map[string]cty.Value, resources map[string]cty.Value) (map[string]cty.Value, error) {
	s := &scope{m: m, address: address, resources: resources, done: map[string]cty.Value{}, vars: map[string]cty.Value{}}
	if err := s.setVariables(inputs); err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(m.Resources)) {
		if _, err := s.get(name, func() (cty.Value, error) { return s.resource(m.Resources[name]) }); err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Calls)) {
		if _, err := s.get("module."+name, func() (cty.Value, error) { return s.call(m.Calls[name]) }); err != nil {
			errs = append(errs, err)
		}
	}
	outputs := map[string]cty.Value{}
	for _, name := range slices.Sorted(maps.Keys(m.Outputs)) {
		v, err := s.eval(m.Outputs[name].Value, nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("output %s: %w", name, err))
		}
		outputs[name] = v
	}
	return outputs, errors.Join(errs...)
}

// scope is a module that is being evaluated.
type scope struct {
	m         *Module
	address   string // of the module, with a dot at the end unless it is the root
	resources map[string]cty.Value
	vars      map[string]cty.Value
	done      map[string]cty.Value // by local.x, type.name, module.x
	under     []string             // what is being evaluated
}

// get evaluates something that others refer to, once.
func (s *scope) get(name string, eval func() (cty.Value, error)) (cty.Value, error) {
	if v, ok := s.done[name]; ok {
		return v, nil
	}
	if slices.Contains(s.under, name) {
		return cty.NilVal, fmt.Errorf("%s refers to itself: %s", name, strings.Join(s.under, " → "))
	}
	s.under = append(s.under, name)
	v, err := eval()
	s.under = s.under[:len(s.under)-1]
	if err != nil {
		return cty.NilVal, fmt.Errorf("%s%s: %w", s.address, name, err)
	}
	s.done[name] = v
	return v, nil
}

func (s *scope) setVariables(inputs map[string]cty.Value) error {
	for name := range inputs {
		if s.m.Variables[name] == nil {
			return fmt.Errorf("%s has no variable %q", s.m.Dir, name)
		}
	}
	for name, v := range s.m.Variables {
		given, ok := inputs[name]
		switch {
		case ok && !given.IsNull(), ok && v.Nullable:
		case v.Default != nil:
			given = *v.Default
		default:
			return fmt.Errorf("%s: variable %q is required", s.m.Dir, name)
		}
		if v.defaults != nil && !given.IsNull() {
			given = v.defaults.Apply(given)
		}
		value, err := convert.Convert(given, v.Type)
		if err != nil {
			return fmt.Errorf("%s: variable %q: %w", s.m.Dir, name, err)
		}
		s.vars[name] = value
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.m.Variables)) {
		for _, check := range s.m.Variables[name].Validations {
			if err := s.holds(check, nil); err != nil {
				errs = append(errs, fmt.Errorf("variable %s: %w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// holds evaluates a block of condition and error_message.
func (s *scope) holds(check *hclsyntax.Block, more map[string]cty.Value) error {
	v, err := s.eval(check.Body.Attributes["condition"].Expr, more)
	if err != nil {
		return err
	}
	if !v.IsNull() && v.True() {
		return nil
	}
	message, err := s.eval(check.Body.Attributes["error_message"].Expr, more)
	if err != nil {
		return err
	}
	return errors.New(message.AsString())
}

// eval evaluates an expression, after what it refers to. more are each and count.
func (s *scope) eval(expr hcl.Expression, more map[string]cty.Value) (cty.Value, error) {
	ctx := &hcl.EvalContext{Functions: functions, Variables: map[string]cty.Value{}}
	parts := map[string]map[string]cty.Value{}
	put := func(root, name string, v cty.Value) {
		if parts[root] == nil {
			parts[root] = map[string]cty.Value{}
		}
		parts[root][name] = v
	}
	for _, t := range expr.Variables() {
		root := t.RootName()
		if v, ok := more[root]; ok {
			ctx.Variables[root] = v
			continue
		}
		if len(t) < 2 {
			return cty.NilVal, fmt.Errorf("%s: %s alone", t.SourceRange(), root)
		}
		attr, ok := t[1].(hcl.TraverseAttr)
		if !ok {
			return cty.NilVal, fmt.Errorf("%s: unknown %s", t.SourceRange(), root)
		}
		v, err := s.referred(root, attr.Name)
		if err != nil {
			return cty.NilVal, err
		}
		put(root, attr.Name, v)
	}
	for root, attrs := range parts {
		ctx.Variables[root] = cty.ObjectVal(attrs)
	}
	v, diags := expr.Value(ctx)
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	return v, nil
}

func (s *scope) referred(root, name string) (cty.Value, error) {
	switch root {
	case "var":
		if v, ok := s.vars[name]; ok {
			return v, nil
		}
	case "local":
		if expr := s.m.Locals[name]; expr != nil {
			return s.get("local."+name, func() (cty.Value, error) { return s.eval(expr, nil) })
		}
	case "module":
		if b := s.m.Calls[name]; b != nil {
			return s.get("module."+name, func() (cty.Value, error) { return s.call(b) })
		}
	case "path":
		return cty.StringVal(filepath.ToSlash(s.m.Dir)), nil
	default:
		if b := s.m.Resources[root+"."+name]; b != nil {
			return s.get(root+"."+name, func() (cty.Value, error) { return s.resource(b) })
		}
	}
	return cty.NilVal, fmt.Errorf("%s has no %s.%s", s.m.Dir, root, name)
}

// instances evaluates count or for_each of a block and hands each instance to make.
// The value is what others see: one, a list or a map of them.
func (s *scope) instances(b *hclsyntax.Block, make func(key string, more map[string]cty.Value) (cty.Value, error)) (cty.Value, error) {
	if a := b.Body.Attributes["count"]; a != nil {
		v, err := s.eval(a.Expr, nil)
		if err != nil {
			return cty.NilVal, err
		}
		if v, err = convert.Convert(v, cty.Number); err != nil {
			return cty.NilVal, err
		}
		n, _ := v.AsBigFloat().Int64()
		all := []cty.Value{}
		for i := range n {
			one, err := make(fmt.Sprintf("[%d]", i), map[string]cty.Value{"count": cty.ObjectVal(map[string]cty.Value{"index": cty.NumberIntVal(i)})})
			if err != nil {
				return cty.NilVal, err
			}
			all = append(all, one)
		}
		return cty.TupleVal(all), nil
	}
	a := b.Body.Attributes["for_each"]
	if a == nil {
		return make("", nil)
	}
	v, err := s.eval(a.Expr, nil)
	if err != nil {
		return cty.NilVal, err
	}
	all := map[string]cty.Value{}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		if v.Type().IsSetType() {
			k = e
		}
		one, err := make(fmt.Sprintf("[%q]", k.AsString()), map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": k, "value": e})})
		if err != nil {
			return cty.NilVal, err
		}
		all[k.AsString()] = one
	}
	return cty.ObjectVal(all), nil
}

var metaArguments = []string{"count", "for_each", "provider", "depends_on", "providers", "source", "version"}

func (s *scope) call(b *hclsyntax.Block) (cty.Value, error) {
	var source string
	if err := constant(b, "source", &source); err != nil {
		return cty.NilVal, err
	}
	if !strings.HasPrefix(source, "./") && !strings.HasPrefix(source, "../") {
		return cty.NilVal, fmt.Errorf("source %q: only folders here", source)
	}
	child, err := Load(filepath.Join(s.m.Dir, source))
	if err != nil {
		return cty.NilVal, err
	}
	return s.instances(b, func(key string, more map[string]cty.Value) (cty.Value, error) {
		inputs := map[string]cty.Value{}
		for name, a := range b.Body.Attributes {
			if slices.Contains(metaArguments, name) {
				continue
			}
			if inputs[name], err = s.eval(a.Expr, more); err != nil {
				return cty.NilVal, err
			}
		}
		outputs, err := child.evaluate(s.address+"module."+b.Labels[0]+key+".", inputs, s.resources)
		return cty.ObjectVal(outputs), err
	})
}

func (s *scope) resource(b *hclsyntax.Block) (cty.Value, error) {
	return s.instances(b, func(key string, more map[string]cty.Value) (cty.Value, error) {
		attrs, err := s.body(b.Body, more)
		if err != nil {
			return cty.NilVal, err
		}
		address := s.address + b.Labels[0] + "." + b.Labels[1] + key
		for name, v := range computed(b.Labels[0], address, attrs) {
			if old, ok := attrs[name]; !ok || old.IsNull() {
				attrs[name] = v
			}
		}
		v := cty.ObjectVal(attrs)
		s.resources[address] = v
		for _, inner := range b.Body.Blocks {
			if inner.Type != "lifecycle" {
				continue
			}
			for _, check := range inner.Body.Blocks {
				with := map[string]cty.Value{"self": v}
				maps.Copy(with, more)
				if err := s.holds(check, with); err != nil {
					return cty.NilVal, err
				}
			}
		}
		return v, nil
	})
}

// body is the attributes and nested blocks of a resource; each kind of block becomes
// a list.
func (s *scope) body(body *hclsyntax.Body, more map[string]cty.Value) (map[string]cty.Value, error) {
	attrs := map[string]cty.Value{}
	for name, a := range body.Attributes {
		if slices.Contains(metaArguments, name) {
			continue
		}
		v, err := s.eval(a.Expr, more)
		if err != nil {
			return nil, err
		}
		attrs[name] = v
	}
	blocks := map[string][]cty.Value{}
	for _, b := range body.Blocks {
		switch b.Type {
		case "lifecycle", "timeouts":
			continue
		case "dynamic":
			name := b.Labels[0]
			each, err := s.eval(b.Body.Attributes["for_each"].Expr, more)
			if err != nil {
				return nil, err
			}
			for it := each.ElementIterator(); it.Next(); {
				k, v := it.Element()
				with := map[string]cty.Value{name: cty.ObjectVal(map[string]cty.Value{"key": k, "value": v})}
				maps.Copy(with, more)
				for _, content := range b.Body.Blocks {
					inner, err := s.body(content.Body, with)
					if err != nil {
						return nil, err
					}
					blocks[name] = append(blocks[name], cty.ObjectVal(inner))
				}
			}
		default:
			inner, err := s.body(b.Body, more)
			if err != nil {
				return nil, err
			}
			blocks[b.Type] = append(blocks[b.Type], cty.ObjectVal(inner))
		}
	}
	for name, all := range blocks {
		attrs[name] = cty.TupleVal(all)
	}
	return attrs, nil
}
