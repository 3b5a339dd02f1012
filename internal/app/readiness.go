package app

import (
	"context"
	"strings"

	"cardea/internal/httpd"
	"cardea/internal/vault"
)

// readiness tells what a load balancer and an operator must know. prefix is put
// before the names of checks.
func (n *Node) readiness(ctx context.Context, prefix string) []httpd.Check {
	checks := append(databaseChecks(prefix, n.store.Probe(ctx)), n.signingReadiness(prefix)...)
	for _, name := range n.gate.Tenants.Names() {
		c, suspended := n.suspendedCheck(name)
		if !suspended {
			c = n.tenantReadiness(ctx, name)
		}
		checks = append(checks, c)
	}
	return checks
}

// databaseChecks are the four of a database. An error that fails several of them is
// said once, by the first, which names the others' work; these refer to it.
func databaseChecks(prefix string, p vault.Probe) []httpd.Check {
	probes := []struct {
		name, work string
		err        error
	}{{"database", "connect", p.Connect}, {"database_read", "read", p.Read}, {"database_write", "write", p.Write}, {"database_delete", "delete", p.Delete}}
	checks, first, works := make([]httpd.Check, len(probes)), map[string]int{}, map[int][]string{}
	for i, probe := range probes {
		checks[i] = httpd.Check{Name: prefix + probe.name, State: httpd.Working}
		if probe.err == nil {
			continue
		}
		text := probe.err.Error()
		checks[i].State, checks[i].Detail = httpd.Failing, text
		said, again := first[text]
		if again {
			checks[i].Detail = "see " + checks[said].Name
		} else {
			said, first[text] = i, i
		}
		works[said] = append(works[said], probe.work)
	}
	for i, w := range works {
		if last := len(w) - 1; last > 0 {
			checks[i].Detail = strings.Join(w[:last], ", ") + " and " + w[last] + " fail: " + checks[i].Detail
		}
	}
	return checks
}
