package cloudtrail

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// complete fills in what depends on several members.
func (p *parser) complete(e *Event) {
	if e.ID == "" { // event version 1.00 had none
		sum := sha256.Sum256(p.b[:p.i])
		e.ID = "sha256-" + hex.EncodeToString(sum[:16])
	}
	p.address(e)
	p.principal(e)
	e.ReadOnly = string(p.readOnly) == "true"
	if p.readOnly == nil {
		e.ReadOnly = readsOnly(e.Name)
	}
	p.keys(e)
	p.contexts(e)
	e.Console = e.Console || fromConsole(e.UserAgent)
	if !e.ReadOnly {
		p.keepDetails(e)
	}
}

// keepDetails copies what is kept of events that change something, in one piece.
func (p *parser) keepDetails(e *Event) {
	all := make([]byte, 0, len(p.params)+len(p.response)+len(p.details))
	for _, part := range []struct {
		raw []byte
		to  *[]byte
	}{{p.params, (*[]byte)(&e.Params)}, {p.response, (*[]byte)(&e.Response)}, {p.details, (*[]byte)(&e.Details)}} {
		if len(part.raw) == 0 || string(part.raw) == "null" {
			continue
		}
		from := len(all)
		all = append(all, part.raw...)
		*part.to = all[from:len(all):len(all)]
	}
}

// readsOnly guesses for records from before there was readOnly.
func readsOnly(name string) bool {
	for _, prefix := range []string{"Get", "List", "Describe", "Lookup", "Head"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func fromConsole(agent string) bool {
	for _, prefix := range []string{"console.amazonaws.com", "signin.amazonaws.com", "AWS-Console", "[S3Console", "S3Console", "Mozilla/"} {
		if strings.HasPrefix(agent, prefix) {
			return true
		}
	}
	return strings.HasSuffix(agent, ".console.amazonaws.com")
}

// address tells addresses from names.
func (p *parser) address(e *Event) {
	s := p.texts.of(p.ip)
	if s == "" {
		return
	}
	if c := s[len(s)-1]; c >= '0' && c <= '9' || strings.IndexByte(s, ':') >= 0 {
		if _, err := netip.ParseAddr(s); err == nil {
			e.IP = s
			return
		}
	}
	e.SourceName = s
}

func (p *parser) contexts(e *Event) {
	switch {
	case p.context != nil:
		e.Context = p.texts.context(&p.scanner, p.context)
	case p.source != nil || p.dest != nil:
		e.Context = reEncryptContext(p.texts.context(&p.scanner, p.source), p.texts.context(&p.scanner, p.dest))
	}
	if e.Context != nil {
		e.Tenant, e.Merchant = e.Context["tenant"], e.Context["merchant"]
	}
}

// reEncryptContext is the context of what ReEncrypt opened, and under names that
// begin with "destination." what is otherwise in the one of what it made.
func reEncryptContext(source, dest map[string]string) map[string]string {
	m := source
	copied := false
	for k, v := range dest {
		if was, there := source[k]; there && was == v {
			continue
		}
		if !copied {
			m, copied = make(map[string]string, len(source)+len(dest)), true
			for k, v := range source {
				m[k] = v
			}
		}
		m["destination."+k] = v
	}
	return m
}

// parseTime reads a time of RFC 3339, CloudTrail's form quickly.
func parseTime(b []byte) (time.Time, bool) {
	const form = "0000-00-00T00:00:00Z"
	if len(b) != len(form) {
		t, err := time.Parse(time.RFC3339Nano, string(b))
		return t.UTC(), err == nil && sane(t)
	}
	for i := range len(form) {
		if c := b[i]; form[i] == '0' && (c < '0' || c > '9') || form[i] != '0' && c != form[i] {
			return time.Time{}, false
		}
	}
	two := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	year, month, day, hour, minute, second := two(0)*100+two(2), two(5), two(8), two(11), two(14), two(17)
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	// A 30th of February or a 61st second comes out as something else.
	return t, month >= 1 && month <= 12 && hour < 24 && minute < 60 && second < 60 && t.Day() == day && day > 0 && sane(t)
}

func sane(t time.Time) bool { return t.Year() >= 1970 && t.Year() <= 9999 }

// prefixed finds the time before a record, as CloudWatch Logs exports write it,
// and gives where the record begins.
func prefixed(line []byte) (int, bool) {
	const most = 40
	for i := range min(len(line), most) {
		if line[i] == ' ' || line[i] == '\t' {
			_, ok := parseTime(line[:i])
			if !ok {
				_, err := strconv.ParseInt(string(line[:i]), 10, 64) // milliseconds
				ok = err == nil
			}
			return i, ok
		}
	}
	return 0, false
}
