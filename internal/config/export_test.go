package config

import "reflect"

// Setting is one key and its value by default.
type Setting struct {
	Key   string
	Value any
}

// Settings lists every key of v, a Config, a Tenant or a Client.
func Settings(v any) []Setting {
	var all []Setting
	walk(reflect.ValueOf(v), "", func(path string, _ reflect.StructField, v reflect.Value) {
		all = append(all, Setting{path, v.Interface()})
	})
	return all
}
