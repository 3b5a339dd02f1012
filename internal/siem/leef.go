package siem

import "strconv"

// leefDelimiter separates attributes, and is named in the header as x09. No value
// holds it: LEEF has no way to escape it, and values have no control characters.
const leefDelimiter = '\t'

// leefKey is IBM's predefined attribute for a field, or the field's own name.
func leefKey(name string) string {
	switch name {
	case "kind":
		return "cat"
	case "who":
		return "usrName"
	case "result":
		return "reason"
	case "key": // the name must not look like a reserved one
		return "cardea_key"
	}
	return name
}

// appendLEEF appends LEEF:2.0|vendor|product|version|event id|x09|attributes (IBM
// QRadar, "Log Event Extended Format", version 2.0).
func (e *Encoder) appendLEEF(b []byte, ev *Event) []byte {
	b = append(b, "LEEF:2.0|"+vendor+"|"+product+"|"...)
	b = append(append(b, code(e.Product)...), '|') // the header has no escapes either
	b = append(append(b, ev.signature()...), "|x09|"...)
	b = append(b, "devTime="...)
	b = append(b, ev.Time.UTC().Format("2006-01-02T15:04:05.000Z")...)
	add := func(key, value string) {
		b = append(append(append(append(b, leefDelimiter), key...), '='), value...)
	}
	add("devTimeFormat", "yyyy-MM-dd'T'HH:mm:ss.SSSX")
	add("sev", strconv.Itoa(cefSeverity(ev.Severity)))
	if a := ev.ip(); a.IsValid() {
		add("src", a.String())
	}
	for _, f := range ev.fields() {
		add(leefKey(f.name), f.value)
	}
	add("msg", oneLine(ev.message()))
	return b
}
