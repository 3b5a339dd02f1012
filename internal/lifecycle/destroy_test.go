package lifecycle

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestUnusedKnowsWhatIsKnown(t *testing.T) {
	t.Parallel()
	const since = 30 * 24 * time.Hour
	for name, c := range map[string]struct {
		use     *LastUse
		checked bool
		want    string
		refused bool
	}{
		"used lately":             {&LastUse{Time: ago(29), Operation: "Decrypt"}, true, "the key is in use: Decrypt on 2026-10-03T12:00:00Z, less than 30 days ago", true},
		"used long ago":           {&LastUse{Time: ago(30)}, false, "last use on 2026-10-02T12:00:00Z", false},
		"never":                   {&LastUse{Tracked: ago(100)}, false, "never used since it was made", false},
		"not since tracking":      {&LastUse{Tracked: ago(40)}, false, "not used since 2026-09-22T12:00:00Z", false},
		"tracking since lately":   {&LastUse{Tracked: ago(3)}, false, "look into CloudTrail, then give --use-checked", true},
		"not told":                {nil, false, "look into CloudTrail, then give --use-checked", true},
		"not told, somebody knew": {nil, true, "by whoever asked for it", false},
	} {
		got, err := (&Key{Created: ago(100), LastUse: c.use}).Unused(at, since, c.checked)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) || errors.Is(err, ErrInUse) != c.refused {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
