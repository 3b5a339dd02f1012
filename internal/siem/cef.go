package siem

import (
	"strconv"
	"strings"

	"cardea/internal/detect"
)

// vendor and product, in all formats.
const (
	vendor  = "Cardea"
	product = "Cardea"
)

// cefKeys are the keys of CEF's dictionary ("ArcSight Common Event Format", version
// 26, extension dictionary) for fields that it has a word for. Others get a key of
// our own, as the specification asks: cardea and the field's name.
func cefKey(name string) string {
	switch name {
	case "id":
		return "externalId"
	case "kind":
		return "cat"
	case "op":
		return "act"
	case "outcome":
		return "outcome"
	case "result":
		return "reason"
	case "who":
		return "suser"
	case "node":
		return "dvchost"
	case "agent":
		return "requestClientApplication"
	}
	key := "cardea"
	for part := range strings.SplitSeq(name, "_") {
		key += strings.ToUpper(part[:1]) + part[1:]
	}
	return key
}

// cefSeverity is of 0 to 10; LEEF has the same scale from 1.
func cefSeverity(s detect.Severity) int {
	switch s {
	case detect.Info:
		return 1
	case detect.Low:
		return 3
	case detect.Medium:
		return 5
	case detect.High:
		return 8
	}
	return 10
}

// appendCEF appends CEF:0|vendor|product|version|class|name|severity|extension.
func (e *Encoder) appendCEF(b []byte, ev *Event) []byte {
	b = append(b, "CEF:0|"+vendor+"|"+product+"|"...)
	for _, part := range []string{e.Product, ev.signature(), ev.title()} {
		b = append(appendCEFHeader(b, part), '|')
	}
	b = strconv.AppendInt(b, int64(cefSeverity(ev.Severity)), 10)
	b = append(b, "|rt="...)
	b = strconv.AppendInt(b, millis(ev.Time), 10)
	add := func(key, value string) {
		b = append(append(append(b, ' '), key...), '=')
		b = appendCEFValue(b, value)
	}
	switch a := ev.ip(); {
	case a.Is4():
		add("src", a.String())
	case a.Is6():
		add("c6a2Label", "Source IPv6 Address")
		add("c6a2", a.String())
	}
	for _, f := range ev.fields() {
		add(cefKey(f.name), f.value)
	}
	add("msg", oneLine(ev.message()))
	return b
}

// title is a short name of what happened.
func (ev *Event) title() string {
	switch ev.Kind {
	case KindEntry:
		return ev.Entry.Op + " " + string(ev.Entry.Outcome)
	case KindAlert:
		return ev.Alert.Title
	case KindFinding:
		if ev.Finding.Failing {
			return ev.Finding.Check + " failing"
		}
		return ev.Finding.Check + " working"
	}
	return "audit log checkpoint"
}

// appendCEFHeader escapes for a field of the header: backslash and pipe. There is
// no way to write a line end there.
func appendCEFHeader(b []byte, s string) []byte {
	s = oneLine(s)
	for i := range len(s) {
		if s[i] == '\\' || s[i] == '|' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return b
}

// appendCEFValue escapes for a value of the extension: backslash and equals sign.
// Line ends were replaced before.
func appendCEFValue(b []byte, s string) []byte {
	for i := range len(s) {
		if s[i] == '\\' || s[i] == '=' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return b
}
