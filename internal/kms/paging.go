package kms

import (
	"context"
	"encoding/base64"
	"unicode/utf8"

	"cardea/internal/audit"
)

// Sizes of a page. Clients may ask for up to maxLimit items and must be content
// with fewer: AWS's own limits of most lists are lower.
const (
	defaultKeys = 100 // ListKeys
	defaultList = 50  // other lists
	mostInList  = 100 // other lists
)

// mark begins the text inside a marker: a marker of one list is none of another.
type mark byte

// The lists that have markers.
const (
	markKey   mark = 'k'
	markAlias mark = 'a'
	markGrant mark = 'g'
	markTag   mark = 't'
)

// sealMarker is the marker of a list that goes on after the item named.
func sealMarker(m mark, last string) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{byte(m)}, last...))
}

// openMarker is the name of the item after which the list goes on, "" for its
// beginning.
func openMarker(m mark, marker string) (string, error) {
	if marker == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(marker)
	if err != nil || len(b) < 2 || b[0] != byte(m) || sealMarker(m, string(b[1:])) != marker || !m.names(string(b[1:])) {
		return "", refuse(CodeInvalidMarker, "The marker is not one of this list.")
	}
	return string(b[1:]), nil
}

// names reports whether an item of the list can have the name.
func (m mark) names(name string) bool {
	switch m {
	case markKey:
		return validKeyID(name)
	case markAlias:
		return vetAliasName(name) == nil
	case markGrant:
		return vetGrantID(name) == nil
	default:
		return utf8.ValidString(name)
	}
}

// pageSize is how many items a page has.
func pageSize(asked *int32, otherwise, most int) int {
	if asked == nil {
		return otherwise
	}
	return min(int(*asked), most)
}

// cutPage cuts a list, of which at least one item more than fits was read if there
// is one, to the size of a page. The list is never nil.
func cutPage[T any](m mark, items []T, size int, name func(T) string) (page []T, marker string, truncated bool) {
	if len(items) > size {
		return items[:size], sealMarker(m, name(items[size-1])), true
	}
	if items == nil {
		items = []T{}
	}
	return items, "", false
}

// readPage reads a page with read, which lists up to limit items after the one named.
func readPage[T any](
	ctx context.Context, m mark, marker string, size int, name func(T) string,
	read func(ctx context.Context, after string, limit int) ([]T, error),
) (page []T, next string, truncated bool, err error) {
	after, err := openMarker(m, marker)
	if err != nil {
		return nil, "", false, err
	}
	items, err := read(ctx, after, size+1)
	if err != nil {
		return nil, "", false, broken(CodeInternal, "The list could not be read.", err)
	}
	page, next, truncated = cutPage(m, items, size, name)
	return page, next, truncated, nil
}

func paramOf(name, value string) audit.Param { return audit.Param{Name: name, Value: value} }
