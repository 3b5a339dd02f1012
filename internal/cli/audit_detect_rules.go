package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"cardea/internal/detect"
)

type auditRulesCommands struct {
	List auditRulesListCommand `cmd:"" help:"List the rules and behaviours."`
	Show auditRulesShowCommand `cmd:"" help:"Tell what a rule sees, why, and with which thresholds."`
	Test auditRulesTestCommand `cmd:"" help:"Run the unit cases of the rules, and your own."`
}

// rulesFile is the flag of a rules file.
type rulesFile struct {
	Rules string `type:"path" placeholder:"FILE" help:"What is registered, and thresholds, laid over the rules that ship."`
}

func (f rulesFile) read() ([]byte, *detect.Rules, error) {
	var b []byte
	if f.Rules != "" {
		var err error
		if b, err = readBounded(f.Rules, detect.MaxRulesFile); err != nil {
			return nil, nil, fmt.Errorf("--rules: %w", err)
		}
	}
	r, err := detect.ParseRules(b)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("--rules %s: %w", f.Rules, err)}
	}
	return b, r, nil
}

// ruleView is a rule with its thresholds. Its JSON is stable.
type ruleView struct {
	detect.Rule
	Disabled bool    `json:"disabled"`
	Score    float64 `json:"score,omitempty"`
	Minimum  int     `json:"minimum,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"`
	Drift    float64 `json:"drift,omitempty"`
	Days     int     `json:"days,omitempty"`
	Cooldown string  `json:"cooldown,omitempty"`
}

func viewOf(c detect.Rule, r *detect.Rules) ruleView {
	s := r.Settings[c.ID]
	v := ruleView{Rule: c, Disabled: s.Disabled, Score: s.Score, Minimum: s.Minimum, Ratio: s.Ratio, Drift: s.Drift, Days: s.Days, Cooldown: s.Cooldown.String()}
	if s.Cooldown == 0 {
		v.Cooldown = r.Engine.Cooldown.String()
	}
	return v
}

type auditRulesListCommand struct {
	rulesFile
	output
}

// Help implements kong.HelpProvider.
func (auditRulesListCommand) Help() string {
	return "Examples:\n  cardea audit rules list\n  cardea audit rules list --rules detection.toml --output json"
}

func (c auditRulesListCommand) Run(_ context.Context, p *Process) error {
	_, rules, err := c.read()
	if err != nil {
		return err
	}
	var all []ruleView
	for _, r := range detect.Catalogue() {
		all = append(all, viewOf(r, rules))
	}
	return c.print(p.Stdout, all, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "RULE\tSEVERITY\tPCI DSS\tTITLE\tSTATE")
		for _, v := range all {
			state := "on"
			if v.Disabled {
				state = "off"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", v.ID, v.Severity, strings.Join(v.PCI, " "), v.Title, state)
		}
		fmt.Fprintf(t, "\nrules %s\n", rules.Hash())
		return t.Flush()
	})
}

type auditRulesShowCommand struct {
	rulesFile
	output
	ID string `arg:"" placeholder:"RULE" help:"Number of the rule, such as R1 or B6."`
}

// Help implements kong.HelpProvider.
func (auditRulesShowCommand) Help() string {
	return "Examples:\n  cardea audit rules show R1\n  cardea audit rules show B6 --rules detection.toml"
}

func (c auditRulesShowCommand) Run(_ context.Context, p *Process) error {
	_, rules, err := c.read()
	if err != nil {
		return err
	}
	for _, r := range detect.Catalogue() {
		if !strings.EqualFold(r.ID, c.ID) {
			continue
		}
		v := viewOf(r, rules)
		return c.print(p.Stdout, v, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			fmt.Fprintf(t, "%s\t%s\n", v.ID, v.Title)
			for _, line := range [][2]string{{"Sees", v.Sees}, {"Why", v.Why}, {"Next", v.Next}, {"PCI DSS", strings.Join(v.PCI, ", ")}, {"Severity", v.Severity.String()}, {"Cool-down", v.Cooldown}} {
				fmt.Fprintf(t, "%s\t%s\n", line[0], line[1])
			}
			for _, line := range []struct {
				name  string
				value float64
			}{{"Score", v.Score}, {"Minimum", float64(v.Minimum)}, {"Ratio", v.Ratio}, {"Drift", v.Drift}, {"Days", float64(v.Days)}} {
				if line.value != 0 {
					fmt.Fprintf(t, "%s\t%g\n", line.name, line.value)
				}
			}
			return t.Flush()
		})
	}
	return usageError{hinted(fmt.Errorf("no rule %q", c.ID), "'cardea audit rules list' has them")}
}

type auditRulesTestCommand struct {
	rulesFile
	output
	Cases []string `arg:"" optional:"" type:"path" placeholder:"FILE" help:"Files of your own cases, run after those that ship."`
	Print bool     `help:"Print the cases that ship, to begin a file of your own with."`
}

// Help implements kong.HelpProvider.
func (auditRulesTestCommand) Help() string {
	return "Examples:\n  cardea audit rules test\n  cardea audit rules test --rules detection.toml my-cases.toml\n\n" +
		"The cases that ship register their own keys and principals; your thresholds apply to them, so that a threshold which blinds a rule shows. " +
		"Exit status 3 means that a case failed."
}

func (c auditRulesTestCommand) Run(_ context.Context, p *Process) error {
	if c.Print {
		_, err := p.Stdout.Write(detect.ShippedCases())
		return err
	}
	rules, parsed, err := c.read()
	if err != nil {
		return err
	}
	// What is registered in the file is not that of the cases that ship.
	results, err := detect.RunShippedCases(parsed.Thresholds())
	if err != nil {
		return err
	}
	for _, path := range c.Cases {
		b, err := readBounded(path, detect.MaxRulesFile)
		if err != nil {
			return err
		}
		more, err := detect.RunCases(b, rules)
		if err != nil {
			return usageError{fmt.Errorf("%s: %w", path, err)}
		}
		results = append(results, more...)
	}
	failed := 0
	for _, r := range results {
		if !r.OK {
			failed++
		}
	}
	err = c.print(p.Stdout, results, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, r := range results {
			outcome := "ok"
			if !r.OK {
				outcome = "FAILED"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", outcome, r.Rule, printable(r.Name), printable(r.Said))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "%d cases, %d failed; rules %s\n", len(results), failed, parsed.Hash())
		return err
	})
	if err == nil && failed > 0 {
		return errFindings
	}
	return err
}
