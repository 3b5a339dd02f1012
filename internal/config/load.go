package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxConfigFile bounds one configuration file, in bytes.
const maxConfigFile = 1 << 20

// Load reads the files in order, each over the ones before, then the folder of
// tenants, then the CARDEA__… variables of env ("NAME=value", as os.Environ),
// then the files that hold secrets and keys. No files is fine: then the defaults
// hold. A table adds to a table before it; a list replaces a list.
//
// A relative path in a file is relative to that file's folder, from the
// environment to the working directory. All paths of the result are absolute.
//
// The error joins everything that could not be read or understood. A secret or
// key file that cannot be read is told by Validate, with all other problems.
func Load(paths, env []string) (Config, error) {
	c := Default()
	var errs []error
	for _, path := range paths {
		errs = append(errs, c.readFile(path))
	}
	vars, err := parseEnv(env)
	errs = append(errs, err)
	// A broken file makes the rest unknown: whatever else is said would mislead.
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	errs = []error{vars.applyGlobal(&c)}
	errs = append(errs, c.readTenantsDir(), vars.applyTenants(&c))
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	c.applyAliases()
	c.absolutePaths()
	c.readSecretFiles()
	host, err := os.Hostname()
	if err != nil {
		host = "" // nodeName has a name for that too
	}
	c.Derive(host)
	c.warn()
	return c, nil
}

// absolutePaths makes what the defaults and the environment said independent of
// the working directory, as paths in files are already.
func (c *Config) absolutePaths() {
	visit := func(_ string, f reflect.StructField, v reflect.Value) {
		if kind := f.Tag.Get("path"); kind != "" && v.CanSet() {
			if dir, err := os.Getwd(); err == nil {
				v.SetString(resolve(dir, kind, v.String()))
			}
		}
	}
	walk(reflect.ValueOf(c).Elem(), "", visit)
	for name, t := range c.Tenants {
		walk(reflect.ValueOf(&t).Elem(), "", visit)
		c.Tenants[name] = t
	}
}

// warn tells of what is allowed because somebody asked for it.
func (c *Config) warn() {
	walk(reflect.ValueOf(*c), "", func(path string, f reflect.StructField, v reflect.Value) {
		if v.Kind() == reflect.Bool && v.Bool() && strings.HasPrefix(key(f), "insecure_") {
			c.Warnings = append(c.Warnings, path+" is set: not for cardholder data in production")
		}
	})
	for _, name := range sortedKeys(c.Tenants) {
		if t := c.Tenants[name]; t.Mode == ModeKMS && t.KMS.MACKeyID == "" {
			c.Warnings = append(c.Warnings, "tenants."+name+".kms.mac_key_id is not set: the keys of dedupe values and fingerprints "+
				"are made and wrapped by KMS but used in this process; with a KMS key of spec HMAC_256 they stay in KMS")
		}
	}
	for key, d := range map[string]Database{"database": c.Database, "key_service.database": c.KeyService.Database} {
		if d.TLS == DatabaseTLSInsecureDisable && d.defaultTLS() != DatabaseTLSInsecureDisable {
			c.Warnings = append(c.Warnings, key+".tls is insecure_disable: everything that the database is told crosses the network in clear")
		}
	}
	if len(c.Tenants) == 0 && c.Vault.Listen != "" {
		c.Warnings = append(c.Warnings, "no tenant is configured: every request will be refused")
	}
}

func (c *Config) readFile(path string) error {
	c.files = append(c.files, path)
	raw, err := readBounded(path, maxConfigFile)
	if err != nil {
		return err
	}
	said, err := parse(path, raw)
	if err != nil {
		return err
	}
	if tenants, ok := said["tenants"].(map[string]any); ok {
		for name := range tenants {
			if _, known := c.Tenants[name]; !known {
				c.Tenants[name] = DefaultTenant()
			}
		}
	}
	return decode(path, "", raw, said, c)
}

// readTenantsDir reads <name>.toml files; others and hidden ones are not looked at.
func (c *Config) readTenantsDir() error {
	if c.TenantsDir == "" {
		return nil
	}
	entries, err := os.ReadDir(c.TenantsDir)
	if err != nil {
		return problem("tenants_dir", "%v; create the folder or remove the key", err)
	}
	var errs []error
	for _, e := range entries {
		name, isTOML := strings.CutSuffix(e.Name(), ".toml")
		if isTOML && !strings.HasPrefix(name, ".") {
			errs = append(errs, c.readTenant(name, filepath.Join(c.TenantsDir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) readTenant(name, path string) error {
	c.files = append(c.files, path)
	if _, twice := c.Tenants[name]; twice {
		return fmt.Errorf("%s: tenant %s is defined in a configuration file too; keep one of the two", path, name)
	}
	raw, err := readBounded(path, maxConfigFile)
	if err != nil {
		return err
	}
	said, err := parse(path, raw)
	if err != nil {
		return err
	}
	t := DefaultTenant()
	if err := decode(path, join("tenants", name), raw, said, &t); err != nil {
		return err
	}
	c.Tenants[name] = t
	return nil
}

// parse tells a syntax error with its line; what else is wrong is inspect's.
func parse(path string, raw []byte) (map[string]any, error) {
	var said map[string]any
	err := toml.Unmarshal(raw, &said)
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := e.Position()
		return nil, fmt.Errorf("%s:%d:%d: %s", path, line, column, strings.TrimPrefix(e.Error(), "toml: "))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return said, nil
}

// decode puts the file's text over target, a pointer to Config or Tenant, whose
// key is prefix. said is the same text as plain maps.
func decode(path, prefix string, raw []byte, said map[string]any, target any) error {
	v := reflect.ValueOf(target).Elem()
	paths, err := inspect(path, prefix, raw, v.Type(), said)
	if err != nil {
		return err
	}
	d := toml.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields() // inspect has seen to that; two locks on one door
	if err := d.Decode(target); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	dir := filepath.Dir(path)
	for _, p := range paths {
		setPath(v, p.keys, func(written string) string { return resolve(dir, p.kind, written) })
	}
	return nil
}

// setPath replaces the string setting at keys, which may be inside a map or a list.
func setPath(v reflect.Value, keys []string, change func(string) string) {
	if v.Kind() == reflect.Map {
		name := reflect.ValueOf(keys[0])
		element := reflect.New(v.Type().Elem()).Elem()
		element.Set(v.MapIndex(name))
		setPath(element, keys[1:], change)
		v.SetMapIndex(name, element)
		return
	}
	name, index := keys[0], -1
	if at := strings.IndexByte(name, '['); at >= 0 { // an element of a list, as inspect names it
		index, _ = strconv.Atoi(strings.TrimSuffix(name[at+1:], "]"))
		name = name[:at]
	}
	f, _ := fieldByKey(v.Type(), name) // inspect has found it before
	field := v.FieldByIndex(f.Index)
	if index >= 0 {
		field = field.Index(index)
	}
	if len(keys) > 1 {
		setPath(field, keys[1:], change)
		return
	}
	field.SetString(change(field.String()))
}
