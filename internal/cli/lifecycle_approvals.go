package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cardea/internal/approval"
	"cardea/internal/lifecycle"
)

// approvals are approved requests.
type approvals struct {
	Register string   `type:"path" placeholder:"FILE" help:"Register of people: who may ask and approve."`
	Approval []string `sep:"none" type:"path" placeholder:"FILE" help:"Approved request; repeat for each."`
}

// granted are the requests that were executed, to be marked as finished.
type granted struct {
	ledger   *approval.Ledger
	requests []*approval.State
}

func (g *granted) begin(path string, signed []byte, st *approval.State) error {
	if _, err := g.ledger.Begin(st.Request, signed); err != nil {
		return fmt.Errorf("--approval: %s: %w", path, err)
	}
	g.requests = append(g.requests, st)
	return nil
}

func (g *granted) names() string {
	var all []string
	for _, s := range g.requests {
		all = append(all, s.Request.ID+" of "+s.Request.Requester+" by "+strings.Join(s.Approvers, ", "))
	}
	return strings.Join(all, "; ")
}

func (g *granted) finish(result string) error {
	var all error
	for _, s := range g.requests {
		all = errors.Join(all, g.ledger.Finish(s.Request, result))
	}
	return all
}

// check has an administrator look for approved requests among those given. Who calls
// it closes the ledger of what it returns.
func (a approvals) check(p *Process, j journal, admin *lifecycle.Administrator) (*granted, error) {
	g := &granted{ledger: &approval.Ledger{}}
	if len(a.Approval) == 0 {
		return g, nil
	}
	if a.Register == "" {
		return nil, usageError{errors.New("--register: name the register of people, with --approval")}
	}
	reg, err := registerFile{a.Register}.read()
	if err != nil {
		return nil, err
	}
	cfg, err := installation(p, j.Config, j.DataDir)
	if err != nil {
		return nil, err
	}
	g.ledger = ledgerOf(p, cfg)
	admin.Approve = func(n *lifecycle.Needed) error {
		path, signed, st, err := a.find(reg, p.Now(), n)
		if err != nil {
			return err
		}
		return g.begin(path, signed, st)
	}
	admin.Settled = func(n *lifecycle.Needed) error {
		path, signed, st, err := a.find(reg, p.Now(), n)
		if err != nil {
			return nil //nolint:nilerr // it is of something else, or was never needed
		}
		records, err := g.ledger.Records()
		if err != nil {
			return err
		}
		has := func(e approval.Event) bool {
			return slices.ContainsFunc(records, func(r approval.Record) bool { return r.Request == st.Request.ID && r.Event == e })
		}
		if !has(approval.EventBegun) || has(approval.EventFinished) {
			return nil
		}
		return g.begin(path, signed, st)
	}
	return g, nil
}

// find is the request for what is needed.
func (a approvals) find(reg *approval.Register, now time.Time, n *lifecycle.Needed) (path string, signed []byte, st *approval.State, err error) {
	for _, path = range a.Approval {
		if signed, err = readSmall(path); err != nil {
			return "", nil, nil, fmt.Errorf("--approval: %w", err)
		}
		if st, err = approval.Check(signed, reg, now, approval.Want{Operation: n.Operation, Target: n.Target, Params: n.Params, Approvals: n.Approvals}); err == nil {
			return path, signed, st, nil
		}
		err = fmt.Errorf("--approval: %s: %w", path, err)
	}
	return "", nil, nil, err
}
