package retention

import (
	"fmt"
	"time"
)

// CountNames counts names in so many places.
func CountNames(limit int, names []int) (kept []Count, merged bool) {
	t := newTop(limit)
	for _, n := range names {
		t.add(fmt.Sprint(n), time.Unix(1, 0), false, 0)
	}
	return t.list(limit), t.merged > 0
}

// SourceHash is sourceHash.
func SourceHash(text string) string { return sourceHash(text) }
