package cloudtrail

import "bytes"

func (r *Reader) top(e *Event) (bool, error) {
	c, ok := r.next()
	if !ok {
		return false, r.finish()
	}
	switch c {
	case '[':
		r.start++
		r.state, r.container, r.comma, r.search = inList, false, false, false
		return false, nil
	case '{':
		got, f := r.object(e, true)
		switch {
		case f != faultNone: // lines are read one by one: the next is whole
			r.problem(r.kindOf(f))
			r.line()
			return false, nil
		case got == foundContainer:
			r.start += r.p.i + 1
			r.state, r.container, r.comma, r.search = inList, true, false, false
			return false, nil
		}
		return r.take(got), nil
	}
	for r.end-r.start < 64 && r.fill() {
		continue
	}
	if n, ok := prefixed(r.buf[r.start:r.end]); ok {
		at := r.start + n
		for at < r.end && (r.buf[at] == ' ' || r.buf[at] == '\t') {
			at++
		}
		if at < r.end && r.buf[at] == '{' {
			r.start = at
			return false, nil
		}
		r.stats.Other++
		r.line()
		return false, nil
	}
	r.problem(KindMalformed)
	r.line()
	return false, nil
}

// line goes to the end of the line.
func (r *Reader) line() {
	for {
		if at := bytes.IndexByte(r.buf[r.start:r.end], '\n'); at >= 0 {
			r.start += at + 1
			r.here()
			return
		}
		r.start = r.end
		if !r.fill() {
			return
		}
	}
}

func (r *Reader) list(e *Event) (bool, error) {
	if r.search && !r.toRecord(e) {
		return false, r.finish()
	}
	if r.search {
		r.search, r.comma = false, true
		r.start += r.p.i
		return true, nil
	}
	c, ok := r.next()
	if !ok {
		return false, r.finish()
	}
	if c == ',' && r.comma {
		r.start++
		r.comma = false
		if c, ok = r.next(); !ok {
			return false, r.finish()
		}
	} else if r.comma && c != ']' { // what follows may be sound all the same
		r.problem(KindMalformed)
		r.comma = false
	}
	switch c {
	case ']':
		r.start++
		r.state = atTop
		if r.container {
			r.state = inTail
		}
		r.here()
		return false, nil
	case '{':
		got, f := r.object(e, false)
		return r.elementDone(got, f), nil
	case '"':
		got, f := r.quotedRecord(e)
		return r.elementDone(got, f), nil
	}
	r.problem(KindMalformed)
	r.search = true
	r.start++
	return false, nil
}

// elementDone goes on after an element of the list. One that is sound JSON, as
// far as that was looked at, ends where its brackets say, so that nothing in it
// can pass for a record of its own. After one that is not, the next thing that
// reads like a record is taken for one.
func (r *Reader) elementDone(got found, f fault) bool {
	r.comma = true
	switch {
	case f == faultNone:
		return r.take(got)
	case f == faultDeep || f == faultTwice || f == faultShort && !r.eof:
		r.problem(r.kindOf(f))
		r.skipValue()
		return false
	}
	r.problem(r.kindOf(f))
	r.start++
	r.search = true
	return false
}

// quotedRecord reads a record in a text, as LookupEvents queries give them.
func (r *Reader) quotedRecord(e *Event) (found, fault) {
	for {
		r.p.reset(r.buf[r.start:r.end])
		json := r.p.text()
		if r.p.fault == faultShort && r.fill() {
			continue
		}
		if r.p.fault != faultNone {
			return foundNothing, r.p.fault
		}
		r.p.clear()
		return r.p.within(e, json, 0), faultNone
	}
}

// skipValue goes to the end of an object by its brackets, however long it is.
func (r *Reader) skipValue() {
	depth, quoted, escaped := 0, false, false
	for {
		for ; r.start < r.end; r.start++ {
			c := r.buf[r.start]
			switch {
			case escaped:
				escaped = false
			case quoted:
				escaped, quoted = c == '\\', c != '"'
			case c == '"':
				quoted = true
				if depth == 0 {
					depth = -1 // a text by itself
				}
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				depth--
			}
			if !quoted && (depth == 0 || depth == -1) {
				r.start++
				return
			}
		}
		if !r.fill() {
			return
		}
	}
}

// toRecord finds the next place that reads like a whole record, and reads it. An
// opening bracket directly before a quotation mark is in no text, where that
// would be escaped.
func (r *Reader) toRecord(e *Event) bool {
	for {
		at := bytes.IndexByte(r.buf[r.start:r.end], '{')
		if at < 0 {
			r.start = r.end
			if !r.fill() {
				return false
			}
			continue
		}
		r.start += at
		if got, f := r.object(e, false); f == faultNone && got == foundRecord {
			return true
		}
		r.start++
	}
}

// tail reads what stands after the list in its object.
func (r *Reader) tail() error {
	c, ok := r.next()
	if !ok {
		return r.finish()
	}
	switch c {
	case '}':
		r.start++
		r.state = atTop
		r.here()
		return nil
	case ',':
		for {
			r.p.reset(r.buf[r.start:r.end])
			r.p.i, r.p.depth = 1, 1
			name, _ := r.p.member(true)
			if r.p.fault == faultNone && r.p.b[r.p.i] == '[' && isContainer(name) {
				r.start += r.p.i + 1
				r.state, r.comma, r.search = inList, false, false
				return nil
			}
			r.p.skip()
			if r.p.fault == faultShort && r.fill() {
				continue
			}
			break
		}
		if r.p.fault == faultNone {
			r.start += r.p.i
			return nil
		}
	}
	r.problem(KindMalformed)
	r.state = atTop
	r.line()
	return nil
}
