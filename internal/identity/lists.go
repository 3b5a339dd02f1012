package identity

import (
	"context"
	"errors"
	"strings"
)

// Page is which part of a list is asked for.
type Page struct {
	Account string // of what is listed; not for ListAccounts
	Prefix  string // of the path, for users, groups and roles
	After   string // as the Next of the page before; empty for the first
	Limit   int    // 1 to 1000; default 100
}

// List is one page of a list.
type List[T any] struct {
	Items []T
	Next  string // empty if there are no more
}

func (p *Page) check(v *violations) {
	v.number("maxItems", p.Limit, 1, pageSize)
	v.length("marker", "", len(p.After), 0, 256)
	v.path("pathPrefix", strings.TrimSuffix(p.Prefix, "/")+"/")
}

// accountPage is a Page of an account.
type accountPage struct{ *Page }

func (p accountPage) check(v *violations) {
	v.account(p.Account)
	p.Page.check(v)
}

// list fills out with the rows that item wants.
func list[T, B any, P interface {
	*B
	body
}](ctx context.Context, r Reader, kind Kind, account string, in *Page, out *List[T], item func(*stored[B]) (T, bool),
) error {
	limit := in.Limit
	if limit == 0 {
		limit = 100
	}
	after := in.After
	for {
		rows, err := r.List(ctx, kind, account, after, pageSize)
		if err != nil {
			return err
		}
		for i := range rows {
			row, err := decodeRow[B, P](&rows[i])
			if err != nil {
				return err
			}
			it, want := item(row)
			if !want {
				continue
			}
			if len(out.Items) == limit {
				out.Next = after
				return nil
			}
			out.Items, after = append(out.Items, it), rows[i].Name
		}
		if len(rows) < pageSize {
			return nil
		}
		after = rows[len(rows)-1].Name
	}
}

// absent refuses a new row where one is.
func absent(ctx context.Context, r Reader, n Name, message string) error {
	_, err := r.Get(ctx, n.Kind, n.Account, n.Name)
	switch {
	case errors.Is(err, ErrNoRow):
		return nil
	case err != nil:
		return err
	}
	return refuse(CodeEntityAlreadyExists, message)
}
