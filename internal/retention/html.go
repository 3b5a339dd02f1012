package retention

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // of the page's parts
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"time"
)

// The parts of the page. uPlot 1.6.32 is by Leon Sorokin and others, MIT licence
// (uplot/LICENSE).
var (
	//go:embed uplot/uPlot.iife.min.js
	chartScript string
	//go:embed uplot/uPlot.min.css
	chartStyle string
	//go:embed uplot/LICENSE
	chartLicence string
	//go:embed page.html
	page string
	//go:embed page.js
	pageScript string
	//go:embed page.css
	pageStyle string
)

// WriteHTML writes the report as one page that needs nothing else: it is opened
// from a file, loads nothing, and its policy (CSP level 3) lets it run no script but
// its own. What logs say is text in it, whatever it looks like.
func (r Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"time": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") },
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("page of the report: %w", err)
	}
	hours := struct {
		Start   []int64 `json:"start"` // Unix time in seconds
		Calls   []int64 `json:"calls"`
		Failed  []int64 `json:"failed"`
		Records []int64 `json:"records"`
	}{}
	for _, h := range r.Hours {
		hours.Start = append(hours.Start, h.Start.Unix())
		hours.Calls, hours.Failed, hours.Records = append(hours.Calls, h.Calls), append(hours.Failed, h.Failed), append(hours.Records, h.Records)
	}
	data, err := json.Marshal(hours) // numbers only
	if err != nil {
		return fmt.Errorf("page of the report: %w", err)
	}
	script, style := "/*\n"+chartLicence+"*/\n"+chartScript+pageScript, chartStyle+pageStyle
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Report": r,
		"Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; script-src '" + sourceHash(script) + "'; style-src '" + sourceHash(style) + "'",
		// All three are ours: embedded files, and numbers.
		"Script": template.HTML("<script>" + script + "</script>"),                                          //nolint:gosec // embedded
		"Style":  template.HTML("<style>" + style + "</style>"),                                             //nolint:gosec // embedded
		"Data":   template.HTML(`<script type="application/json" id="hours">` + string(data) + `</script>`), //nolint:gosec // numbers
		"Tables": []namedTable{
			{"Keys", r.Keys},
			{"Principals", r.Principals},
			{"Operations", r.Operations},
			{"Errors", r.Errors},
			{"Tenants and accounts", r.Tenants},
			{"Card data given out in clear", r.Released},
		},
	})
	if err != nil {
		return fmt.Errorf("page of the report: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// sourceHash is the source expression that lets a browser run exactly this text.
func sourceHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

type namedTable struct {
	Title string
	Table
}

// Most is the count that a full bar stands for.
func (t namedTable) Most() int64 {
	if len(t.Top) == 0 {
		return 1
	}
	return t.Top[0].Calls
}
