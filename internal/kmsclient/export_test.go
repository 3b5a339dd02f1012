package kmsclient

import "net/http"

// SetTransport takes the network's place.
func (o *Options) SetTransport(t http.RoundTripper) { o.transport = t }

// KnownCodes are the error codes that the table of faults has.
func KnownCodes() []string {
	var out []string
	for code := range faults {
		out = append(out, code)
	}
	return out
}

var Names = names
