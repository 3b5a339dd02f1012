package audit

import "time"

// Limits of a call's parts, in bytes as encoded. Together with the rest of an
// entry they stay below MaxLine.
const (
	maxParamName    = 128
	requestBudget   = 800 // all parameters with their names and punctuation
	responseBudget  = 400
	contextBudget   = 1200
	maxResources    = 4
	maxCallShort    = 64
	maxPrincipalID  = 128
	maxPrincipalARN = 255
)

// cutParam stands at the end of parameters of which some had no room.
var cutParam = Param{Name: "…", Value: cutMark}

// cutParamLen is how long it is, with what separates it from the one before.
const cutParamLen = len(`,{"n":"…","v":""}`) + len(cutMark)

// Call is what an entry says of a request to the key service beyond what every
// entry says: enough to write it as a record of AWS CloudTrail. Strings are free
// unless said otherwise, and what clients chose is cut to fit.
type Call struct {
	Event    string `json:"event"`            // AWS's name of the operation, "GenerateDataKey": 1 to 64 letters
	Source   string `json:"source"`           // "kms.amazonaws.com", "sts.amazonaws.com", "iam.amazonaws.com": code
	Region   string `json:"region,omitempty"` // whose endpoint was asked
	Account  string `json:"account,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"` // CloudTrail's readOnly
	Type     string `json:"type"`                // CloudTrail's userIdentity.type, "AssumedRole": 1 to 64 letters
	ID       string `json:"id,omitempty"`        // principalId
	ARN      string `json:"arn,omitempty"`       // of the session or identity
	Issuer   string `json:"issuer,omitempty"`    // ARN of the role behind a session
	Caller   string `json:"caller,omitempty"`    // account of the caller
	Key      string `json:"access_key,omitempty"`
	MFA      bool   `json:"mfa,omitempty"`
	// Issued is when temporary credentials were issued; zero for long-term ones.
	Issued time.Time `json:"issued,omitzero"`
	Agent  string    `json:"agent,omitempty"`
	TLS    string    `json:"tls,omitempty"` // version and cipher suite, "TLSv1.3 TLS_AES_128_GCM_SHA256"; empty without TLS
	Error  string    `json:"error,omitempty"`

	// Request and Response are the parameters that CloudTrail would show, in the
	// order given: never a plaintext, a ciphertext, a policy's text or a token.
	Request  []Param `json:"request,omitempty"`
	Response []Param `json:"response,omitempty"`
	// Context is the encryption context, which is public by contract.
	Context []Param `json:"context,omitempty"`
	// Resources are the ARNs of what was asked for; the first four are kept.
	Resources []string `json:"resources,omitempty"`
}

// Param is a parameter by name.
type Param struct {
	Name  string `json:"n"`
	Value string `json:"v"`
}

// invalid names the member that the code got wrong, "" if none.
func (c *Call) invalid() string {
	switch {
	case !isWord(c.Event):
		return "event"
	case !isCode(c.Source):
		return "source"
	case !isWord(c.Type):
		return "type"
	case !c.Issued.IsZero() && (c.Issued.UTC().Year() < 1970 || c.Issued.UTC().Year() > 9999):
		return "issued"
	}
	return ""
}

