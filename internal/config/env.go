package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
)

// envPrefix begins every variable that is a setting: CARDEA__VAULT__LISTEN is
// vault.listen. Variables with one underscore are not settings.
const envPrefix = "CARDEA__"

// envVar is one variable, its name in parts.
type envVar struct {
	name  string
	path  []string // lower case
	value string
}

type envVars []envVar

// parseEnv picks the settings out of an environment. Of two entries with one
// name the last counts, as for os/exec; two names that differ in case only
// would be one setting, and are refused.
func parseEnv(env []string) (envVars, error) {
	byPath := map[string]envVar{}
	var errs []error
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		rest, ok := strings.CutPrefix(name, envPrefix)
		if !ok {
			continue
		}
		path := strings.Split(strings.ToLower(rest), "__")
		id := strings.Join(path, "__")
		if before, taken := byPath[id]; taken && before.name != name {
			errs = append(errs, problem(name, "is the same setting as %s; keep one", before.name))
			continue
		}
		if slices.Contains(path, "") {
			errs = append(errs, problem(name, "expected %sSECTION__KEY", envPrefix))
			continue
		}
		byPath[id] = envVar{name, path, value}
	}
	var vars envVars
	for _, id := range sortedKeys(byPath) {
		vars = append(vars, byPath[id])
	}
	return vars, errors.Join(errs...)
}

// applyGlobal sets everything but tenants.
func (vars envVars) applyGlobal(c *Config) error {
	var errs []error
	for _, v := range vars {
		if v.path[0] != "tenants" {
			errs = append(errs, v.set(reflect.ValueOf(c).Elem(), v.path))
		}
	}
	return errors.Join(errs...)
}

// applyTenants sets keys of tenants, also of ones that no file has named. Names
// come in lower case, unless a file has a tenant of that name in other case.
func (vars envVars) applyTenants(c *Config) error {
	var errs []error
	for _, v := range vars {
		if v.path[0] != "tenants" {
			continue
		}
		if len(v.path) < 3 {
			errs = append(errs, problem(v.name, "expected %sTENANTS__NAME__KEY", envPrefix))
			continue
		}
		name, err := v.tenantName(c.Tenants)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t, known := c.Tenants[name]
		if !known {
			t = DefaultTenant()
		}
		if err := v.set(reflect.ValueOf(&t).Elem(), v.path[2:]); err != nil {
			errs = append(errs, err)
			continue
		}
		c.Tenants[name] = t
	}
	return errors.Join(errs...)
}

func (v envVar) tenantName(tenants map[string]Tenant) (string, error) {
	var same []string
	for _, name := range sortedKeys(tenants) {
		if strings.EqualFold(name, v.path[1]) {
			same = append(same, name)
		}
	}
	switch len(same) {
	case 0:
		return v.path[1], nil
	case 1:
		return same[0], nil
	}
	return "", problem(v.name, "could mean the tenants %s; set it in their files", strings.Join(same, " and "))
}

// set finds the setting below target and converts the value to its type. The
// value is not quoted in errors: somebody may have put a secret there.
func (v envVar) set(target reflect.Value, path []string) error {
	for i, name := range path {
		last := i == len(path)-1
		if target.Kind() == reflect.Map {
			return problem(v.name, "%s can be set in files only", path[i-1])
		}
		f, ok := fieldByKey(target.Type(), name)
		if !ok {
			return v.unknown(name, target.Type())
		}
		target = target.FieldByIndex(f.Index)
		if isTable(f.Type) == last {
			if last {
				return problem(v.name, "%s is a section, not a key", name)
			}
			return problem(v.name, "%s has no keys below it", name)
		}
	}
	if err := setText(target, v.value); err != nil {
		return problem(v.name, "%v", err)
	}
	return nil
}

func (v envVar) unknown(name string, t reflect.Type) error {
	if _, ok := fieldByKey(t, name+"_file"); ok {
		return problem(v.name, "secrets come from files only: put it into a file and name that in %s_FILE", strings.ToUpper(v.name))
	}
	return problem(v.name, "no such setting%s", didYouMean(name, keysOf(t)))
}
