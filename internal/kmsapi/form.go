package kmsapi

import (
	"net/url"
	"strconv"
	"unicode/utf8"
)

// maxParameters is how many parameters a form may have: 50 tags take 150.
const maxParameters = 256

// form is the parameters of a request in AWS Query. Each is taken once; end refuses
// the request if one is left, since what is not understood may be meant to limit
// the credentials that are asked for.
type form struct {
	left map[string]string
	err  error // the first that came up
}

func parseForm(text []byte) (*form, error) {
	values, err := url.ParseQuery(string(text))
	if err != nil {
		return nil, refuseSTS(codeMalformedQuery, "The request body is not a well-formed list of parameters.")
	}
	if len(values) > maxParameters {
		return nil, refuseSTS(codeMalformedQuery, "The request has more than "+strconv.Itoa(maxParameters)+" parameters.")
	}
	f := &form{left: make(map[string]string, len(values))}
	for name, vs := range values {
		if len(vs) != 1 || !utf8.ValidString(name) || !utf8.ValidString(vs[0]) {
			return nil, refuseSTS(codeMalformedQuery, "A parameter comes more than once, or is not UTF-8.")
		}
		f.left[name] = vs[0]
	}
	return f, nil
}

// text takes a parameter; one that is absent is empty.
func (f *form) text(name string) string {
	v := f.left[name]
	delete(f.left, name)
	return v
}

// number takes a number above 0; one that is absent is 0.
func (f *form) number(name string) int {
	v := f.text(name)
	if v == "" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if (err != nil || n < 1 || strconv.Itoa(n) != v) && f.err == nil {
		f.err = refuseSTS(codeValidation, "The value of "+name+" is not a positive number.")
	}
	return n
}

// list takes the members of a list, NAME.member.1 and so on, each with the suffix.
func (f *form) list(name, suffix string) []string {
	var all []string
	for i := 1; ; i++ {
		key := name + ".member." + strconv.Itoa(i) + suffix
		v, there := f.left[key]
		if !there {
			return all
		}
		delete(f.left, key)
		all = append(all, v)
	}
}

// end is the error of what was taken, or of what is left over.
func (f *form) end() error {
	if f.err == nil && len(f.left) > 0 {
		f.err = refuseSTS(codeValidation, "The request has parameters that the operation does not know here.")
	}
	return f.err
}