// isWord reports whether s is 1 to 64 letters.
func isWord(s string) bool {
	if len(s) == 0 || len(s) > maxShort {
		return false
	}
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

func (c *Call) sizeHint() int {
	if c == nil {
		return 0
	}
	n := 256 + len(c.ID) + 2*len(c.ARN) + len(c.Issuer) + len(c.Agent) + len(c.TLS)
	for _, r := range c.Resources {
		n += 3 + len(r)
	}
	for _, ps := range [...][]Param{c.Request, c.Response, c.Context} {
		for i := range ps {
			n += 16 + len(ps[i].Name) + min(len(ps[i].Value), maxName)
		}
	}
	return min(n, MaxLine)
}

func (c *Call) append(b []byte) []byte {
	b = append(b, `,"call":{"event":"`...)
	b = append(b, c.Event...)
	b = append(b, `","source":"`...)
	b = append(b, c.Source...)
	b = append(b, '"')
	b = appendFree(b, `,"region":"`, c.Region, maxCallShort)
	b = appendFree(b, `,"account":"`, c.Account, maxCallShort)
	if c.ReadOnly {
		b = append(b, `,"read_only":true`...)
	}
	b = append(b, `,"type":"`...)
	b = append(b, c.Type...)
	b = append(b, '"')
	b = appendFree(b, `,"id":"`, c.ID, maxPrincipalID)
	b = appendFree(b, `,"arn":"`, c.ARN, maxPrincipalARN)
	b = appendFree(b, `,"issuer":"`, c.Issuer, maxPrincipalARN)
	b = appendFree(b, `,"caller":"`, c.Caller, maxCallShort)
	b = appendFree(b, `,"access_key":"`, c.Key, maxPrincipalID)
	if c.MFA {
		b = append(b, `,"mfa":true`...)
	}
	if !c.Issued.IsZero() {
		b = append(b, `,"issued":"`...)
		b = append(appendTime(b, c.Issued), '"')
	}
	b = appendFree(b, `,"agent":"`, c.Agent, maxName)
	b = appendFree(b, `,"tls":"`, c.TLS, maxCallShort)
	b = appendFree(b, `,"error":"`, c.Error, maxCallShort)
	b = appendParams(b, `,"request":[`, c.Request, requestBudget)
	b = appendParams(b, `,"response":[`, c.Response, responseBudget)
	b = appendParams(b, `,"context":[`, c.Context, contextBudget)
	for i, r := range c.Resources[:min(len(c.Resources), maxResources)] {
		name := `,"`
		if i == 0 {
			name = `,"resources":["`
		}
		b = appendElement(b, name, r)
	}
	if len(c.Resources) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendElement is appendFree for an element that is there even if it is empty.
func appendElement(b []byte, before, s string) []byte {
	if s == "" {
		return append(append(b, before...), '"')
	}
	return appendFree(b, before, s, maxName)
}

// appendParams appends parameters as far as the budget goes, and then cutParam.
func appendParams(b []byte, name string, ps []Param, budget int) []byte {
	if len(ps) == 0 {
		return b
	}
	b = append(b, name...)
	start := len(b)
	for i := range ps {
		p := ps[i]
		if i == len(ps)-1 && p == cutParam {
			b = appendParam(b, p, i)
			break
		}
		was := len(b)
		b = appendParam(b, p, i)
		if len(b)-start > budget-cutParamLen {
			b = appendParam(b[:was], cutParam, i)
			break
		}
	}
	return append(b, ']')
}

func appendParam(b []byte, p Param, i int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	b = append(b, `{"n":"`...)
	if p.Name != "" {
		b = appendFree(b, "", p.Name, maxParamName)
	} else {
		b = append(b, '"')
	}
	return append(appendElement(b, `,"v":"`, p.Value), '}')
}

func (d *decoder) call() *Call {
	c := &Call{Event: d.text()}
	d.literal(`,"source":"`)
	c.Source = d.text()
	c.Region = d.optionalText(`,"region":"`)
	c.Account = d.optionalText(`,"account":"`)
	c.ReadOnly = d.optional(`,"read_only":true`)
	d.literal(`,"type":"`)
	c.Type = d.text()
	c.ID = d.optionalText(`,"id":"`)
	c.ARN = d.optionalText(`,"arn":"`)
	c.Issuer = d.optionalText(`,"issuer":"`)
	c.Caller = d.optionalText(`,"caller":"`)
	c.Key = d.optionalText(`,"access_key":"`)
	c.MFA = d.optional(`,"mfa":true`)
	if d.optional(`,"issued":"`) {
		c.Issued = d.time()
	}
	c.Agent = d.optionalText(`,"agent":"`)
	c.TLS = d.optionalText(`,"tls":"`)
	c.Error = d.optionalText(`,"error":"`)
	c.Request = d.params(`,"request":[`)
	c.Response = d.params(`,"response":[`)
	c.Context = d.params(`,"context":[`)
	if d.optional(`,"resources":["`) {
		c.Resources = append(c.Resources, d.text())
		for d.optional(`,"`) {
			c.Resources = append(c.Resources, d.text())
		}
		d.literal(`]`)
	}
	d.literal(`}`)
	return c
}

func (d *decoder) params(name string) (ps []Param) {
	if !d.optional(name) {
		return nil
	}
	for more := true; more; more = d.optional(`,`) {
		var p Param
		d.literal(`{"n":"`)
		p.Name = d.text()
		d.literal(`,"v":"`)
		p.Value = d.text()
		d.literal(`}`)
		ps = append(ps, p)
	}
	d.literal(`]`)
	return ps
}

// Param returns the value of a request parameter, "" if it is not there.
func (c *Call) Param(name string) string {
	for i := range c.Request {
		if c.Request[i].Name == name {
			return c.Request[i].Value
		}
	}
	return ""
}
