package config

import (
	"cmp"
	"encoding"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// The struct tags of Config are the one list of keys: decoding, the environment,
// relative paths, unknown keys and comparison all walk it.

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// key is the TOML name of a field, or "" if it is not a setting.
func key(f reflect.StructField) string {
	if name := f.Tag.Get("toml"); name != "-" {
		return name
	}
	return ""
}

// isTable says whether a setting of type t has keys below it.
func isTable(t reflect.Type) bool {
	return (t.Kind() == reflect.Struct || t.Kind() == reflect.Map) && !reflect.PointerTo(t).Implements(textUnmarshaler)
}

// fieldByKey is the field of struct type t with the TOML name, written exactly so.
func fieldByKey(t reflect.Type, name string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if k := key(f); k != "" && k == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// keysOf are the keys directly below struct type t, in their order.
func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		if k := key(f); k != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

// walk calls visit for every setting that is not a table, tenants included.
// What is in a map is visited as a copy and cannot be set.
func walk(v reflect.Value, prefix string, visit func(path string, f reflect.StructField, v reflect.Value)) {
	for f, fv := range v.Fields() {
		name := key(f)
		if name == "" {
			continue
		}
		path := join(prefix, name)
		switch {
		case !isTable(f.Type):
			visit(path, f, fv)
		case f.Type.Kind() == reflect.Struct:
			walk(fv, path, visit)
		default:
			for _, k := range slices.SortedFunc(slices.Values(fv.MapKeys()), func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) }) {
				walk(fv.MapIndex(k), join(path, k.String()), visit)
			}
		}
	}
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	if name == "" {
		return prefix
	}
	return prefix + "." + name
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// setText sets v from the text of an environment variable, converted to v's own
// type: a string stays what it is, leading zeros and all.
func setText(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Interface().(type) {
	case string:
		v.SetString(text)
	case bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("expected true or false")
		}
		v.SetBool(text == "true")
	case int, int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("expected a whole number")
		}
		v.SetInt(n)
	case float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("expected a number")
		}
		v.SetFloat(n)
	case []string:
		v.Set(reflect.ValueOf(splitList(text)))
	case []netip.Prefix:
		prefixes := []netip.Prefix{}
		for _, item := range splitList(text) {
			p, err := netip.ParsePrefix(item)
			if err != nil {
				return fmt.Errorf("expected networks such as 10.0.0.0/8, separated by commas")
			}
			prefixes = append(prefixes, p)
		}
		v.Set(reflect.ValueOf(prefixes))
	default:
		return fmt.Errorf("cannot be set by the environment; set it in a file")
	}
	return nil
}

func splitList(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}
