package httpd

import (
	"net/netip"
	"slices"
	"strings"
)

// maxForwarded bounds how many entries of X-Forwarded-For are looked at.
const maxForwarded = 32

func remoteIP(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return plainAddr(ap.Addr())
}

func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// clientIP walks X-Forwarded-For from its end, the entry that the nearest proxy
// wrote, as long as what stands there is a trusted proxy. It stops at the first
// entry it cannot read: what a stranger wrote further left is not evidence.
func clientIP(peer netip.Addr, forwarded []string, trusted []netip.Prefix) netip.Addr {
	if len(trusted) == 0 || len(forwarded) == 0 || !isTrusted(peer, trusted) {
		return peer
	}
	rest, looked := strings.Join(forwarded, ","), 0
	for more := true; more && looked < maxForwarded; looked++ {
		var last string
		if i := strings.LastIndexByte(rest, ','); i >= 0 {
			rest, last = rest[:i], rest[i+1:]
		} else {
			last, more = rest, false
		}
		a, ok := parseForwarded(strings.TrimSpace(last))
		if !ok {
			return peer
		}
		peer = a
		if !isTrusted(a, trusted) {
			return a
		}
	}
	return peer
}

// parseForwarded reads an address, or an address with a port as some balancers write it.
func parseForwarded(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return plainAddr(a), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return plainAddr(ap.Addr()), true
	}
	return netip.Addr{}, false
}

func isTrusted(a netip.Addr, trusted []netip.Prefix) bool {
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}
