package config

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// inspector compares what a file says with the settings there are, and finds all
// differences: unknown keys, keys that differ in case only (which go-toml lets
// pass) and values of the wrong type. Each is told with its line.
type inspector struct {
	file   string
	prefix string         // key of what the file describes: "" or "tenants.acme"
	lines  map[string]int // where a key or table begins, by its path in the file

	paths []pathSetting
	errs  []error
}

// pathSetting is a setting that names a path.
type pathSetting struct {
	keys []string
	kind string // the tag: "true" or "sqlite"
}

func inspect(file, prefix string, raw []byte, t reflect.Type, said map[string]any) ([]pathSetting, error) {
	in := &inspector{file: file, prefix: prefix, lines: keyLines(raw)}
	in.visit(t, said, nil)
	return in.paths, errors.Join(in.errs...)
}

func (in *inspector) visit(t reflect.Type, said any, path []string) {
	switch {
	case isTable(t):
		table, ok := said.(map[string]any)
		if !ok {
			in.mismatch(t, path)
			return
		}
		in.visitTable(t, table, path)
	case t.Kind() == reflect.Slice:
		list, ok := said.([]any)
		if !ok {
			in.mismatch(t, path)
		}
		for i, item := range list {
			in.visit(t.Elem(), item, with(path[:len(path)-1], path[len(path)-1]+"["+strconv.Itoa(i)+"]"))
		}
	case !fits(t, said):
		in.mismatch(t, path)
	}
}

func (in *inspector) visitTable(t reflect.Type, table map[string]any, path []string) {
	for _, name := range sortedKeys(table) {
		below := with(path, name)
		if t.Kind() == reflect.Map {
			in.visit(t.Elem(), table[name], below)
			continue
		}
		f, ok := fieldByKey(t, name)
		if !ok {
			in.add(below, "unknown key"+didYouMean(name, keysOf(t)))
			continue
		}
		if kind := f.Tag.Get("path"); kind != "" {
			in.paths = append(in.paths, pathSetting{below, kind})
		}
		in.visit(f.Type, table[name], below)
	}
}

// fits says whether a TOML value can become a setting of type t.
func fits(t reflect.Type, said any) bool {
	if reflect.PointerTo(t).Implements(textUnmarshaler) {
		text, ok := said.(string)
		return ok && reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) == nil
	}
	switch said := said.(type) {
	case string:
		return t.Kind() == reflect.String
	case bool:
		return t.Kind() == reflect.Bool
	case int64:
		return t.Kind() == reflect.Float64 || (t.Kind() == reflect.Int || t.Kind() == reflect.Int64) && !reflect.Zero(t).OverflowInt(said)
	case float64:
		return t.Kind() == reflect.Float64
	}
	return false
}

func (in *inspector) mismatch(t reflect.Type, path []string) { in.add(path, "expected "+expected(t)) }

// add never quotes the value: somebody may have put a secret there.
func (in *inspector) add(path []string, text string) {
	where := in.file
	if line := in.line(path); line > 0 {
		where = fmt.Sprintf("%s:%d", in.file, line)
	}
	in.errs = append(in.errs, fmt.Errorf("%s: %w", where, &Problem{Key: join(in.prefix, strings.Join(path, ".")), Text: text}))
}

// line is where path, or else the nearest that holds it, begins. What is in an
// inline table or list has no line of its own.
func (in *inspector) line(path []string) int {
	for ; len(path) > 0; path = path[:len(path)-1] {
		if line := in.lines[strings.Join(path, "\x00")]; line > 0 {
			return line
		}
		last := path[len(path)-1]
		list := last[:max(0, strings.LastIndexByte(last, '['))]
		if line := in.lines[strings.Join(with(path[:len(path)-1], list), "\x00")]; line > 0 {
			return line
		}
	}
	return 0
}

// with is path and name in memory of its own.
func with(path []string, name string) []string {
	return append(append(make([]string, 0, len(path)+1), path...), name)
}

// keyLines finds the line of each key and table header of a TOML text that
// parses. Elements of arrays of tables are counted: "clients[0]".
func keyLines(raw []byte) map[string]int {
	lines, count := map[string]int{}, map[string]int{}
	var p unstable.Parser
	p.Reset(raw)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		var path []string
		line := 0
		for it := e.Key(); it.Next(); {
			if line == 0 {
				line = p.Shape(it.Node().Raw).Start.Line
			}
			path = append(path, string(it.Node().Data))
		}
		switch e.Kind {
		case unstable.KeyValue:
			path = append(with(table, "")[:len(table)], path...)
		case unstable.ArrayTable:
			id := strings.Join(path, "\x00")
			path[len(path)-1] += "[" + strconv.Itoa(count[id]) + "]"
			count[id]++
			table = path
		case unstable.Table:
			table = path
		default:
			continue
		}
		if id := strings.Join(path, "\x00"); lines[id] == 0 {
			lines[id] = line
		}
	}
	return lines
}

// expected says in the operator's words what a setting of type t wants.
func expected(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Duration]():
		return `a duration in quotes, such as "30s"`
	case t == reflect.TypeFor[netip.Prefix]():
		return `a network in quotes, such as "10.0.0.0/8"`
	case isTable(t):
		return "a table"
	}
	switch t.Kind() {
	case reflect.String:
		return "text in quotes"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	default:
		return "a list"
	}
}

// resolve makes a path that was written in a file of folder dir independent of
// the working directory. A "sqlite" path is the part behind "sqlite:".
func resolve(dir, kind, path string) string {
	if kind == "sqlite" {
		rest, ok := strings.CutPrefix(path, "sqlite:")
		if !ok || rest == "" {
			return path
		}
		return "sqlite:" + resolve(dir, "true", rest)
	}
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// didYouMean proposes the known key nearest to an unknown one.
func didYouMean(name string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// editDistance is Levenshtein's, by bytes.
func editDistance(a, b string) int {
	if max(len(a), len(b)) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
